//! Random clients and random, crashing, stale and repeating runners against the core, on a clock that
//! jumps. One seed, one history.

use contract::ids::ThreadId;
use contract::patch::Patch;
use session::input::Grade;
use session::{Command, Fact, Generation, Input, Intent, Pace, Refused, Step, Update, UserEvent};

use crate::client;
use crate::coverage::{Coverage, kind_of, phase_of};
use crate::world::{INTERRUPT, World, finished, message};

/// How rough a history is: percentages.
pub struct Temper {
    pub crash: u64,
    pub steal: u64,
    pub fail: u64,
    pub crowd: u64,
    pub halt: u64,
    pub unpriced: u64,
    /// Of a request, in tenths of a cent.
    pub price: u64,
}

/// A process that holds the session, or believes so.
struct Runner {
    generation: Generation,
    step: Step,
    told: bool,
}

pub struct Sim<'a> {
    pub world: World,
    runners: Vec<Runner>,
    /// What was reported lately, to be said again.
    said: Vec<(Generation, Fact)>,
    pub temper: Temper,
    coverage: &'a mut Coverage,
    pub steps: u64,
}

/// Runs the history of `seed` to its end; the number of its steps.
pub fn history(seed: u64, coverage: &mut Coverage) -> u64 {
    Sim::new(seed, coverage).run_to_end()
}

impl<'a> Sim<'a> {
    pub fn new(seed: u64, coverage: &'a mut Coverage) -> Self {
        let mut rng = crate::world::Rng(seed ^ 0x5eed);
        let budget = rng.chance(65).then(|| 1 + rng.below(8));
        let temper = Temper {
            crash: rng.below(8),
            steal: rng.below(12),
            fail: 5 + rng.below(50),
            crowd: rng.below(60),
            halt: rng.below(25),
            unpriced: if rng.chance(15) { 3 } else { 0 },
            price: 1 + rng.below(20),
        };
        let initial = (0..rng.below(3)).map(|_| message("begin")).collect();
        Self {
            world: World::with_budget(seed, initial, budget),
            runners: Vec::new(),
            said: Vec::new(),
            temper,
            coverage,
            steps: 0,
        }
    }

    pub fn run_to_end(mut self) -> u64 {
        let steps = 400 + self.world.rng.below(1_200);
        for _ in 0..steps {
            self.act();
        }
        self.end();
        self.steps
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.world.rng.chance(percent)
    }

    /// One thing happens, somewhere.
    pub fn act(&mut self) {
        self.clock();
        match self.world.rng.below(100) {
            0..42 => {
                let input = client::input(&mut self.world);
                self.submit(input).ok();
                self.might_end();
            }
            42..58 => self.dispatch(),
            58..68 => self.stranger(),
            _ => self.run(),
        }
    }

    /// Time passes, mostly; the clock may stand, leap, or go back.
    fn clock(&mut self) {
        let rng = &mut self.world.rng;
        self.world.now += match rng.below(400) {
            0 => -i64::try_from(rng.below(3_600_000_000)).unwrap(),
            1 | 2 => i64::try_from(rng.below(300_000_000)).unwrap(),
            _ => i64::try_from(rng.below(1_000_000)).unwrap() - 150_000,
        };
    }

    fn submit(&mut self, input: Input) -> Result<session::Decision, Refused> {
        self.steps += 1;
        let world = &mut self.world;
        let phase = phase_of(&world.state, &world.checker, world.now);
        self.coverage.count(phase, kind_of(&input, &world.checker));
        let decision = world.submit(input)?;
        if decision.intents.contains(&Intent::Stop) {
            for runner in &mut self.runners {
                runner.told |= runner.generation == world.state.generation;
            }
        }
        Ok(decision)
    }

    /// What a server does with the runs: it takes those that are due, and those whose lease is over.
    fn dispatch(&mut self) {
        let Some(run) = self.world.run else {
            if self.chance(25) {
                self.claim();
            }
            return;
        };
        let free = match run.held {
            Some(held) => {
                let lives = self.runners.iter().any(|r| r.generation == held);
                !lives || self.world.rng.chance(self.temper.steal)
            }
            None if run.due_at > self.world.now => {
                if self.world.rng.chance(20) {
                    self.world.now = run.due_at;
                }
                false
            }
            None => self.world.rng.chance(60),
        };
        if free {
            self.claim();
        }
    }

    fn claim(&mut self) {
        let Ok(decision) = self.submit(Input::Claim) else {
            return;
        };
        // It may die before it learns that it holds the session.
        if decision.step != Step::Rest && !self.world.rng.chance(self.temper.crash) {
            self.runners.push(Runner {
                generation: decision.state.generation,
                step: decision.step,
                told: false,
            });
        }
        if self.runners.len() > 4 {
            self.runners.remove(0);
        }
    }

    /// Some runner finishes what it was told to do, stops, or dies.
    fn run(&mut self) {
        if self.runners.is_empty() {
            self.dispatch();
            return;
        }
        let at = usize::try_from(self.world.rng.below(self.runners.len() as u64)).unwrap();
        if self.world.rng.chance(self.temper.crash) {
            self.runners.remove(at);
            return;
        }
        let (generation, step, told) = {
            let runner = &self.runners[at];
            (runner.generation, runner.step, runner.told)
        };
        let fact = if told && self.chance(50) {
            Fact::Interrupted { used: self.used() }
        } else {
            self.outcome(step)
        };
        let pace = if self.world.rng.chance(self.temper.halt) {
            Pace::Halt
        } else {
            Pace::Go
        };
        match self.fact(generation, fact, pace) {
            // It dies before it learns what was decided; the run stays as if it lived.
            Ok(_) if self.world.rng.chance(self.temper.crash) => {
                self.runners.remove(at);
            }
            Ok(Step::Rest) => {
                self.runners.remove(at);
            }
            Ok(step) => {
                self.runners[at].step = step;
                self.runners[at].told = false;
            }
            Err(refused) => {
                assert!(
                    matches!(refused, Refused::Stale { .. }),
                    "the holder was refused: {refused}"
                );
                self.runners.remove(at);
            }
        }
    }

