//! `claude`: the turns of the real program in a real sandbox, against the scripted model.

use harness::Preview;
use serde_json::{Value, json};
use session::policy::ToolRule;

use crate::plane::At;
use crate::real::{TRANSCRIPTS, Victim, World, bash, confirmed, until};

#[tokio::test]
async fn a_plain_turn_of_claude_is_what_one_of_native_is() {
    let mut world = World::new(&[], &json!([{"text": "hello there", "chunks": 4}])).await;
    let order = [
        "span.model_request_start",
        "agent.message",
        "span.model_request_end",
        "session.thread_status_idle",
        "session.usage",
        "session.status_idle",
    ];
    let kinds = world.plane.kinds();
    assert_eq!(kinds[kinds.len() - order.len()..], order);
    let previews = world.plane.previews();
    let said = previews.iter().filter_map(|preview| match preview {
        Preview::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    assert_eq!(said.collect::<String>(), "hello there");
    let before = world.process();
    // The same process goes on.
    let from = world.plane.kinds().len();
    world.turn(&json!([{"text": "again"}])).await;
    assert_eq!(world.since(from).last(), Some(&"session.status_idle"));
    let said = |asked: &Value| -> Vec<String> {
        let messages = asked["messages"].as_array().unwrap().iter();
        let messages = messages.filter(|message| message["role"] == "assistant");
        let said =
            messages.map(|message| message["content"][0]["text"].as_str().unwrap().to_owned());
        said.collect()
    };
    assert_eq!(said(&world.last_request()), ["hello there"]);
    assert_eq!(world.scripted.requests().len(), 2);
    assert_eq!(world.process(), before);
    // One that died is replaced by one that knows as much.
    world.lose(Victim::Process).await;
    world.turn(&json!([{"text": "once more"}])).await;
    assert_ne!(world.process(), before);
    assert_eq!(said(&world.last_request()), ["hello there", "again"]);
    assert!(world.rests());
}

#[tokio::test]
async fn calls_of_claude_are_decided_before_they_run() {
    let rules = [
        ("bash", ToolRule::Allow),
        ("read", ToolRule::Allow),
        ("write", ToolRule::Ask),
        ("weather", ToolRule::Custom),
    ];
    let world = World::new(
        &rules,
        &json!([bash("echo $((6 * 7)); exit 3"), {"text": "forty-two it is"}]),
    )
    .await;
    let (said, failed) = world.results().pop().unwrap();
    assert!(said.contains("42") && failed, "{said}");
    assert!(world.rests());

    beside_one_another(&world).await;
    asked_for(&world).await;
    a_tool_of_the_clients(&world).await;
    let breaks = world.scripted.stats().prefix_breaks;
    assert!(breaks.is_empty(), "{breaks:?}");
}

/// Calls of one reply, one after another.
async fn beside_one_another(world: &World) {
    world
        .turn(&json!([
            {"tools": [
                {"name": "Bash", "input": {"command": "echo one > f"}},
                {"name": "Bash", "input": {"command": "cat f"}},
                {"name": "Read", "input": {"file_path": "/workspace/f"}},
            ]},
            {"text": "both"},
        ]))
        .await;
    let results = world.results();
    let [.., first, second, third] = results.as_slice() else {
        panic!("{results:?}")
    };
    assert!(
        !first.1 && second.0.contains("one") && third.0.contains("one"),
        "{results:?}"
    );
}

/// Asks of one reply are one pause; one is let, one is not.
async fn asked_for(world: &World) {
    let write = |name: &str| json!({"name": "Write", "input": {"file_path": format!("/workspace/{name}"), "content": "x"}});
    world
        .turn(&json!([{"tools": [write("yes"), write("no")]}, {"text": "written"}]))
        .await;
    assert!(world.rests());
    let asked = world.asked();
    assert_eq!(asked.len(), 2);
    let step = world.plane.send(vec![
        confirmed(asked[0], None),
        confirmed(asked[1], Some("not that one")),
    ]);
    let requests = world.scripted.requests().len();
    world.run(step).await;
    let results = world.results();
    assert_eq!(
        results.iter().filter(|(_, failed)| *failed).count(),
        2,
        "{results:?}"
    );
    assert_eq!(world.scripted.requests().len(), requests + 1);
    let told = world.last_request().to_string();
    assert!(told.contains("not that one"), "{told}");
}

async fn a_tool_of_the_clients(world: &World) {
    world
        .turn(&json!([{"tool": "weather", "input": {"city": "Oslo"}}, {"text": "sunny it is"}]))
        .await;
    let asked = world.asked();
    assert_eq!(asked.len(), 1);
    world.run(world.answer("it is sunny")).await;
    assert!(world.last_request().to_string().contains("it is sunny"));
    assert!(world.rests());
}

#[tokio::test]
async fn a_claude_that_died_is_revived_from_its_own_transcript_unless_that_differs_from_the_log() {
    let rules = [("bash", ToolRule::Allow)];
    let mut world = World::new(&rules, &json!([{"text": "begun"}])).await;
    world.remembers("begun").await;
    world.lose(Victim::Process).await;
    world
        .turn(&json!([bash("echo one"), {"text": "two"}]))
        .await;
    assert_eq!(world.plane.placed_so_far(), ["started", "revived"]);
    // Somebody inside changed what it remembers.
    world.lose(Victim::Process).await;
    world
        .bash(&format!("sed -i s/begun/forged/g {TRANSCRIPTS}"))
        .await;
    world.turn(&json!([{"text": "as it was"}])).await;
    assert_eq!(world.plane.placed_so_far().last(), Some(&"rebuilt"));
    let asked = world.last_request().to_string();
    assert!(
        asked.contains("begun") && !asked.contains("forged"),
        "{asked}"
    );
    // Nothing is left of it.
    world.lose(Victim::Process).await;
    world
        .bash(&format!("rm -rf {}/claude", sandbox::STATE))
        .await;
    world.turn(&json!([{"text": "for the last time"}])).await;
    assert_eq!(world.plane.placed_so_far().last(), Some(&"rebuilt"));
    assert!(world.rests());
}

#[tokio::test]
async fn a_permission_given_after_its_claude_died_is_used_by_the_hand_once_and_the_next_one_knows_it()
 {
    let rules = [("bash", ToolRule::Ask)];
    let twice = json!([{"tools": [
        {"name": "Bash", "input": {"command": "echo first >> runs; cat runs"}},
        {"name": "Bash", "input": {"command": "echo second >> runs; cat runs"}},
    ]}, {"text": "both"}]);
    let mut world = World::new(&rules, &twice).await;
    assert_eq!(world.asked().len(), 2);
    world.remembers("second").await;
    world.lose(Victim::Process).await;
    let (first, second) = (world.asked()[0], world.asked()[1]);
    let answers = vec![
        confirmed(first, None),
        confirmed(second, Some("not that one")),
    ];
    // It has run before there is another claude.
    world.plane.hold(At::Result);
    let step = world.plane.send(answers);
    let looking = async {
        until(|| world.plane.is_holding()).await;
        assert!(world.processes().is_empty());
        world.plane.go_on();
    };
    tokio::join!(world.run(step), looking);
    assert!(world.rests());
    let results = world.results();
    let ran = results.iter().filter(|(_, failed)| !failed);
    assert_eq!(
        ran.map(|(said, _)| said.as_str()).collect::<Vec<_>>(),
        ["first"]
    );
    assert_eq!(world.plane.placed_so_far(), ["started", "revived"]);
    let asked = world.last_request().to_string();
    assert!(asked.contains("not that one"), "{asked}");
    let requests = world.scripted.requests().len();
    assert_eq!(requests, 2, "the model is not asked for it again");
}
