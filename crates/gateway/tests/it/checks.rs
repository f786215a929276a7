//! The order of checks and the envelope, over the whole route table.

use axum::http::Method;
use contract::ids::{AgentId, RequestId};
use gateway::RouteInfo;
use serde_json::json;

use crate::support::{Answer, BETA, Server};

/// The path with an id that is well-formed and names nothing.
fn path(route: &RouteInfo) -> String {
    let mut out = String::new();
    let mut rest = route.path;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap();
        let prefix = match name {
            "agent_id" => AgentId::PREFIX,
            "environment_id" => "env_",
            "session_id" => "sesn_",
            "thread_id" => "sthr_",
            "vault_id" => "vlt_",
            "credential_id" => "vcrd_",
            _ => "thing_",
        };
        out.push_str(before);
        out.push_str(prefix);
        out.push_str(&"1".repeat(22));
        rest = after;
    }
    out + rest
}

fn assert_envelope(answer: &Answer, status: u16, kind: &str) {
    assert_eq!(answer.status, status, "{}: {}", answer.asked, answer.body);
    assert_eq!(answer.body["type"], "error", "{}", answer.asked);
    assert_eq!(
        answer.body["error"]["type"], kind,
        "{}: {}",
        answer.asked, answer.body
    );
    assert!(
        answer.body["error"]["message"]
            .as_str()
            .is_some_and(|m| !m.is_empty())
    );
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{}",
        answer.asked
    );
    assert_eq!(
        answer.body["request_id"].as_str(),
        answer.header("request-id"),
        "{}: the id of the body is that of the header",
        answer.asked
    );
    let id = answer.header("request-id").unwrap();
    assert!(id.parse::<RequestId>().is_ok(), "{id}");
}

#[tokio::test]
async fn the_contract_has_129_routes() {
    assert_eq!(gateway::routes().count(), 129);
}

#[tokio::test]
async fn an_unknown_route_is_not_found_before_the_key_is_looked_at() {
    let server = Server::start().await;
    for path in [
        "/",
        "/v1",
        "/v1/nothing",
        "/v1/agents/",
        "/v1/sessions/x/y",
        "/v2/agents",
    ] {
        let answer = server.bare(Method::GET, path).send().await;
        assert_envelope(&answer, 404, "not_found_error");
        assert_eq!(answer.message(), "Not found");
    }
}

#[tokio::test]
async fn a_wrong_method_is_refused_before_the_key_is_looked_at() {
    let server = Server::start().await;
    for route in gateway::routes() {
        let answer = server.bare(Method::PUT, &path(&route)).send().await;
        assert_envelope(&answer, 405, "invalid_request_error");
        assert_eq!(answer.message(), "Method Not Allowed");
        let allow = answer.header("allow").unwrap_or_default();
        assert!(
            allow.contains(route.method.as_str()),
            "{}: {allow}",
            route.path
        );
    }
}

#[tokio::test]
async fn a_missing_key_and_a_wrong_key_look_the_same_on_every_route() {
    let server = Server::start().await;
    for route in gateway::routes() {
        let path = path(&route);
        let ask = || server.bare(route.method.clone(), &path);
        for answer in [
            ask().send().await,
            ask().header("x-api-key", "lh_wrong").send().await,
            ask()
                .header("authorization", "Bearer lh_wrong")
                .send()
                .await,
            ask().header("authorization", "Basic bGg6bGg=").send().await,
            ask().header("authorization", "Bearer ").send().await,
        ] {
            assert_envelope(&answer, 401, "authentication_error");
            assert_eq!(answer.message(), "Authentication failed");
        }
    }
}

#[tokio::test]
async fn a_missing_beta_is_a_404_that_names_the_header() {
    let server = Server::start().await;
    for route in gateway::routes().filter(|route| !route.beta.is_empty()) {
        let path = path(&route);
        let ask = || server.bare(route.method.clone(), &path).key(&server.key);
        for answer in [
            ask().send().await,
            ask().header(BETA, "other-2020-01-01").send().await,
        ] {
            assert_envelope(&answer, 404, "not_found_error");
            assert!(answer.message().contains(BETA), "{}", answer.message());
            assert!(
                answer.message().contains(route.beta[0]),
                "{}",
                answer.message()
            );
        }
    }
}

