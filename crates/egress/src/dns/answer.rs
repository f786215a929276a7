//! What a query is answered, and the bytes of the answer. It must never answer more than was asked, and the
//! answer to a denied name differs from that to an allowed one only where the operator wants it.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::pool::{Full, Pool};
use super::query::{HEADER, Query, Rcode, RecordType};
use crate::limits;
use crate::name::{Name, Target};
use crate::policy::{Attempt, Policy, Seen, Verdict};

/// What a query is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An A record.
    V4(Ipv4Addr),
    /// An AAAA record.
    V6(Ipv6Addr),
    /// No record of that type.
    Empty,
    /// No answer, with this code.
    Failed(Rcode),
}

/// What a denied name is answered (`[egress] dns_deny`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDenied {
    /// A virtual address, so that the connection can be told why it is refused.
    #[default]
    Virtual,
    /// REFUSED.
    Refuse,
}

/// Decides what `query` is answered. `now` is in seconds of any steady clock; it makes `pool` reuse old
/// addresses.
#[must_use]
pub fn answer_for(
    query: &Query,
    policy: &Policy,
    on_denied: OnDenied,
    pool: &mut Pool,
    now: u64,
) -> Answer {
    if query.edns.is_some_and(|edns| edns.version != 0) {
        return Answer::Failed(Rcode::BadVers);
    }
    // A name that no host has cannot be connected to, so there is nothing to give an address for.
    let Ok(name) = &query.name else {
        return Answer::Failed(Rcode::Refused);
    };
    let wanted = match query.record {
        RecordType::A | RecordType::Aaaa => query.record,
        // RFC 8482: nobody has to answer ANY. Transfers are no business of a stub.
        RecordType::Several(_) => return Answer::Failed(Rcode::Refused),
        RecordType::Other(_) => return Answer::Empty,
    };
    if on_denied == OnDenied::Refuse && is_denied_on_every_port(policy, name) {
        return Answer::Failed(Rcode::Refused);
    }
    match (pool.assign(name, now), wanted) {
        (Ok(address), RecordType::A) => Answer::V4(address.v4),
        (Ok(address), _) => Answer::V6(address.v6),
        (Err(Full), _) => Answer::Failed(Rcode::ServFail),
    }
}

/// A query has no port: a name is denied if no port that is named anywhere, nor any other, is let through.
/// With too many ports to ask about, the connection will tell.
fn is_denied_on_every_port(policy: &Policy, name: &Name) -> bool {
    let target = Target::Name(name.clone());
    let denied = |port| {
        let attempt = Attempt {
            target: &target,
            port,
            seen: Seen::Nothing,
        };
        policy.decide(&attempt).verdict == Verdict::Deny
    };
    policy
        .ports_of(name)
        .is_some_and(|ports| ports.into_iter().all(denied))
}

/// Writes the answer to `query`.
#[must_use]
pub fn write_answer(query: &Query, answer: Answer) -> Vec<u8> {
    let (rcode, data): (Rcode, &[u8]) = match &answer {
        Answer::V4(v4) => (Rcode::NoError, &v4.octets()),
        Answer::V6(v6) => (Rcode::NoError, &v6.octets()),
        Answer::Empty => (Rcode::NoError, &[]),
        Answer::Failed(rcode) => (*rcode, &[]),
    };
    let kind: u16 = if data.len() == 4 { 1 } else { 28 };
    let mut out = Vec::with_capacity(HEADER + query.question.len() + 40);
    let number = rcode.number();
    out.extend(query.id.to_be_bytes());
    // QR, and RD as it was; RA, and the code.
    out.push(0x80 | u8::from(query.recursion_desired));
    out.push(0x80 | (number & 0x0f));
    out.extend([0, 1, 0, u8::from(!data.is_empty()), 0, 0]);
    out.extend([0, u8::from(query.edns.is_some())]);
    out.extend(&query.question);
    if !data.is_empty() {
        // The name is the question's, right after the header.
        out.extend([0xc0, 0x0c]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(limits::DNS_TTL.to_be_bytes());
        out.extend([0, if data.len() == 4 { 4 } else { 16 }]);
        out.extend(data);
    }
    if query.edns.is_some() {
        out.extend([0, 0, 41]);
        out.extend(limits::DNS_PAYLOAD.to_be_bytes());
        out.extend([number >> 4, 0, 0, 0, 0, 0]);
    }
    out
}
