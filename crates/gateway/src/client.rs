//! Where a request came from: the peer of its connection, or what a proxy that the operator trusts says.
//! For the log only: no right depends on an address.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use dial::Net;

const FORWARDED: &str = "x-forwarded-for";

/// The other end of a connection; none on the control socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The address of the client: of the last hop that no trusted proxy stands behind.
pub(crate) fn address(peer: Option<Peer>, headers: &HeaderMap, trusted: &[Net]) -> Option<IpAddr> {
    let mut client = peer?.0.ip().to_canonical();
    let lines = headers.get_all(FORWARDED).iter().rev();
    let hops = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.rsplit(','));
    for hop in hops {
        if !trusted.iter().any(|net| net.contains(client)) {
            break;
        }
        // What is no address was written by nobody we trust.
        let Ok(before) = hop.trim().parse::<IpAddr>() else {
            break;
        };
        client = before.to_canonical();
    }
    Some(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED, line.parse().unwrap());
        }
        let peer = Peer(SocketAddr::new(peer.parse().unwrap(), 1));
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        address(Some(peer), &headers, &trusted).unwrap().to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(seen("10.0.0.1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(seen("192.0.2.1", &["203.0.113.7"]), "192.0.2.1");
        assert_eq!(seen("::ffff:10.0.0.1", &["203.0.113.7"]), "203.0.113.7");
    }

    #[test]
    fn what_the_client_itself_wrote_is_not_believed() {
        // The proxy appends the address it saw; what stands before it came with the request.
        let forged = seen("10.0.0.1", &["198.51.100.1, 203.0.113.7"]);
        assert_eq!(forged, "203.0.113.7");
        let chain = seen("10.0.0.1", &["198.51.100.1", "203.0.113.7, 10.0.0.2"]);
        assert_eq!(chain, "203.0.113.7");
        assert_eq!(seen("10.0.0.1", &["rubbish"]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
    }
}
