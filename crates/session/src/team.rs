//! Several threads in one session (api.md §10, behaviours §19): a coordinator begins threads of other agents,
//! tells them what to do and hears how it went; it may also ask an advisor. A thread knows nothing here that is
//! not also true of a session with one: its turns open, go on and end as in `turn`.
//!
//! A task that was given to a thread is answered exactly once, whatever happens to the thread's turn, unless the
//! thread is still at it. Nothing here knows which agents there are: the session plane looks them up.

use contract::content::Block;
use contract::event::{Body, StopReason};
use contract::ids::{EventId, ThreadId};
use serde_json::value::RawValue;

use crate::decision::{Begun, EndedThread, RecordKind, ThreadOf, Webhook};
use crate::faults::{self, Fault};
use crate::input::{Fact, Newcomer, Order, UserEvent, Waiting};
use crate::limits;
use crate::mint::Scribe;
use crate::state::{Advising, Call, CallKind, Effort, Phase, Stage, Status, Thread, Totals, Used};
use crate::turn;

/// The name of every advisor (api.md §3.7).
const ADVISOR: &str = "anthropic.advisor";

/// What a coordinator is told of an answer without words.
const WORDLESS: &str = "[The agent ended its turn without a message.]";
const REFUSED: &str = "[The agent's model refused to go on.]";
const FAILED: &str = "[The agent's turn failed and its thread has ended. Begin another thread if the task still matters.]";
const STOPPED: &str = "[The user interrupted the agent before it was done.]";
const ARCHIVED: &str = "[The user archived this thread before it was done.]";

/// What a fact about a call of a coordinator makes of the session; none if no such call runs.
pub(crate) fn report(s: &mut Scribe, fact: Fact, inbox: &[Waiting]) -> Option<()> {
    match fact {
        Fact::Delegated { call, order } => delegated(s, call, order, inbox),
        Fact::Advised {
            call,
            content,
            is_error,
            used,
        } => advised(s, call, content, is_error, &used),
        _ => None,
    }
}

/// Carries out what a coordinator wants of its threads.
fn delegated(s: &mut Scribe, call: EventId, order: Order, inbox: &[Waiting]) -> Option<()> {
    finish(s, call, CallKind::Team)?;
    let (text, is_error) = match order {
        Order::List { roster } => (listed(s, &roster), false),
        Order::Tell { thread, content } => match told(s, thread, content, inbox) {
            Some(text) => (text, false),
            None => (not_there(s, thread), true),
        },
        Order::Begin { agent, content } => match begin(s, *agent) {
            Some(thread) => (told(s, thread, content, inbox)?, false),
            None => (no_room(), true),
        },
    };
    s.write(Body::AgentToolResult {
        tool_use_id: call,
        content: vec![Block::text(text)],
        is_error,
    });
    s.thread().effort.recoveries = 0;
    Some(())
}

/// Marks a call that runs as done.
fn finish(s: &mut Scribe, call: EventId, kind: CallKind) -> Option<()> {
    let mut calls = s.thread().calls_mut().iter_mut();
    let open = calls.find(|c| c.id == call && c.kind == kind && c.stage == Stage::Started)?;
    open.stage = Stage::Done;
    Some(())
}

/// Who is there and what each does.
fn listed(s: &Scribe, roster: &str) -> String {
    let mut text = roster.to_owned();
    text.push_str("\n\nThreads:");
    for thread in &s.out.state.children {
        let does = match thread.phase {
            Phase::Idle => "idle",
            Phase::Blocked { .. } => "waits for the user",
            Phase::Paused => "stopped by the budget",
            _ => "at work",
        };
        text.push_str(&format!(
            "\n- {} ({}): {does}",
            thread.id, thread.agent_name
        ));
    }
    if s.out.state.children.is_empty() {
        text.push_str(" none");
    }
    text
}

/// Gives a thread something to do; what the coordinator is told of it. None if there is no such thread.
fn told(
    s: &mut Scribe,
    thread: ThreadId,
    content: Vec<Block>,
    inbox: &[Waiting],
) -> Option<String> {
    let children = &s.out.state.children;
    let name = children.iter().find(|t| t.id == thread)?.agent_name.clone();
    s.write(Body::ThreadMessageSent {
        to_session_thread_id: thread,
        to_agent_name: Some(name.clone()),
        content: content.clone(),
    });
    let said = UserEvent::Thread {
        from: s.at,
        name: None,
        content,
    };
    s.on(thread, |s| hear(s, said, true, inbox));
    Some(format!(
        "Sent to {name} (thread {thread}). It works on its own; its answer comes to you as a message. End your turn if you have nothing else to do meanwhile."
    ))
}

