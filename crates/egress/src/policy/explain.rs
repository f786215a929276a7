//! A decision in words: which rule, whose, and what to do. It must never decide: it only tells what
//! [`Policy::decide`] said.

use std::fmt::Write as _;

use super::compile::{BaseKind, Compiled, Policy};
use super::decide::{Attempt, Cause, Decision, Verdict};
use super::rule::Origin;
use crate::name::Target;

/// Why a decision is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The name of the rule that decided; `default` or `always-denied` when none did. For the audit and
    /// for the answer that an agent gets.
    pub rule: String,
    /// One line for people: what decided, through what, and what could be done.
    pub reason: String,
}

impl Policy {
    /// Decides and explains.
    #[must_use]
    pub fn explain(&self, attempt: &Attempt<'_>) -> (Decision, Explanation) {
        let decision = self.decide(attempt);
        let explanation = self.explanation(attempt, &decision);
        (decision, explanation)
    }

    /// Explains a decision of this policy on this attempt.
    #[must_use]
    pub fn explanation(&self, attempt: &Attempt<'_>, decision: &Decision) -> Explanation {
        let (rule, why) = match decision.cause {
            Cause::Rule { rule, target } => match self.rules.get(rule as usize) {
                Some(held) => (held.name.to_string(), by_rule(held, target)),
                None => ("default".to_owned(), "a rule of another policy".to_owned()),
            },
            Cause::Base => ("default".to_owned(), self.by_base(attempt)),
            Cause::AlwaysDenied(class) => (
                "always-denied".to_owned(),
                format!(
                    "{}; only the operator can allow it",
                    always(attempt.target, class)
                ),
            ),
        };
        let verdict = match decision.verdict {
            Verdict::Allow if decision.observed => "would be denied (observing)",
            Verdict::Allow => "allowed",
            Verdict::Deny => "denied",
            Verdict::Look => "to be decided on its first bytes",
            Verdict::Inspect => "to be decided request by request",
        };
        Explanation {
            rule,
            reason: format!("{}:{} {verdict}: {why}", attempt.target, attempt.port),
        }
    }

    fn by_base(&self, attempt: &Attempt<'_>) -> String {
        match self.base {
            BaseKind::Nothing => "there is no policy, so nothing is allowed".to_owned(),
            BaseKind::Unrestricted => "networking is unrestricted".to_owned(),
            BaseKind::Limited => match self.nearly(attempt) {
                Some(near) => near,
                None => format!(
                    "networking is limited and nothing lists {}; add it to `allowed_hosts`",
                    attempt.target
                ),
            },
        }
    }

    /// The rule that names the target and does not fit for another reason: what people look for first.
    fn nearly(&self, attempt: &Attempt<'_>) -> Option<String> {
        let Target::Name(name) = attempt.target else {
            return None;
        };
        let entry = self.table.of_name(name).flatten().min().copied()?;
        let rule = self.rule(entry);
        let named = by_rule(rule, entry.target);
        if rule.has_port(attempt.port) {
            return Some(format!("{named} speaks of it, but not of such a request"));
        }
        Some(format!("{named} speaks of it, but only on {}", ports(rule)))
    }
}

fn by_rule(rule: &Compiled, target: u32) -> String {
    let whose = match rule.origin {
        Origin::Operator => "the operator's rule",
        Origin::Sandbox => "the sandbox's rule",
        Origin::Contract => "the environment's",
    };
    let pattern = rule
        .targets
        .get(target as usize)
        .map_or("", |target| target.as_ref());
    format!("{whose} `{}` ({pattern})", rule.name)
}

fn ports(rule: &Compiled) -> String {
    let mut text = String::from("port ");
    for (at, (low, high)) in rule.ports.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        if low == high {
            write!(text, "{comma}{low}").expect("a String takes every write");
        } else {
            write!(text, "{comma}{low}-{high}").expect("a String takes every write");
        }
    }
    text
}

fn always(target: &Target, class: dial::Class) -> String {
    match target {
        Target::Address(ip) => format!("{ip} is {} address", class.phrase()),
        Target::Name(name) => format!("{name} resolves to {} address", class.phrase()),
    }
}
