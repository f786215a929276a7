//! The decision itself: total, pure, and bounded by the labels of a name, never by the number of hosts. It
//! must never allow on what it has not seen: an open question is answered with "look first".

use std::collections::BTreeSet;
use std::net::IpAddr;

use dial::Class;

use super::compile::{BaseKind, Compiled, Conditions, Policy};
use super::rule::{Action, Mode, Origin, Protocol};
use super::table::Entry;
use crate::limits;
use crate::name::{Name, Target};
use crate::path::{Path, Reading};

/// What somebody in the sandbox is about to do.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The name that was resolved for the connection, or its literal address.
    pub target: &'a Target,
    /// The port.
    pub port: u16,
    /// What has been seen so far.
    pub seen: Seen<'a>,
}

/// What has been seen of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// Nothing yet: it is being made.
    Nothing,
    /// Its first bytes are TLS.
    Tls,
    /// Its first bytes are HTTP in clear text.
    Http,
    /// They are neither, or the client waits for the server to speak.
    Opaque,
    /// A request in clear text.
    Request(Request<'a>),
    /// A request inside TLS that we intercept.
    RequestInTls(Request<'a>),
}

/// A request, as far as rules speak of it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The canonical path.
    pub path: &'a Path,
    /// Whether it is MCP, and what it asks. One request may carry several calls: judge each.
    pub mcp: Mcp<'a>,
}

/// What a request is to the Model Context Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mcp<'a> {
    /// Nothing.
    No,
    /// Part of its session: to initialise, to list, to listen, to end.
    Session,
    /// A call of this tool.
    Call(&'a str),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it through as it is.
    Allow,
    /// Refuse.
    Deny,
    /// Look at the first bytes, then ask again; let nothing through before.
    Look,
    /// Intercept, and ask for each request.
    Inspect,
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is to be done.
    pub verdict: Verdict,
    /// What decided.
    pub cause: Cause,
    /// It would have been denied, and is let through because the policy only observes.
    pub observed: bool,
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A rule, by its place, through the target of that place.
    Rule {
        /// Its place among all rules.
        rule: u32,
        /// The place of what it names.
        target: u32,
    },
    /// No rule; the contract's networking.
    Base,
    /// The address lies in the always-denied set.
    AlwaysDenied(Class),
}

/// Whether a rule speaks of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    /// Not to be said before this is done.
    After(Verdict),
}

impl Policy {
    /// Decides on an attempt. Pure: no IO, no clock. That an address is this host's own is not known here;
    /// [`Policy::judge_address`] asks the kernel.
    #[must_use]
    pub fn decide(&self, attempt: &Attempt<'_>) -> Decision {
        let first = match attempt.target {
            Target::Name(name) => self.first(self.table.of_name(name), attempt),
            Target::Address(ip) => {
                let both = self.of_address(*ip);
                self.first(both.chain([self.table.of_everything()]), attempt)
            }
        };
        let decision = self.concluded(first);
        match attempt.target {
            Target::Name(_) => decision,
            Target::Address(ip) => self.held_to_set(decision, first, *ip, attempt),
        }
    }

    /// Decides on one address that a name resolved to, right before it is dialled: `by` is the decision
    /// that let the connection through. Rules about addresses that stand before the one that decided still
    /// count, and the always-denied set always. Asks the kernel whether the address is this host's.
    #[must_use]
    pub fn judge_address(&self, attempt: &Attempt<'_>, by: &Decision, ip: IpAddr) -> Decision {
        let decided_at = match by.cause {
            Cause::Rule { rule, .. } => rule,
            Cause::Base | Cause::AlwaysDenied(_) => u32::MAX,
        };
        if let Some(entry) = self.first_on_address(attempt, ip) {
            let rule = self.rule(entry);
            match rule.action {
                Action::Deny if entry.rule < decided_at => {
                    let denied = self.softened(Decision {
                        verdict: Verdict::Deny,
                        cause: cause(entry),
                        observed: false,
                    });
                    if denied.verdict == Verdict::Deny {
                        return denied;
                    }
                    return self.refused(ip).unwrap_or(denied);
                }
                Action::Allow if rule.origin == Origin::Operator => return *by,
                Action::Allow | Action::Deny => {}
            }
        }
        self.refused(ip).unwrap_or(*by)
    }

