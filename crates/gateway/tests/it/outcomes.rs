//! `user.define_outcome` at the edge: what is accepted and how it is answered, what is refused and where the
//! fault lies. What becomes of an outcome is the core's and the orchestrator's to test.

use serde_json::{Value, json};

use crate::support::{Server, agent, environment};

fn outcome(change: impl FnOnce(&mut Value)) -> Value {
    let mut event = json!({
        "type": "user.define_outcome",
        "description": "a report",
        "rubric": {"type": "text", "content": "It has a title."},
    });
    change(&mut event);
    event
}

async fn send(server: &Server, session: &str, events: &[Value]) -> crate::support::Answer {
    let path = format!("/v1/sessions/{session}/events");
    server.post(&path, json!({"events": events})).await
}

#[tokio::test]
async fn an_outcome_is_echoed_with_its_id_and_its_time_and_stands_on_the_session() {
    let server = Server::start().await;
    let session = server.session().await;
    let sent = send(&server, &session, &[outcome(|_| {})]).await;
    assert_eq!(sent.status, 200, "{}", sent.body);
    let echo = &sent.body["data"][0];
    assert!(echo["outcome_id"].as_str().unwrap().starts_with("outc_"));
    assert!(echo["processed_at"].is_string());
    assert_eq!(echo["rubric"]["content"], "It has a title.");
    let read = server.get(&format!("/v1/sessions/{session}")).await;
    let wanted = json!([{
        "type": "outcome_evaluation", "outcome_id": echo["outcome_id"], "description": "a report",
        "iteration": 0, "result": "running", "explanation": null, "completed_at": null,
    }]);
    assert_eq!(read.body["outcome_evaluations"], wanted);
    let list = server.get("/v1/sessions").await;
    assert_eq!(list.body["data"][0]["outcome_evaluations"], wanted);
}

#[tokio::test]
async fn a_session_may_start_on_an_outcome() {
    let server = Server::start().await;
    let agent = server.create("/v1/agents", agent()).await;
    let environment = server.create("/v1/environments", environment()).await;
    let made = server
        .post(
            "/v1/sessions",
            json!({"agent": agent, "environment_id": environment, "initial_events": [outcome(|_| {})]}),
        )
        .await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(made.body["status"], "running");
    assert_eq!(made.body["outcome_evaluations"][0]["result"], "running");
}

#[tokio::test]
async fn what_is_wrong_with_an_outcome_is_named() {
    let server = Server::start().await;
    let session = server.session().await;
    let long = "x".repeat(262_145);
    let all = [
        (outcome(|e| e["description"] = json!("")), "description"),
        (
            outcome(|e| e["rubric"]["content"] = json!("")),
            "rubric.content",
        ),
        (
            outcome(|e| e["rubric"]["content"] = json!(long)),
            "rubric.content",
        ),
        (outcome(|e| e["rubric"] = Value::Null), "rubric"),
        (
            outcome(|e| e["max_iterations"] = json!(0)),
            "max_iterations",
        ),
        (
            outcome(|e| e["max_iterations"] = json!(21)),
            "max_iterations",
        ),
        (
            outcome(|e| {
                e["rubric"] = json!({"type": "file", "file_id": "file_1111111111111111111111"})
            }),
            "rubric.type",
        ),
    ];
    for (event, path) in all {
        let answer = send(&server, &session, &[event]).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        let wanted = format!("events[0].{path}");
        assert!(answer.message().contains(&wanted), "{}", answer.message());
    }
    let read = server.get(&format!("/v1/sessions/{session}")).await;
    assert_eq!(read.body["outcome_evaluations"], json!([]));
}

#[tokio::test]
async fn a_second_outcome_is_refused_while_one_is_open() {
    let server = Server::start().await;
    let session = server.session().await;
    send(&server, &session, &[outcome(|_| {})]).await;
    let answer = send(&server, &session, &[outcome(|_| {})]).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(
        answer.message().contains("events[0]"),
        "{}",
        answer.message()
    );
    assert!(answer.message().contains("one outcome at a time"));
}
