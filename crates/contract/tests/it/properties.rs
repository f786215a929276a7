//! Any bytes and any JSON end in a value or a refusal, never in a panic.

use contract::agent::{AgentDefinition, CreateAgent, UpdateAgent};
use contract::client_event::SendEvents;
use contract::credential::{CreateCredential, UpdateCredential};
use contract::deployment::{CreateDeployment, Cron, DeploymentDefinition, UpdateDeployment};
use contract::dream::CreateDream;
use contract::environment::{CreateEnvironment, UpdateEnvironment};
use contract::file;
use contract::memory::{self, CreateMemory, CreateMemoryStore, UpdateMemory, UpdateMemoryStore};
use contract::metadata::Metadata;
use contract::parse::parse;
use contract::query::{HeartbeatWork, ListEvents, ListFiles, ListMemories, ListSessions};
use contract::session::{AddResource, CreateSession, UpdateResource, UpdateSession};
use contract::skill;
use contract::time::Micros;
use contract::work::{StopWork, UpdateWork};
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
        "initial_events",
        "resources",
        "file",
        "github_repository",
        "memory_store",
        "schedule",
        "cron",
        "expression",
        "timezone",
        "UTC",
        "inputs",
        "sessions",
        "session_ids",
        "path",
        "precondition",
        "content_sha256",
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
    let _ = parse::<CreateMemoryStore>(body).map(CreateMemoryStore::resolve);
    let _ = parse::<UpdateMemoryStore>(body);
    let _ = parse::<CreateMemory>(body).map(|create| create.check());
    let _ = parse::<UpdateMemory>(body).map(|update| update.check());
    let _ = parse::<CreateDream>(body).map(CreateDream::resolve);
    let _ = parse::<AddResource>(body).map(|add| add.check());
    let _ = parse::<UpdateResource>(body).map(|update| update.check());
    let _ = parse::<UpdateWork>(body).map(|update| update.updated(&Metadata::new()));
    let _ = parse::<StopWork>(body);
    read_as_deployment(body);
}

fn read_as_deployment(body: &[u8]) {
    let text = r#"{"name":"n","agent":"agent_1111111111111111111111","environment_id":"env_1111111111111111111111",
        "initial_events":[{"type":"user.message","content":[{"type":"text","text":"t"}]}]}"#;
    let base = parse::<CreateDeployment>(text.as_bytes()).unwrap();
    let base = base.resolve().unwrap().definition;
    let _ = parse::<CreateDeployment>(body).map(CreateDeployment::resolve);
    if let Ok(update) = parse::<UpdateDeployment>(body)
        && let Ok(changed) = base.updated(update)
    {
        let text = serde_json::to_string(&changed.definition).unwrap();
        let again = serde_json::from_str::<DeploymentDefinition>(&text).unwrap();
        assert_eq!(again, changed.definition);
    }
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
    fn any_deployment_is_read_or_refused(events in value(), resources in value(), schedule in value()) {
        let body = json!({"initial_events": [events], "resources": [resources], "schedule": schedule});
        read_as_deployment(&serde_json::to_vec(&body).unwrap());
    }

    #[test]
    fn any_schedule_is_read_or_refused(expression in "([0-9*,/ -]{0,12}|.{0,12})", minute in 0..2_000_000i64) {
        let clock = jiff::civil::DateTime::constant(2026, 1, 1, 0, 0, 0, 0);
        let clock = clock + jiff::SignedDuration::from_mins(minute);
        if let Ok(cron) = Cron::parse(&expression) {
            assert!(!cron.matches(clock) || cron.on(clock.date()), "{expression} at {clock}");
        }
    }

    #[test]
    fn a_name_that_is_kept_is_one_component(sent in "([a-z./\\\\]{0,8}|.{0,40})", mime in ".{0,10}") {
        if let Ok(name) = file::name(Some(&sent), &mime) {
            assert!(!name.contains(['/', '\\']) && !matches!(name.as_str(), "" | "." | ".."), "{name}");
        }
    }

    #[test]
    fn a_path_that_is_accepted_stays_below_its_root(path in "((/[a-z.]{0,3}){0,5}|.{0,40})") {
        if memory::check_path(&path).is_ok() {
            let segments = path.strip_prefix('/').unwrap().split('/');
            assert!(segments.into_iter().all(|segment| !matches!(segment, "" | "." | "..")), "{path}");
            assert_eq!(memory::check_prefix(&format!("{path}/")), Ok(()));
        }
        let skill = [path.as_str(), "d/SKILL.md"];
        assert!(skill::folder(&skill).is_err() || path.starts_with("d/"), "{path}");
    }

    #[test]
    fn any_query_is_read_or_refused(query in ".{0,60}", key in "(limit|page|types|order|created_at)(%5B%5D|\\[gte\\])?") {
        let _ = ListEvents::parse(&query);
        let _ = ListSessions::parse(&format!("{key}={query}&%{query}"));
        let _ = ListMemories::parse(&format!("path_prefix={query}&depth={query}"));
        let _ = ListFiles::parse(&format!("ids[]={query}&{key}={query}"));
        let _ = HeartbeatWork::parse(&format!("expected_last_heartbeat={query}"));
    }
}
