//! Vaults and credentials: sealed at rest, never returned; LLM vaults are checked when a session is
//! made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Server, agent, environment};

const SECRET: &str = "xyzzy-super-secret-token";

fn bearer(url: &str) -> Value {
    json!({"auth": {"type": "static_bearer", "token": SECRET, "mcp_server_url": url}})
}

async fn vault(server: &Server, metadata: Value) -> String {
    server
        .create(
            "/v1/vaults",
            json!({"display_name": "v", "metadata": metadata}),
        )
        .await
}

#[tokio::test]
async fn a_secret_is_never_returned_and_never_in_clear_on_disk() {
    let server = Server::start().await;
    let path = format!("/v1/vaults/{}/credentials", vault(&server, json!({})).await);
    let variable = json!({"auth": {"type": "environment_variable", "secret_name": "TOKEN",
        "secret_value": SECRET, "networking": {"type": "unrestricted"}}});
    let oauth = json!({"auth": {"type": "mcp_oauth", "access_token": SECRET,
        "mcp_server_url": "https://o.example/", "refresh": {"client_id": "c",
        "refresh_token": SECRET, "token_endpoint": "https://o.example/token",
        "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": SECRET}}}});
    for body in [bearer("https://a.example/"), variable, oauth] {
        let made = server.post(&path, body).await;
        assert_eq!(made.status, 200, "{}", made.body);
        assert_eq!(made.body["type"], "vault_credential");
        let id = made.body["id"].as_str().unwrap();
        let got = server.get(&format!("{path}/{id}")).await;
        assert_eq!(got.body, made.body);
        let change = match made.body["auth"]["type"].as_str().unwrap() {
            "static_bearer" => json!({"type": "static_bearer", "token": format!("{SECRET}2")}),
            "mcp_oauth" => json!({"type": "mcp_oauth", "access_token": format!("{SECRET}2")}),
            _ => json!({"type": "environment_variable", "secret_value": format!("{SECRET}2")}),
        };
        let changed = server
            .post(&format!("{path}/{id}"), json!({"auth": change}))
            .await;
        assert_eq!(changed.status, 200, "{}", changed.body);
        for answer in [&made.body, &got.body, &changed.body] {
            assert!(!answer.to_string().contains(SECRET), "{answer}");
        }
    }
    assert!(!server.get(&path).await.body.to_string().contains(SECRET));
    let refused = server
        .ask(Method::POST, &path)
        .body(format!(
            "{{\"auth\":{{\"type\":\"static_bearer\",\"token\":[\"{SECRET}\"]}}}}"
        ))
        .send()
        .await;
    assert_eq!(refused.status, 400);
    assert!(
        !refused.body.to_string().contains(SECRET),
        "{}",
        refused.body
    );
    for file in std::fs::read_dir(server.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(
            !bytes
                .windows(SECRET.len())
                .any(|window| window == SECRET.as_bytes())
        );
    }
}

#[tokio::test]
async fn a_vault_serves_an_mcp_server_and_a_name_once() {
    let server = Server::start().await;
    let path = format!("/v1/vaults/{}/credentials", vault(&server, json!({})).await);
    let first = server.create(&path, bearer("https://a.example/mcp")).await;
    let again = server
        .post(&path, bearer("https://A.example:443/mcp/"))
        .await;
    assert_eq!(
        (again.status, again.header("x-should-retry")),
        (409, Some("false"))
    );
    let change = json!({"auth": {"type": "static_bearer", "mcp_server_url": "https://b.example/"}});
    let moved = server.post(&format!("{path}/{first}"), change).await;
    assert_eq!(moved.status, 400, "{}", moved.body);
    let archived = server
        .post(&format!("{path}/{first}/archive"), json!({}))
        .await;
    assert!(
        archived.body["archived_at"].is_string(),
        "{}",
        archived.body
    );
    server.create(&path, bearer("https://a.example/mcp")).await;
    let late = server
        .post(&format!("{path}/{first}"), json!({"display_name": "x"}))
        .await;
    assert_eq!(
        (late.status, late.message()),
        (400, "Cannot modify archived credential")
    );
    let deleted = server.delete(&format!("{path}/{first}")).await;
    assert_eq!(
        deleted.body,
        json!({"id": first, "type": "vault_credential_deleted"})
    );
    assert_eq!(server.get(&format!("{path}/{first}")).await.status, 404);
    for n in 1..20 {
        server
            .create(&path, bearer(&format!("https://n{n}.example/")))
            .await;
    }
    let full = server.post(&path, bearer("https://n99.example/")).await;
    assert_eq!(full.status, 400, "{}", full.body);
    assert!(full.message().contains("20"), "{}", full.message());
}

