//! The OpenAPI document says what the router does: routes, methods, parameters, statuses. So do `/llms.txt`
//! and the list of routes in `docs/compatibility.md`.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::Server;

/// An id that is well-formed and names nothing, for each parameter of a path.
fn nobody(path: &str) -> String {
    let prefixes = [
        ("agent_id", "agent_"),
        ("environment_id", "env_"),
        ("session_id", "sesn_"),
        ("thread_id", "sthr_"),
        ("vault_id", "vlt_"),
        ("credential_id", "vcrd_"),
        ("workspace_id", "wrkspc_"),
        ("key_id", "apikey_"),
        ("model_id", "model-"),
        ("sandbox_id", "sbx_"),
        ("exec_id", "exec_"),
        ("snapshot_id", "snap_"),
        ("volume_id", "vol_"),
        ("template_id", "template-"),
    ];
    let mut concrete = path.to_owned();
    for (name, prefix) in prefixes {
        let id = format!("{prefix}1111111111111111111111");
        concrete = concrete.replace(&format!("{{{name}}}"), &id);
    }
    assert!(
        !concrete.contains('{'),
        "{path} has a parameter without an example"
    );
    concrete
}

/// Every operation of the document: method, path, what stands there.
fn operations() -> Vec<(Method, String, Value)> {
    let document = gateway::openapi();
    let paths = document["paths"].as_object().unwrap().clone();
    let mut operations = Vec::new();
    for (path, item) in paths
        .into_iter()
        .filter(|(path, _)| path.starts_with("/v1/"))
    {
        for (method, operation) in item.as_object().unwrap() {
            if method != "parameters" {
                let method = method.to_uppercase().parse().unwrap();
                operations.push((method, path.clone(), operation.clone()));
            }
        }
    }
    operations
}

