//! The OpenAPI document of the HTTP interface, made from the table of routes and the types of the contract. It
//! describes; nothing is decided here, and what it says of routes, parameters and statuses is tested against
//! the router.

mod operators;
mod queries;
mod sandboxes;
mod shapes;
mod text;

use contract::dialect::Generation;
use contract::error::ErrorKind;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

pub use self::text::{llms_txt, routes_markdown};

use self::shapes::{Body, Reply, Shape};
use crate::table::{Beta, OPERATE, PUBLIC, Route};

/// Schemas of what is sent stand beside those of what is answered, under names of their own.
const SENT: &str = "Request.";

const BYTES: &str = "application/octet-stream";

/// The OpenAPI 3.1 document of what this build serves. What it does not serve is listed by name under
/// `x-longhand-not-implemented`.
#[must_use]
pub fn openapi() -> Value {
    let mut document = Document::new();
    let mut paths = Map::new();
    let mut unbuilt = Vec::new();
    for route in PUBLIC.iter().chain(OPERATE) {
        if route.handler.is_none() {
            unbuilt.push(json!(format!("{} {}", route.method, route.path)));
            continue;
        }
        let method = route.method.as_str().to_lowercase();
        let item = paths
            .entry(route.path)
            .or_insert_with(|| json!({"parameters": in_path(route.path)}));
        item[method] = document.operation(route);
    }
    for (path, what) in [
        ("/healthz", "Whether the process answers"),
        ("/metrics", "Counters and gauges for Prometheus"),
        ("/readyz", "Whether new work is welcome"),
        ("/llms.txt", "This server in the words that models read"),
    ] {
        paths.insert(path.to_owned(), json!({"get": plain(path, what)}));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Longhand",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A self-hosted backend for managed agents. Use an official Anthropic SDK and set its `base_url`.",
        },
        "servers": [{"url": "http://127.0.0.1:8787"}],
        "security": [{"bearer": []}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": document.schemas(),
            "headers": {"RequestId": request_id()},
            "responses": refusals(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "x-longhand-not-implemented": unbuilt,
    })
}

/// The two sets of schemas while they are collected.
struct Document {
    sent: SchemaGenerator,
    answered: SchemaGenerator,
}

impl Document {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            sent: settings().for_deserialize().into_generator(),
            answered: settings().for_serialize().into_generator(),
        }
    }

    fn operation(&mut self, route: &Route) -> Value {
        let shape = shapes::of(&route.method, route.path);
        let shape = shape.expect("a test finds a served route without a shape");
        let mut parameters = headers(route, &shape);
        for (name, schema) in shape.query.parameters() {
            parameters.push(json!({"name": name, "in": "query", "schema": schema}));
        }
        let mut responses = Map::new();
        responses.insert("200".to_owned(), self.reply(shape.reply));
        for kind in declared(route, &shape) {
            let to = format!("#/components/responses/{}", kind.status());
            responses.insert(kind.status().to_string(), json!({"$ref": to}));
        }
        let mut operation = json!({
            "operationId": name(route),
            "summary": shape.what,
            "tags": [tag(route.path)],
            "parameters": parameters,
            "responses": responses,
        });
        if route.method == axum::http::Method::POST {
            let bytes = matches!(shape.body, Some(Body::Bytes));
            let (schema, required) = match shape.body {
                None => (empty(), false),
                Some(body) => (self.body(body), true),
            };
            let media = if bytes { BYTES } else { "application/json" };
            let content = json!({media: {"schema": schema}});
            operation["requestBody"] = json!({"required": required, "content": content});
        }
        operation
    }

    fn body(&mut self, body: Body) -> Value {
        match body {
            Body::Typed(write) => {
                let mut schema = write(&mut self.sent).to_value();
                rename(&mut schema);
                schema
            }
            Body::Bytes => json!({"type": "string"}),
        }
    }

    fn reply(&mut self, reply: Reply) -> Value {
        let schema = match reply {
            Reply::Typed(write) => write(&mut self.answered).to_value(),
            Reply::Bytes => return answer(BYTES, &json!({"type": "string"})),
            Reply::Stream => return answer("text/event-stream", &json!({"type": "string"})),
        };
        answer("application/json", &schema)
    }

    fn schemas(mut self) -> Value {
        let mut schemas = self.answered.take_definitions(true);
        for (name, mut schema) in self.sent.take_definitions(true) {
            rename(&mut schema);
            schemas.insert(format!("{SENT}{name}"), schema);
        }
        schemas.insert("Error".to_owned(), envelope());
        Value::Object(schemas)
    }
}

/// Points the references of a schema of what is sent to its own kind.
fn rename(schema: &mut Value) {
    const TO: &str = "#/components/schemas/";
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(to) if name == "$ref" => {
                        if let Some(named) = to.strip_prefix(TO) {
                            *to = format!("{TO}{SENT}{named}");
                        }
                    }
                    value => rename(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(rename),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn answer(media: &str, schema: &Value) -> Value {
    json!({
        "description": "Done",
        "headers": {"request-id": {"$ref": "#/components/headers/RequestId"}},
        "content": {media: {"schema": schema}},
    })
}

fn request_id() -> Value {
    json!({
        "description": "The id of this request: in the server's log, and in the envelope of an error",
        "required": true,
        "schema": {"type": "string", "pattern": "^req_[1-9A-HJ-NP-Za-km-z]+$"},
    })
}

fn in_path(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('{')?;
        name.strip_suffix('}')
    });
    names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect()
}

