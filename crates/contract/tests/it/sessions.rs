//! Sessions: the forms of an agent, initial events, and what this build refuses to pretend.

use contract::agent::{CreateAgent, SessionAgent};
use contract::environment::{CreateEnvironment, EnvironmentDefinition};
use contract::error::ApiError;
use contract::ids::{AgentId, EnvironmentId, VaultId};
use contract::parse::Invalid;
use contract::session::{CreateSession, UpdateSession, unbuilt};
use serde_json::{Value, json};

use crate::{read, with};

fn agent_id() -> String {
    AgentId::from_bits(1).to_string()
}

fn vault_id() -> String {
    VaultId::from_bits(1).to_string()
}

fn minimal() -> Value {
    json!({"agent": agent_id(), "environment_id": EnvironmentId::from_bits(1).to_string()})
}

fn hello() -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": "hi"}]})
}

fn create(body: &Value) -> Result<CreateSession, Invalid> {
    let create = read::<CreateSession>(body)?;
    create.check()?;
    Ok(create)
}

fn agent(fields: Value) -> SessionAgent {
    let mut body = json!({"name": "a", "model": "m"});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let definition = read::<CreateAgent>(&body).unwrap().resolve().unwrap();
    definition
        .session_snapshot(AgentId::from_bits(1), 1, None)
        .unwrap()
}

fn environment(config: Value) -> EnvironmentDefinition {
    read::<CreateEnvironment>(&json!({"name": "e", "config": config}))
        .unwrap()
        .resolve()
        .unwrap()
}

fn cloud() -> EnvironmentDefinition {
    environment(json!({"type": "cloud", "networking": {"type": "limited"}}))
}

#[test]
fn the_three_forms_of_an_agent_are_read() {
    let asked = |agent: Value| {
        create(&with(&minimal(), "/agent", Some(agent)))
            .unwrap()
            .asked()
            .unwrap()
    };
    assert_eq!(asked(json!(agent_id())).version, None);
    let at = asked(json!({"type": "agent", "id": agent_id(), "version": 3}));
    assert_eq!((at.id, at.version), (AgentId::from_bits(1), Some(3)));
    assert!(at.overrides.is_none());
    let over = asked(json!({"type": "agent_with_overrides", "id": agent_id(), "system": null}));
    assert!(over.overrides.is_some());
}

#[test]
fn every_bad_field_is_named() {
    let many = |n: usize| json!((0..n).map(|_| hello()).collect::<Vec<_>>());
    for (pointer, value, path) in [
        ("/agent", None, "agent"),
        ("/agent", Some(json!("sesn_1")), "agent"),
        ("/agent", Some(json!(1)), "agent"),
        ("/agent", Some(json!({"id": agent_id()})), "agent.type"),
        ("/agent", Some(json!({"type": "agent"})), "agent.id"),
        (
            "/agent",
            Some(json!({"type": "agent", "id": agent_id(), "version": 0})),
            "agent.version",
        ),
        (
            "/agent",
            Some(json!({"type": "agent", "id": agent_id(), "tools": []})),
            "agent.tools",
        ),
        (
            "/agent",
            Some(
                json!({"type": "agent_with_overrides", "id": agent_id(), "tools": [{"type": "x"}]}),
            ),
            "agent.tools[0].type",
        ),
        ("/environment_id", None, "environment_id"),
        (
            "/environment_id",
            Some(json!("env_short")),
            "environment_id",
        ),
        ("/title", Some(json!("x".repeat(1_025))), "title"),
        ("/vault_ids", Some(json!(["vlt_x"])), "vault_ids[0]"),
        (
            "/vault_ids",
            Some(json!([vault_id(), vault_id()])),
            "vault_ids[1]",
        ),
        ("/initial_events", Some(many(51)), "initial_events"),
        (
            "/initial_events",
            Some(json!([hello(), {"type": "user.interrupt"}])),
            "initial_events[1].type",
        ),
        (
            "/initial_events",
            Some(json!([{"type": "user.message", "content": []}])),
            "initial_events[0].content",
        ),
        (
            "/initial_events",
            Some(json!([{"type": "user.define_outcome", "description": "d"}])),
            "initial_events[0].rubric",
        ),
        (
            "/budget",
            Some(json!({"type": "limit", "max_list_cost": {"amount": "007", "currency": "USD"}})),
            "budget.max_list_cost.amount",
        ),
        (
            "/budget",
            Some(json!({"type": "limit", "max_list_cost": {"amount": "7", "currency": "EUR"}})),
            "budget.max_list_cost.currency",
        ),
        (
            "/resources",
            Some(json!([{"type": "github_repository", "url": "git@x"}])),
            "resources[0].url",
        ),
        ("/metadata", Some(json!(null)), "metadata"),
        ("/colour", Some(json!(1)), "colour"),
    ] {
        let bad = create(&with(&minimal(), pointer, value.clone()));
        let bad = bad.expect_err(&format!("{pointer} {value:?}"));
        assert_eq!(bad.path, path, "{pointer}: {bad}");
    }
}

