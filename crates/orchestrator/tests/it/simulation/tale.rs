//! A session of the world as the checkers of the core's own simulation follow it: one with a thread, or a team.

use contract::content::Block;
use contract::ids::{EventId, ThreadId};
use contract::patch::Patch;
use contract::time::Micros;
use session::input::Profile;
use session::{
    Budget, CallKind, Command, Decision, Fact, Generation, Input, Order, Placed, Refused, State,
    Update, UserEvent,
};

use crate::coverage::{Coverage, kind_of, phase_of};
use crate::team_world::{Team, newcomer};
use crate::world::{Rng, World, message};

/// The tool that only a coordinator has.
pub const LEADS: &str = "send_to_agent";

pub enum Tale {
    One(Box<World>),
    Team(Box<Team>),
}

impl Tale {
    /// A session that begins with this decision.
    pub fn opened(rng: Rng, now: Micros, decision: Decision) -> Self {
        if decision.state.primary.rules.0.contains_key(LEADS) {
            return Self::Team(Box::new(Team::opened(rng, now.0, decision)));
        }
        let sent = decision.echo.iter().map(|_| message("begin"));
        let budget = match decision.state.budget {
            Budget::Limit { cents, .. } => Some(cents),
            Budget::None | Budget::Removed => None,
        };
        let world = World::opened(rng, sent.collect(), budget, now.0, decision);
        Self::One(Box::new(world))
    }

    pub fn state(&self) -> &State {
        match self {
            Self::One(world) => &world.state,
            Self::Team(team) => &team.state,
        }
    }

    pub fn log(&self) -> &[Placed] {
        match self {
            Self::One(world) => &world.log,
            Self::Team(team) => &team.log,
        }
    }

    pub fn profile(&self) -> &Profile {
        match self {
            Self::One(world) => &world.profile,
            Self::Team(team) => &team.profile,
        }
    }

    pub fn is_deleted(&self) -> bool {
        match self {
            Self::One(world) => world.deleted,
            Self::Team(team) => team.deleted,
        }
    }

    /// Threads that were begun beside the primary.
    pub fn threads(&self) -> u64 {
        match self {
            Self::One(_) => 0,
            Self::Team(team) => team.fold.created,
        }
    }

    pub fn is_team(&self) -> bool {
        matches!(self, Self::Team(_))
    }

    /// Who holds the run, if anybody does.
    pub fn held(&self) -> Option<Generation> {
        match self {
            Self::One(world) => world.run.and_then(|run| run.held),
            Self::Team(team) => team.run.and_then(|run| run.held),
        }
    }

    /// Whether the start of the call at that place was recorded.
    pub fn has_started(&self, seq: u64) -> bool {
        match self {
            Self::One(world) => world.checker.started.contains(&seq),
            Self::Team(team) => team.fold.started.contains(&seq),
        }
    }

    /// Takes in what a process had decided; without the oracle only what follows from a defect counts.
    pub fn witness(
        &mut self,
        input: &Input,
        now: Micros,
        decided: Result<&Decision, &Refused>,
        coverage: &mut Coverage,
        oracle: bool,
    ) {
        match self {
            // It looks for what others have opened beside what runs: with one thread there is nothing.
            Self::One(world) if looks(input) => {
                if let Ok(decision) = decided {
                    assert!(decision.events.is_empty(), "a look made events");
                    assert_eq!(decision.state, world.state, "a look changed the session");
                }
            }
            Self::One(world) => {
                if !is_bill(input) {
                    let phase = phase_of(&world.state, &world.checker, now.0);
                    coverage.count(phase, kind_of(input, &world.checker));
                }
                world.checker.second_opinion = oracle;
                world.witness(input, now, decided);
            }
            Self::Team(team) => team.witness(input, now, decided),
        }
    }

    /// What a client does next to it.
    pub fn wish(&mut self) -> Input {
        match self {
            Self::One(world) => crate::client::input(world),
            Self::Team(team) => Input::Command(team.wish()),
        }
    }

    /// What its client owes it now that it rests.
    pub fn owed(&mut self) -> Option<Command> {
        let (answers, waits) = match self {
            Self::One(world) => {
                let calls = crate::client::owed(world).into_iter();
                let answers = calls.map(|call| crate::client::reply_to(world, call));
                let answers = answers.collect::<Vec<UserEvent>>();
                (answers, !world.inbox.is_empty())
            }
            Self::Team(team) => {
                let calls = team.fold.asked().into_iter();
                let answers = calls.map(|call| team.answer(call));
                let answers = answers.collect::<Vec<UserEvent>>();
                let paused = team.state.outcome.is_some();
                (answers, !team.inbox.is_empty() || paused)
            }
        };
        if !answers.is_empty() {
            return Some(Command::Send(answers));
        }
        let unlimited = Update {
            budget: Patch::Null,
            ..Update::default()
        };
        waits.then(|| Command::Update(Box::new(unlimited)))
    }

    /// What must hold once nothing is open or owed any more.
    pub fn at_rest(&self) {
        if let Self::Team(team) = self
            && !team.state.archived
            && !team.deleted
        {
            let paused = |t: &session::Thread| t.phase == session::Phase::Paused;
            if !team.state.threads().any(paused) {
                team.fold.at_rest(&team.state);
            }
        }
    }

    /// Who runs a call that is open, if it is.
    pub fn kind_of(&self, call: EventId) -> Option<(CallKind, String)> {
        let owner = self.state().owner(call)?;
        let call = owner.calls().iter().find(|c| c.id == call)?;
        Some((call.kind, call.name.clone()))
    }

    /// What a coordinator wants of its threads.
    pub fn order(&mut self, name: &str) -> Order {
        let Self::Team(team) = self else {
            return Order::List {
                roster: "nobody".to_owned(),
            };
        };
        match name {
            "list_agents" => Order::List {
                roster: "- coder".to_owned(),
            },
            _ => team.order(),
        }
    }
}

/// Whether a program's use of the model is all that it tells of.
pub fn is_bill(input: &Input) -> bool {
    matches!(input, Input::Fact { fact, .. } if matches!(**fact, Fact::UsedInside { .. }))
}

fn looks(input: &Input) -> bool {
    matches!(input, Input::Fact { fact, .. } if matches!(**fact, Fact::TakeUp))
}

/// A task for a new thread of an agent that the session plane has looked up.
pub fn begin(agent: session::Newcomer) -> Order {
    Order::Begin {
        agent: Box::new(session::Newcomer {
            rules: newcomer("coder").rules,
            ..agent
        }),
        content: vec![Block::text("do this")],
    }
}

/// Threads of the session that an interrupt waits for.
pub fn interrupted(state: &State) -> Vec<ThreadId> {
    let told = state.threads().filter(|thread| thread.interrupting);
    told.map(|thread| thread.id).collect()
}
