//! Deployments and their runs: requests, updates, schedules, objects.

use contract::agent::{AgentReference, AgentTag};
use contract::deployment::{
    CreateDeployment, Cron, Deployment, DeploymentDefinition, DeploymentRun, DeploymentState,
    PausedError, PausedReason, Resolved, RunError, RunErrorKind, Trigger, UpdateDeployment,
};
use contract::ids::{
    AgentId, DeploymentId, DeploymentRunId, EnvironmentId, FileId, MemoryStoreId, SessionId,
    VaultId,
};
use contract::parse::Invalid;
use contract::time::Micros;
use jiff::civil::DateTime;
use serde_json::{Value, json};

use crate::{read, with};

const T: &str = "1970-01-01T00:00:00.000000Z";

fn create(body: &Value) -> Result<Resolved, Invalid> {
    read::<CreateDeployment>(body)?.resolve()
}

fn update(stored: &DeploymentDefinition, body: &Value) -> Result<Resolved, Invalid> {
    stored.updated(read::<UpdateDeployment>(body)?)
}

fn message() -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": "hi"}]})
}

fn minimal() -> Value {
    json!({"name": "n", "agent": AgentId::from_bits(1).to_string(),
        "environment_id": EnvironmentId::from_bits(2).to_string(), "initial_events": [message()]})
}

fn full() -> Value {
    json!({"name": "n", "agent": {"type": "agent", "id": AgentId::from_bits(1).to_string(), "version": 3},
        "environment_id": EnvironmentId::from_bits(2).to_string(),
        "initial_events": [
            {"type": "user.define_outcome", "description": "d", "rubric": {"type": "text", "content": "r"},
                "max_iterations": 5},
            message(),
            {"type": "system.message", "content": [{"type": "text", "text": "now"}]}],
        "description": "d", "metadata": {"k": "v"}, "vault_ids": [VaultId::from_bits(3).to_string()],
        "schedule": {"type": "cron", "expression": "0 9 * * 1-5", "timezone": "Europe/Berlin"},
        "budget": {"type": "limit", "max_list_cost": {"amount": "100", "currency": "USD"}},
        "resources": [
            {"type": "file", "file_id": FileId::from_bits(4).to_string(), "mount_path": null},
            {"type": "github_repository", "url": "https://github.com/a/b", "authorization_token": "s3cret",
                "checkout": {"type": "branch", "name": "main"}},
            {"type": "memory_store", "memory_store_id": MemoryStoreId::from_bits(5).to_string(),
                "access": "read_only"}]})
}

fn served(definition: DeploymentDefinition, state: DeploymentState) -> Value {
    let agent = AgentReference {
        id: AgentId::from_bits(1),
        kind: AgentTag::Agent,
        version: 3,
    };
    let deployment = Deployment::new(DeploymentId::from_bits(9), agent, definition, state);
    serde_json::to_value(deployment).unwrap()
}

#[test]
fn a_deployment_is_served_as_it_was_asked_for_without_secrets() {
    let resolved = create(&full()).unwrap();
    let agent = resolved.agent.as_ref().unwrap();
    assert_eq!(agent.version.unwrap().get(), 3);
    let tokens = resolved.tokens.as_ref().unwrap();
    let tokens = tokens
        .iter()
        .map(|token| token.as_ref().map(|token| token.expose()));
    assert_eq!(tokens.collect::<Vec<_>>(), [None, Some("s3cret"), None]);
    assert!(!format!("{resolved:?}").contains("s3cret"));

    let stored = serde_json::to_string(&resolved.definition).unwrap();
    assert!(!stored.contains("s3cret"), "{stored}");
    let again = serde_json::from_str::<DeploymentDefinition>(&stored).unwrap();
    assert_eq!(again, resolved.definition);

    let mut wanted = full();
    for (key, value) in [
        ("id", json!(DeploymentId::from_bits(9).to_string())),
        ("type", json!("deployment")),
        ("status", json!("active")),
        ("paused_reason", json!(null)),
        ("created_at", json!(T)),
        ("updated_at", json!(T)),
        ("archived_at", json!(null)),
    ] {
        wanted[key] = value;
    }
    wanted["schedule"]["last_run_at"] = json!(null);
    wanted["schedule"]["upcoming_runs_at"] = json!([T]);
    wanted["resources"][0]
        .as_object_mut()
        .unwrap()
        .remove("mount_path");
    wanted["resources"][1]
        .as_object_mut()
        .unwrap()
        .remove("authorization_token");
    let state = DeploymentState {
        upcoming_runs_at: vec![Micros(0)],
        ..DeploymentState::default()
    };
    assert_eq!(served(resolved.definition, state), wanted);
}

