//! The way to a server outside: its addresses, each judged right before it is dialled, and the connection. It
//! must never dial what was not judged.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ahead::Ahead;
use super::limits::HANDSHAKE;
use crate::inject::Credentials;
use crate::intercept::problem;
use crate::limits;
use crate::name::Target;
use crate::policy::{Attempt, Decision, Policy, Verdict};

/// A connection that was let through.
pub(super) struct Upstream {
    pub(super) stream: TcpStream,
    pub(super) address: IpAddr,
    /// What let it through, the address included.
    pub(super) decision: Decision,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Failure {
    /// No address may be dialled: the last decision, and its address.
    Denied(Decision, IpAddr),
    /// The name has no address, or nobody answers there: one line.
    Unreachable(String),
}

/// Dials the target that `by` let through.
///
/// Cancel safe: yes.
pub(super) async fn dial(
    resolver: &dial::Resolver,
    policy: &Policy,
    attempt: &Attempt<'_>,
    by: &Decision,
) -> Result<Upstream, Failure> {
    let candidates = match attempt.target {
        Target::Address(ip) => vec![*ip],
        Target::Name(name) => {
            let found = resolver.resolve_checked(name.as_str()).await;
            let found = found.map_err(|error| Failure::Unreachable(error.to_string()))?;
            found.iter().map(SocketAddr::ip).collect()
        }
    };
    let mut failure = Failure::Unreachable(format!("{} has no address", attempt.target));
    for ip in candidates {
        let decision = policy.judge_address(attempt, by, ip);
        if decision.verdict != Verdict::Allow {
            failure = Failure::Denied(decision, ip);
            continue;
        }
        let connecting = TcpStream::connect((ip, attempt.port));
        match timeout(limits::CONNECT, connecting).await {
            Ok(Ok(stream)) => {
                // A small write waits for nobody.
                let _ = stream.set_nodelay(true);
                return Ok(Upstream {
                    stream,
                    address: ip,
                    decision,
                });
            }
            Ok(Err(error)) => {
                failure = Failure::Unreachable(format!("{ip}:{}: {error}", attempt.port));
            }
            Err(_) => {
                let seconds = limits::CONNECT.as_secs();
                let text = format!("{ip}:{}: no answer within {seconds} s", attempt.port);
                failure = Failure::Unreachable(text);
            }
        }
    }
    Err(failure)
}

/// `trust`, with the operator's certificate to be shown if one is for that target.
pub(super) fn identified(
    trust: Arc<ClientConfig>,
    credentials: &Credentials,
    target: &Target,
) -> Result<Arc<ClientConfig>, Failure> {
    let certificate = credentials.certificate(target);
    let certificate = certificate.map_err(|why| Failure::Unreachable(why.to_string()))?;
    Ok(match certificate {
        None => trust,
        Some(certificate) => {
            let mut identified = (*trust).clone();
            identified.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certificate));
            Arc::new(identified)
        }
    })
}

/// TLS over a connection to that target, whose certificate is held against `trust`.
///
/// Cancel safe: yes.
pub(super) async fn encrypt(
    stream: TcpStream,
    target: &Target,
    trust: Arc<ClientConfig>,
) -> Result<TlsStream<Ahead>, Failure> {
    let name = match target {
        Target::Name(name) => ServerName::try_from(name.as_str().to_owned())
            .map_err(|_| Failure::Unreachable("no certificate can be for its name".to_owned()))?,
        Target::Address(ip) => ServerName::IpAddress((*ip).into()),
    };
    let connecting = TlsConnector::from(trust).connect(name, Ahead::new(&[], stream));
    match timeout(HANDSHAKE, connecting).await {
        Ok(Ok(tls)) => Ok(tls),
        Ok(Err(error)) => Err(Failure::Unreachable(problem(&error))),
        Err(_) => {
            let seconds = HANDSHAKE.as_secs();
            let text = format!("no handshake of TLS within {seconds} s");
            Err(Failure::Unreachable(text))
        }
    }
}
