//! The books of a simulated world: what every session is by the checker of the core's own simulation, what
//! became of every process, and what must hold between the two. One world a thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::ids::{AgentId, EventId, SessionId};
use contract::time::Micros;
use session::{Command, Decision, Generation, Input, Intent, Refused, Step, UserEvent};
use store::simulation::Decided;
use tokio::time::Instant;

use crate::coverage::{Coverage, kind_of, phase_of};
use crate::world::{Rng, World};

/// Within this an interrupt has acted in a process that nothing ails, and a turn that is due is taken.
const PROMPTLY: Duration = Duration::from_millis(250);

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
}

/// A session as the world sees it.
pub struct Subject {
    pub id: SessionId,
    pub world: World,
    /// Who holds its turn: process, generation, since when.
    pub held: Option<(usize, Generation, Instant)>,
    /// Since when its turn waits for somebody, and whose doing that was.
    due: Option<(usize, Instant)>,
    /// When its runner gave up.
    gave_up: Option<Instant>,
    /// An interrupt that its runner was told of.
    stop: Option<(usize, Generation, Instant)>,
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
    fn is_well(&self, process: usize, since: Instant) -> bool {
        let fate = &self.processes[process];
        fate.lives && !fate.drains && fate.stalled.is_none() && fate.trouble + RECOVERED < since
    }

    /// Takes in what `process` had decided.
    pub fn hear(&mut self, process: usize, decided: Decided) {
        match decided {
            Decided::Opened(now, decision) => self.opened(process, now, *decision),
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
                if self.subjects[at].world.state != *before {
                    self.blame("a state is not what was stored last");
                }
                self.promises(process, at, &input, decided.as_deref());
                let world = &mut self.subjects[at].world;
                let phase = phase_of(&world.state, &world.checker, now.0);
                self.coverage.count(phase, kind_of(&input, &world.checker));
                world.checker.second_opinion = self.second_opinion;
                world.witness(&input, now, decided.as_deref());
            }
        }
    }

    fn opened(&mut self, process: usize, now: Micros, decision: Decision) {
        let sent = decision.echo.iter().map(|_| crate::world::message("begin"));
        let budget = match decision.state.budget {
            session::Budget::Limit { cents, .. } => Some(cents),
            session::Budget::None | session::Budget::Removed => None,
        };
        let rng = Rng(self.rng.next());
        let (id, open) = (decision.state.session, decision.state.is_open());
        let world = World::opened(rng, sent.collect(), budget, now.0, decision);
        self.subjects.push(Subject {
            id,
            world,
            held: None,
            due: open.then(|| (process, Instant::now())),
            gave_up: None,
            stop: None,
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
        let open = decision.state.is_open();
        let anew = decision.intents.contains(&Intent::Run);
        let rests = decision.step == Step::Rest && !matches!(input, Input::Command(_));
        if !open || anew || rests {
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
        if let Some((holder, _, since)) = held {
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
            && mono.saturating_duration_since(since) > PROMPTLY
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
        if !decision.state.primary.interrupting {
            if let Some((holder, told_to, told)) = subject.stop.take()
                && told_to == generation
                && mono - told > PROMPTLY
                && subject.gave_up.is_none()
                && self.is_well(holder, told)
            {
                self.blame(format!("an interrupt took {:?}", mono - told));
            }
            return;
        }
        if let Some((holder, held, _)) = subject.held
            && holder == process
            && decision.intents.contains(&Intent::Stop)
        {
            subject.stop.get_or_insert((holder, held, mono));
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
        let held = subject.world.run.and_then(|run| run.held);
        if held == Some(generation) && subject.held.is_some() {
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
            let world = &subject.world;
            let seq = world.log.iter().find(|p| p.event.id == call).map(|p| p.seq);
            seq.is_some_and(|seq| world.checker.started.contains(&seq))
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
        if subject.world.deleted || subject.world.state.archived {
            return None;
        }
        let mut input = crate::client::input(&mut subject.world);
        if let Input::Command(Command::Update(update)) = &mut input
            && let Some(change) = &mut update.agent
        {
            change.snapshot = super::cast::snapshot(agent, subject.id);
        }
        Some(input)
    }

    /// What the client of a session at rest owes it.
    pub fn owed(&mut self, id: SessionId) -> Option<Command> {
        let world = &mut self.subject(id)?.world;
        if world.state.is_open() || world.deleted {
            return None;
        }
        let calls = crate::client::owed(world);
        if !calls.is_empty() {
            let answers = calls
                .into_iter()
                .map(|call| crate::client::reply_to(world, call));
            return Some(Command::Send(answers.collect::<Vec<UserEvent>>()));
        }
        let unlimited = session::Update {
            budget: contract::patch::Patch::Null,
            ..session::Update::default()
        };
        (!world.inbox.is_empty()).then(|| Command::Update(Box::new(unlimited)))
    }
}
