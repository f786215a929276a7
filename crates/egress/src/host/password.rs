//! Protocols other than HTTP in which a client shows a password: it shows its placeholder, and the server is shown the
//! secret. What is the same in all of them stands here: whom to dial, what may go on, what is recorded, and what the
//! client is told. The secret must never reach the client, nor a server in clear text, nor one that the credential is
//! not for; how a protocol sees to that is its own matter ([`Protocol`]).

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::{Refusal, say};
use super::bytes::{Counts, pass};
use super::carried::Spoken;
use super::flow::{Flow, Judged};
use super::http::{Masked, Sought};
use super::upstream::{Failure, Upstream, dial, encrypt, identified};
use super::{postgres, redis};
use crate::audit::{Action, Kind, Record};
use crate::inject::{RULE, Spending};
use crate::policy::Decision;

/// For a login as a whole: what PostgreSQL gives one (`authentication_timeout`).
const LOGIN: Duration = Duration::from_secs(60);

/// A connection, in TLS or not.
pub(super) type Line = Box<dyn Duplex>;

pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A protocol, with what its client has said before a server is needed.
pub(super) trait Protocol: Sized + Send + Sync {
    /// As in the audit.
    const NAME: &'static str;

    /// A client that has said what it wants, in TLS if it asks for that; it is in TLS already if `spoken` says so.
    fn greet(
        flow: &Flow,
        client: Line,
        spoken: Spoken,
    ) -> impl Future<Output = Result<(Line, Self), Refusal>> + Send;

    /// A connection to the server, and whether it is in TLS.
    fn secure(
        &self,
        flow: &Flow,
        stream: TcpStream,
    ) -> impl Future<Output = Result<(Line, bool), Failure>> + Send;

    /// Logs the client in; whether the server has let it in. If it has not, the client was told so by the server.
    ///
    /// # Errors
    /// There is no login: the credential cannot go there, or one of both does not speak as it should.
    fn log_in(
        &self,
        flow: &Flow,
        client: &mut Line,
        server: &mut Line,
        spending: Option<&Spending>,
    ) -> impl Future<Output = Result<bool, Refusal>> + Send;

    /// Passes on what the client says then, to its end: as it is, unless the protocol has logins later.
    fn pass_on(&self, said: Said<'_>) -> impl Future<Output = Result<(), Stop>> + Send {
        async move { Ok(pass(said.client, said.server, &said.counts.out).await?) }
    }

    /// How a client is told that it is refused.
    fn refusal(reason: &str) -> Vec<u8>;
}

/// A client's side of a connection that goes on.
pub(super) struct Said<'a> {
    pub(super) flow: &'a Flow,
    pub(super) client: &'a mut ReadHalf<Line>,
    pub(super) server: WriteHalf<Line>,
    pub(super) spending: Option<&'a Spending>,
    pub(super) counts: &'a Counts,
}

