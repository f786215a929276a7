//! Writes events: gives each its id, its place and its strictly growing time. Ids come from the entropy
//! that the caller brought, so that the same input decides the same.

use std::collections::BTreeSet;

use contract::event::{Body, Event};
use contract::ids::{EventId, ThreadId, compose};
use contract::time::Micros;
use serde_json::value::RawValue;

use crate::decision::{Decision, Intent, Placed, Record, RecordKind, Step, Webhook};
use crate::faults::{self, Fault};
use crate::input::{UserEvent, Waiting};
use crate::state::{State, Status, Thread, Used};

/// The decision while it is being made.
pub(crate) struct Scribe {
    pub(crate) out: Decision,
    pub(crate) now: Micros,
    /// The thread that is being decided about.
    pub(crate) at: ThreadId,
    /// The thread that the input is about.
    pub(crate) about: ThreadId,
    /// What the session last said of its status.
    pub(crate) shown: Status,
    /// Threads whose turn this decision opened.
    pub(crate) opened: BTreeSet<ThreadId>,
    /// What the model of the thread said in this decision.
    pub(crate) said: Vec<String>,
    /// The client stops the turn that ends.
    pub(crate) cut: bool,
    /// The thread whose word opens a turn.
    pub(crate) woken_by: Option<ThreadId>,
    /// What the advisor that answers has used.
    pub(crate) advice: Used,
    entropy: u128,
    minted: u64,
}

impl Scribe {
    pub(crate) fn new(state: State, now: Micros, entropy: u128) -> Self {
        let (at, shown) = (state.primary.id, state.status());
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
            begun: Vec::new(),
            ended: Vec::new(),
            waits: Vec::new(),
            deleted: false,
            step: Step::Rest,
            others: Vec::new(),
        };
        Self {
            out,
            now,
            at,
            about: at,
            shown,
            opened: BTreeSet::new(),
            said: Vec::new(),
            cut: false,
            woken_by: None,
            advice: Used::default(),
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
        self.out.state.totals.restart(last_at, now);
        for thread in self.out.state.threads_mut() {
            thread.totals.restart(last_at, now);
        }
    }

    /// Starts and stops the clocks of running time, as what runs has changed.
    pub(crate) fn keep_time(&mut self) {
        let now = self.now;
        let state = &mut self.out.state;
        let running = state.status() == Status::Running;
        state.totals.run(running, now);
        for thread in state.threads_mut() {
            let running = thread.status() == Status::Running;
            thread.totals.run(running, now);
        }
    }

    /// The thread that is being decided about.
    pub(crate) fn thread(&mut self) -> &mut Thread {
        let at = self.at;
        let mut threads = self.out.state.threads_mut();
        threads
            .find(|thread| thread.id == at)
            .expect("a decision is about a thread that is there")
    }

    /// Whether that is the primary.
    pub(crate) fn is_primary(&self) -> bool {
        self.at == self.out.state.primary.id
    }

    /// Does something about another thread.
    pub(crate) fn on<T>(&mut self, thread: ThreadId, what: impl FnOnce(&mut Self) -> T) -> T {
        let at = std::mem::replace(&mut self.at, thread);
        let done = what(self);
        self.at = at;
        done
    }

    /// Counts what a model request of the thread used.
    pub(crate) fn count(&mut self, used: &Used) {
        self.out.state.totals.add(used);
        self.thread().totals.add(used);
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
        let primary = state.primary.id;
        let thread = if is_of_session(&body) {
            primary
        } else {
            self.at
        };
        let on_primary = thread == primary || is_cross_posted(&body);
        let event = Event {
            id,
            processed_at: Some(at),
            body,
        };
        self.out.events.push(Placed {
            seq,
            thread,
            on_primary,
            event,
        });
        seq
    }

    /// Gives a waiting event its place on its thread.
    pub(crate) fn take_place(&mut self, waiting: &Waiting) {
        self.out.drained.push(waiting.id);
        self.no_longer_waits(waiting);
        self.on(waiting.thread, |s| {
            s.place(waiting.id, waiting.event.clone().body())
        });
    }

    pub(crate) fn no_longer_waits(&mut self, waiting: &Waiting) {
        let state = &mut self.out.state;
        state.waiting = state.waiting.saturating_sub(1);
        state.waiting_bytes = state.waiting_bytes.saturating_sub(waiting.event.bytes());
        self.on(waiting.thread, |s| {
            let thread = s.thread();
            thread.waiting = thread.waiting.saturating_sub(1);
        });
    }

    /// Puts an event for the thread into the inbox.
    pub(crate) fn queue(&mut self, id: EventId, event: UserEvent) {
        let thread = self.at;
        self.thread().waiting += 1;
        self.state().waiting += 1;
        self.state().waiting_bytes += event.bytes();
        self.out.queued.push(Waiting { id, thread, event });
    }

    /// A fresh id for a thread.
    pub(crate) fn thread_id(&mut self) -> ThreadId {
        ThreadId::from_bits(self.id().bits())
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
        if !self.opened.is_empty() {
            self.intend(Intent::Run);
        }
        if faults::on(Fault::LostIntent) {
            self.out.intents.retain(|intent| *intent != Intent::Run);
        }
        self.out.state.check();
        self.out
    }
}

/// What is said of the session as a whole stands on its primary thread, whichever thread caused it.
const fn is_of_session(body: &Body) -> bool {
    matches!(
        body,
        Body::StatusRunning {}
            | Body::StatusIdle { .. }
            | Body::StatusRescheduled {}
            | Body::StatusTerminated {}
            | Body::SessionUsage { .. }
            | Body::SessionUpdated { .. }
            | Body::SessionDeleted {}
    )
}

/// What the primary's list and stream show of another thread (api.md §10.3): where it stands, what it asks
/// its client, and what the client said to it. The same row stands on its own.
fn is_cross_posted(body: &Body) -> bool {
    if faults::on(Fault::CrossPostLost) && matches!(body, Body::AgentCustomToolUse { .. }) {
        return false;
    }
    match body {
        Body::ThreadStatusRunning { .. }
        | Body::ThreadStatusIdle { .. }
        | Body::ThreadStatusRescheduled { .. }
        | Body::ThreadStatusTerminated { .. }
        | Body::UserInterrupt { .. }
        | Body::UserToolConfirmation { .. }
        | Body::UserCustomToolResult { .. } => true,
        Body::AgentToolUse {
            session_thread_id, ..
        }
        | Body::AgentCustomToolUse {
            session_thread_id, ..
        } => session_thread_id.is_some(),
        _ => false,
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
