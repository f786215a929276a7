//! One request and its answer: judged by the policy in force, sent on, recorded when it has ended in whatever
//! way. It must never send what was not judged, nor end without a record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Method, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::answer::Refusal;
use super::super::bytes::Counts;
use super::super::carried::{Asked, Registered, Spoken};
use super::super::limits::JUDGED_BODY;
use super::asking::Asking;
use super::body::Sent;
use super::early::{self, Early};
use super::mcp::{self, Call};
use super::turned::Got;
use super::way::{Channel, To, Unanswered, Way};
use crate::audit::{Action, Kind, Record};
use crate::inject::Spending;
use crate::path::Path;
use crate::policy::{Decision, Explanation, Policy, Request, Seen, Verdict};

/// Tries of one request on connections that the server turns out to have closed.
const TRIES: usize = 4;

/// A request that is let through, and why.
pub(super) struct Judged {
    pub(super) policy: Arc<Policy>,
    pub(super) decision: Decision,
    pub(super) why: Explanation,
    pub(super) calls: Vec<Call>,
    /// The credentials in it, where its sandbox has any.
    pub(super) spending: Option<Arc<Spending>>,
}

/// A request that is not carried, or not to its end, with the address that it would have gone to.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    address: Option<std::net::IpAddr>,
    /// What it had come to, where some of it may have been sent.
    begun: Option<Box<Record>>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            address: None,
            begun: None,
        }
    }
}

/// A request that is under way. It is recorded when it ends, or is dropped.
pub(super) struct Exchange {
    channel: Arc<Channel>,
    record: Option<Box<Record>>,
    begun: Instant,
    pub(super) counts: Arc<Counts>,
    registered: Registered,
    was_revoked: AtomicBool,
    /// Given back when it is recorded.
    place: Option<OwnedSemaphorePermit>,
    pub(super) spending: Option<Arc<Spending>>,
}

/// An answer, and what it came by.
pub(super) struct Answered {
    pub(super) response: Response<Got>,
    pub(super) exchange: Exchange,
    pub(super) to: To,
    pub(super) address: std::net::IpAddr,
}

/// What a policy is to judge of a request that came so.
pub(super) fn seen<'a>(
    spoken: Spoken,
    method: &'a Method,
    path: &'a Path,
    call: Option<&'a Call>,
) -> Seen<'a> {
    let request = Request {
        method: method.as_str(),
        path,
        mcp: call.unwrap_or(&Call::No).as_mcp(),
    };
    match spoken {
        Spoken::Tls => Seen::RequestInTls(request),
        Spoken::Http | Spoken::Opaque => Seen::Request(request),
    }
}

impl Channel {
    /// Whether what the request asks of an MCP server must be known to judge it.
    pub(super) fn reads_calls(&self, asking: &Asking) -> bool {
        let seen = seen(self.spoken, &asking.method, &asking.path, None);
        let policy = self.flow.carried.policy();
        policy.names_tools(&self.flow.attempt(seen))
    }

    /// Judges a request by the policy that is in force now, and by its body where a rule asks what it calls; the
    /// body is all there then. Credentials are put into one that may go.
    pub(super) async fn judge(
        &self,
        asking: &mut Asking,
        body: Sent,
        counts: &Arc<Counts>,
    ) -> Result<(Judged, Sent), Refused> {
        let (mut judged, body) = self.judged(asking, body, counts).await?;
        let (spending, body) = self.spend(asking, body, counts).await?;
        judged.spending = spending;
        Ok((judged, body))
    }

    async fn judged(
        &self,
        asking: &Asking,
        body: Sent,
        counts: &Arc<Counts>,
    ) -> Result<(Judged, Sent), Refused> {
        if !self.reads_calls(asking) {
            return Ok((self.decide(asking, vec![Call::No])?, body));
        }
        let refusal = |reason: String| Refusal {
            status: 403,
            rule: "mcp".to_owned(),
            reason: format!(
                "{}:{} denied: a rule names tools, and {reason}",
                self.flow.target, self.flow.port
            ),
        };
        let whole = Limited::new(body, JUDGED_BODY).collect().await;
        let whole: Bytes = whole
            .map_err(|_| {
                refusal(format!(
                    "its body is not all there within {} bytes",
                    JUDGED_BODY
                ))
            })?
            .to_bytes();
        // Not sent yet.
        counts.out.store(0, Ordering::Relaxed);
        let calls = mcp::calls(&asking.method, asking.headers(), &whole).map_err(refusal)?;
        let judged = self.decide(asking, calls)?;
        Ok((judged, Sent::whole(whole, Arc::clone(counts))))
    }