#[test]
fn a_plain_session_needs_nothing_that_is_missing() {
    let request = create(&with(&minimal(), "/initial_events", Some(json!([hello()])))).unwrap();
    let tools = json!({"tools": [
        {"type": "agent_toolset_20260401"},
        {"type": "custom", "name": "t", "description": "d", "input_schema": {"type": "object"}}]});
    assert_eq!(unbuilt(&request, &agent(tools), &cloud()), None);
    let disabled = json!({"tools": [{"type": "agent_toolset_20260401",
        "default_config": {"enabled": false, "permission_policy": {"type": "always_ask"}},
        "configs": [{"name": "bash", "enabled": true, "permission_policy": {"type": "always_allow"}},
                    {"name": "web_search", "enabled": false}]}]});
    assert_eq!(unbuilt(&request, &agent(disabled), &cloud()), None);
}

#[test]
fn every_policy_and_a_budget_can_be_honoured() {
    let budget = json!({"type": "limit", "max_list_cost": {"amount": "100", "currency": "USD"}});
    let request = create(&with(&minimal(), "/budget", Some(budget))).unwrap();
    for policy in ["always_allow", "always_ask", "auto"] {
        let policy = json!({"type": policy});
        let tools = json!({"tools": [{"type": "agent_toolset_20260401",
            "configs": [{"name": "bash", "permission_policy": policy}],
            "default_config": {"permission_policy": policy}}]});
        assert_eq!(unbuilt(&request, &agent(tools), &cloud()), None);
    }
}

#[test]
fn a_budget_is_a_whole_number_of_cents_above_zero() {
    for (amount, good) in [
        ("1", true),
        ("2500", true),
        ("0", false),
        ("01", false),
        ("-5", false),
        ("1.5", false),
        ("", false),
        ("1e3", false),
        ("9999999999999999", false),
    ] {
        let budget =
            json!({"type": "limit", "max_list_cost": {"amount": amount, "currency": "USD"}});
        let made = create(&with(&minimal(), "/budget", Some(budget)));
        assert_eq!(made.is_ok(), good, "{amount:?}");
        if let Err(bad) = made {
            assert_eq!(bad.path, "budget.max_list_cost.amount");
        }
    }
    let euros = json!({"type": "limit", "max_list_cost": {"amount": "5", "currency": "EUR"}});
    let bad = create(&with(&minimal(), "/budget", Some(euros))).unwrap_err();
    assert_eq!(bad.path, "budget.max_list_cost.currency");
}

