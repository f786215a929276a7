//! Sessions and their events: the object, a turn, and what is refused in which state.

use contract::ids::EventId;
use serde_json::{Value, json};
use session::ProposedCall;
use store::clock;

use crate::support::{Server, agent, environment};

#[tokio::test]
async fn a_session_has_the_shape_of_the_contract() {
    let server = Server::start().await;
    let id = server.session().await;
    let session = server.get(&format!("/v1/sessions/{id}")).await.body;
    assert_eq!(session["type"], "session");
    assert_eq!(session["status"], "idle");
    assert_eq!(session["agent"]["type"], "agent");
    assert_eq!(session["agent"]["version"], 1);
    assert!(session["agent"].get("metadata").is_none());
    for key in ["resources", "outcome_evaluations", "vault_ids"] {
        assert_eq!(session[key], json!([]), "{key}");
    }
    for key in ["title", "budget", "archived_at"] {
        assert_eq!(session.get(key), Some(&Value::Null), "{key}");
    }
    assert_eq!(session["usage"]["input_tokens"], 0);
    assert!(session["stats"]["duration_seconds"].is_number());
}

#[tokio::test]
async fn initial_events_make_a_running_session() {
    let server = Server::start().await;
    let agent = server.create("/v1/agents", agent()).await;
    let environment = server.create("/v1/environments", environment()).await;
    let text = json!([{"type": "text", "text": "hi"}]);
    let body = json!({"agent": agent, "environment_id": environment, "title": "t",
        "metadata": {"k": "v"}, "initial_events": [{"type": "user.message", "content": text}]});
    let session = server.post("/v1/sessions", body).await.body;
    assert_eq!(session["status"], "running");
    assert_eq!(
        (&session["title"], &session["metadata"]["k"]),
        (&json!("t"), &json!("v"))
    );
    let log = server.log(session["id"].as_str().unwrap()).await;
    let kinds = log
        .iter()
        .map(|e| e["type"].as_str().unwrap())
        .collect::<Vec<_>>();
    let order = [
        "session.status_running",
        "session.thread_status_running",
        "user.message",
    ];
    assert_eq!(kinds, order);
}

#[tokio::test]
async fn a_turn_shows_in_log_usage_and_threads() {
    let server = Server::start().await;
    let id = server.session().await;
    let echo = server.say(&id, "hello").await;
    assert_eq!(echo.status, 200, "{}", echo.body);
    assert_eq!(echo.body["data"][0]["type"], "user.message");
    assert_eq!(echo.body["data"][0]["processed_at"], Value::Null);
    assert_eq!(
        server.get(&format!("/v1/sessions/{id}")).await.body["status"],
        "running"
    );
    let claimed = server.claim(&id).await;
    let message = EventId::from_bits(clock::id_bits(clock::now()));
    server
        .reply(&claimed, Some((message, "hi there")), Vec::new())
        .await;

    let log = server.log(&id).await;
    let kinds = log
        .iter()
        .map(|e| e["type"].as_str().unwrap())
        .collect::<Vec<_>>();
    assert_eq!(
        kinds,
        [
            "session.status_running",
            "session.thread_status_running",
            "user.message",
            "span.model_request_start",
            "agent.message",
            "span.model_request_end",
            "session.thread_status_idle",
            "session.usage",
            "session.status_idle",
        ]
    );
    assert_eq!(
        log[2]["id"], echo.body["data"][0]["id"],
        "the echo's id is the log's"
    );
    let times = log
        .iter()
        .map(|e| e["processed_at"].as_str().unwrap())
        .collect::<Vec<_>>();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    let session = server.get(&format!("/v1/sessions/{id}")).await.body;
    assert_eq!(session["status"], "idle");
    assert_eq!(session["usage"]["output_tokens"], 7);

    let threads = server.get(&format!("/v1/sessions/{id}/threads")).await.body;
    assert_eq!(threads["next_page"], Value::Null);
    let thread = &threads["data"][0];
    assert_eq!(
        (&thread["type"], &thread["status"]),
        (&json!("session_thread"), &json!("idle"))
    );
    assert_eq!(thread["parent_thread_id"], Value::Null);
    assert_eq!(thread["usage"]["output_tokens"], 7);
    let path = format!(
        "/v1/sessions/{id}/threads/{}",
        thread["id"].as_str().unwrap()
    );
    assert_eq!(server.get(&path).await.body["id"], thread["id"]);
    let events = server.get(&format!("{path}/events")).await.body;
    assert_eq!(events["data"], json!(log));
    let archive = server.post(&format!("{path}/archive"), json!({})).await;
    assert_eq!(archive.status, 400, "{}", archive.body);
    let running = server
        .get(&format!("/v1/sessions/{id}/threads?statuses[]=running"))
        .await
        .body;
    assert_eq!(running["data"], json!([]));
}