    fn decide(&self, asking: &Asking, calls: Vec<Call>) -> Result<Judged, Refusal> {
        let policy = self.flow.carried.policy();
        let mut last = None;
        for call in &calls {
            let seen = seen(self.spoken, &asking.method, &asking.path, Some(call));
            let (decision, why) = policy.explain(&self.flow.attempt(seen));
            if decision.verdict != Verdict::Allow {
                return Err(Refusal {
                    status: 403,
                    rule: why.rule,
                    reason: why.reason,
                });
            }
            last = Some((decision, why));
        }
        let (decision, why) = last.expect("a request has at least one call, even if it is none");
        Ok(Judged {
            policy,
            decision,
            why,
            calls,
            spending: None,
        })
    }

    /// Sends a request once, over a connection that waits or a new one. `early` hears what the server
    /// says before its answer.
    pub(super) async fn send_once(
        self: &Arc<Self>,
        asking: &Asking,
        judged: &Judged,
        mut body: Sent,
        counts: Arc<Counts>,
        early: Early,
    ) -> Result<Answered, Refused> {
        let is_bodiless = body.is_end_stream();
        // One that was sent, and is not known to have come.
        let mut lost: Option<Exchange> = None;
        for tries in 1.. {
            let begun = self.begin(asking, judged, &counts).await;
            let (mut way, exchange) = match (begun, lost.take()) {
                (Ok(begun), before) => {
                    before.into_iter().for_each(Exchange::forget);
                    begun
                }
                (Err(refused), Some(before)) => return Err(before.refused(refused.refusal)),
                (Err(refused), None) => return Err(refused),
            };
            let written = match &way.to {
                To::One(_) => asking.as_one(body, early.wanted.is_some()),
                To::Two(_) => asking.as_two(body),
            };
            let mut request = match written {
                Ok(request) => request,
                Err((refusal, _)) => return Err(exchange.unsent(refusal)),
            };
            counts.out.store(asking.length(), Ordering::Relaxed);
            let flooded = early::hear(&mut request, early.clone(), judged.spending.clone());
            if let (To::Two(_), Some(wanted)) = (&way.to, &early.wanted) {
                wanted.notify_one();
            }
            let answered = tokio::select! {
                answered = way.to.send(request) => answered,
                () = exchange.registered.revoked.cancelled() => {
                    return Err(exchange.refused(changed(self)));
                }
                () = flooded.cancelled() => {
                    let reason = "answers with 1xx again and again, and never with the answer itself";
                    return Err(exchange.refused(self.upstream(reason)));
                }
            };
            match answered {
                Ok(response) => {
                    let mut exchange = exchange;
                    exchange.answered(response.status().as_u16());
                    let revoked = exchange.revoked();
                    let received = tokio::select! {
                        received = self.received(response, &asking.method, judged.spending.as_ref()) => received,
                        () = revoked.cancelled() => Err(changed(self)),
                    };
                    let response = match received {
                        Ok(response) => response,
                        Err(refusal) => return Err(exchange.refused(refusal)),
                    };
                    return Ok(Answered {
                        response,
                        exchange,
                        to: way.to,
                        address: way.address,
                    });
                }
                Err(Unanswered {
                    unsent: Some(request),
                    ..
                }) if way.used && tries < TRIES => {
                    exchange.forget();
                    body = request.into_body();
                }
                // The server closed it while the request was on its way.
                Err(_) if way.used && tries < TRIES && is_bodiless && asking.is_safe() => {
                    lost = Some(exchange);
                    body = Sent::None;
                }
                Err(Unanswered { error, unsent }) => {
                    let denied = exchange.denied();
                    let refusal = denied.unwrap_or_else(|| self.unanswered(&error));
                    return Err(match unsent {
                        Some(_) => exchange.unsent(refusal),
                        None => exchange.refused(refusal),
                    });
                }
            }
        }
        Err(self.upstream("closes every connection").into())
    }

    /// A connection for it, on which it counts as open, unless it may no longer be.
    async fn begin(
        self: &Arc<Self>,
        asking: &Asking,
        judged: &Judged,
        counts: &Arc<Counts>,
    ) -> Result<(Way, Exchange), Refused> {
        let way = self.way(asking, judged).await.map_err(|failure| {
            let seen = self.seen(asking, judged);
            let (refusal, address) = self.flow.failure(&judged.policy, seen, failure);
            Refused {
                address,
                ..refusal.into()
            }
        })?;
        let asked = Asked {
            method: asking.method.as_str().to_owned(),
            path: asking.path.clone(),
            calls: judged.calls.clone(),
        };
        let registered = self.flow.register(self.spoken, Some(asked), way.address);
        let registered = registered.ok_or_else(|| changed(self))?;
        let action = if judged.decision.observed {
            Action::Observed
        } else {
            Action::Allowed
        };
        let why = &judged.why;
        let record = Record {
            address: Some(way.address),
            ..self.record(asking, action, &why.rule, why.reason.clone())
        };
        let exchange = Exchange {
            channel: Arc::clone(self),
            record: Some(Box::new(record)),
            begun: Instant::now(),
            counts: Arc::clone(counts),
            registered,
            was_revoked: AtomicBool::new(false),
            place: None,
            spending: judged.spending.clone(),
        };
        Ok((way, exchange))
    }

