//! Agents, environments and who may see them: what is made, changed, archived and deleted.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::{Server, agent, environment};

#[tokio::test]
async fn an_agent_is_versioned_by_change() {
    let server = Server::start().await;
    let made = server.post("/v1/agents", agent()).await.body;
    let path = format!("/v1/agents/{}", made["id"].as_str().unwrap());
    assert_eq!(made["version"], 1);
    assert_eq!(made["type"], "agent");
    assert_eq!(made["model"]["id"], "claude-opus-4-8");
    assert_eq!(made["archived_at"], Value::Null);
    assert_eq!(server.get(&path).await.body, made);

    let same = server.post(&path, json!({"name": "a", "version": 1})).await;
    assert_eq!(same.body, made, "a change of nothing keeps the version");
    let second = server
        .post(&path, json!({"name": "b", "version": 1}))
        .await
        .body;
    assert_eq!(
        (&second["version"], &second["name"]),
        (&json!(2), &json!("b"))
    );
    assert_eq!(second["created_at"], made["created_at"]);
    let third = server
        .post(&path, json!({"metadata": {"k": "v"}}))
        .await
        .body;
    assert_eq!(
        third["version"], 3,
        "without a version the change is unconditional"
    );
    assert_eq!(
        server.get(&format!("{path}?version=1")).await.body["name"],
        "a"
    );
    let gone = server.get(&format!("{path}?version=9")).await;
    assert_eq!(
        (gone.status, gone.message()),
        (404, "Agent version not found.")
    );

    let versions = server.get(&format!("{path}/versions?limit=2")).await.body;
    assert_eq!(numbers(&versions), [3, 2], "newest first");
    let page = versions["next_page"].as_str().unwrap();
    let rest = server
        .get(&format!("{path}/versions?limit=2&page={page}"))
        .await
        .body;
    assert_eq!(
        (numbers(&rest), &rest["next_page"]),
        (vec![1], &Value::Null)
    );
}

