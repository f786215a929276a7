//! One connection out of a sandbox: what it asks for, whether it may, and its bytes. It must never dial what is
//! denied, nor pass a byte on before what it belongs to was judged.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use contract::time::Micros;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::ahead::Ahead;
use super::answer::reset;
use super::bytes::{Counts, both_ways};
use super::carried::{Asked, Carried, Open, Registered, Spoken, end};
use super::http::{Channel, Scope};
use super::speech::Speech;
use super::upstream::{Upstream, dial};
use super::{dns, http, password, tls};
use crate::audit::{Action, Kind, Record};
use crate::identity::check_server_name;
use crate::limits;
use crate::name::Target;
use crate::policy::{Attempt, Decision, Policy, Seen, Verdict};

/// Port 53 is ours over TCP too: no question for a name leaves the machine.
const DNS: u16 = 53;

/// What is known of a connection.
pub(super) struct Flow {
    pub(super) carried: Arc<Carried>,
    pub(super) target: Target,
    pub(super) port: u16,
    at: Micros,
    begun: Instant,
}

/// Carries one accepted connection to its end.
pub(super) async fn carry(carried: Arc<Carried>, client: TcpStream) {
    let Ok(asked) = client.local_addr() else {
        return reset(client);
    };
    let (ip, port) = (asked.ip().to_canonical(), asked.port());
    if port == DNS {
        return dns::converse(&carried, client, ip).await;
    }
    let _ = client.set_nodelay(true);
    let Some(target) = carried.target(ip) else {
        return nameless(&carried, client, ip, port).await;
    };
    let flow = Flow {
        at: carried.host.now(),
        begun: Instant::now(),
        carried,
        target,
        port,
    };
    flow.judge(client).await;
}

/// A virtual address that stands for nothing.
async fn nameless(carried: &Carried, client: TcpStream, ip: IpAddr, port: u16) {
    let reason = format!("{ip}:{port} denied: no name was resolved to this virtual address");
    let host = &carried.host;
    let record = Record {
        address: Some(ip),
        port: Some(port),
        ..host.record(
            carried,
            Kind::Flow,
            "tcp",
            Action::Denied,
            "always-denied",
            reason,
        )
    };
    // Recorded or not, it is refused.
    let _ = host.audit.record(record).await;
    reset(client);
}

/// Resets a connection for which there is no room, and says so in the audit.
pub(super) async fn refuse_for_want_of_room(carried: &Arc<Carried>, client: TcpStream) {
    let host = &carried.host;
    let reason = format!(
        "denied: no room for one more connection; a sandbox may have {}, and all together what this process may open",
        limits::FLOWS
    );
    let asked = client.local_addr().ok();
    let record = Record {
        address: asked.map(|asked| asked.ip().to_canonical()),
        port: asked.map(|asked| asked.port()),
        ..host.record(
            carried,
            Kind::Flow,
            "tcp",
            Action::Denied,
            "connections",
            reason,
        )
    };
    reset(client);
    let _ = host.audit.record(record).await;
}

impl Flow {
    /// An attempt of which that has been seen.
    pub(super) fn attempt<'a>(&'a self, seen: Seen<'a>) -> Attempt<'a> {
        Attempt {
            target: &self.target,
            port: self.port,
            seen,
        }
    }

    async fn judge(self, mut client: TcpStream) {
        let policy = self.carried.policy();
        let decision = policy.decide(&self.attempt(Seen::Nothing));
        match decision.verdict {
            Verdict::Deny => {
                let (bytes, speech) = listen(&mut client, limits::REFUSED_BYTES).await;
                drop(bytes);
                self.deny(client, &policy, &speech, Seen::Nothing, &decision)
                    .await;
            }
            Verdict::Look | Verdict::Inspect => {
                let (bytes, speech) = listen(&mut client, limits::FIRST_BYTES).await;
                let Some(spoken) = spoken(&speech) else {
                    return self.unclear(client, &speech).await;
                };
                let seen = spoken.seen();
                let decision = policy.decide(&self.attempt(seen));
                match (decision.verdict, spoken) {
                    (Verdict::Inspect, Spoken::Tls) => {
                        // What few connections need is not part of every one's memory.
                        Box::pin(self.look_into(client, None, bytes, speech, None)).await;
                    }
                    (Verdict::Allow, _) | (Verdict::Inspect, Spoken::Http) => {
                        let judged = Judged {
                            policy,
                            decision,
                            seen,
                        };
                        self.open(client, None, bytes, speech, judged).await;
                    }
                    _ => self.deny(client, &policy, &speech, seen, &decision).await,
                }
            }
            Verdict::Allow => {
                // Some servers speak first, so it is dialled before the client has said anything.
                let seen = Seen::Nothing;
                let (resolver, attempt) = (&self.carried.host.resolver, self.attempt(seen));
                match dial(resolver, &policy, &attempt, &decision).await {
                    Ok(mut upstream) => {
                        let heard = listen_both(&mut client, &mut upstream.stream).await;
                        let (bytes, speech) = heard;
                        let judged = Judged {
                            policy,
                            decision,
                            seen,
                        };
                        self.open(client, Some(upstream), bytes, speech, judged)
                            .await;
                    }
                    Err(failure) => {
                        let (_, speech) = listen(&mut client, limits::REFUSED_BYTES).await;
                        self.fail(client, &policy, &speech, seen, failure).await;
                    }
                }
            }
        }
    }