fn headers(route: &Route, shape: &Shape) -> Vec<Value> {
    let mut headers = Vec::new();
    if !matches!(route.beta, Beta::Operator | Beta::Own) {
        let versions = json!({"type": "string", "enum": Generation::VERSIONS});
        headers.push(header("anthropic-version", true, &versions));
        headers.push(header(
            "anthropic-workspace-id",
            false,
            &json!({"type": "string"}),
        ));
    }
    if let [first, ..] = route.beta.values() {
        let schema = json!({"type": "string", "examples": [first], "pattern": pattern(route.beta)});
        headers.push(header("anthropic-beta", true, &schema));
    }
    // What changes in a sandbox is stored nowhere, so no stream of that is taken up again.
    if matches!(shape.reply, Reply::Stream) && route.path.ends_with("/stream") {
        headers.push(header("last-event-id", false, &json!({"type": "string"})));
    }
    if route.method == axum::http::Method::POST {
        headers.push(header("idempotency-key", false, &json!({"type": "string"})));
    }
    headers
}

/// A list with commas that holds one of the values.
fn pattern(beta: Beta) -> String {
    format!("(^|,) *({}) *(,|$)", beta.values().join("|"))
}

fn header(name: &str, required: bool, schema: &Value) -> Value {
    json!({"name": name, "in": "header", "required": required, "schema": schema})
}

/// What else a route may answer. Whatever it sends is one of these or 200.
fn declared(route: &Route, shape: &Shape) -> Vec<ErrorKind> {
    use ErrorKind as Kind;
    let mut kinds = vec![
        Kind::InvalidRequest,
        Kind::Authentication,
        Kind::Permission,
        Kind::RateLimit,
        Kind::Api,
        Kind::Unavailable,
    ];
    if route.path.contains('{') || !route.beta.values().is_empty() || shape.body.is_some() {
        kinds.push(Kind::NotFound);
    }
    if route.method != axum::http::Method::GET || route.path.ends_with("/egress/explain") {
        kinds.push(Kind::Conflict);
    }
    if route.method == axum::http::Method::POST {
        kinds.extend([Kind::RequestTooLarge, Kind::UnsupportedMediaType]);
    }
    // A server that was started without sandboxes.
    let unless_there = [
        "/v1/x/sandboxes",
        "/v1/x/snapshots",
        "/v1/x/volumes",
        "/v1/x/templates",
        "/v1/x/egress_audit",
    ];
    if unless_there
        .iter()
        .any(|start| route.path.starts_with(start))
    {
        kinds.push(Kind::NotImplemented);
    }
    kinds.sort_by_key(|kind| kind.status());
    kinds
}

fn refusals() -> Value {
    use ErrorKind as Kind;
    let described = [
        (
            Kind::InvalidRequest,
            "The request is wrong; the message names the field",
        ),
        (Kind::Authentication, "No key, or none that is known"),
        (Kind::Permission, "The key may not do this"),
        (
            Kind::NotFound,
            "There is no such thing, or not for this key",
        ),
        (
            Kind::Conflict,
            "Somebody else changed it first, or its state forbids it",
        ),
        (Kind::RequestTooLarge, "The body is larger than 32 MB"),
        (
            Kind::UnsupportedMediaType,
            "The body is not application/json",
        ),
        (
            Kind::RateLimit,
            "Too much at once; `retry-after` says when to try again",
        ),
        (
            Kind::Api,
            "A defect of the server; its log has the cause under the request's id",
        ),
        (Kind::NotImplemented, "This server does not do that"),
        (
            Kind::Unavailable,
            "Not now; `retry-after` says when to try again",
        ),
    ];
    let response = |(kind, text): (Kind, &str)| {
        let mut response = answer(
            "application/json",
            &json!({"$ref": "#/components/schemas/Error"}),
        );
        response["description"] = json!(text);
        (kind.status().to_string(), response)
    };
    described
        .into_iter()
        .map(response)
        .collect::<Map<_, _>>()
        .into()
}

/// The envelope of an error (api.md §2.1).
fn envelope() -> Value {
    json!({
        "type": "object",
        "required": ["type", "error", "request_id"],
        "properties": {
            "type": {"const": "error"},
            "request_id": {"type": "string"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {
                    "type": {"type": "string", "enum": [
                        "invalid_request_error", "authentication_error", "billing_error",
                        "permission_error", "not_found_error", "conflict_error",
                        "request_too_large", "rate_limit_error", "api_error", "timeout_error",
                        "overloaded_error",
                    ]},
                    "message": {"type": "string"},
                    "details": {"type": ["object", "null"]},
                },
            },
        },
    })
}

fn empty() -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": {}})
}

fn plain(path: &str, what: &str) -> Value {
    let media = match path {
        "/metrics" => "application/openmetrics-text",
        _ => "text/plain",
    };
    let content = json!({media: {"schema": {"type": "string"}}});
    let answer = |text: &str| json!({"description": text, "content": content});
    let mut responses = json!({"200": answer("Yes")});
    if path == "/readyz" {
        responses["503"] = answer("Not now, and why");
    }
    json!({
        "operationId": path.trim_matches('/').replace('.', "_"), "summary": what, "tags": ["server"],
        "security": [], "responses": responses,
    })
}

/// `POST /v1/agents/{agent_id}/archive` is `post_agents_id_archive`.
fn name(route: &Route) -> String {
    let words = route.path.split('/').skip(2).map(|segment| match segment {
        "" => "root",
        segment if segment.starts_with('{') => "id",
        segment => segment,
    });
    let words = words.collect::<Vec<_>>().join("_");
    format!("{}_{words}", route.method.as_str().to_lowercase())
}

fn tag(path: &str) -> &str {
    let mut segments = path.split('/').skip(2);
    segments.next().map_or(
        "server",
        |first| if first == "x" { "operators" } else { first },
    )
}
