//! The books of a simulated world: what every session is by the checker of the core's own simulation, what
//! became of every process, and what must hold between the two. One world a thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use contract::ids::{AgentId, EventId, SessionId, ThreadId};
use contract::time::Micros;
use session::{Command, Decision, Fact, Generation, Input, Intent, Pace, Refused};
use store::simulation::Decided;
use tokio::time::Instant;

use super::others::{HEARD_WITHIN, News, Presence, Watch};
use super::tale::{Tale, interrupted, is_bill};
use crate::coverage::Coverage;
use crate::world::Rng;

/// Within this an interrupt has acted in a process that nothing ails, and a turn that is due is taken.
pub const PROMPTLY: Duration = Duration::from_millis(250);

/// Within this whoever holds a session has taken up a thread of it that is due: the news of it queue behind those of other
/// sessions.
const SOON: Duration = Duration::from_secs(1);

/// How long after its last trouble a process is well again: it asks a store that failed no sooner than after
/// a second.
const RECOVERED: Duration = Duration::from_secs(2);

/// How long after it failed a turn is in other hands at the latest.
const GIVEN_BACK: Duration = Duration::from_secs(2);

/// Where the clock of a world begins.
const EPOCH: i64 = 1_000_000_000_000;

/// A process as the world sees it.
pub struct Fate {
    pub lives: bool,
    pub drains: bool,
    /// Until then it does nothing, and does not know.
    pub stalled: Option<Instant>,
    /// When it last was in any trouble: what it does late or not at all since then is no defect.
    pub trouble: Instant,
    /// The generations it claimed last.
    pub claimed: BTreeMap<SessionId, Generation>,
    /// The sessions whose workspace it keeps.
    pub kept: BTreeSet<String>,
    /// When it was seen last among several.
    pub presence: Presence,
    /// When it is told that others have changed something.
    pub news: News,
    /// Those who watch sessions at it.
    pub watches: BTreeMap<SessionId, Watch>,
}

/// A session as the world sees it.
pub struct Subject {
    pub id: SessionId,
    pub tale: Tale,
    /// Who holds its turn: process, generation, since when.
    pub held: Option<(usize, Generation, Instant)>,
    /// Since when its turn waits for somebody, and whose doing that was.
    due: Option<(usize, Instant)>,
    /// When its runner gave up.
    gave_up: Option<Instant>,
    /// Interrupts that its runner was told of, by the thread that each is to stop.
    stops: BTreeMap<ThreadId, (usize, Generation, Instant)>,
    /// Threads that wait for whoever holds the session: since when, and whose doing that was.
    idle: BTreeMap<ThreadId, (usize, Instant)>,
    /// The process that has its workspace.
    pub host: Option<usize>,
    /// The process in which it has got another workspace than it had, until its model is told.
    pub untold: Option<usize>,
    /// The process whose workspace a result came from since it was stored last who has it.
    pub ran_on: Option<usize>,
    /// How long its log was of late, and since when.
    pub grew: VecDeque<(Instant, u64)>,
}

pub struct Books {
    pub rng: Rng,
    pub began: Instant,
    /// How wrong the clock of the day is, in microseconds.
    pub skew: i64,
    /// Nothing fails any more.
    pub calm: bool,
    /// Of a hundred passages, those that are lost.
    pub losses: u64,
    /// Of a hundred steps, those that fail.
    pub failures: u64,
    pub processes: Vec<Fate>,
    pub subjects: Vec<Subject>,
    /// Calls whose tool was started.
    pub ran: BTreeSet<EventId>,
    /// The first thing that was wrong.
    pub wrong: Option<String>,
    pub steps: u64,
    pub coverage: Coverage,
    /// What was reported again is refused by the core, whatever it does to the turn.
    pub second_opinion: bool,
    /// The processes hear of one another.
    pub linked: bool,
    /// Programs in sandboxes use the sessions' models.
    pub programs: bool,
    /// How often they did, and were counted.
    pub bills: u64,
    /// What each commit changed for other processes, and whose it was.
    pub changes: Vec<(usize, String)>,
    /// Events that those who watch saw.
    pub shown: u64,
}

thread_local! {
    static BOOKS: RefCell<Option<Books>> = const { RefCell::new(None) };
}