    fn fact(&mut self, generation: Generation, fact: Fact, pace: Pace) -> Result<Step, Refused> {
        let fact = self.world.addressed(fact);
        if self.said.len() == 6 {
            self.said.remove(0);
        }
        self.said.push((generation, fact.clone()));
        let thread = self.world.state.primary.id;
        let input = Input::Fact {
            generation,
            thread,
            fact: Box::new(fact),
            pace,
        };
        Ok(self.submit(input)?.step)
    }

    /// Somebody who does not hold the session, or repeats itself, or is defective.
    fn stranger(&mut self) {
        let held = self.world.state.generation;
        let (generation, fact) = match self.world.rng.below(10) {
            0..3 if !self.said.is_empty() => self.world.rng.pick(&self.said).clone(),
            3 => {
                let fact = self.anything();
                (Generation(held.0.wrapping_sub(1)), fact)
            }
            4 => (Generation(held.0 + 1), self.anything()),
            5 => {
                let input = Input::Fact {
                    generation: held,
                    thread: ThreadId::from_bits(self.world.rng.wide()),
                    fact: Box::new(self.anything()),
                    pace: Pace::Go,
                };
                self.turned_away(input);
                return;
            }
            6 => (held, self.anything()),
            _ => {
                let fact = self.anything();
                (held, self.world.addressed(fact))
            }
        };
        let thread = self.world.state.primary.id;
        let input = Input::Fact {
            generation,
            thread,
            fact: Box::new(fact),
            pace: Pace::Go,
        };
        // What names what is open now cannot be told from the holder's own word.
        let world = &self.world;
        let due = world.checker.expected(&world.state, &input, world.now);
        if due.is_some() {
            self.turned_away(input);
        }
    }

    fn turned_away(&mut self, input: Input) {
        let refused = self.submit(input).is_err();
        assert!(
            refused || !self.world.checker.second_opinion,
            "a stranger is believed"
        );
    }

    /// What would become of the session if its client ended it here, or took its budget away.
    fn might_end(&mut self) {
        let world = &mut self.world;
        let rare = if world.checker.sums.spent(world.now) {
            40
        } else {
            120
        };
        if world.state.is_open() || world.rng.below(rare) > 0 {
            return;
        }
        let kept = self.world.clone();
        let runners = std::mem::take(&mut self.runners);
        match self.world.rng.below(3) {
            0 => {
                self.submit(Input::Command(Command::Delete)).unwrap();
            }
            1 => self.over(),
            _ => self.unlimited(),
        }
        self.world = kept;
        self.runners = runners;
        // The world goes on otherwise than it did in the branch that was cut.
        self.world.rng.next();
    }

    fn unlimited(&mut self) {
        let update = Update {
            budget: Patch::Null,
            ..Update::default()
        };
        self.submit(Input::Command(Command::Update(Box::new(update))))
            .unwrap();
    }

    /// Archived: nothing moves it any more.
    fn over(&mut self) {
        self.submit(Input::Command(Command::Archive)).unwrap();
        for _ in 0..6 {
            let input = client::input(&mut self.world);
            self.submit(input).ok();
            self.stranger();
            self.claim();
        }
        self.submit(Input::Command(Command::Archive)).unwrap();
    }

    /// How a history ends: at rest, then perhaps archived, then removed.
    fn end(&mut self) {
        self.quiesce();
        if self.chance(50) {
            self.over();
        }
        self.submit(Input::Command(Command::Delete)).unwrap();
    }

    /// Liveness: once faults stop and every question is answered, the session comes to rest.
    fn quiesce(&mut self) {
        self.runners.clear();
        for _ in 0..300 {
            let owed = client::owed(&self.world);
            if let Some(run) = self.world.run {
                self.world.now = self.world.now.max(run.due_at);
                self.serve();
            } else if self.world.state.is_open() {
                panic!("a turn is open and nobody is told to run it");
            } else if !owed.is_empty() {
                let stop = self.chance(20);
                let answers = owed
                    .into_iter()
                    .map(|call| client::reply_to(&mut self.world, call));
                let answers: Vec<UserEvent> = if stop {
                    vec![INTERRUPT]
                } else {
                    answers.collect()
                };
                self.submit(Input::Command(Command::Send(answers))).unwrap();
            } else if !self.world.inbox.is_empty() {
                self.unlimited();
            } else {
                return;
            }
        }
        panic!("the session never comes to rest");
    }

    /// A server that works: takes the run and does what it is told, without a failure.
    fn serve(&mut self) {
        let mut step = self.submit(Input::Claim).unwrap().step;
        while step != Step::Rest {
            let fact = match step {
                Step::Request { .. } => self.world.reply(Some("done"), &[]),
                Step::Compact { .. } => crate::world::compacted(),
                Step::Grade { .. } => crate::graded::graded(Grade::Satisfied),
                Step::Execute { call } => finished(call, "ran"),
                Step::Recover { call } if self.chance(50) => finished(call, "went on"),
                Step::Recover { call } => Fact::Lost { call },
                Step::Rest => return,
            };
            let held = self.world.state.generation;
            step = self.fact(held, fact, Pace::Go).unwrap();
        }
    }
}
