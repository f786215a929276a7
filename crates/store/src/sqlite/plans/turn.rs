//! A turn with everything in it that is ever written of one, a thread of a team included.

use contract::ids::{EventId, OutcomeId, SessionId, ThreadId};
use contract::patch::Patch;
use session::input::ReplyEnd;
use session::policy::ToolRules;
use session::{
    Command, Fact, Generation, Input, Newcomer, Pace, ProposedCall, Update, Used, UserEvent,
};

use super::super::{Cx, Fault, runs, submit};
use super::{NOW, json, ok};
use crate::clock;
use crate::error::SubmitError;
use crate::runs::Holder;
use crate::sessions::Scope;
use crate::timeline::{Beside, Binding, Mark, Spent};

pub(super) fn turn(cx: &mut Cx<'_>, session: SessionId) {
    let submit = |cx: &mut Cx<'_>, input| {
        let mark = Mark {
            spent: Spent::Tool,
            at: NOW,
            took: 1,
            detail: json(),
        };
        let given = crate::rules::decided::Given {
            input,
            now: NOW,
            entropy: clock::entropy(),
            beside: Beside {
                marks: vec![mark],
                binding: Some(Binding {
                    body: json(),
                    host: None,
                }),
            },
        };
        let done = submit::submit(cx, Scope::Any, session, given);
        done.map_err(Fault::settle)
            .map_err(|e: SubmitError| e.to_string())
    };
    let say = || UserEvent::Message {
        content: Vec::new(),
    };
    let outcome = |n| UserEvent::Outcome {
        outcome: OutcomeId::from_bits(n),
        description: "d".to_owned(),
        rubric: "r".to_owned(),
        max_iterations: None,
    };
    let answer = UserEvent::CustomToolResult {
        call: EventId::from_bits(7),
        content: Vec::new(),
        is_error: None,
        thread: None,
    };
    let holder = Holder("h".to_owned());
    ok(runs::due(cx.conn, 1, NOW));
    ok(runs::next_due(cx.conn, NOW));
    let claimed =
        submit::claim(cx, session, &holder, None, NOW, clock::entropy()).map_err(Fault::settle);
    let generation = claimed
        .map_err(|e: SubmitError| e.to_string())
        .expect("claimed");
    let asking = generation.state.asking().expect("the model is asked");
    let generation = generation.state.generation;
    ok(runs::renew(
        cx,
        session,
        generation,
        std::time::Duration::from_secs(1),
        NOW,
    ));
    submit(cx, Input::Command(Command::Send(vec![say()]))).expect("queued");
    let calls = [(9, "send_to_agent"), (8, "bash"), (7, "ask")].map(|(id, name)| ProposedCall {
        id: EventId::from_bits(id),
        name: name.to_owned(),
        input: json(),
        judgement: None,
    });
    let replied = Fact::Replied {
        span: asking,
        thinking: Vec::new(),
        message: None,
        calls: calls.into(),
        record: json(),
        used: Used::default(),
        end: ReplyEnd::Complete,
        crowded: false,
    };
    let finished = Fact::Finished {
        call: EventId::from_bits(8),
        content: Vec::new(),
        is_error: false,
    };
    let delegated = Fact::Delegated {
        call: EventId::from_bits(9),
        order: session::Order::Begin {
            agent: Box::new(Newcomer {
                name: "b".to_owned(),
                rules: ToolRules::default(),
                snapshot: json(),
            }),
            content: Vec::new(),
        },
    };
    let mut child = None;
    for fact in [replied, delegated, finished] {
        let input = Input::Fact {
            generation,
            thread: ThreadId::from_bits(1),
            fact: Box::new(fact),
            pace: Pace::Go,
        };
        let done = submit(cx, input).expect("a fact");
        child = done.state.children.first().map(|thread| thread.id);
    }
    submit(cx, Input::Command(Command::Send(vec![answer]))).expect("answered");
    let stops = UserEvent::Interrupt { thread: None };
    submit(cx, Input::Command(Command::Send(vec![stops]))).expect("to be stopped");
    let child = child.expect("a thread that was begun");
    let interrupted = Fact::Interrupted {
        used: Used::default(),
    };
    let input = Input::Fact {
        generation,
        thread: child,
        fact: Box::new(interrupted),
        pace: Pace::Go,
    };
    submit(cx, input).expect("stopped");
    let gone = Input::Command(Command::ArchiveThread(child));
    submit(cx, gone).expect("archived");
    ok(runs::requeue_all(cx, &Holder("i".to_owned()), NOW));
    ok(runs::release(cx, session, Generation(0), NOW));
    submit(
        cx,
        Input::Command(Command::Send(vec![
            UserEvent::Interrupt { thread: None },
            outcome(1),
            UserEvent::Interrupt { thread: None },
        ])),
    )
    .expect("stopped");
    let change = Update {
        title: Patch::Value("t".to_owned()),
        ..Update::default()
    };
    submit(cx, Input::Command(Command::Update(Box::new(change)))).expect("updated");
}