#[tokio::test]
async fn a_credential_is_found_in_its_own_vault_only() {
    let server = Server::start().await;
    let (a, b) = (
        vault(&server, json!({})).await,
        vault(&server, json!({})).await,
    );
    let id = server
        .create(
            &format!("/v1/vaults/{a}/credentials"),
            bearer("https://a.example"),
        )
        .await;
    assert_eq!(
        server
            .get(&format!("/v1/vaults/{b}/credentials/{id}"))
            .await
            .status,
        404
    );
    let stranger = server
        .new_key(json!({"name": "s", "workspace_id": other(&server).await}))
        .await;
    let path = format!("/v1/vaults/{a}/credentials/{id}");
    let update = server.ask(Method::POST, &path).key(&stranger).body("{}");
    assert_eq!(update.send().await.status, 404);
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/archive")),
        (Method::POST, format!("{path}/mcp_oauth_validate")),
        (Method::GET, format!("/v1/vaults/{a}/credentials")),
        (Method::POST, format!("/v1/vaults/{a}/archive")),
        (Method::DELETE, format!("/v1/vaults/{a}")),
    ] {
        let answer = server
            .ask(method.clone(), &path)
            .key(&stranger)
            .send()
            .await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.body);
    }
    // A session of theirs has it no more than one that nobody has.
    let made = async |path: &str, body: Value| {
        let ask = server.ask(Method::POST, path).key(&stranger);
        ask.body(body.to_string()).send().await
    };
    let id_of = |made: Answer| made.body["id"].as_str().unwrap().to_owned();
    let own = json!({"agent": id_of(made("/v1/agents", agent()).await),
        "environment_id": id_of(made("/v1/environments", environment()).await)});
    let mut refusals = Vec::new();
    for vault in [a.as_str(), "vlt_1111111111111111111111"] {
        let mut session = own.clone();
        session["vault_ids"] = json!([vault]);
        let refused = made("/v1/sessions", session).await;
        assert_eq!(refused.status, 400, "{}", refused.body);
        refusals.push(refused.message().replace(vault, ""));
    }
    assert_eq!(refusals[0], refusals[1]);
    assert!(refusals[0].contains("vault_ids[0]"), "{}", refusals[0]);
    let deleted = server.delete(&format!("/v1/vaults/{a}")).await;
    assert_eq!(deleted.body, json!({"id": a, "type": "vault_deleted"}));
    assert_eq!(
        server
            .get(&format!("/v1/vaults/{a}/credentials/{id}"))
            .await
            .status,
        404
    );
}

