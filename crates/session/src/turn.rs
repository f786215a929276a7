//! What a turn does, from its opening to idle. Every function leaves a state that passes its check, and
//! says by [`Step`] what the runner does next.

use contract::content::Block;
use contract::event::{
    Body, ModelUsage, Permission, RefusalDetails, RetryStatus, SessionError, SessionErrorKind,
    StopReason,
};
use contract::ids::{EventId, ThreadId};
use serde_json::value::RawValue;

use crate::decide::end_turn;
use crate::decision::{Decision, Intent, RecordKind, Refused, Step};
use crate::input::{Pace, ProposedCall, ReplyEnd, UserEvent, Waiting};
use crate::limits;
use crate::mint::Scribe;
use crate::policy::Verdict;
use crate::state::{Call, CallKind, Phase, Stage, State, requires_action};

const INTERRUPTED: &str = "Tool execution was interrupted before completion. Please retry.";
const ROUNDS_SPENT: &str = "The call was not run: this turn reached its limit of tool rounds.";

/// A model reply, as reported.
pub(crate) struct Reply {
    pub(crate) thinking: Vec<EventId>,
    pub(crate) message: Option<(EventId, Vec<String>)>,
    pub(crate) calls: Vec<ProposedCall>,
    pub(crate) record: Box<RawValue>,
    pub(crate) usage: ModelUsage,
    pub(crate) cache_1h: u64,
    pub(crate) end: ReplyEnd,
}

pub(crate) fn name(s: &Scribe) -> (String, ThreadId) {
    (s.out.state.agent_name.clone(), s.out.state.thread)
}

/// True if this decision itself opened the turn that is open now.
pub(crate) fn opened_in(s: &Scribe) -> bool {
    matches!(s.out.state.phase, Phase::Due) && s.out.intents.contains(&Intent::Run)
}

/// Opens a turn.
pub(crate) fn start(s: &mut Scribe) {
    let now = s.now;
    let state = s.state();
    state.phase = Phase::Due;
    state.totals.running_since = Some(now);
    state.rounds = 0;
    state.recoveries = 0;
    announce_running(s);
    s.intend(Intent::Run);
}

pub(crate) fn announce_running(s: &mut Scribe) {
    let (agent_name, session_thread_id) = name(s);
    s.write(Body::StatusRunning {});
    s.write(Body::ThreadStatusRunning {
        agent_name,
        session_thread_id,
    });
}

/// Goes idle: thread, usage, session, in the order of the recordings. What waits in the inbox opens the
/// next turn at once, unless the session waits for its client.
fn stop(s: &mut Scribe, reason: StopReason, details: Option<RefusalDetails>, inbox: &[Waiting]) {
    let now = s.now;
    let state = s.state();
    if let Some(since) = state.totals.running_since.take() {
        state.totals.active += (now.0 - since.0).max(0);
    }
    if !matches!(reason, StopReason::RequiresAction { .. }) {
        state.phase = Phase::Idle {
            blocked: Vec::new(),
        };
    }
    announce_idle(s, reason, details);
    if s.state().blocked_on().is_empty() && s.state().waiting > 0 {
        start(s);
        drain(s, inbox);
    }
}

fn announce_idle(s: &mut Scribe, stop_reason: StopReason, stop_details: Option<RefusalDetails>) {
    let (agent_name, session_thread_id) = name(s);
    s.write(Body::ThreadStatusIdle {
        agent_name,
        session_thread_id,
        stop_reason: stop_reason.clone(),
        stop_details: stop_details.clone(),
    });
    let usage = s.out.state.totals.usage(s.now);
    s.write(Body::SessionUsage {
        usage,
        budget: None,
    });
    s.write(Body::StatusIdle {
        stop_reason,
        stop_details,
    });
}

/// Gives waiting events their place, oldest first, and empties the inbox.
pub(crate) fn drain(s: &mut Scribe, inbox: &[Waiting]) {
    for waiting in inbox {
        if !s.out.drained.contains(&waiting.id) {
            s.out.drained.push(waiting.id);
            s.place(waiting.id, waiting.event.clone().body());
        }
    }
    // What this decision itself queued was never seen by anyone: it takes its place as well.
    for waiting in std::mem::take(&mut s.out.queued) {
        s.place(waiting.id, waiting.event.body());
    }
    s.state().waiting = 0;
    s.state().interrupting = false;
}

