//! Logins to PostgreSQL with a credential that the client does not have: it shows its placeholder, and the server is
//! shown that the secret is known. The secret must never reach the client, nor a server in clear text, nor one that the
//! credential is not for.
//!
//! The client is asked for its password in clear, on the part of the way that ends here: in its own sandbox's network,
//! in TLS if it wants that. Towards the server the login is done by whatever the server asks for, in TLS whose
//! certificate is held against the target. What follows is passed on as it comes, the secret looked for on its way back.

mod login;
mod scram;
mod wire;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use self::wire::{Start, Wish, fatal};
use super::answer::Refusal;
use super::bytes::{Counts, between};
use super::carried::Spoken;
use super::flow::{Flow, Judged};
use super::http::Masked;
use super::limits::HANDSHAKE;
use super::tls::Replayed;
use super::upstream::{Failure, Upstream, dial, encrypt};
use crate::audit::{Action, Kind, Record};
use crate::inject::{RULE, Spending};
use crate::policy::Decision;

/// As in the audit.
const NAME: &str = "postgres";

/// For a login as a whole: what PostgreSQL gives one (`authentication_timeout`).
const LOGIN: Duration = Duration::from_secs(60);

/// What a client may ask for before it begins: TLS and Kerberos' encryption, each once.
const WISHES: usize = 3;

/// A connection, in TLS or not.
type Line = Box<dyn Duplex>;

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A server on the other side of a login.
struct Server {
    line: Line,
    address: IpAddr,
    decision: Decision,
    spending: Option<Arc<Spending>>,
    /// It has let the client in.
    is_in: bool,
}

/// Whether a client that begins so speaks this protocol.
pub(super) fn begins(first: &[u8]) -> bool {
    Wish::of(first).is_some()
}

/// Carries a connection that begins so to its end. Nothing was said yet over `upstream`.
pub(super) async fn carry(
    flow: Flow,
    client: TcpStream,
    upstream: Option<Upstream>,
    first: Vec<u8>,
    judged: Judged<'_>,
) {
    let slow = || refused(&flow, 408, "protocol", "the login took more than 60 s");
    let client = Replayed::new(first, client);
    let logged_in = async {
        let (mut client, start) = greeted(&flow, client).await?;
        match introduced(&flow, &mut client, &start, upstream, &judged).await {
            Ok(server) => Ok((client, server)),
            Err(refusal) => {
                // Whether it hears it is its own matter.
                let _ = client.write_all(&fatal(&refusal.reason)).await;
                let _ = client.shutdown().await;
                Err(refusal)
            }
        }
    };
    match timeout(LOGIN, logged_in)
        .await
        .unwrap_or_else(|_| Err(slow()))
    {
        Ok((client, server)) => passed(&flow, client, server, &judged).await,
        Err(refusal) => flow.record_refusal(NAME, &refusal, None).await,
    }
}

/// A client that has said whom it wants to be, in TLS if it wants that.
async fn greeted(flow: &Flow, client: Replayed) -> Result<(Line, Start), Refusal> {
    let gone = |error: io::Error| {
        refused(
            flow,
            400,
            "protocol",
            &format!("the client's start is malformed or ends early ({error})"),
        )
    };
    let mut line: Line = Box::new(client);
    let mut is_tls = false;
    for _ in 0..WISHES {
        let start = Start::read(&mut line).await.map_err(gone)?;
        match start.wish {
            Wish::Start | Wish::Cancel => return Ok((line, start)),
            Wish::Tls if !is_tls => {
                line.write_all(b"S").await.map_err(gone)?;
                line = accepted(flow, line).await?;
                is_tls = true;
            }
            Wish::Gss | Wish::Tls => line.write_all(b"N").await.map_err(gone)?,
        }
    }
    Err(refused(
        flow,
        400,
        "protocol",
        "the client asks for encryption again and again",
    ))
}

/// TLS with a client, as the server that it wants to speak with.
async fn accepted(flow: &Flow, line: Line) -> Result<Line, Refusal> {
    let failed = |what: String| refused(flow, 502, "tls", &what);
    let config = flow
        .carried
        .ca
        .server(&flow.target, flow.carried.host.now());
    let config = config.map_err(|error| failed(format!("no certificate can be made: {error}")))?;
    let mut config = (*config).clone();
    // Newer clients say so, and older ones say nothing.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let accepting = TlsAcceptor::from(Arc::new(config)).accept(line);
    match timeout(HANDSHAKE, accepting).await {
        Ok(Ok(tls)) => Ok(Box::new(tls)),
        Ok(Err(error)) => Err(failed(format!(
            "the client ended the handshake of TLS ({error})"
        ))),
        Err(_) => Err(failed(
            "the client's handshake of TLS took too long".to_owned(),
        )),
    }
}

