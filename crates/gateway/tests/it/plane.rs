//! Confirmations, budgets, updates and what `/v1/x` shows of a session, over the wire.

use contract::ids::EventId;
use serde_json::{Value, json};
use session::ProposedCall;
use store::clock;
use tokio::task::JoinSet;

use crate::support::{Answer, Server, agent, environment};

fn call(name: &str) -> ProposedCall {
    ProposedCall {
        id: EventId::from_bits(clock::id_bits(clock::now())),
        name: name.to_owned(),
        input: serde_json::value::to_raw_value(&json!({"command": "ls"})).unwrap(),
        judgement: None,
    }
}

/// An idle session of an agent whose toolset has that policy.
async fn with_policy(server: &Server, policy: &str) -> String {
    let mut definition = agent();
    definition["tools"][0]["default_config"] = json!({"permission_policy": {"type": policy}});
    session_of(server, definition, json!({})).await
}

async fn session_of(server: &Server, definition: Value, more: Value) -> String {
    let agent = server.create("/v1/agents", definition).await;
    let environment = server.create("/v1/environments", environment()).await;
    let mut body = json!({"agent": agent, "environment_id": environment});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    server.create("/v1/sessions", body).await
}

fn priced() -> Value {
    let mut definition = agent();
    definition["model"] = json!("priced");
    definition
}

fn cents(amount: &str) -> Value {
    json!({"type": "limit", "max_list_cost": {"amount": amount, "currency": "USD"}})
}

async fn send(server: &Server, session: &str, events: Value) -> Answer {
    let path = format!("/v1/sessions/{session}/events");
    server.post(&path, json!({"events": events})).await
}

/// A session that waits for the confirmation of these calls.
async fn waiting(server: &Server, calls: &[ProposedCall]) -> String {
    let id = with_policy(server, "always_ask").await;
    server.say(&id, "go").await;
    let claimed = server.claim(&id).await;
    server.reply(&claimed, None, calls.to_vec()).await;
    id
}

#[tokio::test]
async fn a_call_that_must_be_confirmed_is_asked_about_and_the_answer_resumes() {
    let server = Server::start().await;
    let asked = call("bash");
    let id = waiting(&server, std::slice::from_ref(&asked)).await;
    let log = server.log(&id).await;
    let tool_use = log.iter().find(|e| e["type"] == "agent.tool_use").unwrap();
    assert_eq!(tool_use["evaluated_permission"], "ask");
    assert_eq!(tool_use["evaluation"], json!({"type": "always_ask"}));
    let idle = log.last().unwrap();
    let stop = json!({"type": "requires_action", "event_ids": [asked.id]});
    assert_eq!(idle["stop_reason"], stop);
    let deny = json!({"type": "user.tool_confirmation", "tool_use_id": asked.id, "result": "deny",
                      "deny_message": "not on a Sunday"});
    let answer = send(&server, &id, json!([deny])).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["data"][0]["processed_at"], Value::Null);
    let log = server.log(&id).await;
    let kinds = log
        .iter()
        .rev()
        .take(4)
        .map(|e| e["type"].as_str().unwrap());
    let recorded = [
        "agent.tool_result",
        "session.thread_status_running",
        "session.status_running",
        "user.tool_confirmation",
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), recorded);
    let text = &log.last().unwrap()["content"][0]["text"];
    let told = "Permission to use bash has been rejected. Rejection message: not on a Sunday";
    assert_eq!(text, told);
}

#[tokio::test]
async fn a_confirmation_that_fits_no_call_is_refused_with_its_place() {
    let server = Server::start().await;
    let (asked, custom) = (call("bash"), call("ask_me"));
    let id = waiting(&server, &[asked.clone(), custom.clone()]).await;
    let confirm = |call: &dyn std::fmt::Display| json!({"type": "user.tool_confirmation", "tool_use_id": call.to_string(), "result": "allow"});
    let unknown = "sevt_1111111111111111111111";
    for (events, text) in [
        (
            json!([confirm(&unknown)]),
            "does not match any `agent.tool_use` event in this session",
        ),
        (
            json!([confirm(&custom.id)]),
            "does not match any `agent.tool_use` event in this session",
        ),
        (
            json!([confirm(&asked.id), confirm(&asked.id)]),
            "has already been resolved",
        ),
    ] {
        let answer = send(&server, &id, events).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.message().contains(text), "{}", answer.message());
    }
    let other = waiting(&server, &[call("bash")]).await;
    let foreign = send(&server, &other, json!([confirm(&asked.id)])).await;
    assert!(
        foreign.message().contains("does not match any"),
        "a call of another session"
    );
    let partly = send(&server, &id, json!([confirm(&asked.id)])).await;
    assert_eq!(partly.status, 200, "{}", partly.body);
    let idle = server.log(&id).await.pop().unwrap();
    assert_eq!(
        idle["stop_reason"]["event_ids"],
        json!([custom.id]),
        "the rest is asked again"
    );
}