/// Places the interrupts of the inbox ahead of everything else that waits.
fn place_interrupts(s: &mut Scribe, inbox: &[Waiting]) {
    for waiting in inbox {
        if matches!(waiting.event, UserEvent::Interrupt { .. })
            && !s.out.drained.contains(&waiting.id)
        {
            s.out.drained.push(waiting.id);
            s.place(waiting.id, waiting.event.clone().body());
            s.state().waiting -= 1;
        }
    }
    s.state().interrupting = false;
}

/// Closes calls that will not be run or answered.
fn close(s: &mut Scribe, calls: &[Call], text: &str) {
    for call in calls.iter().filter(|c| c.stage != Stage::Done) {
        result(s, call.id, vec![Block::text(text)], true);
    }
}

pub(crate) fn result(s: &mut Scribe, call: EventId, content: Vec<Block>, is_error: bool) {
    s.write(Body::AgentToolResult {
        tool_use_id: call,
        content,
        is_error,
    });
}

/// An interrupt reached a session that no runner works on; its event is placed already.
pub(crate) fn stop_unattended(s: &mut Scribe, inbox: &[Waiting]) {
    let calls = match &s.state().phase {
        Phase::Idle { blocked } if blocked.is_empty() => return,
        Phase::Idle { blocked } => blocked.clone(),
        Phase::Due | Phase::Requesting { .. } | Phase::Acting { .. } => Vec::new(),
    };
    close(s, &calls, INTERRUPTED);
    s.out.intents.retain(|i| *i != Intent::Run);
    s.state().phase = Phase::Idle {
        blocked: Vec::new(),
    };
    stop(s, end_turn(), None, inbox);
}

/// Settles a batch: answers may have freed a blocked session, in part or whole.
pub(crate) fn after_send(s: &mut Scribe, before: &State, inbox: &[Waiting]) {
    let Phase::Idle { blocked } = &s.out.state.phase else {
        return;
    };
    let left = s.out.state.blocked_on();
    let answered = before.blocked_on().len() > left.len();
    if !left.is_empty() {
        if answered {
            announce_idle(s, requires_action(left), None);
        }
    } else if !blocked.is_empty() {
        start(s);
        drain(s, inbox);
    } else if s
        .out
        .echo
        .iter()
        .any(|e| matches!(e.body, Body::UserCustomToolResult { .. }))
        && before.blocked_on().is_empty()
    {
        // Recorded: an answer after completion is accepted and makes an empty cycle.
        announce_running(s);
        announce_idle(s, end_turn(), None);
    }
}

/// Opens the next step of a running turn.
pub(crate) fn proceed(s: &mut Scribe, inbox: &[Waiting], pace: Pace) {
    if s.state().interrupting {
        halt(s, inbox);
        return;
    }
    if let Phase::Acting { calls } = s.state().phase.clone() {
        act(s, calls, inbox, pace);
    } else {
        request(s, inbox, pace);
    }
}

fn act(s: &mut Scribe, mut calls: Vec<Call>, inbox: &[Waiting], pace: Pace) {
    let next = calls
        .iter_mut()
        .find(|c| c.kind == CallKind::Sandbox && c.stage == Stage::Waiting);
    if let Some(call) = next {
        if pace == Pace::Go {
            call.stage = Stage::Started;
            let (id, seq) = (call.id, call.seq);
            s.record(seq, RecordKind::CallStarted, started_record(s.now.0));
            s.out.step = Step::Execute { call: id };
        }
        s.state().phase = Phase::Acting { calls };
        return;
    }
    let unanswered = calls.iter().filter(|c| c.stage == Stage::Waiting);
    let unanswered = unanswered.map(|c| c.id).collect::<Vec<_>>();
    if unanswered.is_empty() {
        request(s, inbox, pace);
    } else {
        calls.retain(|c| c.stage == Stage::Waiting);
        s.state().phase = Phase::Idle { blocked: calls };
        stop(s, requires_action(unanswered), None, inbox);
    }
}

