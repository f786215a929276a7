//! What the edge says of sandboxes before it asks for one.

use axum::http::Method;
use serde_json::json;

use crate::support::{Server, agent, environment};

#[tokio::test]
async fn a_time_to_live_that_is_none_is_refused_by_its_path() {
    let server = Server::start().await;
    let agent = server.create("/v1/agents", agent()).await;
    let environment = server.create("/v1/environments", environment()).await;
    let session = |name: &str, value: &str| json!({"agent": agent, "environment_id": environment, "metadata": {name: value}});
    for name in [
        "longhand.sandbox_ttl_seconds",
        "sandbox0.managed_agents.hard_ttl_seconds",
    ] {
        for bad in ["", "soon", "-1", "1.5", "1h"] {
            let refused = server.post("/v1/sessions", session(name, bad)).await;
            assert_eq!(refused.status, 400, "{name}={bad:?}");
            let path = format!("metadata.{name}");
            assert!(refused.message().contains(&path), "{}", refused.message());
        }
        for good in ["0", "1", "86400"] {
            let made = server.post("/v1/sessions", session(name, good)).await;
            assert_eq!(made.status, 200, "{}", made.body);
        }
        let id = server.session().await;
        let path = format!("/v1/sessions/{id}");
        let change = |value: &str| json!({"metadata": {name: value}});
        assert_eq!(server.post(&path, change("never")).await.status, 400);
        assert_eq!(server.post(&path, change("60")).await.status, 200);
    }
}

#[tokio::test]
async fn a_wish_for_a_sandbox_that_is_none_is_refused_by_its_path() {
    let server = Server::start().await;
    let agent = server.create("/v1/agents", agent()).await;
    let id = server.create("/v1/environments", environment()).await;
    for (name, good, bad) in [
        (
            "longhand.sandbox",
            ["eager", "lazy"],
            ["both", "Eager", "true"],
        ),
        (
            "longhand.sandbox_keep_awake",
            ["true", "false"],
            ["maybe", "yes", "1"],
        ),
        (
            "longhand.sandbox_provider",
            ["gvisor", "local"],
            ["runsc", "Gvisor", "kvm"],
        ),
        (
            "longhand.sandbox_model",
            ["true", "false"],
            ["maybe", "yes", "1"],
        ),
    ] {
        let asked = |value: &str| {
            let metadata = json!({ name: value });
            let session = json!({"agent": agent, "environment_id": id, "metadata": metadata});
            let mut made = environment();
            made["name"] = json!(format!("{name} {value}"));
            made["metadata"] = metadata.clone();
            [
                ("/v1/sessions".to_owned(), session),
                ("/v1/environments".to_owned(), made),
                (
                    format!("/v1/environments/{id}"),
                    json!({"metadata": metadata}),
                ),
            ]
        };
        for value in bad {
            for (path, body) in asked(value) {
                let refused = server.post(&path, body).await;
                assert_eq!(refused.status, 400, "{path} {name}={value:?}");
                let wanted = format!(
                    "`metadata.{name}`: must be \"{}\" or \"{}\"",
                    good[0], good[1]
                );
                assert!(refused.message().contains(&wanted), "{}", refused.message());
            }
        }
        for value in good {
            for (path, body) in asked(value) {
                let made = server.post(&path, body).await;
                assert_eq!(made.status, 200, "{}", made.body);
            }
        }
    }
}

#[tokio::test]
async fn a_server_without_sandboxes_says_so() {
    let server = Server::start().await;
    let answer = server.operate(Method::GET, "/v1/x/sandboxes").send().await;
    assert_eq!(answer.status, 501, "{}", answer.body);
}