async fn other(server: &Server) -> String {
    let ask = server.operate(Method::POST, "/v1/x/workspaces");
    let made = ask.body(json!({"name": "other"}).to_string()).send().await;
    made.body["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_oauth_credential_is_tried_and_no_other() {
    let server = Server::start().await;
    let path = format!("/v1/vaults/{}/credentials", vault(&server, json!({})).await);
    let fixed = server.create(&path, bearer("https://a.example/")).await;
    let refused = server
        .post(&format!("{path}/{fixed}/mcp_oauth_validate"), json!({}))
        .await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(
        refused.message().contains("static_bearer"),
        "{}",
        refused.message()
    );
    let oauth = json!({"auth": {"type": "mcp_oauth", "access_token": SECRET,
        "mcp_server_url": "http://127.0.0.1:9/mcp", "refresh": {"client_id": "c",
        "refresh_token": SECRET, "token_endpoint": "http://127.0.0.1:9/token",
        "token_endpoint_auth": {"type": "none"}}}});
    let id = server.create(&path, oauth).await;
    let validate = format!("{path}/{id}/mcp_oauth_validate");
    // Nobody lifted the loopback out of what tenants may not reach.
    let found = server.post(&validate, json!({})).await;
    assert_eq!(found.status, 200, "{}", found.body);
    assert_eq!(found.body["type"], "vault_credential_validation");
    assert_eq!(found.body["status"], "unknown");
    assert_eq!(found.body["has_refresh_token"], true);
    assert_eq!(
        found.body["mcp_probe"],
        json!({"method": "initialize", "http_response": null})
    );
    assert_eq!(found.body["refresh"], Value::Null);
    assert!(!found.body.to_string().contains(SECRET));
    server
        .post(&format!("{path}/{id}/archive"), json!({}))
        .await;
    let late = server.post(&validate, json!({})).await;
    assert_eq!(
        (late.status, late.message()),
        (400, "Cannot modify archived credential")
    );
}

#[tokio::test]
async fn only_an_operator_sees_and_rotates_the_master_key() {
    let server = Server::start().await;
    for (method, path) in [
        (Method::GET, "/v1/x/master_key"),
        (Method::POST, "/v1/x/master_key/rotate"),
    ] {
        let answer = server.ask(method, path).send().await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
    }
    let key = server.operate(Method::GET, "/v1/x/master_key").send().await;
    assert_eq!(
        key.body,
        json!({"type": "master_key", "version": 1, "rotating": false})
    );
    // The key of these tests is given, and no next one is.
    let ask = server.operate(Method::POST, "/v1/x/master_key/rotate");
    let none = ask.send().await;
    assert_eq!(none.status, 409, "{}", none.body);
    assert!(
        none.message().contains("LONGHAND_MASTER_KEY_NEXT"),
        "{}",
        none.message()
    );
}

#[tokio::test]
async fn a_bearer_without_a_server_is_only_for_an_llm_vault() {
    let server = Server::start().await;
    let key = json!({"auth": {"type": "static_bearer", "token": SECRET}});
    let plain = vault(&server, json!({})).await;
    let refused = server
        .post(&format!("/v1/vaults/{plain}/credentials"), key.clone())
        .await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(
        refused.message().starts_with("`auth.mcp_server_url`"),
        "{}",
        refused.message()
    );
    for role in ["longhand.role", "sandbox0.managed_agents.role"] {
        let llm = vault(&server, json!({role: "llm"})).await;
        let made = server
            .post(&format!("/v1/vaults/{llm}/credentials"), key.clone())
            .await;
        assert_eq!(made.status, 200, "{}", made.body);
        assert_eq!(made.body["auth"], json!({"type": "static_bearer"}));
    }
}

/// Asks for a session with these vaults.
async fn with_vaults(server: &Server, vaults: &[&str]) -> Answer {
    let agent = server.create("/v1/agents", agent()).await;
    let environment = server.create("/v1/environments", environment()).await;
    let body = json!({"agent": agent, "environment_id": environment, "vault_ids": vaults});
    server.post("/v1/sessions", body).await
}

fn llm(extra: &[(&str, &str)]) -> Value {
    let mut metadata = json!({"longhand.role": "llm", "longhand.harness": "native",
        "longhand.llm_api": "anthropic",
        "longhand.llm_base_url": "https://llm.example"});
    for (key, value) in extra {
        metadata[*key] = json!(value);
    }
    metadata
}

#[tokio::test]
async fn an_llm_vault_must_be_whole_and_single() {
    let server = Server::start().await;
    let key = json!({"auth": {"type": "static_bearer", "token": SECRET}});
    let good = vault(&server, llm(&[])).await;
    server
        .create(&format!("/v1/vaults/{good}/credentials"), key.clone())
        .await;
    let answer = with_vaults(&server, &[&good]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["vault_ids"], json!([good]));

    let other = vault(&server, llm(&[])).await;
    server
        .create(&format!("/v1/vaults/{other}/credentials"), key.clone())
        .await;
    let answer = with_vaults(&server, &[&good, &other]).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.message().contains(&good) && answer.message().contains(&other));

    let keyless = vault(&server, llm(&[])).await;
    let answer = with_vaults(&server, &[&keyless]).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.message().contains(&keyless), "{}", answer.message());

    for (name, value) in [
        ("longhand.llm_api", "smoke_signals"),
        ("longhand.llm_base_url", "not a url"),
        ("longhand.harness", "abacus"),
        ("longhand.llm_model_map", "not json"),
    ] {
        let id = vault(&server, llm(&[(name, value)])).await;
        server
            .create(&format!("/v1/vaults/{id}/credentials"), key.clone())
            .await;
        let answer = with_vaults(&server, &[&id]).await;
        assert_eq!(answer.status, 400, "{name}: {}", answer.body);
        assert!(answer.message().contains(&id), "{}", answer.message());
        assert!(
            answer.message().contains(name),
            "{name}: {}",
            answer.message()
        );
    }
    let mut bare = llm(&[]);
    bare.as_object_mut()
        .unwrap()
        .remove("longhand.llm_base_url");
    let bare = vault(&server, bare).await;
    server
        .create(&format!("/v1/vaults/{bare}/credentials"), key.clone())
        .await;
    let answer = with_vaults(&server, &[&bare]).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(
        answer.message().contains("longhand.llm_base_url"),
        "{}",
        answer.message()
    );
}

