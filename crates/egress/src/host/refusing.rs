//! What becomes of a connection that is not carried: it is recorded, and its client told why. It must never leave
//! a client to wait, nor decide anything.

use std::net::IpAddr;

use tokio::net::TcpStream;

use super::answer::{Refusal, refuse};
use super::flow::Flow;
use super::speech::Speech;
use super::upstream::Failure;
use crate::audit::{Action, Kind, Record};
use crate::identity::Misdirected;
use crate::limits;
use crate::policy::{Decision, Policy, Seen, Verdict};

impl Flow {
    /// Denied by the policy.
    pub(super) async fn deny(
        &self,
        client: TcpStream,
        policy: &Policy,
        speech: &Speech,
        seen: Seen<'_>,
        decision: &Decision,
    ) {
        let mut why = policy.explanation(&self.attempt(seen), decision);
        if decision.verdict == Verdict::Inspect {
            why.reason
                .push_str(": what is no HTTP cannot be looked into");
        }
        let refusal = Refusal {
            status: 403,
            rule: why.rule,
            reason: why.reason,
        };
        self.refuse(client, speech, refusal, None).await;
    }

    /// Two names that differ.
    pub(super) async fn misdirected(&self, client: TcpStream, speech: &Speech, why: Misdirected) {
        let refusal = Refusal {
            status: 421,
            rule: "names".to_owned(),
            reason: format!("{}:{} denied: {why}", self.target, self.port),
        };
        self.refuse(client, speech, refusal, None).await;
    }

    /// Nothing that could be judged was said in time, or what was said is malformed.
    pub(super) async fn unclear(&self, client: TcpStream, speech: &Speech) {
        let reason = match speech {
            Speech::BadTls(error) => format!("{}:{} denied: {error}", self.target, self.port),
            _ => format!(
                "{}:{} denied: nothing was said within {} s that could be judged",
                self.target,
                self.port,
                limits::FIRST_BYTES.as_secs()
            ),
        };
        let refusal = Refusal {
            status: 400,
            rule: "protocol".to_owned(),
            reason,
        };
        self.refuse(client, speech, refusal, None).await;
    }

    /// It was let through and cannot be carried, or its addresses are denied.
    pub(super) async fn fail(
        &self,
        client: TcpStream,
        policy: &Policy,
        speech: &Speech,
        seen: Seen<'_>,
        failure: Failure,
    ) {
        let (refusal, address) = self.failure(policy, seen, failure);
        self.refuse(client, speech, refusal, address).await;
    }

    /// What is said of it, and the address that it is about.
    pub(super) fn failure(
        &self,
        policy: &Policy,
        seen: Seen<'_>,
        failure: Failure,
    ) -> (Refusal, Option<IpAddr>) {
        match failure {
            Failure::Denied(decision, address) => {
                let why = policy.explanation(&self.attempt(seen), &decision);
                let refusal = Refusal {
                    status: 403,
                    rule: why.rule,
                    reason: why.reason,
                };
                (refusal, Some(address))
            }
            Failure::Unreachable(problem) => {
                let refusal = Refusal {
                    status: 502,
                    rule: "upstream".to_owned(),
                    reason: format!("{}:{} cannot be reached: {problem}", self.target, self.port),
                };
                (refusal, None)
            }
        }
    }

    /// Records a refusal and tells the client. Nothing was carried.
    pub(super) async fn refuse(
        &self,
        client: TcpStream,
        speech: &Speech,
        refusal: Refusal,
        address: Option<IpAddr>,
    ) {
        let protocol = match speech {
            Speech::Tls(_) | Speech::BadTls(_) => "tls",
            Speech::Http => "http",
            Speech::Opaque | Speech::Begun | Speech::More => "tcp",
        };
        self.record_refusal(protocol, &refusal, address).await;
        refuse(client, speech, &refusal).await;
    }

    /// Records a refusal of what was spoken so.
    pub(super) async fn record_refusal(
        &self,
        protocol: &str,
        refusal: &Refusal,
        address: Option<IpAddr>,
    ) {
        let (rule, reason) = (&refusal.rule, refusal.reason.clone());
        let record = self.record(Kind::Flow, protocol, Action::Denied, rule, reason);
        let address = address.or(record.address);
        // Recorded or not, it is refused.
        let audit = &self.carried.host.audit;
        let _ = audit.record(Record { address, ..record }).await;
    }
}