#[tokio::test]
async fn a_blocked_session_takes_the_answer_and_nothing_else() {
    let server = Server::start().await;
    let id = server.session().await;
    server.say(&id, "go").await;
    let claimed = server.claim(&id).await;
    let call = EventId::from_bits(clock::id_bits(clock::now()));
    let input = serde_json::value::to_raw_value(&json!({"q": 1})).unwrap();
    let proposed = ProposedCall {
        id: call,
        name: "ask_me".to_owned(),
        input,
        judgement: None,
    };
    server.reply(&claimed, None, vec![proposed]).await;
    let idle = server.log(&id).await.pop().unwrap();
    assert_eq!(
        idle["stop_reason"],
        json!({"type": "requires_action", "event_ids": [call]})
    );

    let refused = server.say(&id, "and?").await;
    assert_eq!(refused.status, 400);
    assert!(
        refused
            .message()
            .starts_with("Invalid user.message event at events[0]: waiting on")
    );
    let result = json!({"type": "user.custom_tool_result", "custom_tool_use_id": call,
                        "content": [{"type": "text", "text": "42"}]});
    let path = format!("/v1/sessions/{id}/events");
    let answer = server.post(&path, json!({"events": [result]})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(
        answer.body["data"][0]["processed_at"].is_string(),
        "taken on receipt"
    );
    assert_eq!(
        server.get(&format!("/v1/sessions/{id}")).await.body["status"],
        "running"
    );
}

#[tokio::test]
async fn title_and_metadata_change_and_vaults_do_not() {
    let server = Server::start().await;
    let id = server.session().await;
    let path = format!("/v1/sessions/{id}");
    let changed = server
        .post(&path, json!({"title": "t", "metadata": {"a": "1"}}))
        .await
        .body;
    assert_eq!(
        (&changed["title"], &changed["metadata"]),
        (&json!("t"), &json!({"a": "1"}))
    );
    let cleared = server
        .post(&path, json!({"title": null, "metadata": {"a": null}}))
        .await
        .body;
    assert_eq!(
        (&cleared["title"], &cleared["metadata"]),
        (&Value::Null, &json!({}))
    );
    let log = server.log(&id).await;
    assert_eq!(
        log.iter()
            .filter(|e| e["type"] == "session.updated")
            .count(),
        2
    );
    server.post(&path, json!({})).await;
    assert_eq!(
        server.log(&id).await.len(),
        log.len(),
        "no change, no event"
    );
    let answer = server.post(&path, json!({"vault_ids": []})).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.message().starts_with("`vault_ids`"),
        "{}",
        answer.message()
    );
    let full = (0..17)
        .map(|n| (format!("k{n}"), json!("v")))
        .collect::<serde_json::Map<_, _>>();
    let answer = server.post(&path, json!({"metadata": full})).await;
    assert!(answer.status == 400 && answer.message().starts_with("`metadata`"));
}

#[tokio::test]
async fn a_running_session_is_neither_archived_nor_deleted() {
    let server = Server::start().await;
    let id = server.session().await;
    let path = format!("/v1/sessions/{id}");
    server.say(&id, "go").await;
    let refused = server.delete(&path).await;
    assert_eq!(
        (refused.status, refused.message()),
        (
            400,
            "Cannot delete session while it is \
        running. Send an interrupt event or wait for the session to complete."
        )
    );
    assert_eq!(
        server
            .post(&format!("{path}/archive"), json!({}))
            .await
            .status,
        400
    );
    let interrupt = json!({"events": [{"type": "user.interrupt"}]});
    assert_eq!(
        server
            .post(&format!("{path}/events"), interrupt)
            .await
            .status,
        200
    );

    let archived = server
        .post(&format!("{path}/archive"), json!({}))
        .await
        .body;
    assert_eq!(archived["status"], "terminated");
    assert!(archived["archived_at"].is_string());
    let late = server.say(&id, "late").await;
    assert_eq!(
        (late.status, late.header("x-should-retry")),
        (409, Some("false"))
    );
    assert_eq!(server.get("/v1/sessions").await.body["data"], json!([]));
    let deleted = server.delete(&path).await;
    assert_eq!(deleted.body, json!({"id": id, "type": "session_deleted"}));
    for gone in [
        path.clone(),
        format!("{path}/events"),
        format!("{path}/threads"),
    ] {
        assert_eq!(server.get(&gone).await.status, 404, "{gone}");
    }
    assert_eq!(
        server.get(&format!("{path}/events/stream")).await.status,
        404
    );
}

#[tokio::test]
async fn a_thread_is_found_in_its_own_session_only() {
    let server = Server::start().await;
    let (mine, other) = (server.session().await, server.session().await);
    let foreign = server.thread(&other).await;
    for thread in [
        foreign.to_string(),
        "sthr_1111111111111111111111".to_owned(),
    ] {
        let path = format!("/v1/sessions/{mine}/threads/{thread}");
        for path in [
            path.clone(),
            format!("{path}/events"),
            format!("{path}/stream"),
        ] {
            let answer = server.get(&path).await;
            assert_eq!(
                (answer.status, answer.message()),
                (404, "Thread not found."),
                "{path}"
            );
        }
        assert_eq!(
            server
                .post(&format!("{path}/archive"), json!({}))
                .await
                .status,
            404
        );
    }
}
