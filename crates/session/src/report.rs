//! What a runner's fact makes of the turn: a reply, a failure, a result, the end of an interrupted step.

use contract::content::Block;
use contract::event::{Body, Evaluation, Permission, RetryStatus, SessionErrorKind, StopReason};
use contract::ids::EventId;
use contract::time::Micros;
use serde_json::value::RawValue;

use crate::decision::{Decision, RecordKind, Refused};
use crate::faults::{self, Fault};
use crate::input::{Fact, Pace, ProposedCall, Remedy, ReplyEnd, Waiting};
use crate::limits;
use crate::mint::Scribe;
use crate::outcome::{self, Standing};
use crate::policy::{Verdict, permission};
use crate::state::{Call, CallKind, Effort, Phase, Stage, Used};
use crate::{recover, team, turn};

/// What the model is told of a call whose arguments are no JSON object.
const NO_OBJECT: &str = "The call was not run: its arguments are not a JSON object. Call the tool again with one complete JSON object as arguments.";

/// What is said of an outcome when the model refuses to work on it.
const REFUSED: &str = "The model refused to go on.";

const ROUNDS_SPENT: &str = "The call was not run: this turn reached its limit of tool rounds.";

/// What a fact about the scribe's thread makes of the session.
pub(crate) fn report(
    mut s: Scribe,
    fact: Fact,
    inbox: &[Waiting],
    pace: Pace,
) -> Result<Decision, Refused> {
    if let Fact::UsedInside { used, is_error } = fact {
        used_inside(&mut s, &used, is_error)?;
        return Ok(s.done());
    }
    take(&mut s, fact, inbox, pace)?;
    turn::take_up(&mut s, inbox, pace);
    Ok(s.done())
}

fn take(s: &mut Scribe, fact: Fact, inbox: &[Waiting], pace: Pace) -> Result<(), Refused> {
    match fact {
        Fact::Replied {
            span,
            thinking,
            message,
            calls,
            record,
            used,
            end,
            crowded,
        } => {
            let reply = Reply {
                thinking,
                message,
                calls,
                record,
                used,
                end,
                crowded,
            };
            replied(s, span, reply, inbox, pace)
        }
        Fact::Compacted { span, record, used } => compacted(s, span, record, &used, inbox, pace),
        Fact::RequestFailed {
            span,
            kind,
            message,
            used,
            remedy,
        } => {
            let failure = Failure {
                kind,
                message,
                remedy,
            };
            request_failed(s, span, failure, &used, inbox, pace)
        }
        Fact::Finished {
            call,
            content,
            is_error,
        } => finished(s, call, content, is_error, inbox, pace),
        Fact::Lost { call } => lost(s, call, inbox, pace),
        Fact::Interrupted { used } => interrupted(s, &used, inbox),
        fact @ (Fact::Delegated { .. } | Fact::Advised { .. }) => {
            let done = team::report(s, fact, inbox);
            done.ok_or_else(|| out_of_place(s, "a result for a call that is not running"))?;
            turn::proceed(s, inbox, pace);
            Ok(())
        }
        fact @ Fact::HostUnreachable { .. } => host_unreachable(s, fact),
        Fact::UsedInside { used, is_error } => used_inside(s, &used, is_error),
        // Nobody holds a session in which nothing is in flight: its run is due, and a claim takes it up.
        Fact::TakeUp if s.out.state.is_in_flight() => Ok(()),
        Fact::TakeUp => Err(out_of_place(s, "a look for what is due")),
        fact @ (Fact::Grading { .. } | Fact::Graded { .. }) => {
            let done = outcome::report(s, &fact, inbox, pace);
            done.ok_or_else(|| out_of_place(s, "a grade"))
        }
    }
}

/// Counts a model request that a program in the sandbox has made. It is told when it is over, as a span of its own, and
/// moves nothing.
fn used_inside(s: &mut Scribe, used: &Used, is_error: bool) -> Result<(), Refused> {
    if s.out.state.archived {
        return Err(Refused::Archived);
    }
    let span = s.write(Body::SpanModelRequestStart {});
    turn::end_span(s, span, is_error, used);
    Ok(())
}

