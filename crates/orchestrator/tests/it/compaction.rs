//! A transcript that outgrows its model: condensed once, then a stable prefix again, with what the user and
//! the application said still in it.

use contract::content::Block;
use model::Dialect;
use serde_json::{Value, json};
use session::UserEvent;

use crate::support::{World, bash, message, of, said, script};

/// The first message of a request, as text.
fn opening(body: &Value) -> &str {
    body["messages"][0]["content"][0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn a_crowded_transcript_is_condensed_before_the_next_request() {
    let world = World::with_model("tiny").await;
    let server = world.server(|_| {});
    let filler = "f".repeat(4_000);
    let steps = json!([bash(&format!("echo {filler}")), {"text": "after it"}]);
    let id = server
        .session("always_allow", &script("the task itself", &steps))
        .await;
    let log = server.log(id).await;
    assert_eq!(
        of(&log, "agent.thread_context_compacted").len(),
        1,
        "{log:?}"
    );
    assert_eq!(said(&log), ["after it"]);
    assert_eq!(of(&log, "span.model_request_end").len(), 3);
    let requests = world.scripted.requests();
    let cached = requests[1].prefix_ratio.unwrap();
    assert!(
        cached > 0.4,
        "the request for the summary reads the cache: {cached}"
    );
    let last = &requests.last().unwrap().body;
    assert_eq!(last["messages"].as_array().unwrap().len(), 1);
    let text = opening(last);
    assert!(
        text.contains("The conversation so far, in short."),
        "{text}"
    );
    assert!(text.contains("Nothing is open."), "{text}");
    assert!(text.contains("[user]\nthe task itself SCRIPT:"), "{text}");
    assert!(!text.contains("<summary>"));
    let state = server.state(id).await;
    assert_eq!(
        state.totals.cost.0,
        server.cost_of(&log),
        "compactions are paid for"
    );
}

#[tokio::test]
async fn after_a_compaction_the_prefix_is_stable_again_also_across_restarts() {
    let world = World::with_model("small").await;
    let first = world.server(|_| {});
    let filler = "f".repeat(9_000);
    let steps = json!([bash(&format!("echo {filler}")), {"text": "one"}]);
    let id = first
        .session("always_allow", &script("remember me", &steps))
        .await;
    let log = first.log(id).await;
    assert_eq!(
        of(&log, "agent.thread_context_compacted").len(),
        1,
        "{log:?}"
    );
    let mut openings = Vec::new();
    for n in 0..2 {
        first
            .send(
                id,
                vec![message(&script(
                    &format!("again {n}"),
                    &json!([{"text": "k"}]),
                ))],
            )
            .await;
        first.log(id).await;
        openings.push(opening(&world.scripted.requests().last().unwrap().body).to_owned());
    }
    first.crash();
    let second = world.server(|_| {});
    second
        .send(
            id,
            vec![message(&script("at last", &json!([{"text": "k"}])))],
        )
        .await;
    let log = second.log(id).await;
    assert_eq!(of(&log, "agent.thread_context_compacted").len(), 1);
    let requests = world.scripted.requests();
    openings.push(opening(&requests.last().unwrap().body).to_owned());
    assert!(openings.iter().all(|o| *o == openings[0]), "{openings:?}");
    let bodies = requests
        .iter()
        .rev()
        .take(3)
        .map(|r| r.body["messages"].to_string());
    assert!(
        bodies.into_iter().all(|b| !b.contains(&filler)),
        "the old transcript is not sent"
    );
    let ratio = requests.last().unwrap().prefix_ratio.unwrap();
    assert!(ratio > 0.5, "{ratio}");
}

#[tokio::test]
async fn a_request_that_does_not_fit_is_condensed_and_asked_again() {
    for dialect in Dialect::ALL {
        let world = World::speaking(dialect).await;
        let server = world.server(|_| {});
        let steps = json!([bash("echo one"), {"too_long": true}, {"text": "it fits"}]);
        let text = script("overflow", &steps);
        let id = server.session("always_allow", &text).await;
        let log = server.log(id).await;
        let condensed = of(&log, "agent.thread_context_compacted");
        assert_eq!(condensed.len(), 1, "{log:?}");
        assert_eq!(said(&log), ["it fits"]);
        assert!(of(&log, "session.error").is_empty());
    }
}

#[tokio::test]
async fn a_transcript_that_does_not_fit_even_for_its_summary_is_cut() {
    let world = World::with_model("small").await;
    let server = world.server(|_| {});
    let steps = json!([bash("print 40000"), {"text": "done"}, {"window": 3_500}]);
    let id = server
        .session("always_allow", &script("cut me", &steps))
        .await;
    let log = server.log(id).await;
    assert_eq!(said(&log), ["done"], "{log:?}");
    assert_eq!(of(&log, "agent.thread_context_compacted").len(), 1);
    let requests = world.scripted.requests();
    let cut = requests
        .iter()
        .find(|r| r.body.to_string().contains("bytes were cut"));
    let cut = &cut
        .expect("a summary of the cut transcript was asked for")
        .body;
    let text = opening(cut);
    assert!(
        text.contains("[user]\ncut me"),
        "what the user said is whole: {text}"
    );
    assert!(cut["tools"].is_null() && cut["system"].is_null(), "{cut}");
}

#[tokio::test]
async fn a_model_that_can_never_be_asked_ends_the_turn() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([{"too_long": true, "times": 0}, {"text": "never"}]);
    let id = server
        .session("always_allow", &script("never fits", &steps))
        .await;
    let log = server.log(id).await;
    let errors = of(&log, "session.error");
    assert_eq!(errors.len(), 1, "{log:?}");
    assert_eq!(errors[0]["error"]["type"], "compaction_limit_reached_error");
    assert!(said(&log).is_empty());
}

#[tokio::test]
async fn system_messages_reach_the_model_and_outlive_a_compaction() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([{"text": "one"}, {"too_long": true}, {"text": "two"}]);
    let id = server
        .session("always_allow", &script("orders", &steps))
        .await;
    server.log(id).await;
    let system = UserEvent::System {
        content: vec![Block::text("Answer in French.")],
    };
    server.send(id, vec![message("go on"), system]).await;
    let log = server.log(id).await;
    assert_eq!(said(&log), ["one", "two"]);
    assert_eq!(of(&log, "agent.thread_context_compacted").len(), 1);
    let requests = world.scripted.requests();
    for request in [&requests[1], requests.last().unwrap()] {
        let messages = request.body["messages"].as_array().unwrap();
        let last = messages.last().unwrap();
        assert_eq!(last["role"], "system", "{messages:?}");
        assert_eq!(last["content"][0]["text"], "Answer in French.");
    }
}