/// Opens the books of a new world.
pub fn open(seed: u64) {
    let mut rng = Rng(seed ^ 0x0c4e_57a1);
    BOOKS.set(Some(Books {
        began: Instant::now(),
        skew: 0,
        calm: false,
        losses: rng.below(4),
        failures: rng.below(40),
        processes: Vec::new(),
        subjects: Vec::new(),
        ran: BTreeSet::new(),
        wrong: None,
        steps: 0,
        coverage: Coverage::default(),
        second_opinion: true,
        linked: false,
        programs: false,
        bills: 0,
        changes: Vec::new(),
        shown: 0,
        rng,
    }));
}

/// Closes them.
pub fn close() -> Option<Books> {
    BOOKS.take()
}

/// Reads and writes in them.
pub fn with<T>(change: impl FnOnce(&mut Books) -> T) -> T {
    BOOKS.with_borrow_mut(|books| change(books.as_mut().expect("a world is simulated")))
}

/// The time of day.
pub fn now() -> Micros {
    with(|books| books.now())
}

pub fn entropy() -> u128 {
    with(|books| books.rng.wide())
}

pub fn below(n: u64) -> u64 {
    with(|books| books.rng.below(n))
}

pub fn chance(percent: u64) -> bool {
    below(100) < percent
}

impl Books {
    pub fn now(&self) -> Micros {
        let since = i64::try_from(self.began.elapsed().as_micros()).unwrap();
        Micros(EPOCH + since + self.skew)
    }

    pub fn blame(&mut self, what: impl Into<String>) {
        let at = self.now();
        self.wrong
            .get_or_insert_with(|| format!("{} at {}", what.into(), at.0 - EPOCH));
    }

    pub fn trouble(&mut self, process: usize) {
        self.processes[process].trouble = Instant::now();
    }

    /// Nobody can say any more when what waits is due.
    pub fn nothing_is_due(&mut self) {
        for subject in &mut self.subjects {
            subject.due = None;
        }
    }

    /// Whether nothing has ailed a process since.
    pub fn is_well(&self, process: usize, since: Instant) -> bool {
        let fate = &self.processes[process];
        fate.lives && !fate.drains && fate.stalled.is_none() && fate.trouble + RECOVERED < since
    }

    /// Takes in what `process` had decided.
    pub fn hear(&mut self, process: usize, decided: Decided) {
        match decided {
            Decided::Opened(now, decision) => self.opened(process, now, *decision),
            Decided::Changed(text) => self.changed(process, text),
            Decided::Bound(session, host) => self.bound(session, &host),
            Decided::Input {
                before,
                input,
                now,
                decided,
            } => {
                let at = self.subjects.iter().position(|s| s.id == before.session);
                let Some(at) = at else {
                    self.blame("a session that nobody made");
                    return;
                };
                self.steps += 1;
                if *self.subjects[at].tale.state() != *before {
                    self.blame("a state is not what was stored last");
                }
                // What a program has used is nobody's word on the turn.
                if is_bill(&input) {
                    self.bills += u64::from(decided.is_ok());
                } else {
                    self.promises(process, at, &input, decided.as_deref());
                }
                if decided.is_ok() {
                    self.told_of_loss(process, at, &input);
                }
                let subject = &mut self.subjects[at];
                if let Ok(decision) = decided.as_deref() {
                    subject.grow(decision.state.next_seq);
                }
                let (told, oracle) = (decided.as_deref(), self.second_opinion);
                let tale = &mut subject.tale;
                tale.witness(&input, now, told, &mut self.coverage, oracle);
            }
        }
    }

    fn opened(&mut self, process: usize, now: Micros, decision: Decision) {
        let rng = Rng(self.rng.next());
        let (id, open) = (decision.state.session, decision.state.is_open());
        let tale = Tale::opened(rng, now, decision);
        self.subjects.push(Subject {
            id,
            tale,
            held: None,
            due: open.then(|| (process, Instant::now())),
            gave_up: None,
            stops: BTreeMap::new(),
            idle: BTreeMap::new(),
            host: None,
            untold: None,
            ran_on: None,
            grew: VecDeque::new(),
        });
    }