    fn record(&self, asking: &Asking, action: Action, rule: &str, reason: String) -> Record {
        let protocol = match self.spoken {
            Spoken::Tls => "https",
            Spoken::Http | Spoken::Opaque => "http",
        };
        let flow = &self.flow;
        Record {
            at: flow.carried.host.now(),
            method: Some(asking.method.as_str().to_owned()),
            path: Some(asking.path.as_str().to_owned()),
            ..flow.record(Kind::Request, protocol, action, rule, reason)
        }
    }

    /// Records that a request was refused.
    pub(super) async fn refuse(&self, asking: &Asking, refused: &Refused) {
        let record = match &refused.begun {
            Some(begun) => Record::clone(begun),
            None => {
                let (rule, reason) = (&refused.refusal.rule, refused.refusal.reason.clone());
                let record = self.record(asking, Action::Denied, rule, reason);
                let address = refused.address.or(record.address);
                Record { address, ..record }
            }
        };
        // Recorded or not, it is refused.
        let _ = self.flow.carried.host.audit.record(record).await;
    }

    pub(super) fn upstream(&self, what: &str) -> Refusal {
        Refusal {
            status: 502,
            rule: "upstream".to_owned(),
            reason: format!("{}:{} {what}", self.flow.target, self.flow.port),
        }
    }

    fn unanswered(&self, error: &hyper::Error) -> Refusal {
        if error.is_user() {
            return Refusal {
                status: 400,
                rule: "protocol".to_owned(),
                reason: "denied: the request's body ends early or is malformed".to_owned(),
            };
        }
        if error.is_parse() || error.is_parse_too_large() {
            return self.upstream("answers with what is no HTTP, or with too long a head");
        }
        self.upstream("closed the connection before it had answered")
    }
}

fn changed(channel: &Channel) -> Refusal {
    Refusal {
        status: 403,
        rule: "default".to_owned(),
        reason: format!(
            "{}:{} denied: the policy has changed meanwhile",
            channel.flow.target, channel.flow.port
        ),
    }
}

impl Exchange {
    /// Waits until the policy that let it through is no more.
    pub(super) fn revoked(&self) -> CancellationToken {
        self.registered.revoked.clone()
    }

    /// It ends because of that.
    pub(super) fn end_revoked(&self) {
        self.was_revoked.store(true, Ordering::Relaxed);
    }

    /// Holds that place until it is recorded.
    pub(super) fn hold(&mut self, place: OwnedSemaphorePermit) {
        self.place = Some(place);
    }

    /// Records it.
    pub(super) async fn end(mut self) {
        if let Some(record) = self.ended() {
            // Where it cannot be recorded nothing more is let through; this has been.
            let _ = self.channel.flow.carried.host.audit.record(record).await;
        }
    }

    fn answered(&mut self, status: u16) {
        if let Some(record) = &mut self.record {
            record.upstream_status = Some(status);
        }
    }

    /// Why its body does not go on, if a credential is the reason.
    fn denied(&self) -> Option<Refusal> {
        let denied = self.spending.as_ref()?.spent().denied.clone()?;
        Some(self.channel.denied(&denied))
    }

    /// It was not sent, and is tried again.
    fn forget(mut self) {
        self.record = None;
    }

    /// None of it was sent: the refusal is what is recorded.
    fn unsent(mut self, refusal: Refusal) -> Refused {
        let address = self.record.take().and_then(|record| record.address);
        Refused {
            address,
            ..refusal.into()
        }
    }

    /// It failed: what is recorded is the refusal, with what was sent until then, credentials among it.
    fn refused(mut self, refusal: Refusal) -> Refused {
        if let Some(record) = &mut self.record {
            record.action = Action::Denied;
            record.rule.clone_from(&refusal.rule);
            record.reason.clone_from(&refusal.reason);
        }
        Refused {
            begun: self.ended().map(Box::new),
            ..refusal.into()
        }
    }

    fn ended(&mut self) -> Option<Record> {
        let mut record = *self.record.take()?;
        record.bytes_out = self.counts.out.load(Ordering::Relaxed);
        record.bytes_in = self.counts.back.load(Ordering::Relaxed);
        let elapsed = self.begun.elapsed().as_micros();
        record.duration_us = u64::try_from(elapsed).unwrap_or(u64::MAX);
        if let Some(spending) = &self.spending {
            spending.spent().tell(&mut record);
        }
        if self.was_revoked.load(Ordering::Relaxed) {
            record.reason.push_str("; ended by a change of policy");
        }
        Some(record)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(record) = self.ended() else {
            return;
        };
        let (host, place) = (
            Arc::clone(&self.channel.flow.carried.host),
            self.place.take(),
        );
        self.channel.flow.carried.host.tasks.spawn(async move {
            let _ = host.audit.record(record).await;
            drop(place);
        });
    }
}
