//! The policy `auto`: who judges a call, what the judge sees, and what its answer makes of the call.

use serde_json::{Value, json};

use crate::support::{World, bash, of, said, script};

/// The requests that asked for a judgement.
fn judgements(world: &World) -> Vec<Value> {
    let bodies = world.scripted.requests().into_iter().map(|r| r.body);
    let text = |body: &Value| {
        let text = body["messages"][0]["content"][0]["text"].as_str()?;
        serde_json::from_str::<Value>(text).ok()
    };
    bodies.filter_map(|body| text(&body)).collect()
}

#[tokio::test]
async fn an_allowed_call_runs_and_its_judge_is_paid() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([
        bash("echo secret-output"),
        bash("echo two"),
        {"text": "done"},
        {"on": "judge", "text": "allow", "times": 0},
    ]);
    let id = server
        .session("auto", &script("list my files", &steps))
        .await;
    let log = server.log(id).await;
    assert_eq!(said(&log), ["done"]);
    for call in of(&log, "agent.tool_use") {
        assert_eq!(call["evaluated_permission"], "allow");
        assert_eq!(call["evaluation"]["type"], "auto");
        assert_eq!(call["evaluation"]["evaluated_permission"]["type"], "allow");
    }
    assert_eq!(world.sandboxes.calls(), 2);
    // Two words more than the model's own three replies cost.
    let own = world.scripted.requests().len();
    assert_eq!((own, of(&log, "span.model_request_end").len()), (5, 3));
    let state = server.state(id).await;
    assert_eq!(state.totals.cost.0, server.cost_of(&log));
    assert!(state.totals.cost.0 > 0 && !state.totals.unpriced);

    let asked = judgements(&world);
    assert_eq!(asked.len(), 2);
    for judgement in &asked {
        let words = judgement["user_messages"][0].as_str().unwrap();
        assert!(words.starts_with("list my files"), "{judgement}");
        assert_eq!(judgement["call"]["tool"], "bash");
    }
    assert_eq!(asked[1]["call"]["input"]["command"], "echo two");
    let second = asked[1]["call"].to_string();
    assert!(
        !second.contains("secret-output"),
        "no judge sees what a tool said"
    );
}

#[tokio::test]
async fn a_denied_call_does_not_run_and_the_model_is_told() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([
        bash("echo no"),
        {"echo_results": true},
        {"on": "judge", "text": "deny"},
    ]);
    let id = server.session("auto", &script("deny", &steps)).await;
    let log = server.log(id).await;
    let call = of(&log, "agent.tool_use")[0];
    assert_eq!(call["evaluated_permission"], "deny");
    let permission = &call["evaluation"]["evaluated_permission"];
    assert_eq!(
        permission,
        &json!({"type": "deny", "reason_code": "high_risk"})
    );
    let told = "Results: (error) Permission to use bash has been denied.";
    assert_eq!(said(&log), [told]);
    assert_eq!(world.sandboxes.calls(), 0);
}

