//! `/v1/x`: for operators only, and effective at once.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::Server;

#[tokio::test]
async fn over_tcp_it_needs_an_operator_key_and_no_beta_or_version() {
    let server = Server::start().await;
    let operator = server
        .new_key(json!({"name": "op", "operator": true}))
        .await;
    for path in ["/v1/x/status", "/v1/x/keys", "/v1/x/workspaces"] {
        let ask = || server.bare(Method::GET, path);
        assert_eq!(ask().send().await.status, 401, "{path}");
        let refused = ask().key(&server.key).send().await;
        assert_eq!(refused.status, 403, "{path}");
        assert_eq!(refused.body["error"]["type"], "permission_error");
        assert_eq!(ask().key(&operator).send().await.status, 200, "{path}");
        assert_eq!(
            server.operate(Method::GET, path).send().await.status,
            200,
            "{path}"
        );
    }
    let public = server
        .ask(Method::GET, "/v1/agents")
        .key(&operator)
        .send()
        .await;
    assert_eq!(
        public.status, 200,
        "an operator key is a key of its workspace as well"
    );
}

#[tokio::test]
async fn the_control_socket_serves_public_routes_in_the_workspace_that_is_named() {
    let server = Server::start().await;
    let made = server
        .operate(Method::POST, "/v1/x/workspaces")
        .body(json!({"name": "Other"}).to_string())
        .send()
        .await
        .body;
    let other = made["id"].as_str().unwrap();
    let agents = |workspace: &str| {
        let ask = server.operate(Method::GET, "/v1/agents");
        let ask = ask.header("anthropic-version", "2026-10-21");
        let ask = ask.header("anthropic-beta", "managed-agents-2026-04-01");
        ask.header("anthropic-workspace-id", workspace).send()
    };
    let created = server
        .operate(Method::POST, "/v1/agents")
        .header("anthropic-version", "2026-10-21")
        .header("anthropic-beta", "managed-agents-2026-04-01")
        .body(json!({"name": "a", "model": "claude-sonnet-5-5"}).to_string())
        .send()
        .await;
    assert_eq!(created.status, 200, "{}", created.body);
    let count = |body: &Value| body["data"].as_array().map(Vec::len);
    assert_eq!(count(&agents("wrkspc_default").await.body), Some(1));
    assert_eq!(count(&agents(other).await.body), Some(0));
    for nobody in ["wrkspc_1111111111111111111111", "nonsense"] {
        let refused = agents(nobody).await;
        assert_eq!(refused.status, 403, "{}", refused.body);
        assert!(
            refused.message().contains("no such workspace"),
            "{}",
            refused.body
        );
    }
}

#[tokio::test]
async fn a_key_is_shown_once_and_revoked_at_once() {
    let server = Server::start().await;
    let made = server
        .operate(Method::POST, "/v1/x/keys")
        .body(json!({"name": "k"}).to_string())
        .send()
        .await
        .body;
    let key = made["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("lh_") && key.len() == 43, "{key}");
    let list = server.operate(Method::GET, "/v1/x/keys").send().await.body;
    assert!(!list.to_string().contains(&key));
    let listed = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|k| k["id"] == made["id"])
        .unwrap();
    assert!(listed.get("key").is_none());
    assert_eq!(listed["revoked_at"], Value::Null);
    let uses = || server.ask(Method::GET, "/v1/agents").key(&key).send();
    assert_eq!(uses().await.status, 200);
    let path = format!("/v1/x/keys/{}/revoke", made["id"].as_str().unwrap());
    let revoked = server.operate(Method::POST, &path).send().await;
    assert!(revoked.body["revoked_at"].is_string(), "{}", revoked.body);
    assert_eq!(
        uses().await.status,
        401,
        "although it was remembered a moment ago"
    );
    let again = server.operate(Method::POST, &path).send().await;
    assert_eq!(again.body, revoked.body);
}

#[tokio::test]
async fn an_archived_workspace_locks_its_keys_out() {
    let server = Server::start().await;
    let operate = |path: &str, body: Value| {
        server
            .operate(Method::POST, path)
            .body(body.to_string())
            .send()
    };
    let workspace = operate("/v1/x/workspaces", json!({"name": "w"})).await.body;
    let id = workspace["id"].as_str().unwrap();
    assert!(id.starts_with("wrkspc_"), "{workspace}");
    let key = server
        .new_key(json!({"name": "k", "workspace_id": id}))
        .await;
    let uses = || server.ask(Method::GET, "/v1/agents").key(&key).send();
    assert_eq!(uses().await.status, 200);
    let archived = operate(&format!("/v1/x/workspaces/{id}/archive"), json!({})).await;
    assert!(
        archived.body["archived_at"].is_string(),
        "{}",
        archived.body
    );
    assert_eq!(uses().await.status, 401);
    let refused = operate("/v1/x/keys", json!({"name": "k", "workspace_id": id})).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(
        refused.message().starts_with("`workspace_id`"),
        "{}",
        refused.message()
    );
    let default = operate("/v1/x/workspaces/wrkspc_default/archive", json!({})).await;
    assert_eq!(default.status, 400, "{}", default.body);
}

#[tokio::test]
async fn bad_input_is_refused_by_name() {
    let server = Server::start().await;
    for (path, body, field) in [
        ("/v1/x/keys", json!({}), "`name`"),
        ("/v1/x/keys", json!({"name": ""}), "`name`"),
        ("/v1/x/keys", json!({"name": "x".repeat(256)}), "`name`"),
        ("/v1/x/keys", json!({"name": "k", "power": 1}), "`power`"),
        (
            "/v1/x/keys",
            json!({"name": "k", "workspace_id": "x"}),
            "`workspace_id`",
        ),
        ("/v1/x/workspaces", json!({"name": 1}), "`name`"),
    ] {
        let answer = server
            .operate(Method::POST, path)
            .body(body.to_string())
            .send()
            .await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(
            answer.message().starts_with(field),
            "{} lacks {field}",
            answer.message()
        );
    }
    for path in [
        "/v1/x/keys/x/revoke",
        "/v1/x/keys/apikey_1111111111111111111111/revoke",
        "/v1/x/workspaces/x/archive",
    ] {
        let answer = server.operate(Method::POST, path).send().await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn the_status_counts_what_the_store_did() {
    let server = Server::start().await;
    let before = server
        .operate(Method::GET, "/v1/x/status")
        .send()
        .await
        .body;
    server.session().await;
    let after = server
        .operate(Method::GET, "/v1/x/status")
        .send()
        .await
        .body;
    let commits = |status: &Value| status["store"]["commits"].as_u64().unwrap();
    assert!(commits(&after) > commits(&before), "{before} {after}");
    assert_eq!(
        (&after["ready"], &after["draining"]),
        (&json!(true), &json!(false))
    );
}