    /// Whether a rule that may speak of this request names tools of MCP: what it calls must be known to judge it.
    pub(crate) fn names_tools(&self, attempt: &Attempt<'_>) -> bool {
        let (Seen::Request(request) | Seen::RequestInTls(request)) = attempt.seen else {
            return false;
        };
        let names = |entry: &Entry| {
            let rule = self.rule(*entry);
            let tools = rule.conditions.as_ref().filter(|it| !it.tools.is_empty());
            rule.has_port(attempt.port) && tools.is_some_and(|it| it.may_hold(&request))
        };
        match attempt.target {
            Target::Name(name) => self.table.of_name(name).flatten().any(names),
            Target::Address(ip) => {
                let all = self.of_address(*ip).chain([self.table.of_everything()]);
                all.flatten().any(names)
            }
        }
    }

    /// Ports that stand for all others when `name` is asked about without one: each border of a rule that
    /// speaks of it, and one that no such rule names. `None` if there are more than
    /// [`limits::PORTS_OF_A_NAME`].
    pub(crate) fn ports_of(&self, name: &Name) -> Option<BTreeSet<u16>> {
        let mut ports = BTreeSet::from([1]);
        for entry in self.table.of_name(name).flatten() {
            for (low, high) in &self.rule(*entry).ports {
                ports.extend([*low, high.saturating_add(1)]);
                if ports.len() > limits::PORTS_OF_A_NAME {
                    return None;
                }
            }
        }
        Some(ports)
    }

    /// The decision that `ip` is always denied, if it is. Looks at the kernel's routing.
    fn refused(&self, ip: IpAddr) -> Option<Decision> {
        self.lifted.refusal(ip).map(always_denied)
    }

    /// The first rule about `ip` that speaks of the attempt. What cannot be looked into any more counts as
    /// matched when it denies, and as not matched when it allows.
    fn first_on_address(&self, attempt: &Attempt<'_>, ip: IpAddr) -> Option<Entry> {
        let matching = |entry: &&Entry| {
            let rule = self.rule(**entry);
            match rule.fit(attempt) {
                Fit::Yes => true,
                Fit::No => false,
                Fit::After(_) => rule.action == Action::Deny,
            }
        };
        self.of_address(ip)
            .flatten()
            .filter(matching)
            .min()
            .copied()
    }

    /// The lists that speak of an address, and of the IPv4 address that an IPv6 one embeds.
    fn of_address(&self, ip: IpAddr) -> impl Iterator<Item = &[Entry]> {
        let inner = Some(dial::effective(ip)).filter(|inner| *inner != ip);
        self.table.of_address(ip).chain(
            inner
                .into_iter()
                .flat_map(|inner| self.table.of_address(inner)),
        )
    }

    pub(super) fn rule(&self, entry: Entry) -> &Compiled {
        &self.rules[entry.rule as usize]
    }

    /// The first rule, in the order of the rules, that speaks of the attempt or may.
    fn first<'a>(
        &'a self,
        lists: impl Iterator<Item = &'a [Entry]>,
        attempt: &Attempt<'_>,
    ) -> Option<(Entry, Fit)> {
        let mut best: Option<(Entry, Fit)> = None;
        for list in lists {
            for entry in list {
                if best.is_some_and(|(held, _)| held.rule < entry.rule) {
                    break;
                }
                let fit = self.rule(*entry).fit(attempt);
                if fit != Fit::No {
                    // One rule may name a target twice, once as its address: that one counts.
                    let better = best.is_none_or(|(held, _)| {
                        entry.rule < held.rule || (entry.by_address && !held.by_address)
                    });
                    if better {
                        best = Some((*entry, fit));
                    }
                    break;
                }
            }
        }
        best
    }

    fn concluded(&self, first: Option<(Entry, Fit)>) -> Decision {
        let (verdict, cause) = match first {
            Some((entry, Fit::After(step))) => (step, cause(entry)),
            Some((entry, Fit::Yes | Fit::No)) => match self.rule(entry).action {
                Action::Allow => (Verdict::Allow, cause(entry)),
                Action::Deny => (Verdict::Deny, cause(entry)),
            },
            None => match self.base {
                BaseKind::Unrestricted => (Verdict::Allow, Cause::Base),
                BaseKind::Nothing | BaseKind::Limited => (Verdict::Deny, Cause::Base),
            },
        };
        self.softened(Decision {
            verdict,
            cause,
            observed: false,
        })
    }

    /// A policy that only observes lets through what its rules deny.
    fn softened(&self, decision: Decision) -> Decision {
        match (self.mode, decision.verdict) {
            (Mode::Observe, Verdict::Deny) => Decision {
                verdict: Verdict::Allow,
                observed: true,
                ..decision
            },
            _ => decision,
        }
    }

    /// Holds the decision on a literal address to the always-denied set. To be allowed in the set it takes
    /// an operator's rule that names the address; to be looked into first, that there is such a rule.
    fn held_to_set(
        &self,
        decision: Decision,
        first: Option<(Entry, Fit)>,
        ip: IpAddr,
        attempt: &Attempt<'_>,
    ) -> Decision {
        let lifts = |entry: Entry| {
            let rule = self.rule(entry);
            entry.by_address && rule.origin == Origin::Operator && rule.action == Action::Allow
        };
        let lifted = match decision.verdict {
            // That nothing lists it is the lesser reason: listing it would not help.
            Verdict::Deny => decision.cause != Cause::Base,
            // What is only observed was decided by a rule that denies, which lifts nothing.
            Verdict::Allow => first.is_some_and(|(entry, _)| lifts(entry)),
            Verdict::Look | Verdict::Inspect => self
                .of_address(ip)
                .flatten()
                .any(|entry| lifts(*entry) && self.rule(*entry).has_port(attempt.port)),
        };
        match self.class(ip) {
            Some(class) if !lifted => always_denied(class),
            _ => decision,
        }
    }

    /// The class for which `ip` is always denied, as far as ranges tell.
    fn class(&self, ip: IpAddr) -> Option<Class> {
        let judged = dial::effective(ip);
        let lifted = |net: &dial::Net| net.contains(judged) || net.contains(ip);
        match dial::classify(ip) {
            Class::Public => None,
            _ if self.lifted.allow_private.iter().any(lifted) => None,
            class => Some(class),
        }
    }
}

