//! What a schema says of a place that a check decides: which blocks stand in which event, and which events a
//! session begins with. The schema is not asked when a request is read, so this holds the two together.

use contract::client_event::SendEvents;
use contract::ids::{AgentId, EnvironmentId, EventId};
use contract::session::CreateSession;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::read;

fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    let settings = settings.with(|it| it.inline_subschemas = true);
    T::json_schema(&mut settings.into_generator()).to_value()
}

/// The values of `type` in the items of a list.
fn tags(list: &Value) -> Vec<&str> {
    let variants = list["items"]["oneOf"]
        .as_array()
        .expect("a list of variants");
    variants
        .iter()
        .filter_map(|variant| variant["properties"]["type"]["const"].as_str())
        .collect()
}

fn blocks() -> Vec<Value> {
    let source = json!({"type": "url", "url": "https://x.example/a"});
    vec![
        json!({"type": "text", "text": "hi"}),
        json!({"type": "image", "source": source}),
        json!({"type": "document", "source": source}),
        json!({"type": "search_result", "source": "https://x.y", "title": "t",
            "citations": {"enabled": true}, "content": [{"type": "text", "text": "x"}]}),
        json!({"type": "redacted"}),
    ]
}

/// An event of a type with one block, in a request that is otherwise right.
fn sent(kind: &str, block: &Value) -> Value {
    let content = json!([block]);
    let message = json!({"type": "user.message", "content": [{"type": "text", "text": "hi"}]});
    match kind {
        "system.message" => json!([message, {"type": kind, "content": content}]),
        "user.custom_tool_result" => json!([{"type": kind, "content": content,
            "custom_tool_use_id": EventId::from_bits(1).to_string()}]),
        _ => json!([{"type": kind, "content": content}]),
    }
}

#[test]
fn a_block_is_accepted_where_the_schema_has_it_and_refused_elsewhere() {
    let schema = schema::<SendEvents>();
    let events = schema["properties"]["events"]["items"]["oneOf"]
        .as_array()
        .unwrap();
    for kind in ["user.message", "user.custom_tool_result", "system.message"] {
        let event = events
            .iter()
            .find(|event| event["properties"]["type"]["const"] == kind);
        let known = tags(&event.unwrap()["properties"]["content"]);
        for block in blocks() {
            let request = json!({"events": sent(kind, &block)});
            let accepted = read::<SendEvents>(&request).and_then(|send| send.check());
            let listed = known.iter().any(|tag| block["type"] == *tag);
            assert_eq!(accepted.is_ok(), listed, "{kind}: {block}: {accepted:?}");
        }
    }
}

#[test]
fn a_session_begins_with_the_events_of_the_schema() {
    let schema = schema::<CreateSession>();
    let known = tags(&schema["properties"]["initial_events"]);
    let text = json!([{"type": "text", "text": "hi"}]);
    for event in [
        json!({"type": "user.message", "content": text}),
        json!({"type": "user.define_outcome", "description": "d", "rubric": {"type": "text", "content": "r"}}),
        json!({"type": "user.interrupt"}),
        json!({"type": "system.message", "content": text}),
    ] {
        let request = json!({"agent": AgentId::from_bits(1).to_string(), "initial_events": [event],
            "environment_id": EnvironmentId::from_bits(1).to_string()});
        let accepted = read::<CreateSession>(&request).and_then(|create| create.check());
        let listed = known.iter().any(|tag| event["type"] == *tag);
        assert_eq!(accepted.is_ok(), listed, "{event}: {accepted:?}");
    }
}