fn not_there(s: &Scribe, thread: ThreadId) -> String {
    let of_session = thread == s.out.state.primary.id;
    let why = if of_session {
        "that is your own"
    } else {
        "it has ended, or never began"
    };
    format!(
        "Not sent: there is no thread {thread} to send to ({why}). Use list_agents to see which there are."
    )
}

fn no_room() -> String {
    format!(
        "Not sent: this session has {} threads already, and there may be no more at once. Send to one of them, or ask the user to archive one.",
        limits::THREADS
    )
}

/// Begins a thread; none if there is no room for it.
fn begin(s: &mut Scribe, agent: Newcomer) -> Option<ThreadId> {
    if s.out.state.children.len() >= limits::THREADS {
        return None;
    }
    let Newcomer {
        name,
        rules,
        snapshot,
    } = agent;
    let id = s.thread_id();
    s.state().begun += 1;
    s.state().children.push(Thread {
        id,
        agent_name: name.clone(),
        rules,
        phase: Phase::Idle,
        turn: 0,
        interrupting: false,
        waiting: 0,
        totals: Totals::default(),
        effort: Effort::default(),
        crowded: false,
        history_from: 0,
        rest: None,
    });
    announce_begun(s, id, name, ThreadOf::Agent(snapshot));
    Some(id)
}

/// Says that there is a thread more; returns the place of the event.
fn announce_begun(s: &mut Scribe, id: ThreadId, agent_name: String, agent: ThreadOf) -> u64 {
    s.out.begun.push(Begun { id, agent });
    let event = s.id();
    let seq = s.place(
        event,
        Body::ThreadCreated {
            agent_name,
            session_thread_id: id,
            workflow_run_id: None,
        },
    );
    s.hook(Webhook::ThreadCreated(id));
    seq
}

/// The thread hears what another says. It opens a turn if none is open and `wakes`, and waits for its place
/// otherwise; what need not wake a thread that rests stands in its log at once.
fn hear(s: &mut Scribe, said: UserEvent, wakes: bool, inbox: &[Waiting]) {
    let id = s.id();
    let spent = s.out.state.is_spent(s.now);
    let interrupting = s.thread().interrupting;
    let rests = s.thread().phase == Phase::Idle && !interrupting;
    if rests && wakes && !spent {
        s.woken_by = match &said {
            UserEvent::Thread { from, .. } => Some(*from),
            _ => None,
        };
        turn::start(s);
        s.woken_by = None;
        turn::drain(s, inbox);
        s.place(id, said.body());
    } else if rests && !wakes {
        s.place(id, said.body());
    } else {
        s.queue(id, said);
    }
}

/// A thread of a coordinator has ended its turn: it says how.
pub(crate) fn answer(s: &mut Scribe, reason: &StopReason, inbox: &[Waiting]) {
    if faults::on(Fault::AnswerLost) {
        return;
    }
    let said = std::mem::take(&mut s.said);
    let text = match reason {
        StopReason::EndTurn {} if s.cut => Some(STOPPED),
        StopReason::EndTurn {} if said.is_empty() => Some(WORDLESS),
        StopReason::Refusal {} => Some(REFUSED),
        StopReason::RetriesExhausted {} => Some(FAILED),
        _ => None,
    };
    let content = match text {
        Some(text) => vec![Block::text(text)],
        None => said.into_iter().map(Block::text).collect(),
    };
    // What the client stopped wakes nobody, unless somebody waits for the outcome of it all.
    let wakes = !s.cut || s.out.state.outcome.is_some();
    report_back(s, content, wakes, inbox);
}

/// Says something to the coordinator.
fn report_back(s: &mut Scribe, content: Vec<Block>, wakes: bool, inbox: &[Waiting]) {
    let (name, from) = turn::name(s);
    let primary = s.out.state.primary.id;
    s.write(Body::ThreadMessageSent {
        to_session_thread_id: primary,
        to_agent_name: None,
        content: content.clone(),
    });
    let said = UserEvent::Thread {
        from,
        name: Some(name),
        content,
    };
    s.on(primary, |s| hear(s, said, wakes, inbox));
}