/// What creating a session with that LLM vault is answered.
async fn with_llm(server: &Server, extra: &[(&str, &str)]) -> Answer {
    let id = vault(server, llm(extra)).await;
    let key = json!({"auth": {"type": "static_bearer", "token": SECRET}});
    server
        .create(&format!("/v1/vaults/{id}/credentials"), key)
        .await;
    with_vaults(server, &[&id]).await
}

#[tokio::test]
async fn a_harness_that_is_not_built_is_refused_by_name() {
    let server = Server::start().await;
    for (harness, api) in [("claude", "anthropic"), ("codex", "openai_responses")] {
        let extra = [("longhand.harness", harness), ("longhand.llm_api", api)];
        let answer = with_llm(&server, &extra).await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, Some("not_implemented")),
            "{harness}"
        );
        assert!(
            answer.message().contains("longhand.harness"),
            "{}",
            answer.message()
        );
    }
}

#[tokio::test]
async fn claude_is_refused_until_it_is_installed_and_where_it_does_not_fit() {
    let installed = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&installed);
    let server = Server::with(gateway::Config {
        claude: Some(gateway::Installed(Arc::new(move || {
            seen.load(Ordering::Relaxed)
        }))),
        ..gateway::Config::default()
    })
    .await;
    let claude = ("longhand.harness", "claude");
    let answer = with_llm(&server, &[claude]).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    let told = answer.message();
    assert!(told.contains("longhand harness install claude"), "{told}");
    installed.store(true, Ordering::Relaxed);
    assert_eq!(with_llm(&server, &[claude]).await.status, 200);
    for api in ["openai_chat", "openai_responses"] {
        let answer = with_llm(&server, &[claude, ("longhand.llm_api", api)]).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        let told = answer.message();
        assert!(
            told.contains("longhand.llm_api") && told.contains("`anthropic`"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn every_dialect_is_taken() {
    let server = Server::start().await;
    for api in ["anthropic", "openai_responses", "openai_chat"] {
        let id = vault(&server, llm(&[("longhand.llm_api", api)])).await;
        let key = json!({"auth": {"type": "static_bearer", "token": SECRET}});
        server
            .create(&format!("/v1/vaults/{id}/credentials"), key)
            .await;
        let answer = with_vaults(&server, &[&id]).await;
        assert_eq!(answer.status, 200, "{api}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_secret_is_any_text_of_16_kib_without_a_zero_and_no_refusal_repeats_it() {
    let server = Server::start().await;
    let vault = vault(&server, json!({})).await;
    let path = format!("/v1/vaults/{vault}/credentials");
    let variable = |name: &str, secret: &str| {
        json!({"auth": {"type": "environment_variable", "secret_name": name, "secret_value": secret,
            "networking": {"type": "unrestricted"}}})
    };
    let longest = "\r\n\u{1}\u{2603}".repeat(contract::limits::SECRET_BYTES / 6);
    let taken = server.post(&path, variable("LONGEST", &longest)).await;
    assert_eq!(taken.status, 200, "{}", taken.body);
    let mut answers = Vec::new();
    let megabyte = SECRET.repeat((1 << 20) / SECRET.len());
    for wrong in [megabyte, format!("{SECRET}\0"), longest + SECRET] {
        let refused = server.post(&path, variable("WRONG", &wrong)).await;
        assert!(
            refused.message().contains("secret_value"),
            "{}",
            refused.body
        );
        answers.push(refused);
    }
    // Half a character.
    let mut broken = variable("BROKEN", SECRET).to_string().into_bytes();
    let end = broken
        .windows(SECRET.len())
        .position(|it| it == SECRET.as_bytes());
    broken[end.unwrap() + SECRET.len() - 1] = 0xC3;
    answers.push(server.ask(Method::POST, &path).body(broken).send().await);
    for answer in answers {
        assert_eq!(answer.status, 400);
        let text = answer.body.to_string();
        assert!(text.len() < 500 && !text.contains("xyzzy"), "{text}");
    }
}