#[tokio::test]
async fn a_missing_or_unknown_version_is_refused_after_the_beta() {
    let server = Server::start().await;
    for route in gateway::routes() {
        let ask = || {
            let beta = route.beta.first().copied().unwrap_or("none");
            server
                .bare(route.method.clone(), &path(&route))
                .key(&server.key)
                .header(BETA, beta)
        };
        let answer = ask().send().await;
        assert_envelope(&answer, 400, "invalid_request_error");
        assert_eq!(answer.message(), "anthropic-version: header is required");
        let answer = ask().header("anthropic-version", "1999-01-01").send().await;
        assert_envelope(&answer, 400, "invalid_request_error");
        assert!(
            answer.message().starts_with("anthropic-version"),
            "{}",
            answer.message()
        );
    }
}

#[tokio::test]
async fn another_workspace_is_forbidden_and_ones_own_may_be_named() {
    let server = Server::start().await;
    for route in gateway::routes() {
        let ask = |id: &str| {
            server
                .ask(route.method.clone(), &path(&route))
                .header("anthropic-workspace-id", id)
        };
        for id in ["wrkspc_1111111111111111111111", "nonsense"] {
            assert_envelope(&ask(id).send().await, 403, "permission_error");
        }
        assert_ne!(ask("wrkspc_default").send().await.status, 403);
    }
}

#[tokio::test]
async fn a_route_that_is_not_built_says_so_after_the_checks() {
    let server = Server::start().await;
    for route in gateway::routes().filter(|route| !route.built) {
        // The body is never looked at.
        let answer = server
            .ask(route.method.clone(), &path(&route))
            .body("{")
            .send()
            .await;
        assert_envelope(&answer, 501, "api_error");
        assert_eq!(answer.code(), Some("not_implemented"));
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
}

#[tokio::test]
async fn an_id_that_is_unknown_or_malformed_is_not_found() {
    let server = Server::start().await;
    let routes = gateway::routes().filter(|route| route.built && route.path.contains("_id}"));
    for route in routes {
        let unknown = path(&route);
        let malformed = unknown.replace(&"1".repeat(22), "0O");
        for path in [unknown, malformed] {
            let body = match route.method {
                Method::POST if route.path.ends_with("/events") => {
                    json!({"events": [{"type": "user.interrupt"}]}).to_string()
                }
                Method::POST if route.path.ends_with("/credentials") => json!({"auth": {
                    "type": "static_bearer", "token": "t", "mcp_server_url": "https://x.example/"
                }})
                .to_string(),
                _ => String::new(),
            };
            let mut ask = server.ask(route.method.clone(), &path);
            if !body.is_empty() {
                ask = ask.body(body);
            } else if route.method == Method::POST && route.path.ends_with('}') {
                ask = ask.body("{}");
            }
            assert_envelope(&ask.send().await, 404, "not_found_error");
        }
    }
}

#[tokio::test]
async fn the_old_key_header_beta_query_and_doubled_beta_values_are_understood() {
    let server = Server::start().await;
    let answer = server
        .bare(Method::GET, "/v1/agents?beta=true")
        .header("x-api-key", &server.key)
        .header(
            BETA,
            "foo-1,managed-agents-2026-04-01, managed-agents-2026-04-01",
        )
        .header("anthropic-version", "2023-06-01")
        .send()
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body, json!({"data": [], "next_page": null}));
}

#[tokio::test]
async fn lenient_headers_need_neither_beta_nor_version() {
    let server = Server::lenient().await;
    let answer = server
        .bare(Method::GET, "/v1/agents")
        .key(&server.key)
        .send()
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn unknown_query_keys_are_refused_on_every_list() {
    let server = Server::start().await;
    for path in [
        "/v1/agents",
        "/v1/environments",
        "/v1/sessions",
        "/v1/vaults",
        "/v1/models",
    ] {
        let answer = server.get(&format!("{path}?colour=red")).await;
        assert_envelope(&answer, 400, "invalid_request_error");
        assert!(answer.message().contains("colour"), "{}", answer.message());
        for limit in ["0", "-1", "x", "1001"] {
            let answer = server.get(&format!("{path}?limit={limit}")).await;
            assert_envelope(&answer, 400, "invalid_request_error");
            assert!(answer.message().contains("limit"), "{}", answer.message());
        }
    }
}

#[tokio::test]
async fn health_needs_no_key() {
    let server = Server::start().await;
    for path in ["/healthz", "/readyz", "/llms.txt"] {
        let answer = server.bare(Method::GET, path).send().await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("request-id").is_some(), "{path}");
    }
    server.shutdown.cancel();
    assert_eq!(server.bare(Method::GET, "/readyz").send().await.status, 503);
    assert_eq!(
        server.bare(Method::GET, "/healthz").send().await.status,
        200
    );
}