    /// Goes on with a connection whose first bytes are known, over `upstream` or a connection that is made now.
    async fn open(
        self,
        client: TcpStream,
        upstream: Option<Upstream>,
        bytes: Vec<u8>,
        speech: Speech,
        judged: Judged<'_>,
    ) {
        let Some(spoken) = spoken(&speech) else {
            return self.unclear(client, &speech).await;
        };
        if let Speech::Tls(hello) = &speech
            && let Err(misdirected) = check_server_name(&self.target, hello.server_name.as_ref())
        {
            return self.misdirected(client, &speech, misdirected).await;
        }
        if spoken == Spoken::Tls && self.carried.credentials().cover(&self.target) {
            let looked_into = self.look_into(client, upstream, bytes, speech, Some(judged));
            return Box::pin(looked_into).await;
        }
        if spoken == Spoken::Opaque
            && password::is_begun(&bytes)
            && self.carried.credentials().cover(&self.target)
        {
            let line: password::Line = Box::new(Ahead::new(&bytes, client));
            let carried = password::carry(self, (line, &bytes), spoken, upstream, judged);
            return Box::pin(carried).await;
        }
        if spoken == Spoken::Http {
            return Box::pin(self.requests(client, upstream, &bytes)).await;
        }
        let attempt = self.attempt(judged.seen);
        let upstream = match upstream {
            Some(upstream) => Ok(upstream),
            None => {
                let resolver = &self.carried.host.resolver;
                dial(resolver, &judged.policy, &attempt, &judged.decision).await
            }
        };
        match upstream {
            Ok(upstream) => {
                let (policy, seen) = (judged.policy, judged.seen);
                let rule = policy.explanation(&self.attempt(seen), &upstream.decision);
                let is_begun = matches!(speech, Speech::Begun);
                let first = First { bytes, is_begun };
                self.splice(client, upstream, first, spoken, rule).await;
            }
            Err(failure) => {
                self.fail(client, &judged.policy, &speech, judged.seen, failure)
                    .await;
            }
        }
    }

    /// Goes on with requests in clear text, each to be judged.
    async fn requests(self, client: TcpStream, upstream: Option<Upstream>, first: &[u8]) {
        let scope = Scope::new(&self.carried.host.tasks);
        let _ends_with_this = scope.guard();
        let channel = Arc::new(Channel::new(self, Spoken::Http, scope));
        if let Some(upstream) = upstream {
            channel.keep(upstream).await;
        }
        http::serve_one(channel, client, first).await;
    }

    /// Goes on with TLS in which requests are to be judged, or that `judged` let through whatever is in it.
    async fn look_into(
        self,
        client: TcpStream,
        upstream: Option<Upstream>,
        first: Vec<u8>,
        speech: Speech,
        judged: Option<Judged<'_>>,
    ) {
        let Speech::Tls(hello) = &speech else {
            return self.unclear(client, &speech).await;
        };
        if let Err(misdirected) = check_server_name(&self.target, hello.server_name.as_ref()) {
            return self.misdirected(client, &speech, misdirected).await;
        }
        tls::intercept(self, client, upstream, first, judged).await;
    }

    /// Passes bytes on both ways, as they are.
    async fn splice(
        self,
        mut client: TcpStream,
        upstream: Upstream,
        first: First,
        spoken: Spoken,
        why: crate::policy::Explanation,
    ) {
        let Upstream {
            mut stream,
            address,
            decision,
        } = upstream;
        let Some(registered) = self.register(spoken, None, address) else {
            return end(client, stream);
        };
        let counts = Counts::default();
        let whole = async {
            let bytes = first.bytes;
            stream.write_all(&bytes).await?;
            counts.out.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            let line = first.is_begun.then_some(bytes);
            both_ways(&mut client, &mut stream, line, &counts).await
        };
        let ended = tokio::select! {
            ended = whole => Ended::of(&ended),
            () = registered.revoked.cancelled() => Ended::Revoked,
        };
        if ended != Ended::ByItself {
            end(client, stream);
        }
        let allowed = if decision.observed {
            Action::Observed
        } else {
            Action::Allowed
        };
        let (action, rule, reason) = match ended {
            Ended::ByItself => (allowed, why.rule.as_str(), why.reason),
            Ended::Revoked => {
                let reason = format!("{}; ended by a change of policy", why.reason);
                (allowed, why.rule.as_str(), reason)
            }
            Ended::Http => {
                let reason = format!(
                    "{}:{} denied: a line that was begun went on as a request of HTTP; send it at once",
                    self.target, self.port
                );
                (Action::Denied, "protocol", reason)
            }
        };
        let record = Record {
            address: Some(address),
            bytes_out: counts.out.load(Ordering::Relaxed),
            bytes_in: counts.back.load(Ordering::Relaxed),
            ..self.record(Kind::Flow, spoken.as_str(), action, rule, reason)
        };
        let _ = self.carried.host.audit.record(record).await;
    }