/// Says that a credential is of no use; whatever goes on goes on.
fn host_unreachable(s: &mut Scribe, fact: Fact) -> Result<(), Refused> {
    match fact {
        Fact::HostUnreachable {
            credential,
            vault,
            message,
        } if s.out.state.is_in_flight() => {
            let kind = SessionErrorKind::CredentialHostUnreachableError {
                credential_id: credential,
                vault_id: vault,
            };
            turn::error(s, kind, message, RetryStatus::Retrying {});
            Ok(())
        }
        _ => Err(out_of_place(s, "what a credential cannot reach")),
    }
}

/// A model reply, as reported.
struct Reply {
    thinking: Vec<EventId>,
    message: Option<(EventId, Vec<String>)>,
    calls: Vec<ProposedCall>,
    record: Box<RawValue>,
    used: Used,
    end: ReplyEnd,
    crowded: bool,
}

struct Failure {
    kind: SessionErrorKind,
    message: String,
    remedy: Remedy,
}

fn out_of_place(s: &mut Scribe, fact: &'static str) -> Refused {
    let phase = s.thread().phase.name();
    Refused::OutOfPlace { fact, phase }
}

fn replied(
    s: &mut Scribe,
    span: EventId,
    reply: Reply,
    inbox: &[Waiting],
    pace: Pace,
) -> Result<(), Refused> {
    if s.thread().phase != (Phase::Requesting { span }) {
        return Err(out_of_place(s, "a model reply"));
    }
    for id in reply.thinking {
        s.place(id, Body::AgentThinking {});
    }
    if let Some((id, texts)) = reply.message {
        s.said.clone_from(&texts);
        let content = texts.into_iter().map(Block::text).collect();
        s.place(id, Body::AgentMessage { content });
    }
    let (calls, refused) = place_calls(s, reply.calls);
    let seq = turn::end_span(s, span, false, &reply.used);
    s.record(seq, RecordKind::Reply, reply.record);
    s.thread().crowded = reply.crowded;
    s.thread().effort = Effort {
        rounds: s.thread().effort.rounds,
        recoveries: s.thread().effort.recoveries,
        ..Effort::default()
    };
    for (id, text) in refused {
        turn::result(s, id, text);
    }
    if calls.is_empty() {
        answered(s, reply.end, inbox, pace);
    } else {
        act(s, calls, inbox, pace);
    }
    Ok(())
}

/// The model wants its calls answered.
fn act(s: &mut Scribe, calls: Vec<Call>, inbox: &[Waiting], pace: Pace) {
    s.thread().effort.rounds += 1;
    if s.thread().effort.rounds > limits::TOOL_ROUNDS {
        turn::close(s, &calls, ROUNDS_SPENT);
        let message = format!(
            "This turn used {} rounds of tool calls. Send a message to go on.",
            limits::TOOL_ROUNDS
        );
        turn::fail(
            s,
            SessionErrorKind::ToolUseLimitReachedError,
            message,
            inbox,
        );
        return;
    }
    s.thread().phase = Phase::Acting { calls };
    turn::proceed(s, inbox, pace);
}

/// The model has said what it had to say.
fn answered(s: &mut Scribe, end: ReplyEnd, inbox: &[Waiting], pace: Pace) {
    s.thread().phase = Phase::Due;
    if s.thread().interrupting {
        turn::halt(s, inbox);
    } else if let ReplyEnd::Refused(details) = end {
        if s.is_primary() {
            outcome::end(s, Standing::Failed, REFUSED.to_owned());
        }
        turn::stop(s, StopReason::Refusal {}, details, inbox);
    } else if s.thread().waiting > 0 && !s.out.state.is_spent(s.now) {
        // A message that came while the model spoke is answered in the same turn.
        turn::request(s, inbox, pace);
    } else if outcome::wants_grading(s) {
        turn::request(s, inbox, pace);
    } else {
        turn::stop(s, StopReason::EndTurn {}, None, inbox);
    }
}

/// Writes the tool-use events of a reply, each judged by its policy. Returns the calls, and what the
/// model is told of those that do not run.
fn place_calls(s: &mut Scribe, proposed: Vec<ProposedCall>) -> (Vec<Call>, Vec<(EventId, String)>) {
    let mut calls = Vec::with_capacity(proposed.len());
    let mut refused = Vec::new();
    for call in proposed {
        let (call, why) = if call.is_well_formed() {
            place_call(s, call)
        } else {
            (place_malformed(s, call), Some(NO_OBJECT.to_owned()))
        };
        refused.extend(why.map(|why| (call.id, why)));
        calls.push(call);
    }
    (calls, refused)
}

