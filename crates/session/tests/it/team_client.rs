//! The clients of a team, and the strangers that it hears from: what they send, in which branches they end it, and
//! what they are told.

use contract::content::Block;
use contract::ids::{EventId, ThreadId};
use contract::patch::Patch;
use session::{
    Command, Decision, Fact, Generation, Input, Order, Pace, Refused, Remedy, Update, UserEvent,
};

use crate::team_fold::Owed;
use crate::team_world::{Team, newcomer};
use crate::world::{INTERRUPT, allow, answer, deny, message, raw, used};

impl Team {
    /// Somebody reports under a generation that is gone, or what does not fit.
    pub fn stranger(&mut self) {
        let held = self.state.generation;
        if let Some((generation, thread, fact)) = self.stale.pop()
            && generation < held
        {
            self.turned_away(generation, thread, fact);
        }
        let threads = self.state.threads().map(|t| t.id).collect::<Vec<_>>();
        let thread = *self.rng.pick(&threads);
        let fact = self.nonsense(thread);
        self.turned_away(Generation(held.0.wrapping_sub(1)), thread, fact.clone());
        self.turned_away(held, thread, fact);
        let nobody = ThreadId::from_bits(self.rng.wide());
        self.turned_away(held, nobody, Fact::TakeUp);
        if !self.state.is_in_flight() {
            self.turned_away(held, thread, Fact::TakeUp);
        }
        if !self.state.is_open() {
            let refused = self.submit(Input::Claim).err();
            assert_eq!(refused, Some(Refused::NothingToRun));
        }
    }

    fn turned_away(&mut self, generation: Generation, thread: ThreadId, fact: Fact) {
        let stale = generation != self.state.generation;
        let input = Input::Fact {
            generation,
            thread,
            fact: Box::new(fact),
            pace: Pace::Go,
        };
        match self.submit(input) {
            Err(Refused::Stale { .. }) => assert!(stale),
            Err(Refused::OutOfPlace { .. }) => assert!(!stale),
            other => panic!("a stranger is believed: {other:?}"),
        }
    }

    /// A fact that fits nothing that is in flight.
    pub fn nonsense(&mut self, thread: ThreadId) -> Fact {
        let id = EventId::from_bits(self.rng.wide());
        match self.rng.below(7) {
            0 => crate::world::finished(id, "of no call"),
            1 => Fact::Lost { call: id },
            2 => self.failure(id),
            3 => Fact::Advised {
                call: id,
                content: Vec::new(),
                is_error: true,
                used: used(1),
            },
            4 => Fact::Delegated {
                call: id,
                order: self.order(),
            },
            5 if !self.state.thread(thread).unwrap().interrupting => crate::world::interrupted(),
            _ => Fact::Compacted {
                span: id,
                record: raw("1"),
                used: used(1),
            },
        }
    }

    /// What would become of the session if its client ended it here, or took its budget away.
    pub fn branch(&mut self) {
        let mut kept = self.clone();
        let open = self.state.is_open();
        let end = match self.rng.below(3) {
            0 => Some(Command::Delete),
            1 => Some(Command::Archive),
            _ => None,
        };
        match end {
            None => {
                self.update(Patch::Null).unwrap();
            }
            Some(end) if open => {
                let refused = self.submit(Input::Command(end)).err();
                assert!(matches!(refused, Some(Refused::Running { .. })));
            }
            Some(Command::Archive) => self.over(),
            Some(end) => {
                self.submit(Input::Command(end)).unwrap();
            }
        }
        kept.coverage = std::mem::take(&mut self.coverage);
        kept.rng = self.rng.clone();
        *self = kept;
    }

    /// Archived: nothing moves it any more.
    pub fn over(&mut self) {
        self.submit(Input::Command(Command::Archive)).unwrap();
        assert!(self.state.children.is_empty());
        let primary = self.state.primary.id;
        let mut sent = vec![
            vec![message("hello")],
            vec![crate::graded::outcome(1, None)],
            vec![INTERRUPT],
            vec![UserEvent::Interrupt {
                thread: Some(primary),
            }],
        ];
        if let Some(call) = self.past() {
            sent.push(vec![answer(call)]);
            let mut elsewhere = answer(call);
            name_thread(&mut elsewhere, Some(ThreadId::from_bits(1)));
            sent.push(vec![elsewhere]);
        }
        for events in sent {
            assert_eq!(self.send(events).err(), Some(Refused::Archived));
        }
        for budget in [Patch::Value(1_000_000_000), Patch::Null] {
            assert_eq!(self.update(budget).err(), Some(Refused::Archived));
        }
        assert_eq!(self.submit(Input::Claim).err(), Some(Refused::NothingToRun));
        let look = self.fact(primary, Fact::TakeUp, Pace::Go).err();
        assert!(matches!(look, Some(Refused::OutOfPlace { .. })));
        self.stranger();
        self.submit(Input::Command(Command::Archive)).unwrap();
        self.submit(Input::Command(Command::Delete)).unwrap();
    }