fn cause(entry: Entry) -> Cause {
    Cause::Rule {
        rule: entry.rule,
        target: entry.target,
    }
}

fn always_denied(class: Class) -> Decision {
    Decision {
        verdict: Verdict::Deny,
        cause: Cause::AlwaysDenied(class),
        observed: false,
    }
}

impl Compiled {
    pub(super) fn has_port(&self, port: u16) -> bool {
        let within = |(low, high): &(u16, u16)| (*low..=*high).contains(&port);
        self.ports.is_empty() || self.ports.iter().any(within)
    }

    fn fit(&self, attempt: &Attempt<'_>) -> Fit {
        if !self.has_port(attempt.port) {
            return Fit::No;
        }
        let spoken = match (self.protocol, attempt.seen) {
            (Protocol::Tcp, _) => Fit::Yes,
            (Protocol::Tls | Protocol::Http, Seen::Nothing) => Fit::After(Verdict::Look),
            (Protocol::Tls, Seen::Tls | Seen::RequestInTls(_))
            | (Protocol::Http, Seen::Http | Seen::Request(_)) => Fit::Yes,
            (Protocol::Tls, Seen::Http | Seen::Opaque | Seen::Request(_))
            | (Protocol::Http, Seen::Tls | Seen::Opaque | Seen::RequestInTls(_)) => Fit::No,
        };
        match (&self.conditions, attempt.seen) {
            _ if spoken != Fit::Yes => spoken,
            (None, _) => Fit::Yes,
            (Some(_), Seen::Nothing) => Fit::After(Verdict::Look),
            (Some(_), Seen::Tls | Seen::Http) => Fit::After(Verdict::Inspect),
            // No request will be seen here: what it might be is denied by a denying rule.
            (Some(_), Seen::Opaque) => match self.action {
                Action::Allow => Fit::No,
                Action::Deny => Fit::Yes,
            },
            (Some(conditions), Seen::Request(request) | Seen::RequestInTls(request)) => {
                if conditions.hold(&request, self.action) {
                    Fit::Yes
                } else {
                    Fit::No
                }
            }
        }
    }
}

impl Conditions {
    /// Whether they hold, whatever tool is called.
    fn may_hold(&self, request: &Request<'_>) -> bool {
        let path = |p: &Path| request.path.is_below(p, Reading::Any);
        (self.methods.is_empty() || self.methods.iter().any(|m| m == request.method))
            && (self.paths.is_empty() || self.paths.iter().any(path))
    }

    fn hold(&self, request: &Request<'_>, action: Action) -> bool {
        let reading = match action {
            Action::Allow => Reading::Every,
            Action::Deny => Reading::Any,
        };
        let method = |m: &String| m == request.method;
        let path = |p: &Path| request.path.is_below(p, reading);
        let tool = match (request.mcp, action) {
            _ if self.tools.is_empty() => true,
            (Mcp::No, _) | (Mcp::Session, Action::Deny) => false,
            (Mcp::Session, Action::Allow) => true,
            (Mcp::Call(tool), _) => self.tools.iter().any(|t| t == tool),
        };
        (self.methods.is_empty() || self.methods.iter().any(method))
            && (self.paths.is_empty() || self.paths.iter().any(path))
            && tool
    }
}
