//! What stands in for a model and for sandboxes: they take their time, fail, say things twice, and stop when
//! they are told to. A tool counts what it starts.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contract::content::Block;
use contract::event::{Judgement, ModelUsage, SessionErrorKind};
use contract::ids::{EventId, SessionId};
use harness::{Harness, Plane, PlaneError, Taken};
use sandbox::{
    Command, Content, Error, Process, Provider, Report, Sandbox, SandboxId, Spec, Tool, ToolCall,
    ToolOutput,
};
use serde_json::json;
use session::input::{Grade, ReplyEnd};
use session::{CallKind, Cost, Fact, Generation, Order, ProposedCall, Remedy, Step, Used};
use tokio_util::sync::CancellationToken;

use super::books::{Subject, below, chance, with};
use super::line::live;
use super::tale::begin;
use crate::world::{Rng, raw};

/// The harness of the process of that number.
pub struct Actor(pub usize);

#[async_trait]
impl Harness for Actor {
    fn name(&self) -> &'static str {
        "simulated"
    }

    async fn run(&self, plane: &dyn Plane, first: Step) -> Result<(), PlaneError> {
        let session = plane.brief().system.as_deref().unwrap().parse().unwrap();
        let generation = with(|books| books.processes[self.0].claimed[&session]);
        let outcome = self.turn(plane, first, session, generation).await;
        live(self.0).await;
        match outcome {
            Ok(()) => with(|books| books.rests(session, generation)),
            Err(_) => with(|books| books.gave_up(session)),
        }
        if matches!(outcome, Err(PlaneError::Bug(_))) && chance(50) {
            std::panic::resume_unwind(Box::new("the harness panics"));
        }
        outcome
    }
}

impl Actor {
    async fn turn(
        &self,
        plane: &dyn Plane,
        first: Step,
        session: SessionId,
        generation: Generation,
    ) -> Result<(), PlaneError> {
        let mut step = first;
        loop {
            if chance(20) {
                plane.transcript().await?;
            }
            let fact = match step {
                Step::Rest => return Ok(()),
                Step::Request { span } => self.ask(plane, span, false).await?,
                Step::Compact { span } => self.ask(plane, span, true).await?,
                Step::Grade { start, beat } => self.grade(plane, start, beat).await?,
                Step::Execute { call } => self.execute(plane, session, generation, call).await?,
                Step::Recover { call } => self.recover(plane, call).await?,
            };
            if fails(1) {
                return Err(PlaneError::Bug("the harness has a defect".to_owned()));
            }
            step = self.report(plane, fact).await?.step;
        }
    }

    /// Reports, and now and then reports again what was taken, or may have been.
    async fn report(&self, plane: &dyn Plane, fact: Fact) -> Result<Taken, PlaneError> {
        let first = plane.report(fact.clone()).await;
        let again = match &first {
            Ok(_) => fails(5),
            Err(PlaneError::Unavailable(_)) => fails(50),
            Err(_) => false,
        };
        if !again {
            return first;
        }
        let second = plane.report(fact).await;
        match (first, second) {
            (Ok(_), Ok(_)) => {
                with(|books| books.blame("the same fact was taken twice"));
                Err(PlaneError::Lost)
            }
            (Err(_), second) => second,
            (first, Err(_)) => first,
        }
    }

    /// The model thinks, and answers or fails.
    async fn ask(
        &self,
        plane: &dyn Plane,
        span: EventId,
        condense: bool,
    ) -> Result<Fact, PlaneError> {
        let cancel = plane.cancelled();
        let ended = cancel.run_until_cancelled(think()).await;
        live(self.0).await;
        let used = used();
        if ended.is_none() {
            return if plane.interrupted() {
                Ok(Fact::Interrupted { used })
            } else {
                Err(PlaneError::Stopping)
            };
        }
        if with(|books| !books.calm && books.rng.chance(books.failures)) {
            return Ok(failure(span, used));
        }
        if condense {
            let record = raw("1");
            return Ok(Fact::Compacted { span, record, used });
        }
        Ok(reply(plane, span, used))
    }

    /// A grader thinks, and says what it thinks, or that it still does.
    async fn grade(
        &self,
        plane: &dyn Plane,
        start: EventId,
        beat: u32,
    ) -> Result<Fact, PlaneError> {
        Ok(match self.ask(plane, start, false).await? {
            Fact::Replied { used, .. } => verdict(start, beat, used),
            other => other,
        })
    }