    /// Holds what happens against what a process owes that nothing ails.
    fn promises(
        &mut self,
        process: usize,
        at: usize,
        input: &Input,
        decided: Result<&Decision, &Refused>,
    ) {
        let Ok(decision) = decided else {
            return;
        };
        if matches!(input, Input::Claim) {
            self.claimed(process, at, decision.state.generation);
        }
        self.interrupts(process, at, decision);
        self.left_alone(process, at, input, decision);
        let open = decision.state.is_open();
        let anew = decision.intents.contains(&Intent::Run);
        // While anything is in flight somebody holds it, and takes up what is due besides.
        let flies = decision.state.is_in_flight();
        let rests = !matches!(input, Input::Command(_));
        if !open || (!flies && (anew || rests)) {
            let now = self.now();
            let wait = decision.state.due_at(now).0 - now.0;
            let wait = Duration::from_micros(u64::try_from(wait).unwrap_or(0));
            let subject = &mut self.subjects[at];
            subject.held = None;
            subject.due = open.then(|| (process, Instant::now() + wait));
        }
    }

    /// A turn is taken from nobody who is well, and in good time.
    fn claimed(&mut self, process: usize, at: usize, generation: Generation) {
        let mono = Instant::now();
        let subject = &mut self.subjects[at];
        let (held, due) = (subject.held.take(), subject.due.take());
        let gave_up = subject.gave_up.take();
        subject.held = Some((process, generation, mono));
        let id = subject.id;
        self.processes[process].claimed.insert(id, generation);
        self.stays_with_its_workspace(process, at);
        if let Some((holder, _, since)) = held {
            self.taken_over(process, holder);
            match gave_up {
                Some(then) if mono - then > GIVEN_BACK && self.is_well(holder, since) => {
                    self.blame(format!("a turn was given back after {:?}", mono - then));
                }
                None if self.is_well(holder, since) => {
                    self.blame("a turn was taken from a process that works on it");
                }
                _ => {}
            }
        }
        if let Some((opener, since)) = due
            && let Some(promptly) = self.promptly(at, opener, since)
            && mono.saturating_duration_since(since) > promptly
            && self.is_well(opener, since)
        {
            self.blame(format!(
                "a turn of process {opener} waited {:?} for nobody, then {process} took it",
                mono - since
            ));
        }
    }

    /// An interrupt that reached the process that runs the turn acts at once.
    fn interrupts(&mut self, process: usize, at: usize, decision: &Decision) {
        let mono = Instant::now();
        let subject = &mut self.subjects[at];
        let generation = decision.state.generation;
        let told = interrupted(&decision.state);
        let mut late = Vec::new();
        subject.stops.retain(|thread, stop| {
            let waits = told.contains(thread);
            if !waits && stop.1 == generation && subject.gave_up.is_none() {
                late.push(*stop);
            }
            waits
        });
        if let Some((holder, held, _)) = subject.held
            && (holder == process || self.linked)
            && decision.intents.contains(&Intent::Stop)
        {
            // It hears of what another process took in no later than with its beat.
            let heard = if holder == process {
                mono
            } else {
                mono + HEARD_WITHIN
            };
            for thread in told {
                subject.stops.entry(thread).or_insert((holder, held, heard));
            }
        }
        for (holder, _, told) in late {
            let took = mono.saturating_duration_since(told);
            if took > PROMPTLY && self.is_well(holder, told) {
                self.blame(format!("an interrupt took {took:?}"));
            }
        }
    }

    /// A thread that becomes due while others are worked on is taken up by whoever holds the session.
    fn left_alone(&mut self, process: usize, at: usize, input: &Input, decision: &Decision) {
        let (mono, now) = (Instant::now(), self.now());
        let subject = &mut self.subjects[at];
        let state = &decision.state;
        let held = subject.held.filter(|_| state.is_in_flight());
        let mut waited = Vec::new();
        let before = std::mem::take(&mut subject.idle);
        for thread in state.threads() {
            let (Some((holder, _, since)), Some(due)) = (held, thread.due_at(now)) else {
                continue;
            };
            let wait = u64::try_from(due.0 - now.0).unwrap_or(0);
            let due = mono + Duration::from_micros(wait);
            // Since when, and by whose doing. What another process opened the holder hears of with its own run's next
            // step, whatever is sent to that thread meanwhile.
            let mut from = before.get(&thread.id).copied().unwrap_or((process, due));
            if holder == process && from.0 != holder && matches!(input, Input::Fact { .. }) {
                from = (holder, due.max(mono));
            }
            subject.idle.insert(thread.id, from);
            if holder == process && from.0 == holder {
                waited.push((from, since));
            }
        }
        let drains = self.processes[process].drains;
        for ((holder, since), held_since) in waited {
            let waits = mono.saturating_duration_since(since.max(held_since));
            if waits > SOON && !drains && self.is_well(holder, since.min(held_since)) {
                self.blame(format!(
                    "a thread that was due waited {waits:?} beside others"
                ));
            }
        }
    }