#[test]
fn what_a_minimal_deployment_leaves_out_is_null_or_empty() {
    let resolved = create(&minimal()).unwrap();
    assert_eq!(resolved.agent.unwrap().version, None, "the latest");
    let shown = served(resolved.definition, DeploymentState::default());
    for (key, value) in [
        ("description", json!(null)),
        ("schedule", json!(null)),
        ("resources", json!([])),
        ("vault_ids", json!([])),
        ("metadata", json!({})),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
    assert!(shown.get("budget").is_none(), "absent when unset");
}

#[test]
fn a_deployment_says_why_it_is_paused_until_it_is_archived() {
    let definition = create(&minimal()).unwrap().definition;
    let failed = PausedReason::Error {
        error: PausedError {
            kind: RunErrorKind::VaultNotFound,
        },
    };
    for (reason, shown) in [
        (PausedReason::Manual, json!({"type": "manual"})),
        (
            failed,
            json!({"type": "error", "error": {"type": "vault_not_found_error"}}),
        ),
    ] {
        let mut state = DeploymentState {
            paused: Some(reason),
            ..DeploymentState::default()
        };
        let paused = served(definition.clone(), state.clone());
        assert_eq!(
            (&paused["status"], &paused["paused_reason"]),
            (&json!("paused"), &shown)
        );
        state.archived_at = Some(Micros(0));
        let archived = served(definition.clone(), state);
        assert_eq!(
            (&archived["status"], &archived["paused_reason"]),
            (&json!("active"), &json!(null))
        );
    }
}

#[test]
fn an_update_replaces_what_it_names_and_keeps_the_rest() {
    let stored = create(&full()).unwrap().definition;
    let kept = update(&stored, &json!({})).unwrap();
    assert_eq!(kept.definition, stored);
    assert!(kept.agent.is_none() && kept.tokens.is_none());

    let cleared = json!({"description": null, "schedule": null, "budget": null, "resources": null,
        "vault_ids": null, "metadata": {"k": null}});
    let cleared = update(&stored, &cleared).unwrap();
    assert_eq!(cleared.tokens.unwrap().len(), 0);
    let bare = create(&with(
        &minimal(),
        "/initial_events",
        Some(full()["initial_events"].clone()),
    ));
    assert_eq!(cleared.definition, bare.unwrap().definition);

    let agent = json!({"agent": AgentId::from_bits(7).to_string(), "metadata": null, "name": "m"});
    let moved = update(&stored, &agent).unwrap();
    let asked = moved.agent.unwrap();
    assert_eq!((asked.id, asked.version), (AgentId::from_bits(7), None));
    assert_eq!(
        (moved.definition.name.as_str(), &moved.definition.metadata),
        ("m", &stored.metadata)
    );
}

#[test]
fn a_malformed_deployment_is_refused_at_its_path() {
    let cron = |expression: &str, zone: &str| {
        Some(json!({"type": "cron", "expression": expression, "timezone": zone}))
    };
    let vault = VaultId::from_bits(3).to_string();
    let outcome = &full()["initial_events"][0];
    let system = &full()["initial_events"][2];
    for (pointer, value, path) in [
        ("/name", None, "name"),
        ("/name", Some(json!("")), "name"),
        ("/agent", None, "agent"),
        ("/agent", Some(json!("agent_1")), "agent"),
        (
            "/agent",
            Some(json!({"type": "agent_with_overrides", "id": "x"})),
            "agent.type",
        ),
        (
            "/agent",
            Some(json!({"type": "agent", "id": "x"})),
            "agent.id",
        ),
        ("/environment_id", Some(json!("env_1")), "environment_id"),
        ("/initial_events", None, "initial_events"),
        ("/initial_events", Some(json!([])), "initial_events"),
        (
            "/initial_events",
            Some(json!(vec![message(); 51])),
            "initial_events",
        ),
        (
            "/initial_events",
            Some(json!([outcome, outcome])),
            "initial_events",
        ),
        (
            "/initial_events",
            Some(json!([system])),
            "initial_events[0]",
        ),
        (
            "/initial_events",
            Some(json!([message(), system, message()])),
            "initial_events[1]",
        ),
        (
            "/initial_events",
            Some(json!([message(), {"type": "user.interrupt"}])),
            "initial_events[1].type",
        ),
        (
            "/initial_events",
            Some(json!([{"type": "user.message", "content": []}])),
            "initial_events[0].content",
        ),
        ("/metadata", Some(json!(null)), "metadata"),
        ("/resources", Some(json!(null)), "resources"),
        (
            "/resources",
            Some(json!([{"type": "file", "file_id": "f"}])),
            "resources[0].file_id",
        ),
        (
            "/resources",
            Some(json!([{"type": "github_repository", "url": "git@github.com:a/b"}])),
            "resources[0].url",
        ),
        ("/vault_ids", Some(json!([vault, vault])), "vault_ids[1]"),
        ("/schedule", Some(json!({})), "schedule.type"),
        ("/schedule", cron("@daily", "UTC"), "schedule.expression"),
        (
            "/schedule",
            cron("0 9 * * *", "Europe/Atlantis"),
            "schedule.timezone",
        ),
        ("/schedule", cron("0 9 * * *", ""), "schedule.timezone"),
        (
            "/schedule",
            cron("0 9 * * *", "../../etc/passwd"),
            "schedule.timezone",
        ),
        (
            "/budget",
            Some(json!({"type": "limit", "max_list_cost": {"amount": "0", "currency": "USD"}})),
            "budget.max_list_cost.amount",
        ),
        ("/colour", Some(json!("red")), "colour"),
    ] {
        let body = with(&minimal(), pointer, value);
        let refused = create(&body).expect_err(&body.to_string());
        assert_eq!(refused.path, path, "{body}: {refused}");
    }
}

#[test]
fn an_update_of_a_deployment_is_refused_at_its_path() {
    let stored = create(&full()).unwrap().definition;
    for (body, path) in [
        (json!({"name": null}), "name"),
        (json!({"agent": null}), "agent"),
        (json!({"environment_id": null}), "environment_id"),
        (json!({"initial_events": null}), "initial_events"),
        (json!({"initial_events": []}), "initial_events"),
        (
            json!({"schedule": {"type": "cron", "expression": "60 * * * *", "timezone": "UTC"}}),
            "schedule.expression",
        ),
        (
            json!({"resources": [{"type": "memory_store"}]}),
            "resources[0].memory_store_id",
        ),
        (json!({"metadata": {"k": 1}}), "metadata.k"),
        (json!({"status": "paused"}), "status"),
    ] {
        let refused = update(&stored, &body).expect_err(&body.to_string());
        assert_eq!(refused.path, path, "{body}: {refused}");
    }
}

#[test]
fn a_cron_expression_matches_the_minutes_that_posix_says() {
    let matches = |expression: &str, clock: &str| {
        let clock = clock.parse::<DateTime>().unwrap();
        Cron::parse(expression).unwrap().matches(clock)
    };
    // 2026-11-21 is a Saturday.
    for (expression, clock, wanted) in [
        ("* * * * *", "2026-11-21T13:07:00", true),
        ("7 13 * * *", "2026-11-21T13:07:59", true),
        ("7 13 * * *", "2026-11-21T14:07:00", false),
        ("*/15 * * * *", "2026-11-21T13:45:00", true),
        ("*/15 * * * *", "2026-11-21T13:46:00", false),
        ("5-30/10 * * * *", "2026-11-21T13:25:00", true),
        ("5-30/10 * * * *", "2026-11-21T13:30:00", false),
        ("1,2,40-42 * * * *", "2026-11-21T13:41:00", true),
        ("0 9 * * 1-5", "2026-11-20T09:00:00", true),
        ("0 9 * * 1-5", "2026-11-21T09:00:00", false),
        ("0 9 * * 0", "2026-11-22T09:00:00", true),
        ("0 9 * * 7", "2026-11-22T09:00:00", true),
        ("0 9 * * 5-7", "2026-11-22T09:00:00", true),
        ("0 0 29 2 *", "2028-02-29T00:00:00", true),
        // Days of the month and of the week: either will do if both are restricted.
        ("0 9 1 * 6", "2026-11-21T09:00:00", true),
        ("0 9 1 * 6", "2026-12-01T09:00:00", true),
        ("0 9 1 * 6", "2026-12-02T09:00:00", false),
        ("0 9 * 12 6", "2026-11-21T09:00:00", false),
    ] {
        assert_eq!(
            matches(expression, clock),
            wanted,
            "{expression} at {clock}"
        );
    }
    for (bad, wanted) in [
        ("* * * *", "4 fields"),
        ("0 * * * * *", "6 fields"),
        ("@daily", "1 fields"),
        ("60 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day of month"),
        ("* * 32 * *", "day of month"),
        ("* * * 13 *", "month"),
        ("* * * * 8", "day of week"),
        ("* * L * *", "day of month"),
        ("* * ? * *", "day of month"),
        ("* * * * 1#2", "day of week"),
        ("* * * JAN *", "month"),
        ("*/0 * * * *", "minute"),
        ("5/10 * * * *", "needs a range"),
        ("30-5 * * * *", "backwards"),
        ("1,,2 * * * *", "minute"),
        ("+1 * * * *", "minute"),
        ("001 * * * *", "minute"),
        ("0 0 30 2 *", "never occurs"),
        ("0 0 31 4,6,9,11 *", "never occurs"),
    ] {
        let problem = Cron::parse(bad).expect_err(bad);
        assert!(problem.contains(wanted), "{bad}: {problem}");
    }
}

#[test]
fn a_run_has_a_session_or_an_error() {
    let agent = AgentReference {
        id: AgentId::from_bits(1),
        kind: AgentTag::Agent,
        version: 3,
    };
    let session = SessionId::from_bits(4);
    let shown = |trigger, outcome| {
        let of = (DeploymentId::from_bits(2), agent);
        let run = DeploymentRun::new(
            DeploymentRunId::from_bits(3),
            of,
            trigger,
            outcome,
            Micros(0),
        );
        serde_json::to_value(run).unwrap()
    };
    let mut wanted = json!({"id": DeploymentRunId::from_bits(3).to_string(), "type": "deployment_run",
        "deployment_id": DeploymentId::from_bits(2).to_string(),
        "agent": {"type": "agent", "id": AgentId::from_bits(1).to_string(), "version": 3},
        "session_id": session.to_string(), "error": null, "trigger_context": {"type": "manual"}, "created_at": T});
    assert_eq!(shown(Trigger::Manual, Ok(session)), wanted);
    let error = RunError {
        kind: RunErrorKind::McpEgressBlocked,
        message: "m".to_owned(),
    };
    wanted["session_id"] = json!(null);
    wanted["error"] = json!({"type": "mcp_egress_blocked_error", "message": "m"});
    wanted["trigger_context"] = json!({"type": "schedule", "scheduled_at": T});
    let scheduled = Trigger::Schedule {
        scheduled_at: Micros(0),
    };
    assert_eq!(shown(scheduled, Err(error)), wanted);
}