fn numbers(page: &Value) -> Vec<u64> {
    page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["version"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn a_stale_version_is_a_conflict_that_is_not_retried() {
    let server = Server::start().await;
    let id = server.create("/v1/agents", agent()).await;
    let path = format!("/v1/agents/{id}");
    for (version, kind) in [
        ("2026-10-21", "conflict_error"),
        ("2023-06-01", "invalid_request_error"),
    ] {
        let body = json!({"name": "a", "version": 7}).to_string();
        let ask = server.ask(Method::POST, &path).body(body);
        let answer = ask.header("anthropic-version", version).send().await;
        assert_eq!(answer.status, 409);
        assert_eq!(answer.body["error"]["type"], kind);
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert_eq!(
            answer.message(),
            "Concurrent modification detected. Please fetch the latest version and retry."
        );
    }
    assert_eq!(server.post(&path, json!({"version": 0})).await.status, 400);
    assert_eq!(
        server.post(&path, json!({"version": null})).await.status,
        400
    );
}

#[tokio::test]
async fn concurrent_updates_without_a_version_all_take_effect() {
    let server = Server::start().await;
    let path = format!("/v1/agents/{}", server.create("/v1/agents", agent()).await);
    let all = (0..8).map(|n| {
        let (server, path) = (&server, &path);
        async move {
            server
                .post(path, json!({"metadata": {format!("k{n}"): "v"}}))
                .await
                .status
        }
    });
    assert_eq!(futures_util::future::join_all(all).await, [200; 8]);
    let now = server.get(&path).await.body;
    assert_eq!(now["version"], 9);
    assert_eq!(
        now["metadata"].as_object().unwrap().len(),
        8,
        "none overwrote another"
    );
}

#[tokio::test]
async fn what_is_archived_is_read_only_and_hidden_from_lists() {
    let server = Server::start().await;
    for (list, body, change) in [
        ("/v1/agents", agent(), json!({"name": "b"})),
        ("/v1/environments", environment(), json!({"name": "b"})),
        (
            "/v1/vaults",
            json!({"display_name": "v"}),
            json!({"display_name": "b"}),
        ),
    ] {
        let id = server.create(list, body).await;
        let path = format!("{list}/{id}");
        let archived = server.post(&format!("{path}/archive"), json!({})).await;
        assert_eq!(archived.status, 200, "{}", archived.body);
        let at = archived.body["archived_at"].clone();
        assert!(at.is_string());
        let again = server.post(&format!("{path}/archive"), json!({})).await;
        assert_eq!(
            again.body["archived_at"], at,
            "{list}: archiving again changes nothing"
        );
        let refused = server.post(&path, change).await;
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert!(
            refused.message().starts_with("Cannot modify archived"),
            "{}",
            refused.message()
        );
        assert_eq!(server.get(list).await.body["data"], json!([]));
        let shown = server
            .get(&format!("{list}?include_archived=true"))
            .await
            .body;
        assert_eq!(shown["data"][0]["id"], json!(id));
        assert_eq!(server.get(&path).await.status, 200);
    }
}

#[tokio::test]
async fn archived_parts_make_no_new_session() {
    let server = Server::start().await;
    let agent_id = server.create("/v1/agents", agent()).await;
    let environment_id = server.create("/v1/environments", environment()).await;
    let vault_id = server
        .create("/v1/vaults", json!({"display_name": "v"}))
        .await;
    let body =
        json!({"agent": agent_id, "environment_id": environment_id, "vault_ids": [vault_id]});
    assert_eq!(server.post("/v1/sessions", body.clone()).await.status, 200);
    for (path, field) in [
        (format!("/v1/vaults/{vault_id}"), "`vault_ids[0]`"),
        (
            format!("/v1/environments/{environment_id}"),
            "`environment_id`",
        ),
        (format!("/v1/agents/{agent_id}"), "`agent`"),
    ] {
        server.post(&format!("{path}/archive"), json!({})).await;
        let answer = server.post("/v1/sessions", body.clone()).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(
            answer.message().contains("archived"),
            "{}",
            answer.message()
        );
        assert!(
            answer.message().starts_with(field),
            "{} lacks {field}",
            answer.message()
        );
    }
    let missing = json!({"agent": {"type": "agent", "id": agent_id, "version": 999},
                         "environment_id": environment_id});
    let answer = server.post("/v1/sessions", missing).await;
    assert_eq!(
        (answer.status, answer.message()),
        (404, "agent.version: 999 not found")
    );
}

#[tokio::test]
async fn an_active_environment_has_its_name_alone() {
    let server = Server::start().await;
    let body = json!({"name": "python"});
    let id = server.create("/v1/environments", body.clone()).await;
    let again = server.post("/v1/environments", body.clone()).await;
    assert_eq!(
        (again.status, again.header("x-should-retry")),
        (409, Some("false"))
    );
    server
        .post(&format!("/v1/environments/{id}/archive"), json!({}))
        .await;
    server.create("/v1/environments", body).await;
    let late = server
        .post(&format!("/v1/environments/{id}"), json!({"name": "x"}))
        .await;
    assert_eq!(
        (late.status, late.code()),
        (400, Some("environment_archived"))
    );
    let hosted = json!({"name": "own", "config": {"type": "self_hosted"}});
    let path = format!(
        "/v1/environments/{}",
        server.create("/v1/environments", hosted).await
    );
    let changed = server
        .post(&path, json!({"config": {"type": "cloud"}}))
        .await;
    assert_eq!(
        (changed.status, changed.code()),
        (400, Some("invalid_config_type_change"))
    );
}

#[tokio::test]
async fn an_environment_is_deleted_unless_sessions_use_it() {
    let server = Server::start().await;
    let id = server.create("/v1/environments", environment()).await;
    let path = format!("/v1/environments/{id}");
    let agent = server.create("/v1/agents", agent()).await;
    let session = server
        .create(
            "/v1/sessions",
            json!({"agent": agent, "environment_id": id}),
        )
        .await;
    assert_eq!(server.delete(&path).await.status, 409);
    server.delete(&format!("/v1/sessions/{session}")).await;
    let answer = server.delete(&path).await;
    assert_eq!(
        answer.body,
        json!({"id": id, "type": "environment_deleted"})
    );
    assert_eq!(server.get(&path).await.status, 404);
}

#[tokio::test]
async fn another_workspace_sees_nothing() {
    let server = Server::start().await;
    let session = server.session().await;
    let vault = server
        .create("/v1/vaults", json!({"display_name": "v"}))
        .await;
    let agents = server.get("/v1/agents").await.body;
    let agent = agents["data"][0]["id"].as_str().unwrap().to_owned();
    let environments = server.get("/v1/environments").await.body;
    let environment = environments["data"][0]["id"].as_str().unwrap().to_owned();
    let workspace = server
        .operate(Method::POST, "/v1/x/workspaces")
        .body(json!({"name": "other"}).to_string())
        .send()
        .await
        .body;
    let key = server
        .new_key(json!({"name": "k", "workspace_id": workspace["id"]}))
        .await;
    let ask = |method, path: &str| server.ask(method, path).key(&key);
    for list in [
        "/v1/agents",
        "/v1/environments",
        "/v1/sessions",
        "/v1/vaults",
    ] {
        assert_eq!(
            ask(Method::GET, list).send().await.body["data"],
            json!([]),
            "{list}"
        );
    }
    for path in [
        format!("/v1/agents/{agent}"),
        format!("/v1/agents/{agent}/versions"),
        format!("/v1/environments/{environment}"),
        format!("/v1/sessions/{session}"),
        format!("/v1/sessions/{session}/events"),
        format!("/v1/sessions/{session}/events/stream"),
        format!("/v1/sessions/{session}/threads"),
        format!("/v1/vaults/{vault}"),
        format!("/v1/vaults/{vault}/credentials"),
    ] {
        assert_eq!(ask(Method::GET, &path).send().await.status, 404, "{path}");
    }
    let message = json!({"events": [{"type": "user.interrupt"}]}).to_string();
    let send = ask(Method::POST, &format!("/v1/sessions/{session}/events")).body(message);
    assert_eq!(send.send().await.status, 404);
    for path in [
        format!("/v1/sessions/{session}"),
        format!("/v1/environments/{environment}"),
    ] {
        assert_eq!(
            ask(Method::DELETE, &path).send().await.status,
            404,
            "{path}"
        );
    }
    let body = json!({"agent": agent, "environment_id": environment}).to_string();
    assert_eq!(
        ask(Method::POST, "/v1/sessions")
            .body(body)
            .send()
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn an_agent_of_another_workspace_is_in_no_roster_whether_it_is_made_or_changed() {
    let server = Server::start().await;
    let workspace = server
        .operate(Method::POST, "/v1/x/workspaces")
        .body(json!({"name": "other"}).to_string())
        .send()
        .await
        .body;
    let key = server
        .new_key(json!({"name": "k", "workspace_id": workspace["id"]}))
        .await;
    let agent = |name: &str| json!({"name": name, "model": "claude-sonnet-5-5"});
    let foreign = server
        .ask(Method::POST, "/v1/agents")
        .key(&key)
        .body(agent("theirs").to_string())
        .send()
        .await;
    assert_eq!(foreign.status, 200, "{}", foreign.body);
    let own = server.create("/v1/agents", agent("ours")).await;
    let team = |ids: &[&Value]| json!({"type": "coordinator", "agents": ids});
    let mut lead = agent("lead");
    lead["multiagent"] = team(&[&json!(own), &foreign.body["id"]]);
    let made = server.post("/v1/agents", lead.clone()).await;
    lead["multiagent"] = team(&[&json!(own)]);
    let lead = server.create("/v1/agents", lead).await;
    let path = format!("/v1/agents/{lead}");
    let change = json!({"version": 1, "multiagent": team(&[&foreign.body["id"]])});
    let changed = server.post(&path, change).await;
    for (refused, at) in [(made, 1), (changed, 0)] {
        assert_eq!(refused.status, 400, "{}", refused.body);
        let error = &refused.body["error"];
        assert_eq!(error["type"], "invalid_request_error");
        let message = error["message"].as_str().unwrap();
        let field = format!("multiagent.agents[{at}]");
        assert!(message.contains(&field), "{message}");
        // As one that never was: nothing tells that there is such an agent elsewhere.
        assert!(message.contains("no such agent"), "{message}");
        assert!(refused.body["request_id"].is_string());
    }
    let agent = server.get(&path).await.body;
    assert_eq!(
        (&agent["version"], &agent["multiagent"]["agents"][0]["id"]),
        (&json!(1), &json!(own))
    );
}
