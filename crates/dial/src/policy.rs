//! What may be dialled: the always-denied set less the operator's lift. A tenant's word must never reach
//! this file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use url::{Host, Url};

use crate::class::{Class, classify, effective};
use crate::error::Error;
use crate::net::Net;

/// The operator's lift of the always-denied set (`[egress] allow_private`). The default lifts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Ranges that tenants may reach although they are in the set.
    pub allow_private: Vec<Net>,
}

impl Policy {
    /// The class for which `ip` is refused, or `None` when it may be dialled. Asks the kernel's routing
    /// table whether a public-looking address is this machine's; sends nothing.
    #[must_use]
    pub fn refusal(&self, ip: IpAddr) -> Option<Class> {
        let judged = effective(ip);
        if self
            .allow_private
            .iter()
            .any(|net| net.contains(judged) || net.contains(ip))
        {
            return None;
        }
        match classify(ip) {
            Class::Public if is_host_own(judged) => Some(Class::HostOwn),
            Class::Public => None,
            denied => Some(denied),
        }
    }
}

/// Whether the kernel would deliver to `ip` locally: then it also picks `ip` as the source. Connecting a
/// UDP socket sends no packet. An address behind a NAT in front of this machine cannot be known here.
fn is_host_own(ip: IpAddr) -> bool {
    let any: SocketAddr = match ip {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let probe = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind(any)?;
        socket.connect((ip, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    // No route means that nothing can be reached there either, us included.
    probe().is_ok_and(|source| source == ip)
}

/// How a client dials.
#[derive(Clone, Debug)]
pub enum Mode {
    /// For a URL that a tenant named.
    Guarded(Arc<Policy>),
    /// For a URL that the operator named: anything goes, still within the resolver's limits.
    Exempt,
}

impl Mode {
    /// Guarded under `policy`.
    #[must_use]
    pub fn guarded(policy: Policy) -> Mode {
        Mode::Guarded(Arc::new(policy))
    }

    /// Judges one address that `host` stands for.
    ///
    /// # Errors
    /// [`Error::Denied`].
    pub fn check_address(&self, host: &str, ip: IpAddr) -> Result<(), Error> {
        match self {
            Mode::Exempt => Ok(()),
            Mode::Guarded(policy) => match policy.refusal(ip) {
                None => Ok(()),
                Some(class) => Err(Error::Denied {
                    host: host.to_owned(),
                    address: ip,
                    class,
                }),
            },
        }
    }
}

/// Judges the parts of a URL that no resolver will see: its scheme and a literal address. Call it before
/// every send; a name in the URL is judged by the client's resolver. `Url` has already turned the
/// decimal, octal and hex forms of IPv4 into an address.
///
/// # Errors
/// [`Error::Denied`] for a literal address, [`Error::Scheme`], [`Error::NoHost`].
pub fn check_url(mode: &Mode, url: &Url) -> Result<(), Error> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::Scheme {
            scheme: url.scheme().to_owned(),
        });
    }
    match url.host().ok_or(Error::NoHost)? {
        Host::Domain("") => Err(Error::NoHost),
        Host::Domain(_) => Ok(()),
        Host::Ipv4(v4) => mode.check_address(&v4.to_string(), v4.into()),
        Host::Ipv6(v6) => mode.check_address(&v6.to_string(), v6.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_host_own;

    #[test]
    fn what_the_kernel_delivers_here_is_the_hosts_own() {
        assert!(is_host_own("127.0.0.1".parse().unwrap()));
        assert!(!is_host_own("192.0.2.1".parse().unwrap()));
        assert!(!is_host_own("2001:db8::1".parse().unwrap()));
    }
}
