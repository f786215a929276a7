//! Why an address was not dialled. Texts are fit for tenants: they name what was refused, never how the
//! host is wired.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::class::Class;

/// Why an address was not dialled.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The address, or every address of the name, is in the always-denied set.
    #[error(
        "{host} is {address}, {} address, and those are not dialled for tenants; \
         the operator can lift this with [egress] allow_private", class.phrase()
    )]
    Denied {
        /// What was asked for: a name or an address.
        host: String,
        /// The first refused address.
        address: IpAddr,
        /// Why.
        class: Class,
    },
    /// The name has no address.
    #[error("{host} cannot be resolved")]
    Unresolvable {
        /// The name.
        host: String,
        /// What the system's resolver said; `None` when it gave an empty list.
        #[source]
        source: Option<Arc<io::Error>>,
    },
    /// Resolving took too long, waiting for a free resolver included.
    #[error("resolving {host} took longer than {} s", limit.as_secs())]
    Timeout {
        /// The name.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// The URL is not one that can be dialled.
    #[error("{scheme}: URLs are not dialled, only http: and https:")]
    Scheme {
        /// Its scheme.
        scheme: String,
    },
    /// The URL has no host.
    #[error("the URL has no host")]
    NoHost,
}

/// The dial error at the bottom of another error, e.g. of a `reqwest::Error` whose resolver refused.
#[must_use]
pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let mut at = Some(error);
    while let Some(e) = at {
        if let Some(found) = e.downcast_ref::<Error>() {
            return Some(found);
        }
        at = e.source();
    }
    None
}
