//! The resolver that hands a connector only checked addresses. It asks the system (hosts file, VPN, DNS)
//! within bounds and must never hand on an address that its mode refuses.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::policy::Mode;

/// Lookups that may run at once in the process: each holds a thread of the pool that file IO also uses.
const LOOKUPS_AT_ONCE: usize = 32;
/// Time for a lookup, waiting for its turn included.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// Addresses of one name that are judged and tried; a hostile zone may list thousands.
const CANDIDATES: usize = 32;

static LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS_AT_ONCE);

/// What turns a name into candidates; the system's resolver outside tests.
type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Resolves names and judges every candidate. Denied candidates are left out; a name of which nothing is
/// left is refused.
#[derive(Clone)]
pub struct Resolver {
    mode: Mode,
    lookup: Arc<Lookup>,
    limit: Duration,
}

impl Resolver {
    /// A resolver over the system's.
    #[must_use]
    pub fn new(mode: Mode) -> Resolver {
        Resolver::over(mode, |name| Ok((name, 0).to_socket_addrs()?.collect()))
    }

    /// A resolver over another source of addresses: `lookup` blocks and runs on the blocking pool. For
    /// tests, and for hosts with a resolver of their own.
    pub fn over(
        mode: Mode,
        lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Resolver {
        Resolver {
            mode,
            lookup: Arc::new(lookup),
            limit: LOOKUP_LIMIT,
        }
    }

    /// The same with another time limit.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Resolver {
        Resolver { limit, ..self }
    }

    /// The checked addresses of `name`, at most 32, in the source's order. Never empty. Port is 0.
    /// Cancel safe: yes; a lookup that was begun ends on its thread and its outcome is dropped.
    ///
    /// # Errors
    /// [`Error::Denied`] when every address is refused, [`Error::Unresolvable`], [`Error::Timeout`].
    pub async fn resolve_checked(&self, name: &str) -> Result<Vec<SocketAddr>, Error> {
        let found = tokio::time::timeout(self.limit, self.lookup(name.to_owned()))
            .await
            .map_err(|_| Error::Timeout {
                host: name.to_owned(),
                limit: self.limit,
            })?
            .map_err(|e| Error::Unresolvable {
                host: name.to_owned(),
                source: Some(Arc::new(e)),
            })?;
        let (mut allowed, mut refused) = (Vec::new(), None);
        for candidate in found.into_iter().take(CANDIDATES) {
            match self.mode.check_address(name, candidate.ip()) {
                Ok(()) => allowed.push(candidate),
                Err(e) => refused = refused.or(Some(e)),
            }
        }
        match refused {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(e) => Err(e),
            None => Err(Error::Unresolvable {
                host: name.to_owned(),
                source: None,
            }),
        }
    }

    async fn lookup(&self, name: String) -> io::Result<Vec<SocketAddr>> {
        let permit = LOOKUPS.acquire().await.map_err(io::Error::other)?;
        let lookup = Arc::clone(&self.lookup);
        // The permit goes to the thread: a lookup that outlives its limit still holds its place.
        let work = move || {
            let _permit = permit;
            lookup(&name)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(io::Error::other)?
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let addresses = this.resolve_checked(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
