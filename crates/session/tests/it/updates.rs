//! The rules of updates, of the end of a session, and of what endpoints are told, one example each.

use contract::event::Body;
use contract::patch::Patch;
use session::input::AgentChange;
use session::policy::{ToolRule, ToolRules};
use session::{Command, Decision, Input, Phase, Refused, Status, Step, Update, UserEvent, Webhook};

use crate::world::{
    IDLE, INTERRUPT, RUNNING, World, allow, answer, executing, finished, interrupted, message, raw,
    rules, running_on, system,
};

fn update(world: &mut World, update: Update) -> Result<Decision, Refused> {
    world.submit(Input::Command(Command::Update(Box::new(update))))
}

fn title(text: &str) -> Update {
    Update {
        title: Patch::Value(text.to_owned()),
        ..Update::default()
    }
}

fn metadata(key: &str, value: Option<&str>) -> Update {
    let pair = (key.to_owned(), value.map(str::to_owned));
    Update {
        metadata: [pair].into(),
        ..Update::default()
    }
}

/// The agent with `write` allowed.
fn trusting() -> Update {
    let mut rules = rules();
    rules.0.insert("write".to_owned(), ToolRule::Allow);
    let agent = AgentChange {
        snapshot: raw("{\"tools\":1}"),
        rules,
    };
    Update {
        agent: Some(agent),
        ..Update::default()
    }
}

/// The fields of the last event, as JSON.
fn told(world: &World) -> serde_json::Value {
    let last = &world.log.last().unwrap().event.body;
    assert!(matches!(last, Body::SessionUpdated { .. }));
    serde_json::to_value(last).unwrap()
}

#[test]
fn only_what_changed_is_announced() {
    let mut world = World::new(5, Vec::new());
    update(&mut world, title("one")).unwrap();
    let expected = serde_json::json!({"type": "session.updated", "title": "one"});
    assert_eq!(told(&world), expected);
    let from = world.log.len();
    let same = update(&mut world, title("one")).unwrap();
    assert!(world.kinds_from(from).is_empty() && same.webhooks.is_empty());
    update(&mut world, metadata("k", Some("v"))).unwrap();
    update(&mut world, metadata("l", Some("w"))).unwrap();
    let expected = serde_json::json!({"type": "session.updated", "metadata": {"k": "v", "l": "w"}});
    assert_eq!(told(&world), expected, "the whole bag, not the change");
}

#[test]
fn a_title_is_cleared_by_null_and_by_nothing() {
    for clears in [Patch::Null, Patch::Value(String::new())] {
        let mut world = World::new(5, Vec::new());
        update(&mut world, title("one")).unwrap();
        let clear = Update {
            title: clears,
            ..Update::default()
        };
        update(&mut world, clear).unwrap();
        assert_eq!(world.profile.title, None);
        assert_eq!(told(&world)["title"], serde_json::Value::Null);
    }
}

#[test]
fn metadata_cleared_to_nothing_is_announced_without_the_bag() {
    let mut world = World::new(5, Vec::new());
    update(&mut world, metadata("k", Some("v"))).unwrap();
    let from = world.log.len();
    update(&mut world, metadata("k", None)).unwrap();
    assert_eq!(world.kinds_from(from), ["session.updated"]);
    assert_eq!(told(&world).get("metadata"), None);
    assert!(world.profile.metadata.is_empty());
}

#[test]
fn title_and_metadata_change_while_a_turn_runs_and_tools_do_not() {
    let mut world = running_on("go");
    update(&mut world, title("one")).unwrap();
    let refused = update(&mut world, trusting()).unwrap_err();
    assert_eq!(refused, Refused::Running { what: "update" });
    assert!(
        refused
            .to_string()
            .starts_with("Cannot update session while it is running.")
    );
    world.fail(session::Remedy::Wait { at_least: None });
    let refused = update(&mut world, trusting()).unwrap_err();
    assert_eq!(
        refused,
        Refused::Running { what: "update" },
        "nor between two tries"
    );
}

#[test]
fn other_tools_hold_from_the_next_turn_on() {
    let mut world = World::new(5, Vec::new());
    update(&mut world, trusting()).unwrap();
    assert_eq!(told(&world)["agent"], serde_json::json!({"tools": 1}));
    assert_eq!(world.agent.as_ref().unwrap().get(), "{\"tools\":1}");
    world.send(vec![message("go")]).unwrap();
    world.claim().unwrap();
    let reply = world.reply(None, &["write"]);
    executing(world.report(reply));
}

