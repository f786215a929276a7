//! Any bytes and any JSON end in a value or a refusal, never in a panic.

use contract::agent::{AgentDefinition, CreateAgent, UpdateAgent};
use contract::client_event::SendEvents;
use contract::credential::{CreateCredential, UpdateCredential};
use contract::environment::{CreateEnvironment, UpdateEnvironment};
use contract::parse::parse;
use contract::query::{ListEvents, ListSessions};
use contract::session::{CreateSession, UpdateSession};
use contract::time::Micros;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// JSON made of the words that the contract knows, so that it gets past the first key.
fn value() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "type",
        "name",
        "model",
        "id",
        "tools",
        "configs",
        "events",
        "content",
        "text",
        "source",
        "custom",
        "agent_toolset_20260401",
        "mcp_toolset",
        "user.message",
        "image",
        "auth",
        "agent",
        "static_bearer",
        "environment_variable",
        "config",
        "cloud",
        "networking",
        "limited",
        "metadata",
        "input_schema",
        "object",
        "bash",
        "agent_with_overrides",
        "environment_id",
        "multiagent",
        "coordinator",
        "agents",
        "self",
        "",
        "é",
        "\u{10ffff}",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((words.clone(), inner), 0..6).prop_map(|fields| {
                Value::Object(
                    fields
                        .into_iter()
                        .map(|(k, v)| (k.to_owned(), v))
                        .collect::<Map<_, _>>(),
                )
            }),
        ]
    })
}

fn read_as_everything(body: &[u8]) {
    if let Ok(request) = parse::<CreateAgent>(body)
        && let Ok(definition) = request.resolve()
    {
        let text = serde_json::to_string(&definition).unwrap();
        assert_eq!(
            serde_json::from_str::<AgentDefinition>(&text).unwrap(),
            definition
        );
    }
    let base = parse::<CreateAgent>(br#"{"name":"a","model":"m"}"#)
        .unwrap()
        .resolve()
        .unwrap();
    let _ = parse::<UpdateAgent>(body).map(|update| base.updated(update));
    let _ = parse::<SendEvents>(body).map(|send| send.check());
    let _ = parse::<CreateSession>(body).map(|create| create.check());
    let _ = parse::<UpdateSession>(body).map(|update| update.check());
    let _ = parse::<CreateEnvironment>(body).map(CreateEnvironment::resolve);
    let _ = parse::<UpdateEnvironment>(body);
    let _ = parse::<CreateCredential>(body).map(|create| create.resolve(Micros(0)));
    let _ = parse::<UpdateCredential>(body);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        read_as_everything(&body);
    }

    #[test]
    fn any_json_is_read_or_refused(value in value()) {
        read_as_everything(&serde_json::to_vec(&value).unwrap());
    }

    #[test]
    fn any_agent_is_read_or_refused(tools in value(), model in value(), multiagent in value(), extra in value()) {
        let body = json!({"name": "a", "model": "m", "tools": [tools]});
        read_as_everything(&serde_json::to_vec(&body).unwrap());
        let body = json!({"name": "a", "model": model, "multiagent": multiagent, "metadata": extra});
        read_as_everything(&serde_json::to_vec(&body).unwrap());
        let tool = json!({"type": "custom", "name": "t", "description": "d", "input_schema": tools});
        let body = json!({"name": "a", "model": "m", "tools": [tool]});
        read_as_everything(&serde_json::to_vec(&body).unwrap());
    }

    #[test]
    fn any_query_is_read_or_refused(query in ".{0,60}", key in "(limit|page|types|order|created_at)(%5B%5D|\\[gte\\])?") {
        let _ = ListEvents::parse(&query);
        let _ = ListSessions::parse(&format!("{key}={query}&%{query}"));
    }
}
