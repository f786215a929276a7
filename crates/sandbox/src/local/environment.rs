//! Owns what a caller may add to the environment of a sandbox. It adds nothing.

use crate::error::Error;
use crate::limits::{ENV_BYTES, ENV_VARS};

/// # Errors
/// [`Error::Invalid`] for a name or value that is none, and for too many.
pub(super) fn check_env(env: &[(String, String)]) -> Result<(), Error> {
    if env.len() > ENV_VARS {
        return Err(Error::invalid(format!(
            "more than {ENV_VARS} environment variables"
        )));
    }
    let bytes = env.iter().map(|(name, value)| name.len() + value.len());
    if bytes.sum::<usize>() > ENV_BYTES {
        let problem = format!("more than {ENV_BYTES} bytes of environment variables");
        return Err(Error::invalid(problem));
    }
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Error::invalid(format!(
                "environment variable {name:?} is malformed"
            )));
        }
    }
    Ok(())
}