    /// A coordinator wants something of its threads; now and then what makes no sense.
    async fn lead(&self, plane: &dyn Plane, session: SessionId, call: EventId, name: &str) -> Fact {
        if chance(10) {
            return Fact::Finished {
                call,
                content: vec![Block::text("Not sent.".to_owned())],
                is_error: true,
            };
        }
        let order = with(|books| books.subject(session).map(|s| s.tale.order(name)));
        let order = match order {
            Some(Order::Begin { .. }) | None => begin(plane.newcomer("coder").unwrap()),
            Some(order) => order,
        };
        live(self.0).await;
        Fact::Delegated { call, order }
    }

    /// An advisor thinks, and advises or cannot be asked.
    async fn advise(&self, plane: &dyn Plane, call: EventId) -> Result<Fact, PlaneError> {
        Ok(match self.ask(plane, call, true).await? {
            Fact::Compacted { used, .. } | Fact::RequestFailed { used, .. } => Fact::Advised {
                call,
                content: vec![Block::text("mind the gap".to_owned())],
                is_error: chance(20),
                used,
            },
            other => other,
        })
    }

    /// Its sandbox went on or did not; it says after a while how the call ended, or that nobody knows.
    async fn recover(&self, plane: &dyn Plane, call: EventId) -> Result<Fact, PlaneError> {
        let cancel = plane.cancelled();
        let ended = cancel.run_until_cancelled(think()).await;
        live(self.0).await;
        if ended.is_none() {
            return if plane.interrupted() {
                Ok(Fact::Interrupted {
                    used: Used::default(),
                })
            } else {
                Err(PlaneError::Stopping)
            };
        }
        if chance(50) {
            return Ok(Fact::Lost { call });
        }
        Ok(Fact::Finished {
            call,
            content: vec![Block::text("went on".to_owned())],
            is_error: chance(10),
        })
    }

    async fn execute(
        &self,
        plane: &dyn Plane,
        session: SessionId,
        generation: Generation,
        call: EventId,
    ) -> Result<Fact, PlaneError> {
        let kind = with(|books| books.subject(session)?.tale.kind_of(call));
        match kind {
            Some((CallKind::Team, name)) => {
                return Ok(self.lead(plane, session, call, &name).await);
            }
            Some((CallKind::Advisor, _)) => return self.advise(plane, call).await,
            _ => {}
        }
        let input = json!({
            "session": session, "call": call, "generation": generation.0,
        });
        let tool = ToolCall {
            name: Tool::Bash,
            input,
            caller: None,
        };
        let outcome = match plane.sandbox().await {
            Ok(sandbox) => sandbox.tool(tool, plane.cancelled()).await,
            Err(error) => Err(error),
        };
        live(self.0).await;
        let told = |text: String, is_error| Fact::Finished {
            call,
            content: vec![Block::text(text)],
            is_error,
        };
        match outcome {
            Ok(output) => Ok(told("ran".to_owned(), output.is_error)),
            Err(Error::Cancelled) if plane.interrupted() => Ok(Fact::Interrupted {
                used: Used::default(),
            }),
            Err(Error::Cancelled) => Err(PlaneError::Stopping),
            Err(error) => Ok(told(error.to_string(), true)),
        }
    }
}

/// Whether something fails that does so in `percent` of all cases, while the world is not calm.
fn fails(percent: u64) -> bool {
    with(|books| !books.calm && books.rng.chance(percent))
}

