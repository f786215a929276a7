//! Protocols other than HTTP in which a client shows a password: it shows its placeholder, and the server is shown the
//! secret. What is the same in all of them stands here: whom to dial, what may go on, what is recorded, and what the
//! client is told. The secret must never reach the client, nor a server in clear text, nor one that the credential is
//! not for; how a protocol sees to that is its own matter ([`Protocol`]).

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::answer::{Refusal, say};
use super::bytes::{Counts, pass};
use super::carried::Spoken;
use super::flow::{Flow, Judged};
use super::http::Masked;
use super::logins::{Logins, Why};
use super::upstream::{Failure, Upstream, dial, encrypt, identified};
use super::{postgres, redis};
use crate::audit::Action;
use crate::inject::{RULE, Spending};

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
    fn pass_on(&self, said: Said<'_, '_>) -> impl Future<Output = Result<(), Stop>> + Send {
        async move { Ok(pass(said.client, said.server, &said.counts.out).await?) }
    }

    /// How a client is told that it is refused.
    fn refusal(reason: &str) -> Vec<u8>;
}

/// A client's side of a connection that goes on.
pub(super) struct Said<'a, 'f> {
    pub(super) flow: &'a Flow,
    pub(super) client: &'a mut ReadHalf<Line>,
    pub(super) server: WriteHalf<Line>,
    pub(super) logins: &'a mut Logins<'f>,
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

/// A client with a server that it is to be logged in to.
struct Both<P> {
    protocol: P,
    client: Line,
    server: Line,
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
    let deadline = Instant::now() + LOGIN;
    let slow = || refused(&flow, 408, "protocol", "the login took more than 60 s");
    let reaching = reach::<P>(&flow, client, spoken, upstream, &judged);
    let reached = timeout_at(deadline, reaching).await;
    let (mut both, logins) = match reached.unwrap_or_else(|_| Err(slow())) {
        Ok(reached) => reached,
        Err(refusal) => return flow.record_refusal(P::NAME, &refusal, None).await,
    };
    let logging_in = timeout_at(deadline, log_in(&flow, &mut both, &logins)).await;
    match logging_in.unwrap_or_else(|_| Err(slow())) {
        Ok(true) => pass_on(&flow, spoken, both, logins).await,
        Ok(false) => logins.end("; the server refused the login").await,
        Err(refusal) => {
            logins.refused(&refusal).await;
            say(&mut both.client, &P::refusal(&refusal.reason)).await;
        }
    }
}

/// A client that has said what it wants, and its server, to which nothing was said yet.
async fn reach<'f, P: Protocol>(
    flow: &'f Flow,
    client: Line,
    spoken: Spoken,
    upstream: Option<Upstream>,
    judged: &Judged<'_>,
) -> Result<(Both<P>, Logins<'f>), Refusal> {
    let (mut client, protocol) = P::greet(flow, client, spoken).await?;
    match reach_server(flow, &protocol, upstream, judged).await {
        Ok((server, logins)) => Ok((
            Both {
                protocol,
                client,
                server,
            },
            logins,
        )),
        Err(refusal) => {
            say(&mut client, &P::refusal(&refusal.reason)).await;
            Err(refusal)
        }
    }
}

async fn reach_server<'f, P: Protocol>(
    flow: &'f Flow,
    protocol: &P,
    upstream: Option<Upstream>,
    judged: &Judged<'_>,
) -> Result<(Line, Logins<'f>), Refusal> {
    let attempt = flow.attempt(judged.seen);
    let fail = |failure| flow.failure(&judged.policy, judged.seen, failure).0;
    let upstream = match upstream {
        Some(upstream) => upstream,
        None => {
            let resolver = &flow.carried.host.resolver;
            let dialled = dial(resolver, &judged.policy, &attempt, &judged.decision);
            dialled.await.map_err(fail)?
        }
    };
    let why = judged.policy.explanation(&attempt, &upstream.decision);
    let action = if upstream.decision.observed {
        Action::Observed
    } else {
        Action::Allowed
    };
    let why = Why {
        action,
        rule: why.rule,
        reason: why.reason,
    };
    let secured = protocol.secure(flow, upstream.stream).await;
    let (server, is_tls) = secured.map_err(fail)?;
    let logins = Logins::new(flow, P::NAME, (upstream.address, is_tls), why);
    Ok((server, logins))
}

/// The login that comes before everything else, if the protocol has one.
async fn log_in<P: Protocol>(
    flow: &Flow,
    both: &mut Both<P>,
    logins: &Logins<'_>,
) -> Result<bool, Refusal> {
    let spending = logins.spending();
    if let Some(spending) = spending {
        let shown = spending.show_certificates();
        shown.map_err(|why| refused(flow, 403, RULE, &why.to_string()))?;
    }
    let (client, server) = (&mut both.client, &mut both.server);
    both.protocol.log_in(flow, client, server, spending).await
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
async fn pass_on<P: Protocol>(flow: &Flow, spoken: Spoken, both: Both<P>, mut logins: Logins<'_>) {
    const CHANGED: &str = "; ended by a change of policy";
    let address = logins.address;
    let Some(registered) = flow.register(spoken, None, address) else {
        return logins.end(CHANGED).await;
    };
    let (mut client_read, mut client_write) = split(both.client);
    let (server_read, server) = split(both.server);
    let server_read = Masked::new(server_read, Some(logins.sought()));
    let counts = logins.counts();
    let said = Said {
        flow,
        client: &mut client_read,
        server,
        logins: &mut logins,
        counts: &counts,
    };
    let talking = async {
        let back = pass(server_read, &mut client_write, &counts.back);
        tokio::try_join!(both.protocol.pass_on(said), async { Ok(back.await?) })
    };
    let mut how = "";
    let stopped = tokio::select! {
        ended = talking => ended.err(),
        () = registered.revoked.cancelled() => {
            how = CHANGED;
            None
        }
    };
    let Some(Stop::Refused(refusal)) = stopped else {
        return logins.end(how).await;
    };
    // What was carried until then is one thing, what is refused another.
    logins.end("; ended by what the client said").await;
    flow.record_refusal(P::NAME, &refusal, Some(address)).await;
    let mut client = client_read.unsplit(client_write);
    say(&mut client, &P::refusal(&refusal.reason)).await;
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
