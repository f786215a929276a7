//! Owns which failures of a registry pass by themselves. It waits for nothing.

use std::time::Duration;

use url::Url;

/// Why something was not had of a registry.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may be had when it is asked for again, after so long if the registry said so.
    Passing(anyhow::Error, Option<Duration>),
    /// It is not to be had.
    Lasting(anyhow::Error),
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Self::Lasting(error)
    }
}

impl From<sandbox::Error> for Trouble {
    fn from(error: sandbox::Error) -> Self {
        Self::Lasting(error.into())
    }
}

impl Trouble {
    /// Of a request to `url` that was not answered, or whose answer was cut.
    pub(super) fn sending(error: reqwest::Error, url: &Url) -> Self {
        use dial::Error::{Denied, NoHost, Scheme};
        // A redirect's signature may stand in its query.
        let error = error.without_url();
        let denied =
            dial::find(&error).filter(|e| matches!(e, Denied { .. } | NoHost | Scheme { .. }));
        let lasting = denied.is_some() || error.is_builder();
        let host = url.host_str().unwrap_or_default().to_owned();
        let error = anyhow::Error::new(error).context(format!("{host} does not answer"));
        match lasting {
            true => Self::Lasting(error),
            false => Self::Passing(error, None),
        }
    }
}