#[tokio::test]
async fn whatever_is_not_a_clear_answer_is_left_to_the_client() {
    let world = World::new().await;
    let server = world.server(|_| {});
    for (n, judge) in [
        json!({"text": "unclear"}),
        json!({"text": "allow, because the call says so"}),
        json!({"text": "ALLOW"}),
        json!({"error": 500}),
        json!({"garbage": true}),
        json!({"stop": "max_tokens", "text": "allow"}),
        json!({"tool": "bash"}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut judge = judge;
        judge["on"] = json!("judge");
        let steps = json!([bash("echo perhaps"), judge]);
        let id = server
            .session("auto", &script(&format!("ask {n}"), &steps))
            .await;
        let log = server.log(id).await;
        let call = of(&log, "agent.tool_use")[0];
        let permission = &call["evaluation"]["evaluated_permission"];
        assert_eq!(permission["reason_code"], "indeterminate", "{steps}");
        assert_eq!(call["evaluated_permission"], "ask");
        let reason = &log.last().unwrap()["stop_reason"];
        assert_eq!(reason["type"], "requires_action");
        assert_eq!(reason["event_ids"], json!([call["id"]]));
    }
    assert_eq!(world.sandboxes.calls(), 0);
}

#[tokio::test]
async fn tools_with_other_policies_are_offered_and_not_judged() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([bash("echo asked")]);
    let id = server.session("always_ask", &script("ask", &steps)).await;
    let log = server.log(id).await;
    assert_eq!(
        log.last().unwrap()["stop_reason"]["type"],
        "requires_action"
    );
    assert_eq!(world.scripted.requests().len(), 1, "nobody judged");
    let tools = world.scripted.requests()[0].body["tools"].clone();
    let names = tools.as_array().unwrap().iter().map(|t| t["name"].clone());
    let expected = ["bash", "edit", "glob", "grep", "read", "write"];
    assert_eq!(names.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn an_input_that_is_too_long_to_judge_is_the_clients() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([
        bash(&format!("echo {}", "y".repeat(20_000))),
        {"on": "judge", "text": "allow", "times": 0},
    ]);
    let id = server.session("auto", &script("long", &steps)).await;
    let log = server.log(id).await;
    assert_eq!(
        log.last().unwrap()["stop_reason"]["type"],
        "requires_action"
    );
    assert_eq!(world.scripted.requests().len(), 1);
}

#[tokio::test]
async fn a_turns_timeline_and_binding_tell_where_its_time_went() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([
        bash("echo one"),
        {"text": "done"},
        {"on": "judge", "text": "allow"},
    ]);
    let id = server.session("auto", &script("where", &steps)).await;
    server.log(id).await;
    let scope = store::sessions::Scope::Any;
    let entries = server.store.timeline(scope, id, 0, 100).await.unwrap();
    let spent = entries.iter().map(|e| e.spent.as_str()).collect::<Vec<_>>();
    assert_eq!(
        spent,
        ["queue", "model", "judge", "sandbox", "tool", "model"]
    );
    assert!(entries.iter().all(|e| e.took >= 0));
    let bound = server.store.binding(scope, id).await.unwrap().unwrap();
    let body: Value = serde_json::from_str(bound.body.get()).unwrap();
    assert_eq!(body["harness"], "native");
    assert_eq!(body["sandbox"], id.to_string());
    assert_eq!(bound.generation, server.state(id).await.generation);
}

#[tokio::test]
async fn a_judge_is_asked_in_every_dialect() {
    for dialect in model::Dialect::ALL {
        let world = World::speaking(dialect).await;
        let server = world.server(|_| {});
        let steps = json!([
            bash("echo fine"),
            {"echo_results": true},
            {"on": "judge", "text": "allow"},
        ]);
        let id = server.session("auto", &script("chat", &steps)).await;
        assert_eq!(said(&server.log(id).await), ["Results: fine"]);
    }
}

#[tokio::test]
async fn a_judge_that_is_late_leaves_the_call_to_the_client() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([bash("echo late"), {"on": "judge", "hang": true}]);
    let id = server.session("auto", &script("late", &steps)).await;
    let log = server.log(id).await;
    assert_eq!(
        log.last().unwrap()["stop_reason"]["type"],
        "requires_action"
    );
    assert_eq!(world.sandboxes.calls(), 0);
}

#[tokio::test]
async fn a_timeline_says_that_a_turn_waited_for_its_client() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([{"tool": "ask", "input": {}}, {"text": "done"}]);
    let id = server.session("asking", &script("ask me", &steps)).await;
    let log = server.log(id).await;
    let call = of(&log, "agent.custom_tool_use")[0]["id"].as_str().unwrap();
    let answer = session::UserEvent::CustomToolResult {
        call: call.parse().unwrap(),
        content: Vec::new(),
        is_error: None,
        thread: None,
    };
    server.send(id, vec![answer]).await;
    assert_eq!(said(&server.log(id).await), ["done"]);
    let scope = store::sessions::Scope::Any;
    let entries = server.store.timeline(scope, id, 0, 100).await.unwrap();
    let spent = entries.iter().map(|e| e.spent.as_str()).collect::<Vec<_>>();
    assert_eq!(spent, ["queue", "model", "wait", "queue", "model"]);
    let detail: Value = serde_json::from_str(entries[2].detail.get()).unwrap();
    assert_eq!(detail, json!({"waited_for": "client"}));
    assert!(entries[2].took >= 0);
}
