//! Holds every answer that a test reads against the OpenAPI document: its status is declared, its body has the
//! declared shape, and it has no field that the document does not know.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use axum::http::{HeaderMap, Method};
use jsonschema::Validator;
use serde_json::{Value, json};

/// The document with every object closed.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = gateway::openapi();
    let mut schemas = document["components"]["schemas"].take();
    for schema in schemas.as_object_mut().unwrap().values_mut() {
        branch(schema);
    }
    document["components"]["schemas"] = schemas;
    document
});

/// A place in a document where a whole value stands: whatever its schema does not name must not be there.
fn place(schema: &mut Value) {
    branch(schema);
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    let says = ["properties", "$ref", "oneOf", "anyOf", "allOf"];
    if says.iter().any(|key| fields.contains_key(*key)) {
        fields.insert("unevaluatedProperties".to_owned(), json!(false));
    }
}

/// One of several schemas of one value: what it does not name another may.
fn branch(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(place),
            ("oneOf" | "anyOf" | "allOf", Value::Array(all)) => all.iter_mut().for_each(branch),
            ("items" | "additionalProperties", value) => place(value),
            _ => {}
        }
    }
}

/// Fails unless the document has such an answer. What it does not describe at all, such as a route that is not
/// served, passes.
pub fn check(method: &Method, path: &str, status: u16, headers: &HeaderMap, body: &Value) {
    let path = path.split('?').next().unwrap_or_default();
    let Some((template, operation)) = operation(method, path) else {
        return;
    };
    let answer = &operation["responses"][status.to_string()];
    assert!(
        !answer.is_null(),
        "{method} {template} answers {status}, which is not declared: {body}"
    );
    let pointer = answer["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
    let answer = pointer.map_or(answer, |pointer| DOCUMENT.pointer(pointer).unwrap());
    let media = headers
        .get("content-type")
        .map_or("", |kind| kind.to_str().unwrap());
    let media = media.split(';').next().unwrap_or_default();
    let schema = &answer["content"][media]["schema"];
    assert!(
        !schema.is_null(),
        "{method} {template} answers {status} as {media:?}, which is not declared"
    );
    if media == "application/json" {
        let key = format!("{method} {template} {status}");
        let wrong = wrong(key, schema, body);
        assert!(
            wrong.is_empty(),
            "{method} {template} answers {status} with {body}, but\n{wrong}"
        );
    }
}

/// The path and the operation of a request, if it is described.
fn operation(method: &Method, path: &str) -> Option<(&'static str, &'static Value)> {
    let method = method.as_str().to_lowercase();
    let fits = |template: &str| {
        let (mut asked, mut named) = (path.split('/'), template.split('/'));
        loop {
            match (asked.next(), named.next()) {
                (None, None) => return true,
                (Some(one), Some(name)) if one == name || name.starts_with('{') => {}
                _ => return false,
            }
        }
    };
    let paths = DOCUMENT["paths"].as_object().unwrap().iter();
    // A word is meant before a parameter: `/work/poll` is no work item.
    let fitting = paths.filter(|(template, _)| template.starts_with("/v1/") && fits(template));
    let (template, item) = fitting.min_by_key(|(template, _)| template.matches('{').count())?;
    Some((template, item.get(&method)?))
}

/// The schemas that a schema refers to, and those that they do: the whole document would take long to compile.
fn gather(schema: &Value, named: &mut serde_json::Map<String, Value>) {
    match schema {
        Value::Object(fields) => {
            let to = fields.get("$ref").and_then(Value::as_str);
            let name = to.map(|to| {
                to.strip_prefix("#/components/schemas/")
                    .expect("a schema by name")
            });
            if let Some(name) = name.filter(|name| !named.contains_key(*name)) {
                let schema = &DOCUMENT["components"]["schemas"][name];
                named.insert(name.to_owned(), schema.clone());
                gather(schema, named);
            }
            fields.values().for_each(|value| gather(value, named));
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, named)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What is wrong with a body.
fn wrong(key: String, schema: &Value, body: &Value) -> String {
    static COMPILED: LazyLock<Mutex<HashMap<String, Validator>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap();
    let validator = compiled.entry(key).or_insert_with(|| {
        let mut schema = schema.clone();
        place(&mut schema);
        let mut named = serde_json::Map::new();
        gather(&schema, &mut named);
        schema["components"] = json!({"schemas": named});
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        options.build(&schema).unwrap()
    });
    let errors = validator.iter_errors(body);
    let errors = errors.map(|error| format!("at {}: {error}", error.instance_path()));
    errors.collect::<Vec<_>>().join("\n")
}

#[test]
fn an_answer_that_the_document_does_not_know_is_seen() {
    let (get, headers) = (
        Method::GET,
        HeaderMap::from_iter([(
            "content-type".parse().unwrap(),
            "application/json".parse().unwrap(),
        )]),
    );
    let path = "/v1/x/sessions/sesn_1/why?x=y";
    let good = json!({"type": "session_why", "session_id": "sesn_1111111111111111111111", "status": "idle",
        "phase": "idle", "since": "2026-10-01T12:00:00.000000Z", "waits_for": "a message", "calls": [],
        "waiting_events": 0, "due_at": null, "unblock": {"method": "POST", "path": "/v1", "body": {"any": 1}}});
    let seen = |status: u16, body: &Value| {
        std::panic::catch_unwind(|| check(&get, path, status, &headers, body)).is_err()
    };
    assert!(!seen(200, &good));
    assert!(seen(201, &good), "a status that is not declared");
    for (pointer, value) in [
        ("/type", json!("why")),
        ("/session_id", json!("s")),
        ("/status", json!("asleep")),
        ("/since", json!("yesterday")),
        ("/unblock/method", json!(null)),
        ("/unblock/colour", json!("red")),
        ("/calls", json!([{"id": "sevt_1111111111111111111111"}])),
        ("/colour", json!("red")),
    ] {
        let body = crate::support::with(&good, pointer, value);
        assert!(seen(200, &body), "{pointer}");
    }
}