fn started_record(at: i64) -> Box<RawValue> {
    RawValue::from_string(format!("{{\"at\":{at}}}")).expect("digits in braces are JSON")
}

fn request(s: &mut Scribe, inbox: &[Waiting], pace: Pace) {
    drain(s, inbox);
    s.state().phase = Phase::Due;
    if pace == Pace::Go {
        let span = s.write(Body::SpanModelRequestStart {});
        s.state().phase = Phase::Requesting { span };
        s.out.step = Step::Request { span };
    }
}

pub(crate) fn end_span(s: &mut Scribe, span: EventId, is_error: bool, usage: &ModelUsage) -> u64 {
    let id = s.id();
    s.place(
        id,
        Body::SpanModelRequestEnd {
            model_request_start_id: span,
            is_error,
            model_usage: *usage,
        },
    )
}

fn open_span(s: &Scribe, fact: &'static str) -> Result<EventId, Refused> {
    match &s.out.state.phase {
        Phase::Requesting { span } => Ok(*span),
        Phase::Idle { .. } | Phase::Due | Phase::Acting { .. } => Err(out_of_place(s, fact)),
    }
}

fn out_of_place(s: &Scribe, fact: &'static str) -> Refused {
    let phase = match &s.out.state.phase {
        Phase::Idle { .. } => "idle",
        Phase::Due => "due",
        Phase::Requesting { .. } => "requesting",
        Phase::Acting { .. } => "acting",
    };
    Refused::OutOfPlace { fact, phase }
}

/// The model answered.
pub(crate) fn replied(
    mut s: Scribe,
    reply: Reply,
    inbox: &[Waiting],
    pace: Pace,
) -> Result<Decision, Refused> {
    let span = open_span(&s, "a model reply")?;
    for id in reply.thinking {
        s.place(id, Body::AgentThinking {});
    }
    if let Some((id, texts)) = reply.message {
        let content = texts.into_iter().map(Block::text).collect();
        s.place(id, Body::AgentMessage { content });
    }
    let (calls, refused) = place_calls(&mut s, reply.calls);
    let seq = end_span(&mut s, span, false, &reply.usage);
    s.record(seq, RecordKind::Reply, reply.record);
    s.state().totals.add(&reply.usage, reply.cache_1h);
    s.state().recoveries = 0;
    for (id, name) in refused {
        let text = format!("There is no tool named `{name}` in this session.");
        result(&mut s, id, vec![Block::text(text)], true);
    }
    if !calls.is_empty() {
        s.state().rounds += 1;
        if s.state().rounds > limits::TOOL_ROUNDS {
            close(&mut s, &calls, ROUNDS_SPENT);
            let message = format!(
                "This turn used {} rounds of tool calls. Send a message to go on.",
                limits::TOOL_ROUNDS
            );
            fail(
                &mut s,
                SessionErrorKind::ToolUseLimitReachedError,
                message,
                inbox,
            );
            return Ok(s.done());
        }
        s.state().phase = Phase::Acting { calls };
        proceed(&mut s, inbox, pace);
        return Ok(s.done());
    }
    s.state().phase = Phase::Due;
    if s.state().interrupting {
        halt(&mut s, inbox);
    } else if let ReplyEnd::Refused(details) = reply.end {
        stop(&mut s, StopReason::Refusal {}, details, inbox);
    } else if s.state().waiting > 0 {
        // A message that came while the model spoke is answered in the same turn.
        request(&mut s, inbox, pace);
    } else {
        stop(&mut s, end_turn(), None, inbox);
    }
    Ok(s.done())
}