    /// A call of the log, mostly long answered.
    pub fn past(&mut self) -> Option<EventId> {
        let calls = self.called.keys().copied().collect::<Vec<_>>();
        (!calls.is_empty()).then(|| *self.rng.pick(&calls))
    }

    pub fn client(&mut self) {
        let input = self.wish();
        if let Command::ArchiveThread(thread) = input {
            self.archive_thread(thread);
        } else {
            self.submit(Input::Command(input)).ok();
        }
    }

    /// What a client may want of a session with threads.
    pub fn wish(&mut self) -> Command {
        let asked = self.fold.asked();
        let threads = self.state.threads().map(|t| t.id).collect::<Vec<_>>();
        let thread = *self.rng.pick(&threads);
        let events = match self.rng.below(24) {
            0..9 if !asked.is_empty() => {
                let call = *self.rng.pick(&asked);
                vec![self.answer(call)]
            }
            9 => vec![INTERRUPT],
            10 => vec![INTERRUPT, message("rather this")],
            11 | 12 => vec![UserEvent::Interrupt {
                thread: Some(thread),
            }],
            13 if self.begin < 100 => return Command::ArchiveThread(thread),
            14 => {
                let most = 1 + u32::try_from(self.rng.below(3)).unwrap();
                vec![crate::graded::outcome(self.rng.wide(), Some(most))]
            }
            15 => {
                let cents = 1 + self.rng.below(40);
                let cap = match self.state.budget {
                    session::Budget::Limit { cents: cap, .. } if self.rng.chance(50) => cap + cents,
                    _ => cents,
                };
                let update = Update {
                    budget: Patch::Value(cap),
                    ..Update::default()
                };
                return Command::Update(Box::new(update));
            }
            16 => self
                .past()
                .map_or(vec![INTERRUPT], |call| vec![answer(call)]),
            17 => self
                .past()
                .map_or(vec![INTERRUPT], |call| vec![allow(call)]),
            18 => self.past().map_or(vec![INTERRUPT], |call| {
                let mut elsewhere = answer(call);
                name_thread(&mut elsewhere, Some(ThreadId::from_bits(7)));
                vec![elsewhere]
            }),
            _ => vec![message("hello")],
        };
        Command::Send(events)
    }

    /// An answer to a call of whichever thread, now and then with its thread named, or another.
    pub fn answer(&mut self, call: EventId) -> UserEvent {
        let owner = self.called[&call].thread;
        let mut reply = match self.fold.owes(owner, call) {
            Owed::Confirmation if self.rng.chance(50) => deny(call, Some("no")),
            Owed::Confirmation => allow(call),
            _ => answer(call),
        };
        if self.rng.chance(10) {
            let mut elsewhere = reply.clone();
            name_thread(&mut elsewhere, Some(ThreadId::from_bits(self.rng.wide())));
            let refused = self.send(vec![elsewhere]).err();
            assert!(
                matches!(refused, Some(Refused::OtherThread { .. })),
                "{refused:?}"
            );
        }
        let named = self.rng.chance(30).then_some(owner);
        name_thread(&mut reply, named);
        reply
    }

    pub fn failure(&mut self, span: EventId) -> Fact {
        let remedy = *self.rng.pick(&[
            Remedy::None,
            Remedy::Wait { at_least: None },
            Remedy::Wait { at_least: None },
            Remedy::Compact,
        ]);
        Fact::RequestFailed {
            span,
            kind: contract::event::SessionErrorKind::ModelOverloadedError,
            message: "overloaded".to_owned(),
            used: used(1),
            remedy,
        }
    }

    pub fn order(&mut self) -> Order {
        let content = vec![Block::text("do this")];
        let there = self.state.children.iter().map(|t| t.id).collect::<Vec<_>>();
        if there.is_empty() || self.rng.chance(self.begin) {
            let agent = newcomer("coder");
            return Order::Begin { agent, content };
        }
        let thread = match self.rng.below(10) {
            0 => ThreadId::from_bits(self.rng.wide()),
            1 => self.state.primary.id,
            _ => *self.rng.pick(&there),
        };
        Order::Tell { thread, content }
    }

    pub fn update(&mut self, budget: Patch<u64>) -> Result<Decision, Refused> {
        let update = Update {
            budget,
            ..Update::default()
        };
        self.submit(Input::Command(Command::Update(Box::new(update))))
    }

    pub fn archive_thread(&mut self, thread: ThreadId) {
        let open = self.state.thread(thread).unwrap().is_open();
        let done = self.submit(Input::Command(Command::ArchiveThread(thread)));
        if thread == self.state.primary.id {
            assert_eq!(done.err(), Some(Refused::PrimaryThread));
        } else if open {
            assert_eq!(done.err(), Some(Refused::ThreadRunning));
        } else {
            done.unwrap();
            assert!(self.state.thread(thread).is_none());
        }
    }
}

/// Names the thread of an answer.
pub fn name_thread(reply: &mut UserEvent, named: Option<ThreadId>) {
    if let UserEvent::ToolConfirmation { thread, .. } | UserEvent::CustomToolResult { thread, .. } =
        reply
    {
        *thread = named;
    }
}