#[test]
fn tools_may_change_while_the_client_is_asked_and_its_answer_still_counts() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["write"]);
    world.report(reply);
    update(&mut world, trusting()).unwrap();
    let call = world.blocked()[0];
    world.send(vec![allow(call)]).unwrap();
    assert_eq!(executing(world.claim().unwrap()), call);
}

#[test]
fn an_archived_session_is_not_updated_and_archiving_it_again_changes_nothing() {
    let mut world = World::new(5, Vec::new());
    world.submit(Input::Command(Command::Archive)).unwrap();
    let expected = [
        "session.thread_status_terminated",
        "session.status_terminated",
    ];
    assert_eq!(world.kinds(), expected);
    assert_eq!(
        update(&mut world, title("one")).unwrap_err(),
        Refused::Archived
    );
    let again = world.submit(Input::Command(Command::Archive)).unwrap();
    assert!(again.events.is_empty() && again.webhooks.is_empty());
    assert_eq!(world.claim().unwrap_err(), Refused::NothingToRun);
    world.submit(Input::Command(Command::Delete)).unwrap();
    assert!(world.deleted);
    assert_eq!(*world.kinds().last().unwrap(), "session.deleted");
}

#[test]
fn archiving_keeps_what_waited_in_history() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["ask", "ask"]);
    world.report(reply);
    let call = world.blocked()[0];
    world.send(vec![answer(call), system("note")]).unwrap();
    let from = world.log.len();
    world.submit(Input::Command(Command::Archive)).unwrap();
    let expected = [
        "system.message",
        "session.thread_status_terminated",
        "session.status_terminated",
    ];
    assert_eq!(world.kinds_from(from), expected);
    assert_eq!(world.state.primary.phase, Phase::Idle);
    assert_eq!(world.state.status(), Status::Terminated);
}

#[test]
fn a_session_that_waits_between_two_tries_is_neither_archived_nor_deleted() {
    let mut world = running_on("go");
    world.fail(session::Remedy::Wait { at_least: None });
    for (command, what) in [(Command::Archive, "archive"), (Command::Delete, "delete")] {
        let refused = world.submit(Input::Command(command)).unwrap_err();
        assert_eq!(refused, Refused::Running { what });
    }
}

#[test]
fn sixteen_pairs_are_kept_and_a_seventeenth_refused() {
    let mut world = World::new(5, Vec::new());
    let most = session::limits::METADATA_PAIRS;
    let pairs = |n: usize| Update {
        metadata: (0..n)
            .map(|n| (format!("k{n}"), Some("v".to_owned())))
            .collect(),
        ..Update::default()
    };
    update(&mut world, pairs(most)).unwrap();
    let refused = update(&mut world, pairs(most + 1)).unwrap_err();
    assert_eq!(refused, Refused::TooManyPairs { limit: most });
    assert_eq!(world.profile.metadata.len(), most);
}

#[test]
fn each_webhook_has_its_cause() {
    let mut world = World::with_budget(5, vec![message("go")], Some(1));
    assert_eq!(world.webhooks, [Webhook::StatusRunStarted]);
    world.claim().unwrap();
    world.claim().unwrap();
    world.fail(session::Remedy::Wait { at_least: None });
    world.claim().unwrap();
    let reply = world.reply(Some("done"), &[]);
    world.report(reply);
    update(&mut world, title("one")).unwrap();
    world.submit(Input::Command(Command::Archive)).unwrap();
    world.submit(Input::Command(Command::Delete)).unwrap();
    let names = world.webhooks.iter().map(|w| w.name()).collect::<Vec<_>>();
    let expected = [
        "session.status_run_started",
        "session.status_rescheduled",
        "session.status_rescheduled",
        "session.budget_reached",
        "session.status_idled",
        "session.updated",
        "session.status_terminated",
        "session.deleted",
    ];
    assert_eq!(names, expected);
}