    /// Counts it as open, unless it may no longer be.
    pub(super) fn register(
        &self,
        spoken: Spoken,
        request: Option<Asked>,
        address: IpAddr,
    ) -> Option<Registered> {
        self.carried.register(Open {
            target: self.target.clone(),
            port: self.port,
            spoken,
            request,
            address,
            revoked: CancellationToken::new(),
        })
    }

    /// A record of it, with nothing carried.
    pub(super) fn record(
        &self,
        kind: Kind,
        protocol: &str,
        action: Action,
        rule: &str,
        reason: String,
    ) -> Record {
        let (name, address) = match &self.target {
            Target::Name(name) => (Some(name.to_string()), None),
            Target::Address(ip) => (None, Some(*ip)),
        };
        let elapsed = self.begun.elapsed().as_micros();
        Record {
            at: self.at,
            name,
            address,
            port: Some(self.port),
            duration_us: u64::try_from(elapsed).unwrap_or(u64::MAX),
            ..self
                .carried
                .host
                .record(&self.carried, kind, protocol, action, rule, reason)
        }
    }
}

/// What a client said before it was let through.
struct First {
    bytes: Vec<u8>,
    /// It is the beginning of a line.
    is_begun: bool,
}

/// How bytes that were passed on have ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    ByItself,
    /// By a change of policy.
    Revoked,
    /// They turned out to be a request, of which nobody has seen all.
    Http,
}

impl Ended {
    fn of(ended: &std::io::Result<()>) -> Self {
        match ended {
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Self::Http,
            _ => Self::ByItself,
        }
    }
}

/// A decision that let something through, with what it was made on.
pub(super) struct Judged<'a> {
    pub(super) policy: Arc<Policy>,
    pub(super) decision: Decision,
    pub(super) seen: Seen<'a>,
}

/// What goes on may speak so; `None` for what is refused.
fn spoken(speech: &Speech) -> Option<Spoken> {
    match speech {
        Speech::Tls(_) => Some(Spoken::Tls),
        Speech::Http => Some(Spoken::Http),
        Speech::Opaque | Speech::Begun => Some(Spoken::Opaque),
        Speech::BadTls(_) | Speech::More => None,
    }
}

/// The client's first bytes, until it is clear what they are or the time is over.
async fn listen(client: &mut TcpStream, time: std::time::Duration) -> (Vec<u8>, Speech) {
    let mut bytes = Vec::with_capacity(2048);
    let listening = async {
        let mut speech = Speech::More;
        loop {
            let more = client.read_buf(&mut bytes);
            let said = match speech {
                // A prompt that is answered, or a word without an end of line: it waits for the server.
                Speech::Begun => match timeout(limits::PAUSE, more).await {
                    Ok(said) => said,
                    Err(_) => return speech,
                },
                _ => more.await,
            };
            speech = Speech::of(&bytes);
            match (said, &speech) {
                // It says no more: what is not clear by now never is.
                (Ok(0) | Err(_), _) => return speech,
                (Ok(_), Speech::More | Speech::Begun) => {}
                (Ok(_), _) => return speech,
            }
        }
    };
    let heard = timeout(time, listening).await;
    let speech = heard.unwrap_or(Speech::More);
    // Who waits for the server to begin has said nothing, which is an answer too.
    match speech {
        Speech::More if bytes.is_empty() => (bytes, Speech::Opaque),
        speech => (bytes, speech),
    }
}

/// The client's first bytes; none if the server speaks first, or if neither does for a while.
async fn listen_both(client: &mut TcpStream, server: &mut TcpStream) -> (Vec<u8>, Speech) {
    // Looked at where they are, and not only said to be there: readiness may be false, of a client so that it is
    // waited for in vain, of a server so that nobody judges what its client says.
    let (mut client_says, mut server_says) = ([0], [0]);
    tokio::select! {
        biased;
        said = client.peek(&mut client_says) => { let _looked_at_next = said; }
        said = server.peek(&mut server_says) => {
            let _ended_too = said;
            return (Vec::new(), Speech::Opaque);
        }
    }
    listen(client, limits::FIRST_BYTES).await
}