/// Mostly a moment, sometimes longer than a lease.
async fn think() {
    let millis = match below(20) {
        0..14 => below(300),
        14..19 => below(4_000),
        _ => below(45_000),
    };
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

fn used() -> Used {
    with(|books| used_by(&mut books.rng))
}

/// Some of what a request may use.
pub fn used_by(rng: &mut Rng) -> Used {
    let usage = ModelUsage {
        input_tokens: rng.below(100),
        output_tokens: 1 + rng.below(100),
        ..ModelUsage::default()
    };
    Used {
        usage,
        cache_1h: 0,
        cost: Some(Cost(1_000_000_007 * rng.below(20))),
    }
}

fn failure(span: EventId, used: Used) -> Fact {
    let at_least = chance(30).then(|| i64::try_from(below(400_000_000)).unwrap());
    let remedy = match below(10) {
        0 => Remedy::None,
        1 | 2 => Remedy::Compact,
        _ => Remedy::Wait { at_least },
    };
    Fact::RequestFailed {
        span,
        kind: SessionErrorKind::ModelOverloadedError,
        message: "overloaded".to_owned(),
        used,
        remedy,
    }
}

fn verdict(start: EventId, beat: u32, used: Used) -> Fact {
    let grades = [
        Grade::Satisfied,
        Grade::NeedsRevision,
        Grade::NeedsRevision,
        Grade::Failed,
    ];
    match below(10) {
        0 => Fact::Grading {
            start,
            beat,
            used: None,
        },
        1 | 2 => Fact::Grading {
            start,
            beat,
            used: Some(used),
        },
        _ => Fact::Graded {
            start,
            grade: with(|books| *books.rng.pick(&grades)),
            explanation: "because".to_owned(),
            used,
        },
    }
}

fn reply(plane: &dyn Plane, span: EventId, used: Used) -> Fact {
    let own = ["bash", "read", "write", "grep", "ask", "unknown"];
    let team = [
        "bash",
        "ask",
        "write",
        "send_to_agent",
        "send_to_agent",
        "send_to_agent",
        "list_agents",
        "ask_advisor",
    ];
    let leads = plane.brief().team.is_some();
    let names: &[&str] = if leads { &team } else { &own };
    let count = if chance(45) { 0 } else { 1 + below(3) };
    let judgements = [None, Some(Judgement::Allow {}), Some(Judgement::UNKNOWN)];
    let calls = (0..count).map(|_| ProposedCall {
        id: plane.mint(),
        name: with(|books| (*books.rng.pick(names)).to_owned()),
        input: raw("{}"),
        judgement: with(|books| *books.rng.pick(&judgements)),
    });
    Fact::Replied {
        span,
        thinking: chance(20).then(|| plane.mint()).into_iter().collect(),
        message: (count == 0).then(|| (plane.mint(), vec!["said".to_owned()])),
        calls: calls.collect(),
        record: raw("[]"),
        used,
        end: if count == 0 && fails(5) {
            ReplyEnd::Refused(None)
        } else {
            ReplyEnd::Complete
        },
        crowded: fails(15),
    }
}

/// The sandboxes of the process of that number.
#[derive(Clone)]
pub struct Hands(pub usize);

#[async_trait]
impl Provider for Hands {
    async fn attach(&self, spec: Spec) -> Result<Arc<dyn Sandbox>, Error> {
        tokio::time::sleep(Duration::from_millis(below(50))).await;
        live(self.0).await;
        if fails(3) {
            return Err(Error::Busy {
                problem: "too much runs".to_owned(),
            });
        }
        let name = spec.id.as_str().to_owned();
        with(|books| {
            books.attaches(self.0, name.parse().unwrap());
            books.processes[self.0].kept.insert(name);
        });
        Ok(Arc::new(self.clone()))
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), Error> {
        live(self.0).await;
        with(|books| {
            let session = id.as_str().parse().unwrap();
            // What is left of one that is elsewhere now is of no use.
            let is_ours = |s: &mut Subject| s.host.is_none_or(|host| host == self.0);
            let is_ours = books
                .subject(session)
                .is_some_and(|s| !s.tale.is_deleted() && is_ours(s));
            if is_ours {
                books.blame("the workspace of a session that is there was removed");
            }
            books.processes[self.0].kept.remove(id.as_str());
        });
        Ok(())
    }

    async fn list(&self) -> Result<Vec<SandboxId>, Error> {
        live(self.0).await;
        let kept = with(|books| books.processes[self.0].kept.clone());
        kept.iter().map(SandboxId::new).collect()
    }

    async fn probe(&self) -> Report {
        Report::default()
    }
}

#[async_trait]
impl Sandbox for Hands {
    async fn tool(&self, call: ToolCall, cancel: CancellationToken) -> Result<ToolOutput, Error> {
        live(self.0).await;
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let session = call.input["session"].as_str().unwrap().parse().unwrap();
        let id = call.input["call"].as_str().unwrap().parse().unwrap();
        let generation = Generation(call.input["generation"].as_u64().unwrap());
        with(|books| books.starts(session, id));
        let ended = cancel.run_until_cancelled(think()).await;
        live(self.0).await;
        if ended.is_none() {
            return Err(Error::Cancelled);
        }
        with(|books| books.goes_on(self.0, session, generation));
        if fails(3) {
            return Err(Error::Lost);
        }
        Ok(ToolOutput {
            content: vec![Content::Text {
                text: "ran".to_owned(),
            }],
            is_error: chance(10),
        })
    }

    async fn spawn(&self, _: Command) -> Result<Process, Error> {
        Err(Error::Gone)
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn stop(&self) -> Result<(), Error> {
        Ok(())
    }

    fn is_alive(&self) -> bool {
        true
    }
}