/// The client archives a thread that rests: what it was asked stays unanswered.
pub(crate) fn archive(s: &mut Scribe, inbox: &[Waiting]) {
    let asked = matches!(s.thread().phase, Phase::Blocked { .. } | Phase::Paused);
    let calls = s.thread().calls().to_vec();
    turn::close(s, &calls, turn::INTERRUPTED);
    turn::drain(s, inbox);
    s.thread().phase = Phase::Idle;
    if asked {
        let wakes = s.out.state.outcome.is_some();
        report_back(s, vec![Block::text(ARCHIVED)], wakes, inbox);
    }
    end(s, true);
    // The question was the session's as well.
    if asked && s.shown == Status::Idle {
        let primary = s.out.state.primary.id;
        s.on(primary, |s| {
            turn::settle_session(s, StopReason::EndTurn {}, None);
        });
    }
}

/// Ends the thread: its state leaves the session's.
pub(crate) fn end(s: &mut Scribe, archived: bool) {
    turn::waited(s);
    let (agent_name, id) = turn::name(s);
    s.write(Body::ThreadStatusTerminated {
        agent_name,
        session_thread_id: id,
    });
    s.hook(Webhook::ThreadTerminated(id));
    let totals = s.thread().totals;
    s.state().ended_active += totals.active;
    s.opened.remove(&id);
    s.state().children.retain(|thread| thread.id != id);
    turn::release(s);
    let at = s.out.state.last_at;
    s.out.ended.push(EndedThread {
        id,
        totals,
        at,
        archived,
    });
}

/// A call that asks an advisor. No event shows it; it has a place of its own when the advisor is asked.
pub(crate) fn question(id: EventId, name: String) -> Call {
    Call {
        id,
        seq: 0,
        name,
        kind: CallKind::Advisor,
        stage: Stage::Ready,
    }
}

/// An advisor is asked: a thread of its own says so. Returns the place of the event.
pub(crate) fn consult(s: &mut Scribe, call: EventId) -> u64 {
    let thread = s.thread_id();
    s.state().begun += 1;
    s.state().advising = Some(Advising { thread, call });
    let seq = announce_begun(s, thread, ADVISOR.to_owned(), ThreadOf::Advisor);
    s.on(thread, |s| {
        s.write(Body::ThreadStatusRunning {
            agent_name: ADVISOR.to_owned(),
            session_thread_id: thread,
        });
    });
    seq
}

/// What an advisor's answer makes of the turn; none if no such call runs.
fn advised(
    s: &mut Scribe,
    call: EventId,
    content: Vec<Block>,
    is_error: bool,
    used: &Used,
) -> Option<()> {
    finish(s, call, CallKind::Advisor)?;
    count(s, used);
    advise(s, call, content, is_error);
    if !is_error {
        s.thread().effort.recoveries = 0;
    }
    Some(())
}

/// Counts what the advisor's request has used.
pub(crate) fn count(s: &mut Scribe, used: &Used) {
    s.state().totals.add(used);
    s.advice = *used;
}

/// The advice, or why there is none, and the end of the advisor's thread. It never fails the turn.
pub(crate) fn advise(s: &mut Scribe, call: EventId, content: Vec<Block>, is_error: bool) {
    if s.out.state.advising.is_none_or(|asked| asked.call != call) {
        // It was never asked, and all the same the model is told by it.
        consult(s, call);
    }
    let Some(Advising { thread, .. }) = s.state().advising.take() else {
        return;
    };
    let (agent_name, session_thread_id) = (ADVISOR.to_owned(), thread);
    let id = s.id();
    let seq = s.place(
        id,
        Body::ThreadMessageReceived {
            from_session_thread_id: thread,
            from_agent_name: Some(agent_name.clone()),
            content,
        },
    );
    s.record(seq, RecordKind::Advice, answered(call, is_error));
    s.on(thread, |s| {
        s.write(Body::ThreadStatusIdle {
            agent_name: agent_name.clone(),
            session_thread_id,
            stop_reason: StopReason::EndTurn {},
            stop_details: None,
        });
        s.write(Body::ThreadStatusTerminated {
            agent_name,
            session_thread_id,
        });
    });
    s.hook(Webhook::ThreadIdled(thread));
    s.hook(Webhook::ThreadTerminated(thread));
    let mut totals = Totals::default();
    totals.add(&std::mem::take(&mut s.advice));
    let at = s.out.state.last_at;
    s.out.ended.push(EndedThread {
        id: thread,
        totals,
        at,
        archived: false,
    });
}

fn answered(call: EventId, is_error: bool) -> Box<RawValue> {
    let text = format!("{{\"call\":\"{call}\",\"is_error\":{is_error}}}");
    RawValue::from_string(text).expect("an id between quotes is JSON")
}