#[tokio::test]
async fn of_a_hundred_conflicting_confirmations_one_wins_and_the_others_are_refused() {
    let server = std::sync::Arc::new(Server::start().await);
    let asked = call("bash");
    let id = waiting(&server, std::slice::from_ref(&asked)).await;
    let mut tasks = JoinSet::new();
    for n in 0..100 {
        let (server, id, call) = (server.clone(), id.clone(), asked.id);
        let result = if n % 2 == 0 { "allow" } else { "deny" };
        tasks.spawn(async move {
            let event =
                json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": result});
            send(&server, &id, json!([event])).await
        });
    }
    let (mut won, mut lost) = (0, 0);
    while let Some(answer) = tasks.join_next().await {
        let answer = answer.unwrap();
        if answer.status == 200 {
            won += 1;
        } else {
            assert_eq!(answer.status, 400, "{}", answer.body);
            assert!(answer.message().contains("has already been resolved"));
            lost += 1;
        }
    }
    assert_eq!((won, lost), (1, 99));
}

#[tokio::test]
async fn a_budget_needs_a_price_can_be_raised_or_removed_and_never_added() {
    let server = Server::start().await;
    let mut unpriced = agent();
    unpriced["model"] = json!("house-model");
    let made = server.create("/v1/agents", unpriced).await;
    let environment = server.create("/v1/environments", environment()).await;
    let body = json!({"agent": made, "environment_id": environment, "budget": cents("100")});
    let refused = server.post("/v1/sessions", body).await;
    assert_eq!(
        (refused.status, refused.code()),
        (400, Some("model_not_budgetable"))
    );
    let plain = session_of(&server, priced(), json!({})).await;
    let path = |id: &str| format!("/v1/sessions/{id}");
    let refused = server
        .post(&path(&plain), json!({"budget": cents("5")}))
        .await;
    assert_eq!(
        (refused.status, refused.code()),
        (400, Some("budget_create_only"))
    );
    let id = session_of(&server, priced(), json!({"budget": cents("100")})).await;
    assert_eq!(server.get(&path(&id)).await.body["budget"], cents("100"));
    let raised = server
        .post(&path(&id), json!({"budget": cents("200")}))
        .await;
    assert_eq!(raised.body["budget"], cents("200"), "{}", raised.body);
    let removed = server.post(&path(&id), json!({"budget": null})).await;
    assert_eq!(removed.body["budget"], Value::Null);
    let again = server
        .post(&path(&id), json!({"budget": cents("300")}))
        .await;
    assert_eq!(again.code(), Some("budget_create_only"));
    let updates = server.log(&id).await;
    let updates = updates.iter().map(|e| e.get("budget").cloned());
    let expected = [Some(cents("200")), Some(Value::Null)];
    assert_eq!(updates.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn tools_can_be_changed_while_no_turn_is_open() {
    let server = Server::start().await;
    let id = server.session().await;
    let path = format!("/v1/sessions/{id}");
    let tool = json!({"type": "custom", "name": "lookup", "description": "d", "input_schema": {"type": "object"}});
    let changed = server
        .post(&path, json!({"agent": {"tools": [tool]}, "title": "t"}))
        .await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(changed.body["agent"]["tools"], json!([tool]));
    let event = server.log(&id).await.pop().unwrap();
    assert_eq!(event["type"], "session.updated");
    assert_eq!(
        (&event["agent"], &event["title"]),
        (&changed.body["agent"], &json!("t"))
    );
    assert!(
        event.get("budget").is_none() && event.get("metadata").is_none(),
        "{event}"
    );
    let same = server
        .post(&path, json!({"agent": {"tools": [tool]}}))
        .await;
    assert_eq!(same.status, 200);
    assert_eq!(
        server.log(&id).await.len(),
        1,
        "what changes nothing says nothing"
    );
    for (change, place) in [
        (json!({"tools": [{"type": "moon"}]}), "agent.tools[0].type"),
        (json!({"tools": [tool, tool]}), "agent.tools[1]"),
        (
            json!({"mcp_servers": [{"type": "url", "name": "s", "url": "https://x.test"}]}),
            "agent.mcp_servers",
        ),
    ] {
        let refused = server.post(&path, json!({"agent": change})).await;
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert!(refused.message().contains(place), "{}", refused.message());
    }
    server.say(&id, "go").await;
    let refused = server.post(&path, json!({"agent": {"tools": []}})).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused
            .message()
            .starts_with("Cannot update session while it is running.")
    );
}

#[tokio::test]
async fn a_model_that_takes_no_system_message_is_not_sent_one() {
    let server = Server::start().await;
    let mut definition = agent();
    definition["model"] = json!("deaf-1");
    let id = session_of(&server, definition, json!({})).await;
    let text = json!([{"type": "text", "text": "t"}]);
    let events = json!([{"type": "user.message", "content": text}, {"type": "system.message", "content": text}]);
    let refused = send(&server, &id, events).await;
    let code = "model_does_not_support_mid_conversation_system";
    assert_eq!((refused.status, refused.code()), (400, Some(code)));
    assert_eq!(server.log(&id).await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_key_sees_the_timeline_of_its_own_sessions_and_an_operator_of_all() {
    let server = Server::start().await;
    let id = server.session().await;
    server.turn(&id, "hello").await;
    let path = format!("/v1/x/sessions/{id}/timeline");
    let timeline = server.get(&path).await;
    assert_eq!(timeline.status, 200, "{}", timeline.body);
    let first = &timeline.body["data"][0];
    assert_eq!(
        (&first["type"], &first["spent"]),
        (&json!("timeline_entry"), &json!("queue"))
    );
    assert_eq!(first["trace_id"].as_str().unwrap().len(), 32);
    let workspace = server
        .operate(axum::http::Method::POST, "/v1/x/workspaces")
        .body(json!({"name": "other"}).to_string())
        .send()
        .await;
    let other = json!({"name": "o", "workspace_id": workspace.body["id"]});
    let foreign = server.new_key(other).await;
    let seen = server
        .bare(axum::http::Method::GET, &path)
        .key(&foreign)
        .send()
        .await;
    assert_eq!(seen.status, 404, "{}", seen.body);
    let operator = server
        .new_key(json!({"name": "op", "operator": true}))
        .await;
    let seen = server
        .bare(axum::http::Method::GET, &path)
        .key(&operator)
        .send()
        .await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    let none = server.get(&format!("/v1/x/sessions/{id}/binding")).await;
    assert_eq!(none.status, 404, "no runner has bound it");
    let usage = server.get("/v1/x/usage").await;
    assert_eq!(usage.body["data"][0]["input_tokens"], 5, "{}", usage.body);
    let refused = server
        .ask(axum::http::Method::POST, "/v1/x/backup")
        .body("{}")
        .send()
        .await;
    assert_eq!(refused.status, 403, "only an operator asks for copies");
}

#[tokio::test]
async fn why_names_what_a_session_waits_for_and_the_request_that_unblocks_it() {
    let server = Server::start().await;
    let (asked, custom) = (call("bash"), call("ask_me"));
    let id = waiting(&server, &[asked.clone(), custom.clone()]).await;
    let path = format!("/v1/x/sessions/{id}/why");
    let why = server.get(&path).await;
    assert_eq!(why.status, 200, "{}", why.body);
    assert_eq!(
        (&why.body["status"], &why.body["phase"]),
        (&json!("idle"), &json!("blocked"))
    );
    let calls = json!([{"id": asked.id, "tool": "bash"}, {"id": custom.id, "tool": "ask_me"}]);
    assert_eq!(why.body["calls"], calls);
    let request = &why.body["unblock"];
    let unblocked = server
        .post(request["path"].as_str().unwrap(), request["body"].clone())
        .await;
    assert_eq!(
        unblocked.status, 200,
        "it is what it says: {}",
        unblocked.body
    );
    let why = server.get(&path).await;
    assert_eq!(
        (&why.body["status"], &why.body["calls"]),
        (&json!("running"), &json!([]))
    );
    let unknown = server
        .get("/v1/x/sessions/sesn_1111111111111111111111/why")
        .await;
    assert_eq!(unknown.status, 404);
}
