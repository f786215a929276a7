//! What traffic to a URL would get, found in the steps that traffic takes: the policy in force, then the addresses
//! of the name. It must never ask for the addresses of a name that the policy denies, and it dials nothing.

use std::net::{IpAddr, SocketAddr};

use super::Host;
use super::wire::{Answer, Explained};
use crate::policy::{Decision, Explanation, Policy, Verdict};

impl Host {
    /// To [`super::wire::Request::Explain`].
    pub(super) async fn explain(&self, sandbox: &str, url: &str, method: &str) -> Answer {
        let policy = match self.carried(sandbox) {
            Ok(carried) => carried.policy(),
            Err(_) => return Answer::Unknown,
        };
        match judge(&self.resolver, &policy, url, method).await {
            Ok((decision, why)) => Answer::Explained(Explained {
                allowed: decision.verdict == Verdict::Allow,
                rule: why.rule,
                reason: why.reason,
            }),
            Err(problem) => Answer::NoUrl { problem },
        }
    }
}

/// The decision, as [`super::upstream::dial`] comes to it: the first address that may be dialled decides, else the
/// last one.
async fn judge(
    resolver: &dial::Resolver,
    policy: &Policy,
    url: &str,
    method: &str,
) -> Result<(Decision, Explanation), String> {
    let judge = |address: Option<IpAddr>| policy.judge_url(url, method, None, address);
    let (decision, mut why) = judge(None)?;
    let target = Policy::target_of(url)?;
    if decision.verdict != Verdict::Allow {
        return Ok((decision, why));
    }
    let addresses = match &target {
        crate::Target::Address(ip) => vec![*ip],
        crate::Target::Name(name) => match resolver.resolve_checked(name.as_str()).await {
            Ok(found) => found.iter().map(SocketAddr::ip).collect(),
            Err(error) => {
                why.reason
                    .push_str(&format!("; it cannot be reached now: {error}"));
                return Ok((decision, why));
            }
        },
    };
    let mut last = (decision, why);
    for address in addresses {
        last = judge(Some(address))?;
        if last.0.verdict == Verdict::Allow {
            break;
        }
    }
    Ok(last)
}