    /// Which session a workspace or a brief is of.
    pub fn subject(&mut self, id: SessionId) -> Option<&mut Subject> {
        self.subjects.iter_mut().find(|s| s.id == id)
    }

    /// The turn of `session` failed in `process`.
    pub fn gave_up(&mut self, session: SessionId) {
        if let Some(subject) = self.subject(session) {
            subject.gave_up = Some(Instant::now());
        }
    }

    /// A runner was told that there is nothing more to do.
    pub fn rests(&mut self, session: SessionId, generation: Generation) {
        let Some(subject) = self.subject(session) else {
            return;
        };
        // A thread rests, and others of its session go on.
        if subject.tale.is_team() && subject.tale.state().is_in_flight() {
            return;
        }
        if subject.tale.held() == Some(generation) && subject.held.is_some() {
            self.blame("a turn is held by somebody who was told to rest");
        }
    }

    /// A call is about to have effects.
    pub fn starts(&mut self, session: SessionId, call: EventId) {
        if !self.ran.insert(call) {
            self.blame("a tool ran twice");
        }
        let subject = self.subject(session);
        let started = subject.is_some_and(|subject| {
            let mut log = subject.tale.log().iter();
            let seq = log.find(|p| p.event.id == call).map(|p| p.seq);
            seq.is_some_and(|seq| subject.tale.has_started(seq))
        });
        if !started {
            self.blame("a tool ran that is not recorded as started");
        }
    }

    /// A call goes on in `process` under `generation`, and nobody has cancelled it.
    pub fn goes_on(&mut self, process: usize, session: SessionId, generation: Generation) {
        let Some(subject) = self.subject(session) else {
            return;
        };
        let Some((_, held, since)) = subject.held else {
            return;
        };
        // Renewals come every ten seconds; the one after the loss tells.
        let told = since + Duration::from_secs(12);
        if held > generation && Instant::now() > told && self.is_well(process, since) {
            self.blame("a call of a lost turn goes on");
        }
    }

    /// What a client does next to the session at `at`.
    pub fn wish(&mut self, at: usize, agent: AgentId) -> Option<Input> {
        let subject = &mut self.subjects[at];
        if subject.tale.is_deleted() || subject.tale.state().archived {
            return None;
        }
        let mut input = subject.tale.wish();
        if let Input::Command(Command::Update(update)) = &mut input
            && let Some(change) = &mut update.agent
        {
            change.snapshot = super::cast::snapshot(agent, subject.id, false);
        }
        Some(input)
    }

    /// What a program in the sandbox of a session has used, told by whoever held the session now or before.
    pub fn bill(&mut self) -> Option<(SessionId, Input)> {
        let at = usize::try_from(self.rng.below(self.subjects.len() as u64)).unwrap();
        let tale = &self.subjects[at].tale;
        if tale.is_deleted() {
            return None;
        }
        let state = tale.state();
        let (id, thread, newest) = (state.session, state.primary.id, state.generation.0);
        let generation = Generation(self.rng.below(newest + 1));
        let used = super::hands::used_by(&mut self.rng);
        let is_error = self.rng.chance(20);
        let fact = Box::new(Fact::UsedInside { used, is_error });
        let pace = Pace::Halt;
        let input = Input::Fact {
            generation,
            thread,
            fact,
            pace,
        };
        Some((id, input))
    }

    /// What the client of a session at rest owes it.
    pub fn owed(&mut self, id: SessionId) -> Option<Command> {
        let tale = &mut self.subject(id)?.tale;
        if tale.state().is_open() || tale.is_deleted() {
            return None;
        }
        tale.owed()
    }
}
