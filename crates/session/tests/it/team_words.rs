//! What a coordinator's model is told of its threads, word for word where it decides on it.

use contract::content::Block;
use contract::event::Body;
use contract::ids::ThreadId;
use session::input::ReplyEnd;
use session::{Command, Decision, Fact, Input, Order, Remedy, UserEvent};

use crate::team_scenes::{brought_to, order};
use crate::team_world::Team;
use crate::world::{INTERRUPT, interrupted, used};

fn words(content: &[Block]) -> String {
    let text = |block: &Block| match block {
        Block::Text { text } => text.clone(),
        other => panic!("{other:?}"),
    };
    content.iter().map(text).collect()
}

/// The coordinator's model makes a call of its team; what it is told.
fn told(team: &mut Team, tool: &str, order: Order) -> (String, bool) {
    let lead = team.state.primary.id;
    team.says(lead, &[tool]);
    let call = team.running(lead);
    let done = team.report(lead, Fact::Delegated { call, order });
    let result = done.events.iter().find_map(|p| match &p.event.body {
        Body::AgentToolResult {
            tool_use_id,
            content,
            is_error,
        } if *tool_use_id == call => Some((words(content), *is_error)),
        _ => None,
    });
    result.expect("a result")
}

fn roster() -> Order {
    Order::List {
        roster: "Agents: coder".to_owned(),
    }
}

/// What the coordinator hears in this decision, or will hear.
fn heard(team: &Team, decision: &Decision) -> String {
    let lead = team.state.primary.id;
    let said = |body: &Body| match body {
        Body::ThreadMessageReceived { content, .. } => Some(words(content)),
        _ => None,
    };
    let placed = decision.events.iter().filter(|p| p.thread == lead);
    let waits = decision.queued.iter().filter(|w| w.thread == lead);
    let waits = waits.map(|w| w.event.clone().body());
    let bodies = placed.map(|p| p.event.body.clone()).chain(waits);
    bodies.filter_map(|body| said(&body)).collect()
}

#[test]
fn the_list_says_what_each_thread_does() {
    for (situation, does) in [
        ("works / works", "at work"),
        ("works / compacts", "at work"),
        ("works / retries", "at work"),
        ("works / rests", "idle"),
        ("works / asks", "waits for the user"),
        ("works / paused", "stopped by the budget"),
    ] {
        let mut team = brought_to(situation, 3);
        let child = team.child();
        let (text, is_error) = told(&mut team, "list_agents", roster());
        let expected = format!("Agents: coder\n\nThreads:\n- {child} (coder): {does}");
        assert_eq!((text, is_error), (expected, false), "{situation}");
    }
    let mut alone = Team::new(3, None);
    alone.claim();
    let (text, _) = told(&mut alone, "list_agents", roster());
    assert_eq!(text, "Agents: coder\n\nThreads: none");
}

#[test]
fn a_task_says_where_it_went_and_what_is_not_sent_says_why() {
    let mut team = brought_to("works / rests", 3);
    let (lead, child) = (team.state.primary.id, team.child());
    let tell = |thread| Order::Tell {
        thread,
        content: vec![Block::text("more")],
    };
    let (text, is_error) = told(&mut team, "send_to_agent", tell(child));
    assert!(text.starts_with(&format!("Sent to coder (thread {child}).")) && !is_error);
    let (text, is_error) = told(&mut team, "send_to_agent", tell(lead));
    assert!(text.contains(&format!("no thread {lead}")) && text.contains("that is your own"));
    assert!(
        is_error && team.fold.lines[&lead].owed == 0,
        "nothing is sent to oneself"
    );
    let nobody = ThreadId::from_bits(1);
    let (text, is_error) = told(&mut team, "send_to_agent", tell(nobody));
    assert!(text.contains("it has ended, or never began") && is_error);
    let begun = team.state.begun;
    let (text, is_error) = told(&mut team, "send_to_agent", order("tester"));
    assert!(text.starts_with("Sent to tester") && !is_error);
    assert_eq!(
        (begun, team.state.begun),
        (1, 2),
        "each thread has a number"
    );
    assert_eq!(team.state.children[1].agent_name, "tester");
}

