//! Owns what a sandbox may be called. It makes no name.

use std::fmt;

use crate::error::Error;
use crate::limits::ID_CHARS;

/// The name of a sandbox and of its workspace, chosen by the caller. It is visible inside the
/// sandbox and in the host's file names: it must carry neither a secret nor a tenant's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SandboxId(String);

impl SandboxId {
    /// 1 to [`ID_CHARS`] characters of `a-z A-Z 0-9 _ -`, the first a letter or digit.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let starts = name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        if starts && name.len() <= ID_CHARS && name.bytes().all(plain) {
            return Ok(Self(name));
        }
        Err(Error::invalid(format!(
            "a sandbox's name is 1 to {ID_CHARS} letters, digits, `_` or `-`, not {name:?}"
        )))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_directory_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "-x",
            "_x",
            "a b",
            "a\0",
            "é",
            &"a".repeat(65),
        ] {
            assert!(SandboxId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(SandboxId::new("sesn_1-B").unwrap().as_str(), "sesn_1-B");
    }
}
