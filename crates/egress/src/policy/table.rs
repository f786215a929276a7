//! The index of a compiled policy: from a name or an address to the rules that name it. It must never look
//! at more than one list a label or prefix length, however many rules there are.

use std::collections::HashMap;
use std::net::IpAddr;

use dial::Net;

use super::error::Problem;
use crate::limits::RULES_PER_TARGET;
use crate::name::{HostPattern, Name};

/// That rule `rule` names this target, as its `target`th.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) rule: u32,
    pub(super) target: u32,
    /// Whether it is named as an address: only then does an operator's rule lift the always-denied set.
    pub(super) by_address: bool,
}

/// Rules are added in their order, so each list is in order.
#[derive(Debug, Default)]
pub(super) struct Table {
    exact: HashMap<Box<str>, Vec<Entry>>,
    below: HashMap<Box<str>, Vec<Entry>>,
    nets: HashMap<Net, Vec<Entry>>,
    /// Prefix lengths in use, IPv4 and IPv6.
    lengths: (Vec<u8>, Vec<u8>),
    everything: Vec<Entry>,
}

/// What a rule names, once read.
#[derive(Clone, Debug)]
pub(super) enum To {
    Host(HostPattern),
    Net(Net),
    Everything,
}

impl Table {
    /// Adds what rule `rule` names as its `target`th.
    pub(super) fn add(&mut self, to: &To, rule: u32, target: u32) -> Result<(), Problem> {
        let list = match to {
            To::Host(HostPattern::Exact(name)) => {
                self.exact.entry(name.as_str().into()).or_default()
            }
            To::Host(HostPattern::Below(suffix)) => {
                self.below.entry(suffix.as_str().into()).or_default()
            }
            To::Net(net) => {
                let lengths = if net.is_ipv4() {
                    &mut self.lengths.0
                } else {
                    &mut self.lengths.1
                };
                if !lengths.contains(&net.prefix()) {
                    lengths.push(net.prefix());
                }
                self.nets.entry(*net).or_default()
            }
            To::Everything => &mut self.everything,
        };
        // The same host twice in one rule is one entry.
        if list.last().is_some_and(|last| last.rule == rule) {
            return Ok(());
        }
        if list.len() >= RULES_PER_TARGET {
            return Err(Problem::RulesPerTarget {
                target: to.to_string(),
            });
        }
        list.push(Entry {
            rule,
            target,
            by_address: matches!(to, To::Net(_)),
        });
        Ok(())
    }

    /// The lists that speak of `name`: its own, one for each suffix, and that of everything.
    pub(super) fn of_name<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a [Entry]> {
        let text = name.as_str();
        let suffixes = text.match_indices('.').map(move |(at, _)| &text[at + 1..]);
        let exact = self.exact.get(text);
        let below = suffixes.filter_map(|suffix| self.below.get(suffix));
        exact
            .into_iter()
            .chain(below)
            .map(Vec::as_slice)
            .chain([self.everything.as_slice()])
    }

    /// The lists that speak of `ip`, without that of everything.
    pub(super) fn of_address(&self, ip: IpAddr) -> impl Iterator<Item = &[Entry]> {
        let lengths = match ip {
            IpAddr::V4(_) => &self.lengths.0,
            IpAddr::V6(_) => &self.lengths.1,
        };
        lengths
            .iter()
            .filter_map(move |length| self.nets.get(&Net::around(ip, *length)?))
            .map(Vec::as_slice)
    }

    /// The list of rules that say `*`.
    pub(super) fn of_everything(&self) -> &[Entry] {
        &self.everything
    }
}

impl std::fmt::Display for To {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(pattern) => pattern.fmt(f),
            Self::Net(net) => net.fmt(f),
            Self::Everything => f.write_str("*"),
        }
    }
}