/// A server that has answered the client's start: it is let in, or was told why not.
async fn introduced(
    flow: &Flow,
    client: &mut Line,
    start: &Start,
    upstream: Option<Upstream>,
    judged: &Judged<'_>,
) -> Result<Server, Refusal> {
    let carried = &flow.carried;
    let fail = |failure| flow.failure(&judged.policy, judged.seen, failure).0;
    let upstream = match upstream {
        Some(upstream) => upstream,
        None => {
            let attempt = flow.attempt(judged.seen);
            let dialled = dial(
                &carried.host.resolver,
                &judged.policy,
                &attempt,
                &judged.decision,
            );
            dialled.await.map_err(fail)?
        }
    };
    let (address, decision) = (upstream.address, upstream.decision);
    let (mut line, is_tls) = secured(flow, upstream.stream).await.map_err(fail)?;
    let spending = Spending::of(&carried.credentials(), &flow.target, is_tls);
    let gone = |error| {
        fail(Failure::Unreachable(format!(
            "it ended the login ({error})"
        )))
    };
    line.write_all(&start.bytes).await.map_err(gone)?;
    let is_in = match start.wish {
        Wish::Cancel => true,
        _ => login::log_in(flow, client, &mut line, start, spending.as_deref()).await?,
    };
    Ok(Server {
        line,
        address,
        decision,
        spending,
        is_in,
    })
}

/// A connection to the server, in TLS if it speaks that.
async fn secured(flow: &Flow, mut stream: TcpStream) -> Result<(Line, bool), Failure> {
    const TLS: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
    let gone = |error: io::Error| {
        Failure::Unreachable(format!("it does not say whether it speaks TLS ({error})"))
    };
    stream.write_all(TLS).await.map_err(gone)?;
    match stream.read_u8().await.map_err(gone)? {
        b'S' => {
            let mut trust = (*flow.carried.trust(true)).clone();
            trust.alpn_protocols.clear();
            let tls = encrypt(stream, &flow.target, Arc::new(trust)).await?;
            Ok((Box::new(tls), true))
        }
        b'N' => Ok((Box::new(stream), false)),
        _ => Err(Failure::Unreachable("it speaks no PostgreSQL".to_owned())),
    }
}

/// Passes on what follows the login, and records it.
async fn passed(flow: &Flow, client: Line, server: Server, judged: &Judged<'_>) {
    let counts = Counts::default();
    let forms = server.spending.as_ref().and_then(|it| it.forms());
    let mut was_revoked = false;
    if server.is_in {
        let Some(registered) = flow.register(Spoken::Opaque, None, server.address) else {
            return;
        };
        let (client_read, client_write) = split(client);
        let (server_read, server_write) = split(server.line);
        let server_read = Masked::new(server_read, forms);
        tokio::select! {
            // However it ends, it has.
            _ = between(client_read, client_write, server_read, server_write, &counts) => {}
            () = registered.revoked.cancelled() => was_revoked = true,
        }
    }
    let why = judged
        .policy
        .explanation(&flow.attempt(judged.seen), &server.decision);
    let action = if server.decision.observed {
        Action::Observed
    } else {
        Action::Allowed
    };
    let mut record = Record {
        address: Some(server.address),
        bytes_out: counts.out.load(Ordering::Relaxed),
        bytes_in: counts.back.load(Ordering::Relaxed),
        ..flow.record(Kind::Flow, NAME, action, &why.rule, why.reason)
    };
    if let Some(spending) = &server.spending {
        spending.spent().tell(&mut record);
    }
    if !server.is_in {
        record.reason.push_str("; the server refused the login");
    }
    if was_revoked {
        record.reason.push_str("; ended by a change of policy");
    }
    let _ = flow.carried.host.audit.record(record).await;
}

fn refused(flow: &Flow, status: u16, rule: &str, why: &str) -> Refusal {
    let how = if rule == RULE { "denied" } else { "failed" };
    Refusal {
        status,
        rule: rule.to_owned(),
        reason: format!("{}:{} {how}: {why}", flow.target, flow.port),
    }
}