#[test]
fn what_cannot_be_honoured_yet_is_refused_by_name() {
    let toolset = |fields: Value| {
        let mut tool = json!({"type": "agent_toolset_20260401"});
        tool.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        agent(json!({"tools": [tool]}))
    };
    let plain = || agent(json!({}));
    let request = |pointer: &str, value: Value| with(&minimal(), pointer, Some(value));
    let mcp = json!({"tools": [{"type": "mcp_toolset", "mcp_server_name": "s"}],
        "mcp_servers": [{"type": "url", "name": "s", "url": "https://x.y"}]});
    for (request, agent, environment, path) in [
        (
            request(
                "/resources",
                json!([{"type": "file", "file_id": contract::ids::FileId::from_bits(1).to_string()}]),
            ),
            plain(),
            cloud(),
            "resources",
        ),
        (
            minimal(),
            agent(json!({"skills": [{"type": "anthropic", "skill_id": "xlsx"}]})),
            cloud(),
            "agent.skills",
        ),
        (minimal(), agent(mcp), cloud(), "agent.tools[0]"),
        (
            minimal(),
            toolset(json!({"configs": [{"name": "web_fetch", "enabled": true}]})),
            cloud(),
            "agent.tools[0].configs[0]",
        ),
        (
            minimal(),
            plain(),
            environment(json!({"type": "self_hosted"})),
            "environment_id",
        ),
        (
            minimal(),
            plain(),
            environment(json!({"type": "cloud", "packages": {"npm": ["x"]}})),
            "environment_id",
        ),
    ] {
        let found = unbuilt(&create(&request).unwrap(), &agent, &environment).expect(path);
        assert_eq!(found.path, path);
        let error = ApiError::from(found);
        assert_eq!((error.status, error.code), (400, Some("not_implemented")));
        assert!(
            error
                .message
                .starts_with(&format!("`{path}`: not_implemented: ")),
            "{error}"
        );
    }
}

#[test]
fn an_update_takes_what_may_change_and_nothing_else() {
    let update = |body: Value| -> Result<UpdateSession, Invalid> {
        let update = read::<UpdateSession>(&body)?;
        update.check()?;
        Ok(update)
    };
    let budget = json!({"type": "limit", "max_list_cost": {"amount": "100", "currency": "USD"}});
    for good in [
        json!({"title": null, "metadata": {"k": null}}),
        json!({"agent": {}}),
        json!({"agent": {"tools": [], "mcp_servers": null}}),
        json!({"budget": null}),
        json!({"budget": budget}),
    ] {
        assert!(update(good.clone()).is_ok(), "{good}");
    }
    let zero = json!({"type": "limit", "max_list_cost": {"amount": "0", "currency": "USD"}});
    for (bad, path) in [
        (json!({"vault_ids": []}), "vault_ids"),
        (json!({"vault_ids": null}), "vault_ids"),
        (json!({"status": "idle"}), "status"),
        (json!({"agent": {"model": "m"}}), "agent.model"),
        (json!({"agent": null}), "agent"),
        (json!({"budget": zero}), "budget.max_list_cost.amount"),
    ] {
        assert_eq!(update(bad.clone()).unwrap_err().path, path, "{bad}");
    }
}

#[test]
fn an_updated_agent_has_what_was_sent_and_keeps_the_rest() {
    use contract::patch::Patch;
    let held = agent(json!({"tools": [{"type": "agent_toolset_20260401"}],
        "skills": [{"type": "anthropic", "skill_id": "xlsx"}]}));
    let kept = held.updated(Patch::Absent, Patch::Absent).unwrap();
    assert_eq!(kept, held);
    let tools = json!([{"type": "custom", "name": "t", "description": "d", "input_schema": {"type": "object"}}]);
    let tools = || Patch::Value(serde_json::from_value(tools.clone()).unwrap());
    let changed = held.updated(tools(), Patch::Absent).unwrap();
    assert_eq!((changed.tools.len(), &changed.skills), (1, &held.skills));
    let bad = held.updated(Patch::Null, Patch::Absent).unwrap_err();
    assert_eq!(bad.path, "agent.tools", "skills need a tool to read with");
    let server = json!([{"type": "url", "name": "s", "url": "https://x.test"}]);
    let servers = Patch::Value(serde_json::from_value(server).unwrap());
    let bad = held.updated(Patch::Absent, servers).unwrap_err();
    assert!(bad.path.starts_with("agent.mcp_servers"), "{bad}");
}