/// Writes one call as its policy judges it; and why it does not run, if it does not.
fn place_call(s: &mut Scribe, call: ProposedCall) -> (Call, Option<String>) {
    let ProposedCall {
        id,
        name,
        input,
        judgement,
    } = call;
    // What a thread asks its client, the session's own list shows as well, and names the thread.
    let home = (!s.is_primary()).then_some(s.at);
    let (kind, evaluated_permission, evaluation) = match s.thread().rules.judge(&name, judgement) {
        Verdict::Client => {
            let body = Body::AgentCustomToolUse {
                name: name.clone(),
                input,
                session_thread_id: home,
            };
            let seq = s.place(id, body);
            let call = Call {
                id,
                seq,
                name,
                kind: CallKind::Custom,
                stage: Stage::Asked,
            };
            return (call, None);
        }
        Verdict::Advisor => return (team::question(id, name), None),
        Verdict::Team => {
            let evaluation = Some(Evaluation::AlwaysAllow {});
            (CallKind::Team, Permission::Allow, evaluation)
        }
        Verdict::Policy(evaluation) => {
            let permission = permission(evaluation);
            (CallKind::Sandbox, permission, Some(evaluation))
        }
        Verdict::Unknown => (CallKind::Sandbox, Permission::Deny, None),
    };
    let (stage, why) = match (evaluated_permission, evaluation) {
        (Permission::Allow, _) => (Stage::Ready, None),
        (Permission::Ask, _) => (Stage::Asked, None),
        (Permission::Deny, Some(_)) => {
            let why = format!("Permission to use {name} has been denied.");
            (Stage::Done, Some(why))
        }
        (Permission::Deny, None) => {
            let why = format!("There is no tool named `{name}` in this session.");
            (Stage::Done, Some(why))
        }
    };
    let body = Body::AgentToolUse {
        name: name.clone(),
        input,
        evaluated_permission,
        evaluation,
        session_thread_id: home.filter(|_| stage == Stage::Asked),
    };
    let seq = s.place(id, body);
    let call = Call {
        id,
        seq,
        name,
        kind,
        stage,
    };
    (call, why)
}

/// Writes a call whose input is no object as one that was not permitted, so that no client takes it for a
/// call that it should answer. The event shows what the model wrote: the contract wants an object around it.
fn place_malformed(s: &mut Scribe, call: ProposedCall) -> Call {
    let ProposedCall {
        id, name, input, ..
    } = call;
    let shown = format!("{{\"invalid_json\":{}}}", input.get());
    let input = RawValue::from_string(shown).unwrap_or(input);
    let body = Body::AgentToolUse {
        name: name.clone(),
        input,
        evaluated_permission: Permission::Deny,
        evaluation: None,
        session_thread_id: None,
    };
    let seq = s.place(id, body);
    Call {
        id,
        seq,
        name,
        kind: CallKind::Sandbox,
        stage: Stage::Done,
    }
}

fn compacted(
    s: &mut Scribe,
    span: EventId,
    record: Box<RawValue>,
    used: &Used,
    inbox: &[Waiting],
    pace: Pace,
) -> Result<(), Refused> {
    if s.thread().phase != (Phase::Compacting { span }) {
        return Err(out_of_place(s, "a compaction"));
    }
    turn::end_span(s, span, false, used);
    let id = s.id();
    let seq = s.place(id, Body::ThreadContextCompacted {});
    s.record(seq, RecordKind::Summary, record);
    let thread = s.thread();
    thread.phase = Phase::Due;
    thread.history_from = seq;
    thread.crowded = false;
    thread.effort.compactions += 1;
    thread.effort.failures = 0;
    thread.effort.failing_since = None;
    turn::proceed(s, inbox, pace);
    Ok(())
}