/// The rules of the platform's toolset with `default` for all, `bash` under `bash`, and a custom tool.
fn rules_of(default: serde_json::Value, bash: serde_json::Value) -> ToolRules {
    let tools = serde_json::json!([
        {"type": "agent_toolset_20260401", "default_config": default, "configs": [bash]},
        {"type": "custom", "name": "ask", "description": "asks", "input_schema": {"type": "object"}},
        {"type": "mcp_toolset", "mcp_server_name": "s", "configs": [], "default_config": default},
    ]);
    ToolRules::of(&serde_json::from_value::<Vec<_>>(tools).unwrap())
}

#[test]
fn an_agents_tools_become_one_rule_each() {
    let config = |enabled: bool, policy: &str| {
        serde_json::json!({
            "name": "bash", "type": "bash", "enabled": enabled, "permission_policy": {"type": policy},
        })
    };
    let cases = [
        ("always_allow", ToolRule::Allow),
        ("always_ask", ToolRule::Ask),
        ("auto", ToolRule::Auto),
    ];
    for (policy, rule) in cases {
        let default = serde_json::json!({"enabled": true, "permission_policy": {"type": policy}});
        let rules = rules_of(default, config(false, "always_allow"));
        let expected = ["edit", "glob", "grep", "read", "write"].map(|name| (name, rule));
        let expected = std::iter::once(("ask", ToolRule::Custom)).chain(expected);
        let found = rules.0.iter().map(|(name, rule)| (name.as_str(), *rule));
        assert!(found.eq(expected), "{rules:?}");
        let default = serde_json::json!({"enabled": false, "permission_policy": {"type": "auto"}});
        let rules = rules_of(default, config(true, policy));
        assert_eq!((rules.0.len(), rules.0.get("bash")), (2, Some(&rule)));
    }
}

#[test]
fn records_are_stored_under_these_names() {
    use session::RecordKind::{CallStarted, Reply, Summary};
    let names = [Reply, CallStarted, Summary].map(session::RecordKind::name);
    assert_eq!(names, ["reply", "call_started", "summary"]);
}

/// Of the types an endpoint may subscribe to (behaviours §21), those of sessions; the rest have no cause
/// in this crate.
#[test]
fn the_webhooks_of_sessions_that_still_lack_a_cause_are_these() {
    const ALL: [&str; 11] = [
        "session.status_run_started",
        "session.status_idled",
        "session.budget_reached",
        "session.status_rescheduled",
        "session.status_terminated",
        "session.thread_created",
        "session.thread_idled",
        "session.thread_terminated",
        "session.outcome_evaluation_ended",
        "session.updated",
        "session.deleted",
    ];
    const LACKING: [&str; 4] = [
        "session.thread_created",
        "session.thread_idled",
        "session.thread_terminated",
        "session.outcome_evaluation_ended",
    ];
    let caused = [
        Webhook::StatusRunStarted,
        Webhook::StatusIdled,
        Webhook::BudgetReached,
        Webhook::StatusRescheduled,
        Webhook::StatusTerminated,
        Webhook::Updated,
        Webhook::Deleted,
    ];
    let lacking = ALL
        .into_iter()
        .filter(|name| !caused.iter().any(|w| w.name() == *name));
    assert_eq!(lacking.collect::<Vec<_>>(), LACKING);
}