#[test]
fn an_answer_without_words_says_why_there_are_none() {
    let reply = |team: &mut Team, text: Option<&str>, end: ReplyEnd| {
        let child = team.child();
        let mut reply = team.reply(child, text, &[]);
        if let Fact::Replied { end: ended, .. } = &mut reply {
            *ended = end;
        }
        let done = team.report(child, reply);
        heard(team, &done)
    };
    let mut team = brought_to("works / works", 3);
    assert_eq!(
        reply(&mut team, Some("forty-two"), ReplyEnd::Complete),
        "forty-two"
    );
    let mut team = brought_to("works / works", 3);
    let wordless = reply(&mut team, None, ReplyEnd::Complete);
    assert_eq!(wordless, "[The agent ended its turn without a message.]");
    let mut team = brought_to("works / works", 3);
    let refused = reply(&mut team, Some("no"), ReplyEnd::Refused(None));
    assert_eq!(refused, "[The agent's model refused to go on.]");
    let mut team = brought_to("works / works", 3);
    let (child, failing) = (team.child(), team.failing(team.child(), Remedy::None));
    let failed = team.report(child, failing);
    assert!(
        heard(&team, &failed).starts_with("[The agent's turn failed and its thread has ended.")
    );
    let mut team = brought_to("rests / works", 3);
    let child = team.child();
    team.send(vec![UserEvent::Interrupt {
        thread: Some(child),
    }])
    .unwrap();
    let stopped = team.report(child, interrupted());
    assert_eq!(
        heard(&team, &stopped),
        "[The user interrupted the agent before it was done.]"
    );
    for situation in ["rests / asks", "rests / paused"] {
        let mut team = brought_to(situation, 3);
        let archive = Input::Command(Command::ArchiveThread(team.child()));
        let archived = team.submit(archive).unwrap();
        assert_eq!(
            heard(&team, &archived),
            "[The user archived this thread before it was done.]"
        );
    }
    let mut team = brought_to("rests / rests", 3);
    let archive = Input::Command(Command::ArchiveThread(team.child()));
    let archived = team.submit(archive).unwrap();
    assert_eq!(heard(&team, &archived), "", "it was not asked anything");
}

#[test]
fn what_the_client_stopped_wakes_its_coordinator_only_for_an_outcome() {
    for (situation, wakes) in [("rests / works", false), ("awaits / works", true)] {
        let mut team = brought_to(situation, 3);
        let (lead, child) = (team.state.primary.id, team.child());
        team.send(vec![UserEvent::Interrupt {
            thread: Some(child),
        }])
        .unwrap();
        team.report(child, interrupted());
        assert_eq!(
            team.state.thread(lead).unwrap().is_open(),
            wakes,
            "{situation}"
        );
    }
    for (situation, wakes) in [("rests / asks", false), ("awaits / asks", true)] {
        let mut team = brought_to(situation, 3);
        let archive = Input::Command(Command::ArchiveThread(team.child()));
        team.submit(archive).unwrap();
        assert_eq!(team.state.primary.is_open(), wakes, "{situation}");
    }
    let mut team = brought_to("awaits / works", 3);
    let child = team.child();
    team.send(vec![INTERRUPT]).unwrap();
    team.report(child, interrupted());
    assert!(!team.state.primary.is_open() && team.state.outcome.is_none());
}

#[test]
fn only_advice_forgives_lost_runners() {
    for is_error in [false, true] {
        let mut team = brought_to("works / rests", 3);
        let lead = team.state.primary.id;
        team.says(lead, &["ask_advisor"]);
        team.claim();
        assert_eq!(team.state.primary.effort.recoveries, 1);
        let call = team.running(lead);
        let before = team.state.totals.input;
        let advised = Fact::Advised {
            call,
            content: vec![Block::text("mind the gap")],
            is_error,
            used: used(1),
        };
        let done = team.report(lead, advised);
        assert_eq!(team.state.primary.effort.recoveries, u32::from(is_error));
        assert_eq!(team.state.totals.input, before + 10);
        assert_eq!(done.ended[0].totals.input, 10, "its thread has used it");
    }
}

#[test]
fn the_running_time_of_a_thread_outlives_it() {
    let mut team = brought_to("rests / works", 3);
    let child = team.child();
    let ran = |team: &Team| {
        team.state
            .threads_active_seconds(contract::time::Micros(team.now))
    };
    let before = ran(&team);
    team.now += 5_000_000;
    team.says(child, &[]);
    let lead = team.state.primary.id;
    team.says(lead, &[]);
    let after = ran(&team);
    assert!((after - before - 5.0).abs() < 0.001, "{before} {after}");
    team.submit(Input::Command(Command::ArchiveThread(child)))
        .unwrap();
    assert!((ran(&team) - after).abs() < 0.001);
}

#[test]
fn a_twenty_sixth_thread_is_refused_in_words() {
    let mut team = brought_to("works / rests", 3);
    for n in 1..session::limits::THREADS {
        let (text, is_error) = told(&mut team, "send_to_agent", order("coder"));
        assert!(!is_error, "{n}: {text}");
    }
    let (text, is_error) = told(&mut team, "send_to_agent", order("coder"));
    assert!(text.starts_with("Not sent: this session has 25 threads already") && is_error);
}

#[test]
fn what_a_thread_waits_for_is_served_under_these_names() {
    use session::state::WaitsOn;
    let names = [
        WaitsOn::Client,
        WaitsOn::Budget,
        WaitsOn::Retry,
        WaitsOn::Threads,
    ];
    let names = names.map(WaitsOn::name);
    assert_eq!(names, ["client", "budget", "retry", "thread"]);
}