fn request_failed(
    s: &mut Scribe,
    span: EventId,
    failure: Failure,
    used: &Used,
    inbox: &[Waiting],
    pace: Pace,
) -> Result<(), Refused> {
    let phase = &s.thread().phase.clone();
    let compacting = *phase == Phase::Compacting { span };
    let grading = *phase == Phase::Grading { start: span };
    if grading {
        // The evaluation stays open until somebody comes to a verdict.
        outcome::count(s, used);
    } else if compacting || *phase == (Phase::Requesting { span }) {
        turn::end_span(s, span, true, used);
    } else {
        return Err(out_of_place(s, "a failed model request"));
    }
    s.thread().phase = Phase::Due;
    if s.thread().interrupting {
        turn::halt(s, inbox);
        return Ok(());
    }
    match failure.remedy {
        Remedy::None => turn::fail(s, failure.kind, failure.message, inbox),
        // A grader that sees too much has cut it already.
        Remedy::Compact if grading => turn::fail(s, failure.kind, failure.message, inbox),
        Remedy::Wait { at_least } => try_again(s, failure, at_least, inbox),
        Remedy::Compact if compacting || s.thread().effort.compactions >= limits::COMPACTIONS => {
            let kind = SessionErrorKind::CompactionLimitReachedError;
            turn::fail(s, kind, failure.message, inbox);
        }
        Remedy::Compact => {
            s.thread().crowded = true;
            turn::request(s, inbox, pace);
        }
    }
    Ok(())
}

/// Puts the turn down until its next try, or ends it if there were enough.
fn try_again(s: &mut Scribe, failure: Failure, at_least: Option<i64>, inbox: &[Waiting]) {
    let now = s.now;
    let effort = &mut s.thread().effort;
    effort.failures += 1;
    let since = *effort.failing_since.get_or_insert(now);
    let failures = effort.failures;
    if failures >= limits::TRIES || now.0 - since.0 >= limits::TRYING {
        let message = format!("{} (tried {failures} times)", failure.message);
        turn::fail(s, failure.kind, message, inbox);
        return;
    }
    let bound = (limits::PAUSE << (failures - 1)).min(limits::LONGEST_PAUSE);
    let pause = s
        .draw(bound)
        .max(at_least.unwrap_or(0).min(limits::LONGEST_RETRY_AFTER));
    turn::error(s, failure.kind, failure.message, RetryStatus::Retrying {});
    s.thread().phase = Phase::Retrying {
        due_at: Micros(now.0 + pause),
    };
    turn::announce_rescheduled(s);
}

fn may_end(call: &Call) -> bool {
    call.stage == Stage::Started || (call.stage == Stage::Done && faults::on(Fault::ClosedCall))
}

fn finished(
    s: &mut Scribe,
    call: EventId,
    content: Vec<Block>,
    is_error: bool,
    inbox: &[Waiting],
    pace: Pace,
) -> Result<(), Refused> {
    end(s, call)?;
    s.write(Body::AgentToolResult {
        tool_use_id: call,
        content,
        is_error,
    });
    s.thread().effort.recoveries = 0;
    turn::proceed(s, inbox, pace);
    Ok(())
}

/// Whoever ran it was lost, and nobody knows more. That is no progress: what is lost again and again ends.
fn lost(s: &mut Scribe, call: EventId, inbox: &[Waiting], pace: Pace) -> Result<(), Refused> {
    end(s, call)?;
    turn::result(s, call, recover::OUTCOME_UNKNOWN.to_owned());
    turn::proceed(s, inbox, pace);
    Ok(())
}

/// A call that runs is done.
fn end(s: &mut Scribe, call: EventId) -> Result<(), Refused> {
    let mut calls = s.thread().calls_mut().iter_mut();
    let Some(open) = calls.find(|c| c.id == call && may_end(c)) else {
        return Err(out_of_place(s, "a result for a call that is not running"));
    };
    if open.kind == CallKind::Advisor {
        return Err(out_of_place(s, "a result for an advisor"));
    }
    open.stage = Stage::Done;
    Ok(())
}

fn interrupted(s: &mut Scribe, used: &Used, inbox: &[Waiting]) -> Result<(), Refused> {
    if !s.thread().interrupting {
        return Err(out_of_place(s, "an interrupt that nobody sent"));
    }
    if let Phase::Requesting { span } | Phase::Compacting { span } = s.thread().phase {
        turn::end_span(s, span, true, used);
        s.thread().phase = Phase::Due;
    } else if let Phase::Grading { .. } = s.thread().phase {
        outcome::count(s, used);
        s.thread().phase = Phase::Due;
    } else if s.is_primary() && s.out.state.advising.is_some() {
        team::count(s, used);
    }
    turn::halt(s, inbox);
    Ok(())
}