#[test]
fn an_interrupt_ahead_of_a_message_redirects_a_turn_that_nobody_runs_yet() {
    let mut world = World::new(5, vec![message("go")]);
    let from = world.log.len();
    let sent = world.send(vec![INTERRUPT, message("rather this")]).unwrap();
    let expected = [
        &["user.interrupt"][..],
        &IDLE[..],
        &RUNNING[..],
        &["user.message"][..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
    assert_eq!(sent.intents, [session::Intent::Run]);
    let turn = usize::try_from(world.state.primary.turn).unwrap();
    assert_eq!(
        world.log[turn - 1].event.body.kind(),
        "session.status_running"
    );
}

#[test]
fn an_interrupt_behind_a_message_of_its_batch_ends_the_turn_that_the_message_opened() {
    let mut world = World::new(5, Vec::new());
    let sent = world.send(vec![message("go"), INTERRUPT]).unwrap();
    let expected = [
        &RUNNING[..],
        &["user.message", "user.interrupt"][..],
        &IDLE[..],
    ]
    .concat();
    assert_eq!(world.kinds(), expected);
    assert!(
        sent.intents.is_empty() && world.run.is_none(),
        "nobody is called for nothing"
    );
}

#[test]
fn interrupts_jump_the_queue_and_messages_keep_their_order() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["bash"]);
    world.report(reply);
    world.send(vec![message("one"), INTERRUPT]).unwrap();
    world.send(vec![message("two"), INTERRUPT]).unwrap();
    let from = world.log.len();
    world.report(interrupted());
    let expected = [
        &["user.interrupt", "user.interrupt", "agent.tool_result"][..],
        &IDLE[..],
        &RUNNING[..],
        &["user.message", "user.message"][..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
    let texts = world.log.iter().rev().take(2).map(|p| match &p.event.body {
        Body::UserMessage { content } => format!("{content:?}").contains("two"),
        other => panic!("{}", other.kind()),
    });
    assert_eq!(texts.collect::<Vec<_>>(), [true, false]);
}

#[test]
fn an_interrupt_that_nobody_sent_is_refused() {
    let mut world = running_on("go");
    let held = world.state.generation;
    let refused = world
        .fact(held, interrupted(), session::Pace::Go)
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "an interrupt that nobody sent does not fit a session that is requesting"
    );
}

#[test]
fn an_interrupt_that_waits_when_its_runner_is_lost_ends_the_turn() {
    let mut world = running_on("go");
    world.send(vec![INTERRUPT]).unwrap();
    let from = world.log.len();
    assert_eq!(world.claim(), Ok(Step::Rest));
    let expected = [
        &["span.model_request_end"][..],
        &[
            "session.status_rescheduled",
            "session.thread_status_rescheduled",
        ][..],
        &RUNNING[..],
        &["user.interrupt"][..],
        &IDLE[..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
}

#[test]
fn what_waits_is_bounded_in_bytes() {
    let mut world = running_on("go");
    let large = "x".repeat(usize::try_from(session::limits::INBOX_BYTES).unwrap() - 10);
    world.send(vec![message(&large)]).unwrap();
    world.send(vec![message("ten bytes.")]).unwrap();
    let refused = world.send(vec![message("!")]).unwrap_err();
    let limit = session::limits::INBOX_BYTES;
    assert_eq!(refused, Refused::InboxLarge { limit });
    world.send(vec![INTERRUPT]).unwrap();
    world.report(interrupted());
    assert_eq!(
        world.state.waiting_bytes, 0,
        "what took its place waits no more"
    );
}

#[test]
fn one_message_of_any_size_finds_room_in_an_empty_inbox() {
    let mut world = running_on("go");
    let large = "x".repeat(usize::try_from(session::limits::INBOX_BYTES).unwrap() + 1);
    world.send(vec![message(&large)]).unwrap();
    world.send(vec![INTERRUPT]).unwrap();
    assert_eq!(
        world.inbox.len(),
        2,
        "and what weighs nothing is not refused for it"
    );
}

#[test]
fn needs_are_no_more_than_an_input_can_use() {
    let mut world = running_on("go");
    let send = |events: Vec<UserEvent>| Input::Command(Command::Send(events));
    let inbox = |world: &World, input: &Input| input.needs(&world.state).inbox;
    assert!(!inbox(&world, &Input::Claim), "nothing waits");
    world.send(vec![message("wait")]).unwrap();
    assert!(!inbox(&world, &send(vec![message("more")])));
    assert!(inbox(&world, &Input::Claim));
    assert!(!inbox(&world, &Input::Command(Command::Delete)));
    let reply = world.reply(None, &["bash", "bash"]);
    let first = executing(world.report(reply));
    let fact = |world: &World, call| Input::Fact {
        generation: world.state.generation,
        thread: world.state.primary.id,
        fact: Box::new(finished(call, "ran")),
        pace: session::Pace::Go,
    };
    world.send(vec![message("wait")]).unwrap();
    assert!(
        !inbox(&world, &fact(&world, first)),
        "the next call runs first"
    );
    let second = executing(world.report(finished(first, "ran")));
    assert!(inbox(&world, &fact(&world, second)));
    world.report(finished(second, "ran"));
    world.send(vec![message("wait")]).unwrap();
    world.fail(session::Remedy::Wait { at_least: None });
    assert!(!inbox(&world, &send(vec![message("more")])));
    assert!(inbox(&world, &send(vec![message("more"), INTERRUPT])));
    let profile = Input::Command(Command::Update(Box::default()));
    assert!(profile.needs(&world.state).profile);
}