#[tokio::test]
async fn every_served_route_is_described_and_nothing_else() {
    let server = Server::start().await;
    let described = operations()
        .into_iter()
        .map(|(method, path, _)| (path, method.to_string()))
        .collect::<BTreeSet<_>>();
    let document = gateway::openapi();
    let unbuilt = document["x-longhand-not-implemented"].as_array().unwrap();
    for route in gateway::routes() {
        let key = (route.path.to_owned(), route.method.to_string());
        let name = json!(format!("{} {}", route.method, route.path));
        assert_eq!(described.contains(&key), route.built, "{name}");
        assert_eq!(unbuilt.contains(&name), !route.built, "{name}");
    }
    let paths = described
        .iter()
        .map(|(path, _)| path)
        .collect::<BTreeSet<_>>();
    for path in paths {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let answer = server.bare(method.clone(), &nobody(path)).send().await;
            let known = described.contains(&(path.clone(), method.to_string()));
            let listed = unbuilt.contains(&json!(format!("{method} {path}")));
            let wanted = if known || listed { 401 } else { 405 };
            assert_eq!(answer.status, wanted, "{method} {path}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn exactly_the_described_query_parameters_are_known() {
    let server = Server::start().await;
    let operator = server
        .new_key(json!({"name": "op", "operator": true}))
        .await;
    let declared = |operation: &Value| {
        let parameters = operation["parameters"].as_array().unwrap().iter();
        let parameters = parameters.filter(|parameter| parameter["in"] == "query");
        parameters
            .map(|parameter| {
                (
                    parameter["name"].as_str().unwrap().to_owned(),
                    parameter["schema"].clone(),
                )
            })
            .collect::<BTreeMap<_, _>>()
    };
    let all = operations();
    let names = all
        .iter()
        .flat_map(|(_, _, operation)| declared(operation).into_keys());
    let names = names.collect::<BTreeSet<_>>();
    assert!(names.len() > 15, "{names:?}");
    for (method, path, operation) in &all {
        let declared = declared(operation);
        for name in names.iter().map(String::as_str).chain(["nonsense"]) {
            let value = declared.get(name).map_or_else(|| "1".to_owned(), example);
            let key = name.replace('[', "%5B").replace(']', "%5D");
            let query = format!("{}?{key}={value}", nobody(path));
            let ask = server.ask(method.clone(), &query).key(&operator);
            let answer = ask.body("{}").send().await;
            let text = answer.message().to_owned();
            let unknown = text.contains("unknown query parameter");
            assert_eq!(
                unknown,
                !declared.contains_key(name),
                "{method} {query}: {text}"
            );
            if declared.contains_key(name) {
                let blamed = format!("`{}`", name.trim_end_matches("[]"));
                let refused = answer.status == 400 && text.starts_with(&blamed);
                // Cursors and ids are no example's; one filter needs another beside it.
                let excused = value.is_empty() || name == "agent_version";
                assert!(!refused || excused, "{method} {query} is refused: {text}");
            }
        }
    }
}

/// A value that a schema allows.
fn example(schema: &Value) -> String {
    if let Some(first) = schema["items"]["enum"][0]
        .as_str()
        .or(schema["enum"][0].as_str())
    {
        return first.to_owned();
    }
    match (schema["type"].as_str().unwrap(), schema["format"].as_str()) {
        ("integer", _) => "1".to_owned(),
        ("boolean", _) => "true".to_owned(),
        (_, Some("date-time")) => "2026-10-01T12:00:00Z".to_owned(),
        // A cursor or an id; whether it names something is another matter.
        _ => String::new(),
    }
}

#[tokio::test]
async fn the_largest_described_page_is_the_largest_that_is_served() {
    let server = Server::start().await;
    let operator = server
        .new_key(json!({"name": "op", "operator": true}))
        .await;
    let mut checked = 0;
    for (method, path, operation) in operations() {
        let parameters = operation["parameters"].as_array().unwrap();
        let Some(limit) = parameters
            .iter()
            .find(|parameter| parameter["name"] == "limit")
        else {
            continue;
        };
        let most = limit["schema"]["maximum"].as_u64().unwrap();
        for (limit, refused) in [(most, false), (most + 1, true), (0, true)] {
            let query = format!("{}?limit={limit}", nobody(&path));
            let answer = server
                .ask(method.clone(), &query)
                .key(&operator)
                .send()
                .await;
            let said = answer.status == 400 && answer.message().starts_with("`limit`");
            assert_eq!(said, refused, "{method} {query}: {}", answer.body);
        }
        checked += 1;
    }
    assert!(checked >= 10, "{checked}");
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn walk(at: &Value, document: &Value, seen: &mut usize) {
        match at {
            Value::Object(fields) => {
                if let Some(to) = fields.get("$ref").and_then(Value::as_str) {
                    let pointer = to.strip_prefix('#').expect("within the document");
                    assert!(document.pointer(pointer).is_some(), "{to} leads nowhere");
                    *seen += 1;
                }
                fields
                    .values()
                    .for_each(|value| walk(value, document, seen));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, document, seen)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let (document, mut seen) = (gateway::openapi(), 0);
    walk(&document, &document, &mut seen);
    assert!(seen > 200, "{seen}");
    let ids = operations()
        .into_iter()
        .map(|(_, _, operation)| operation["operationId"].to_string());
    let ids = ids.collect::<Vec<_>>();
    let unique = ids.iter().collect::<BTreeSet<_>>();
    assert_eq!(unique.len(), ids.len(), "an operation's id is its own");
}

#[tokio::test]
async fn llms_txt_names_every_served_route() {
    let server = Server::start().await;
    let answer = server.bare(Method::GET, "/llms.txt").send().await;
    assert_eq!(answer.status, 200);
    let text = gateway::llms_txt();
    for (method, path, operation) in operations() {
        let what = operation["summary"].as_str().unwrap();
        let line = format!("- {method} {path}: {what}\n");
        assert!(text.contains(&line), "{line}");
    }
}

#[test]
fn the_list_of_routes_in_the_documents_is_that_of_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compatibility.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text
        .split_once("<!-- routes -->\n")
        .expect("the mark where the list begins");
    let (listed, _) = rest
        .split_once("<!-- /routes -->")
        .expect("the mark where it ends");
    assert_eq!(
        listed.trim(),
        gateway::routes_markdown().trim(),
        "run `cargo xtask docs`"
    );
}

#[tokio::test]
async fn texts_for_people_and_probes_say_that_they_are_text() {
    let server = Server::start().await;
    for path in ["/healthz", "/readyz", "/llms.txt"] {
        let answer = server.bare(Method::GET, path).send().await;
        assert_eq!(answer.status, 200, "{path}");
        let kind = answer.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/plain"), "{path}: {kind}");
    }
}
