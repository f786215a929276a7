//! What is accepted and what is refused, told a second time, from the log alone. It must agree with the
//! core on each input.

use contract::ids::EventId;
use contract::patch::Patch;
use contract::time::Micros;
use session::{Command, Fact, Input, Refused, State, Status, Update, UserEvent, limits};

use crate::check::{At, Checker};

impl Checker {
    /// Holds the core's answer to `input` against what it should be.
    pub fn admission(&self, state: &State, input: &Input, now: Micros, said: Option<&Refused>) {
        if !self.second_opinion {
            return;
        }
        let expected = self.expected(state, input, now.0);
        let name = said.map(|refused| {
            let text = format!("{refused:?}");
            text.split([' ', '{']).next().unwrap_or_default().to_owned()
        });
        assert_eq!(
            name.as_deref(),
            expected,
            "{said:?} for {input:?} in {}",
            state.primary.phase.name()
        );
    }

    /// The refusal that is due, by its name.
    pub fn expected(&self, state: &State, input: &Input, now: i64) -> Option<&'static str> {
        let open = matches!(self.status, Status::Running | Status::Rescheduling);
        let over = self.status == Status::Terminated;
        match input {
            Input::Command(Command::Send(_) | Command::Update(_)) if over => Some("Archived"),
            Input::Command(Command::Send(events)) => self.send(state, events, now),
            Input::Command(Command::Update(update)) => self.update(update, open, now),
            Input::Command(Command::Archive | Command::Delete) => open.then_some("Running"),
            Input::Command(Command::ArchiveThread(_)) => Some("NoThread"),
            Input::Claim => (!open).then_some("NothingToRun"),
            Input::Fact { fact, .. } if matches!(**fact, Fact::UsedInside { .. }) => {
                over.then_some("Archived")
            }
            Input::Fact { generation, .. } if generation.0 != self.generation => Some("Stale"),
            Input::Fact { thread, .. } if *thread != state.primary.id => Some("OutOfPlace"),
            Input::Fact { fact, .. } => (!self.fits(fact)).then_some("OutOfPlace"),
        }
    }

    /// Whether a fact of the holder fits where the turn stands.
    pub fn fits(&self, fact: &Fact) -> bool {
        match fact {
            Fact::Replied { span, .. } => self.span == Some((*span, false)),
            Fact::Compacted { span, .. } => self.span == Some((*span, true)),
            Fact::RequestFailed { span, .. } => {
                self.requested().is_some_and(|(open, _)| open == *span)
            }
            Fact::Grading { start, beat, .. } => {
                self.grades(*start) && self.requested() == Some((*start, *beat))
            }
            Fact::Graded { start, .. } => self.grades(*start),
            Fact::Finished { call, .. } | Fact::Lost { call } => {
                let call = self.open.iter().find(|c| c.id == *call);
                call.is_some_and(|c| c.at == At::Started)
            }
            Fact::Delegated { .. }
            | Fact::Advised { .. }
            | Fact::HostUnreachable { .. }
            | Fact::UsedInside { .. }
            | Fact::TakeUp => false,
            Fact::Interrupted { .. } => {
                let mut waiting = self.waiting.iter();
                waiting.any(|w| w.event.kind() == "user.interrupt")
            }
        }
    }

    fn send(&self, state: &State, events: &[UserEvent], now: i64) -> Option<&'static str> {
        let owed = if self.blocked() {
            self.asked()
        } else {
            Vec::new()
        };
        let answered = |id: &EventId| events.iter().any(|e| e.answers() == Some(*id));
        let held =
            !owed.iter().all(answered) && !events.iter().any(|e| e.kind() == "user.interrupt");
        let spent = self.sums.spent(now.min(self.last_at));
        for (index, event) in events.iter().enumerate() {
            let trails = index > 0
                && event.kind() == "system.message"
                && events[index - 1].answers().is_some();
            let before = &events[..index];
            let refusal = match event {
                UserEvent::Message { .. } | UserEvent::System { .. } if trails => None,
                UserEvent::Message { .. }
                | UserEvent::System { .. }
                | UserEvent::Outcome { .. }
                    if held =>
                {
                    Some("WaitingOn")
                }
                UserEvent::Message { .. }
                | UserEvent::System { .. }
                | UserEvent::Outcome { .. }
                    if spent =>
                {
                    Some("BudgetReached")
                }
                UserEvent::Message { .. } | UserEvent::System { .. } | UserEvent::Thread { .. } => {
                    None
                }
                UserEvent::Outcome { .. } => self.outcome(before),
                UserEvent::Interrupt { thread } => {
                    (thread.is_some_and(|id| id != state.primary.id)).then_some("UnknownThread")
                }
                UserEvent::CustomToolResult { call, .. } => {
                    let custom = self.called.get(call).is_some_and(|(custom, _)| *custom);
                    (!custom).then_some("UnknownCall")
                }
                UserEvent::ToolConfirmation { call, .. } => self.confirmation(*call, before),
            };
            if refusal.is_some() {
                return refusal;
            }
        }
        self.room(events)
    }

    fn outcome(&self, before: &[UserEvent]) -> Option<&'static str> {
        let sent = before.iter().map(UserEvent::kind);
        let ahead = sent.chain(self.waiting.iter().map(|w| w.event.kind()));
        let ahead = ahead.collect::<Vec<_>>();
        let open = self.aim.is_some() && !ahead.contains(&"user.interrupt");
        if open || ahead.contains(&"user.define_outcome") {
            return Some("OutcomeOpen");
        }
        (self.shown.len() >= limits::OUTCOMES as usize).then_some("TooManyOutcomes")
    }

    fn confirmation(&self, id: EventId, before: &[UserEvent]) -> Option<&'static str> {
        let stops = |kind| kind == "user.interrupt";
        let stopped = before.iter().any(|e| stops(e.kind()))
            || self.waiting.iter().any(|w| stops(w.event.kind()));
        let twice = before.iter().any(|e| e.answers() == Some(id));
        match self.called.get(&id) {
            None | Some((true, _)) => Some("UnknownCall"),
            Some((false, false)) => Some("NotAsked"),
            Some((false, true)) => {
                let pending = self.open.iter().any(|c| c.id == id && c.at == At::Asked);
                (!pending || twice || stopped).then_some("Resolved")
            }
        }
    }

    fn room(&self, events: &[UserEvent]) -> Option<&'static str> {
        let waits = events.iter().filter(|e| e.answers().is_none()).count();
        let stops = events
            .iter()
            .filter(|e| e.kind() == "user.interrupt")
            .count();
        let more = if waits == stops {
            limits::INTERRUPTS
        } else {
            0
        };
        let limit = (limits::INBOX + more) as usize;
        if waits > 0 && self.waiting.len() + waits > limit {
            return Some("InboxFull");
        }
        let waiting = self.waiting.iter().map(|w| w.event.bytes()).sum::<u64>();
        let more = events.iter().map(UserEvent::bytes).sum::<u64>();
        let large = waiting + more > limits::INBOX_BYTES;
        (waits > stops && !self.waiting.is_empty() && large).then_some("InboxLarge")
    }

    fn update(&self, update: &Update, open: bool, now: i64) -> Option<&'static str> {
        if update.agent.is_some() && open {
            return Some("Running");
        }
        match (self.sums.cap, &update.budget) {
            (None, Patch::Value(_)) => return Some("BudgetCreateOnly"),
            (Some(_), Patch::Value(cents)) if self.sums.reaches(*cents, now) => {
                return Some("BudgetNotRaised");
            }
            _ => {}
        }
        let mut keys = self
            .profile
            .metadata
            .keys()
            .collect::<std::collections::BTreeSet<_>>();
        for (key, value) in &update.metadata {
            match value {
                Some(_) => keys.insert(key),
                None => keys.remove(key),
            };
        }
        (keys.len() > limits::METADATA_PAIRS).then_some("TooManyPairs")
    }
}
