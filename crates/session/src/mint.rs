//! Writes events: gives each its id, its place and its strictly growing time. Ids come from the entropy
//! that the caller brought, so that the same input decides the same.

use contract::event::{Body, Event};
use contract::ids::{EventId, compose};
use contract::time::Micros;
use serde_json::value::RawValue;

use crate::decision::{Decision, Intent, Placed, Record, RecordKind, Step, Webhook};
use crate::faults::{self, Fault};
use crate::state::{State, Thread};

/// The decision while it is being made.
pub(crate) struct Scribe {
    pub(crate) out: Decision,
    pub(crate) now: Micros,
    entropy: u128,
    minted: u64,
}

impl Scribe {
    pub(crate) fn new(state: State, now: Micros, entropy: u128) -> Self {
        let out = Decision {
            state,
            events: Vec::new(),
            queued: Vec::new(),
            drained: Vec::new(),
            records: Vec::new(),
            intents: Vec::new(),
            echo: Vec::new(),
            profile: None,
            agent: None,
            evaluations: Vec::new(),
            webhooks: Vec::new(),
            deleted: false,
            step: Step::Rest,
        };
        Self {
            out,
            now,
            entropy,
            minted: 0,
        }
    }

    pub(crate) fn state(&mut self) -> &mut State {
        &mut self.out.state
    }

    /// Counts running time up to the last event, and again from now on.
    pub(crate) fn restart_clock(&mut self) {
        let (now, last_at) = (self.now, self.out.state.last_at);
        let totals = &mut self.out.state.totals;
        if let Some(since) = totals.running_since {
            totals.active += (last_at.0.min(now.0) - since.0).max(0);
            totals.running_since = Some(now);
        }
    }

    /// The thread this decision is about.
    pub(crate) fn thread(&mut self) -> &mut Thread {
        &mut self.out.state.primary
    }

    pub(crate) fn hook(&mut self, webhook: Webhook) {
        self.out.webhooks.push(webhook);
    }

    /// A number from zero to `most`, of the entropy that the caller brought.
    pub(crate) fn draw(&mut self, most: i64) -> i64 {
        self.minted += 1;
        let drawn = scramble(self.entropy, self.minted) % (u128::from(most.unsigned_abs()) + 1);
        i64::try_from(drawn).unwrap_or(most)
    }

    pub(crate) fn id(&mut self) -> EventId {
        self.minted += 1;
        EventId::from_bits(compose(
            self.now.millis(),
            scramble(self.entropy, self.minted),
        ))
    }

    /// Places an event under a fresh id.
    pub(crate) fn write(&mut self, body: Body) -> EventId {
        let id = self.id();
        self.place(id, body);
        id
    }

    /// Places an event under `id`; returns its seq.
    pub(crate) fn place(&mut self, id: EventId, body: Body) -> u64 {
        let state = &mut self.out.state;
        let at = Micros(self.now.0.max(state.last_at.0 + 1));
        let seq = state.next_seq;
        state.last_at = at;
        state.next_seq += 1;
        let thread = state.primary.id;
        let event = Event {
            id,
            processed_at: Some(at),
            body,
        };
        self.out.events.push(Placed {
            seq,
            thread,
            on_primary: true,
            event,
        });
        seq
    }

    pub(crate) fn record(&mut self, seq: u64, kind: RecordKind, body: Box<RawValue>) {
        self.out.records.push(Record { seq, kind, body });
    }

    pub(crate) fn intend(&mut self, intent: Intent) {
        if !self.out.intents.contains(&intent) {
            self.out.intents.push(intent);
        }
    }

    pub(crate) fn done(mut self) -> Decision {
        if faults::on(Fault::LostIntent) {
            self.out.intents.retain(|intent| *intent != Intent::Run);
        }
        self.out.state.check();
        self.out
    }
}

/// splitmix64 over both halves: ids need to be distinct, not secret.
fn scramble(entropy: u128, n: u64) -> u128 {
    let half = |seed: u64| {
        let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(z ^ (z >> 31))
    };
    // The halves of a u128, each exactly 64 bits.
    (half((entropy >> 64) as u64) << 64) | half(entropy as u64)
}

#[cfg(test)]
mod tests {
    use contract::ids::{SessionId, ThreadId};

    use super::*;
    use crate::input::{Around, Opening};
    use crate::policy::ToolRules;

    fn scribe(entropy: u128) -> Scribe {
        let opening = Opening {
            session: SessionId::from_bits(1),
            thread: ThreadId::from_bits(2),
            agent_name: String::new(),
            rules: ToolRules::default(),
            budget: None,
            initial: Vec::new(),
        };
        let opened = crate::open(opening, &Around::default());
        Scribe::new(opened.state, Micros(0), entropy)
    }

    #[test]
    fn a_number_is_drawn_from_nought_to_the_most_and_both_are_met() {
        let drawn = (0..64).map(|entropy| scribe(entropy).draw(1));
        let drawn = drawn.collect::<std::collections::BTreeSet<_>>();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn numbers_and_ids_of_one_decision_differ() {
        let mut scribe = scribe(7);
        let drawn = [(); 4].map(|()| scribe.draw(i64::MAX));
        let ids = [(); 4].map(|()| scribe.id());
        let numbers = drawn.into_iter().collect::<std::collections::BTreeSet<_>>();
        let ids = ids.into_iter().collect::<std::collections::BTreeSet<_>>();
        assert_eq!((numbers.len(), ids.len()), (4, 4));
    }

    /// The first value is the one that every splitmix64 gives for a seed of nought.
    #[test]
    fn both_halves_are_scrambled_as_splitmix64_does() {
        assert_eq!(scramble(0, 1) >> 64, 0xe220_a839_7b1d_cdaf);
        assert_eq!(scramble(0, 1), 0xe220_a839_7b1d_cdaf_e220_a839_7b1d_cdaf);
        assert_eq!(
            scramble(1_234_567 << 64, 2),
            0x2c73_f084_5854_0fa5_6e78_9e6a_a1b9_65f4
        );
    }

    #[test]
    fn both_halves_of_the_entropy_count() {
        let id = |entropy| scribe(entropy).id();
        assert_ne!(id(1), id(2));
        assert_ne!(id(1 << 64), id(2 << 64));
        assert_eq!(id(5), id(5), "the same input decides the same");
    }
}