/// Why nothing more is passed on.
pub(super) enum Stop {
    /// One side has gone.
    Gone,
    Refused(Refusal),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A server on the other side of a login.
struct Server {
    line: Line,
    address: IpAddr,
    decision: Decision,
    spending: Option<Arc<Spending>>,
    /// It has let the client in.
    is_in: bool,
}

/// Whether a client that begins so, in TLS or not, speaks one of them.
pub(super) fn is_begun(first: &[u8]) -> bool {
    postgres::begins(first) || redis::begins(first)
}

/// Carries the connection of a client that begins so to its end. Nothing was said yet over `upstream`; `client` says
/// `first` once more.
pub(super) async fn carry(
    flow: Flow,
    (client, first): (Line, &[u8]),
    spoken: Spoken,
    upstream: Option<Upstream>,
    judged: Judged<'_>,
) {
    if postgres::begins(first) {
        carry_as::<postgres::Start>(flow, client, spoken, upstream, judged).await;
    } else {
        carry_as::<redis::Redis>(flow, client, spoken, upstream, judged).await;
    }
}

async fn carry_as<P: Protocol>(
    flow: Flow,
    client: Line,
    spoken: Spoken,
    upstream: Option<Upstream>,
    judged: Judged<'_>,
) {
    let logged_in = async {
        let (mut client, protocol) = P::greet(&flow, client, spoken).await?;
        match introduced(&flow, &mut client, &protocol, upstream, &judged).await {
            Ok(server) => Ok((client, protocol, server)),
            Err(refusal) => {
                say(&mut client, &P::refusal(&refusal.reason)).await;
                Err(refusal)
            }
        }
    };
    let slow = || refused(&flow, 408, "protocol", "the login took more than 60 s");
    let logged_in = timeout(LOGIN, logged_in).await;
    let carried = match logged_in.unwrap_or_else(|_| Err(slow())) {
        Ok((client, protocol, server)) => {
            passed(&flow, (client, spoken), &protocol, server, &judged).await
        }
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = carried {
        flow.record_refusal(P::NAME, &refusal, None).await;
    }
}

/// A server that has answered the client's login: it is let in, or was told why not.
async fn introduced<P: Protocol>(
    flow: &Flow,
    client: &mut Line,
    protocol: &P,
    upstream: Option<Upstream>,
    judged: &Judged<'_>,
) -> Result<Server, Refusal> {
    let carried = &flow.carried;
    let fail = |failure| flow.failure(&judged.policy, judged.seen, failure).0;
    let upstream = match upstream {
        Some(upstream) => upstream,
        None => {
            let (resolver, attempt) = (&carried.host.resolver, flow.attempt(judged.seen));
            let dialled = dial(resolver, &judged.policy, &attempt, &judged.decision);
            dialled.await.map_err(fail)?
        }
    };
    let (address, decision) = (upstream.address, upstream.decision);
    let secured = protocol.secure(flow, upstream.stream).await;
    let (mut line, is_tls) = secured.map_err(fail)?;
    let spending = Spending::of(&carried.credentials(), &flow.target, is_tls);
    if let Some(spending) = &spending {
        let shown = spending.show_certificates();
        shown.map_err(|why| refused(flow, 403, RULE, &why.to_string()))?;
    }
    let logging_in = protocol.log_in(flow, client, &mut line, spending.as_deref());
    let is_in = logging_in.await?;
    Ok(Server {
        line,
        address,
        decision,
        spending,
        is_in,
    })
}

/// TLS towards the server, for which the protocol has no name of its own.
pub(super) async fn in_tls(flow: &Flow, stream: TcpStream) -> Result<Line, Failure> {
    let mut trust = (*flow.carried.trust(true)).clone();
    trust.alpn_protocols.clear();
    let credentials = flow.carried.credentials();
    let trust = identified(Arc::new(trust), &credentials, &flow.target)?;
    let tls = encrypt(stream, &flow.target, trust).await?;
    Ok(Box::new(tls))
}

/// Passes on what follows the login, and records it.
///
/// # Errors
/// What the client said later cannot go on; it was told.
async fn passed<P: Protocol>(
    flow: &Flow,
    (client, spoken): (Line, Spoken),
    protocol: &P,
    server: Server,
    judged: &Judged<'_>,
) -> Result<(), Refusal> {
    let counts = Counts::default();
    let forms = server.spending.as_ref().and_then(|it| it.forms());
    let mut was_revoked = false;
    if server.is_in {
        let Some(registered) = flow.register(spoken, None, server.address) else {
            return Ok(());
        };
        let (mut client_read, mut client_write) = split(client);
        let (server_read, server_write) = split(server.line);
        let sought = forms.map(|forms| Sought::of(Some(forms)));
        let server_read = Masked::new(server_read, sought);
        let said = Said {
            flow,
            client: &mut client_read,
            server: server_write,
            spending: server.spending.as_deref(),
            counts: &counts,
        };
        let both = async {
            let back = pass(server_read, &mut client_write, &counts.back);
            tokio::try_join!(protocol.pass_on(said), async { Ok(back.await?) })
        };
        let stopped = tokio::select! {
            ended = both => ended.err(),
            () = registered.revoked.cancelled() => {
                was_revoked = true;
                None
            }
        };
        if let Some(Stop::Refused(refusal)) = stopped {
            let mut client = client_read.unsplit(client_write);
            say(&mut client, &P::refusal(&refusal.reason)).await;
            return Err(refusal);
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
        ..flow.record(Kind::Flow, P::NAME, action, &why.rule, why.reason)
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
    Ok(())
}

/// Why a connection does not go on.
pub(super) fn refused(flow: &Flow, status: u16, rule: &str, why: &str) -> Refusal {
    let how = if rule == RULE { "denied" } else { "failed" };
    Refusal {
        status,
        rule: rule.to_owned(),
        reason: format!("{}:{} {how}: {why}", flow.target, flow.port),
    }
}