/// Writes the tool-use events of a reply, each judged by its policy. Returns the calls, and those
/// refused before any policy with the name the model used.
fn place_calls(s: &mut Scribe, proposed: Vec<ProposedCall>) -> (Vec<Call>, Vec<(EventId, String)>) {
    let mut calls = Vec::with_capacity(proposed.len());
    let mut refused = Vec::new();
    for ProposedCall { id, name, input } in proposed {
        let (kind, stage, body) = match s.state().rules.judge(&name) {
            Verdict::Run(kind, evaluated_permission, evaluation) => {
                let evaluation = Some(evaluation);
                let body = Body::AgentToolUse {
                    name,
                    input,
                    evaluated_permission,
                    evaluation,
                };
                (kind, Stage::Waiting, body)
            }
            Verdict::Client => (
                CallKind::Custom,
                Stage::Waiting,
                Body::AgentCustomToolUse { name, input },
            ),
            Verdict::Unknown => {
                refused.push((id, name.clone()));
                let evaluated_permission = Permission::Deny;
                let body = Body::AgentToolUse {
                    name,
                    input,
                    evaluated_permission,
                    evaluation: None,
                };
                (CallKind::Sandbox, Stage::Done, body)
            }
        };
        let seq = s.place(id, body);
        calls.push(Call {
            id,
            seq,
            kind,
            stage,
        });
    }
    (calls, refused)
}

/// The model request failed for good.
pub(crate) fn request_failed(
    mut s: Scribe,
    kind: SessionErrorKind,
    message: String,
    usage: &ModelUsage,
    inbox: &[Waiting],
) -> Result<Decision, Refused> {
    let span = open_span(&s, "a failed model request")?;
    end_span(&mut s, span, true, usage);
    s.state().totals.add(usage, 0);
    if s.state().interrupting {
        halt(&mut s, inbox);
    } else {
        fail(&mut s, kind, message, inbox);
    }
    Ok(s.done())
}

/// Ends the turn with an error. What waited is flushed: it keeps its place in history and the next
/// message starts fresh.
pub(crate) fn fail(s: &mut Scribe, kind: SessionErrorKind, message: String, inbox: &[Waiting]) {
    let error = SessionError {
        kind,
        message,
        retry_status: RetryStatus::Exhausted {},
    };
    s.write(Body::SessionError { error });
    drain(s, inbox);
    s.state().phase = Phase::Idle {
        blocked: Vec::new(),
    };
    stop(s, StopReason::RetriesExhausted {}, None, inbox);
}

/// A started call has its result.
pub(crate) fn finished(
    mut s: Scribe,
    call: EventId,
    content: Vec<Block>,
    is_error: bool,
    inbox: &[Waiting],
    pace: Pace,
) -> Result<Decision, Refused> {
    let Phase::Acting { calls } = &mut s.out.state.phase else {
        return Err(out_of_place(&s, "a tool result"));
    };
    let open = calls
        .iter_mut()
        .find(|c| c.id == call && c.stage == Stage::Started);
    let Some(open) = open else {
        return Err(out_of_place(&s, "a result for a call that is not running"));
    };
    open.stage = Stage::Done;
    result(&mut s, call, content, is_error);
    s.state().recoveries = 0;
    proceed(&mut s, inbox, pace);
    Ok(s.done())
}

/// The runner has stopped what it did.
pub(crate) fn interrupted(
    mut s: Scribe,
    usage: &ModelUsage,
    inbox: &[Waiting],
) -> Result<Decision, Refused> {
    if !s.state().interrupting {
        return Err(out_of_place(&s, "an interrupt that nobody sent"));
    }
    if let Phase::Requesting { span } = s.state().phase {
        end_span(&mut s, span, true, usage);
        s.state().totals.add(usage, 0);
        s.state().phase = Phase::Due;
    }
    halt(&mut s, inbox);
    Ok(s.done())
}

/// Applies a waiting interrupt: its event, the open calls closed, idle; then whatever else waited.
fn halt(s: &mut Scribe, inbox: &[Waiting]) {
    place_interrupts(s, inbox);
    if let Phase::Acting { calls } = s.state().phase.clone() {
        close(s, &calls, INTERRUPTED);
    }
    s.state().phase = Phase::Idle {
        blocked: Vec::new(),
    };
    stop(s, end_turn(), None, inbox);
}
