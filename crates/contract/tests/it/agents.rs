//! Agents: what is accepted, what is filled in, what is refused where, and updates in three states.

use contract::agent::{
    Agent, AgentDefinition, AgentOverrides, CreateAgent, SessionAgent, SessionThreadAgent,
    UpdateAgent,
};
use contract::ids::AgentId;
use contract::parse::Invalid;
use contract::time::Micros;
use serde_json::{Value, json};

use crate::{read, with};

pub(crate) fn full() -> Value {
    json!({
        "name": "coder",
        "model": {"id": "claude-opus-5-5", "effort": "low", "speed": "fast", "inference_geo": "us"},
        "description": "writes code",
        "system": "be brief",
        "tools": [
            {"type": "agent_toolset_20260401", "default_config": {"enabled": true, "permission_policy": null},
             "configs": [
                {"name": "bash", "permission_policy": {"type": "always_ask"}},
                {"name": "web_fetch", "type": "web_fetch", "enabled": false, "allowed_domains": ["example.com"],
                 "url_sources": {"user_input": "all", "client_tool_results": {"type": "only",
                    "tools": [{"type": "tool_reference", "name": "lookup"}]}}},
                {"name": "web_search", "user_location": {"type": "approximate", "country": "DE"}}]},
            {"type": "mcp_toolset", "mcp_server_name": "gh", "configs": [{"name": "issue", "enabled": false}]},
            {"type": "custom", "name": "lookup", "description": "looks up",
             "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"],
                              "additionalProperties": false}}
        ],
        "mcp_servers": [{"type": "url", "name": "gh", "url": "https://mcp.example.com/sse?x=1"}],
        "skills": [{"type": "anthropic", "skill_id": "xlsx"}, {"type": "custom", "skill_id": "skill_1", "version": "7"}],
        "execution_identity": {"type": "aws_role", "role_arn": "arn:aws:iam::1:role/x"},
        "metadata": {"k": "v"}
    })
}

pub(crate) fn minimal() -> Value {
    json!({"name": "a", "model": "claude-opus-5-5"})
}

pub(crate) fn resolve(body: &Value) -> Result<AgentDefinition, Invalid> {
    read::<CreateAgent>(body)?.resolve()
}

pub(crate) fn update(stored: &AgentDefinition, body: Value) -> Result<AgentDefinition, Invalid> {
    stored.updated(read::<UpdateAgent>(&body)?)
}

pub(crate) fn id(n: u128) -> AgentId {
    AgentId::from_bits(n)
}

pub(crate) fn served(definition: &AgentDefinition) -> Value {
    let agent = Agent::new(id(1), 3, definition.clone(), Micros(0), Micros(1), None);
    serde_json::to_value(agent).unwrap()
}

#[test]
fn a_minimal_agent_is_served_with_every_default() {
    let agent = served(&resolve(&minimal()).unwrap());
    assert_eq!(
        agent,
        json!({
            "id": id(1).to_string(), "type": "agent", "name": "a", "description": null, "system": null,
            "model": {"id": "claude-opus-5-5", "effort": {"type": "high"}, "speed": "standard"},
            "tools": [], "mcp_servers": [], "skills": [], "multiagent": null,
            "execution_identity": {"type": "service_account"}, "metadata": {}, "version": 3,
            "created_at": "1970-01-01T00:00:00.000000Z", "updated_at": "1970-01-01T00:00:00.000001Z",
            "archived_at": null
        })
    );
}

#[test]
fn tools_are_resolved_and_echoed() {
    let agent = served(&resolve(&full()).unwrap());
    let allow = json!({"type": "always_allow"});
    let ask = json!({"type": "always_ask"});
    assert_eq!(
        agent["tools"][0],
        json!({
            "type": "agent_toolset_20260401",
            "default_config": {"enabled": true, "permission_policy": allow},
            "configs": [
                {"name": "bash", "type": "bash", "enabled": true, "permission_policy": ask},
                {"name": "web_fetch", "type": "web_fetch", "enabled": false, "permission_policy": allow,
                 "allowed_domains": ["example.com"],
                 "url_sources": {"user_input": {"type": "all"}, "server_tool_results": null,
                    "client_tool_results": {"type": "only",
                        "tools": [{"type": "tool_reference", "name": "lookup"}]}}},
                {"name": "web_search", "type": "web_search", "enabled": true, "permission_policy": allow,
                 "user_location": {"type": "approximate", "country": "DE"}}
            ]
        })
    );
    assert_eq!(
        agent["tools"][1],
        json!({
            "type": "mcp_toolset", "mcp_server_name": "gh",
            "default_config": {"enabled": true, "permission_policy": ask},
            "configs": [{"name": "issue", "enabled": false, "permission_policy": ask}]
        })
    );
    assert_eq!(agent["tools"][2], full()["tools"][2]);
    assert_eq!(agent["mcp_servers"], full()["mcp_servers"]);
    assert_eq!(
        agent["skills"][0],
        json!({"type": "anthropic", "skill_id": "xlsx", "version": "latest"})
    );
    assert_eq!(agent["execution_identity"], full()["execution_identity"]);
    assert_eq!(agent["model"]["effort"], json!({"type": "low"}));
}

#[test]
fn a_bare_toolset_materialises_its_default_and_no_configs() {
    let body = with(
        &minimal(),
        "/tools",
        Some(json!([{"type": "agent_toolset_20260401"}])),
    );
    assert_eq!(
        served(&resolve(&body).unwrap())["tools"],
        json!([{"type": "agent_toolset_20260401", "configs": [],
            "default_config": {"enabled": true, "permission_policy": {"type": "always_allow"}}}])
    );
}

#[test]
fn a_web_fetch_config_always_has_url_sources() {
    let config = json!({"type": "agent_toolset_20260401", "configs": [{"name": "web_fetch"}]});
    let definition = resolve(&with(&minimal(), "/tools", Some(json!([config])))).unwrap();
    assert_eq!(
        served(&definition)["tools"][0]["configs"][0]["url_sources"],
        json!(null)
    );
    let stored = serde_json::to_string(&definition).unwrap();
    assert_eq!(
        serde_json::from_str::<AgentDefinition>(&stored).unwrap(),
        definition
    );
}

#[test]
fn a_stored_definition_reads_back_as_itself() {
    for body in [minimal(), full()] {
        let definition = resolve(&body).unwrap();
        let text = serde_json::to_string(&definition).unwrap();
        assert_eq!(
            serde_json::from_str::<AgentDefinition>(&text).unwrap(),
            definition
        );
        let agent = definition.session_snapshot(id(1), 2, None).unwrap();
        let text = serde_json::to_string(&agent).unwrap();
        assert_eq!(serde_json::from_str::<SessionAgent>(&text).unwrap(), agent);
        let thread = serde_json::to_value(SessionThreadAgent::from(agent)).unwrap();
        assert!(thread.get("multiagent").is_none());
    }
}

#[test]
fn lengths_are_counted_in_characters() {
    assert!(resolve(&with(&minimal(), "/name", Some(json!("ü".repeat(256))))).is_ok());
    assert!(resolve(&with(&minimal(), "/name", Some(json!("ü".repeat(257))))).is_err());
}

#[test]
fn an_update_tells_absent_null_and_value_apart() {
    let stored = resolve(&full()).unwrap();
    assert_eq!(update(&stored, json!({})).unwrap(), stored);
    assert_eq!(
        update(&stored, json!({"metadata": null, "version": 3})).unwrap(),
        stored
    );

    let changed = update(&stored, json!({"description": null, "system": ""})).unwrap();
    assert_eq!((changed.description, changed.system), (None, None));
    let changed = update(&stored, json!({"description": "d", "name": "n"})).unwrap();
    assert_eq!(
        (changed.description.as_deref(), changed.name.as_str()),
        (Some("d"), "n")
    );

    let changed = update(&stored, json!({"tools": null, "mcp_servers": []})).unwrap();
    assert!(changed.tools.is_empty() && changed.mcp_servers.is_empty());
    let changed = update(&stored, json!({"skills": null, "execution_identity": null})).unwrap();
    assert!(changed.skills.is_empty());
    assert_eq!(
        served(&changed)["execution_identity"],
        json!({"type": "service_account"})
    );

    let changed = update(&stored, json!({"metadata": {"k": null, "e": "", "n": "1"}})).unwrap();
    assert_eq!(json!(changed.metadata), json!({"e": "", "n": "1"}));
}

#[test]
fn an_update_that_breaks_the_result_is_refused_where_it_breaks() {
    let stored = resolve(&full()).unwrap();
    for (body, path) in [
        (json!({"name": null}), "name"),
        (json!({"name": ""}), "name"),
        (json!({"model": null}), "model"),
        (json!({"version": 0}), "version"),
        (json!({"version": null}), "version"),
        (json!({"version": "1"}), "version"),
        (json!({"tools": null}), "mcp_servers[0].name"),
        (json!({"mcp_servers": null}), "tools[1].mcp_server_name"),
        (json!({"id": "x"}), "id"),
        (json!({"metadata": {"x": 1}}), "metadata.x"),
    ] {
        let bad = update(&stored, body.clone()).expect_err(&body.to_string());
        assert_eq!(bad.path, path, "{body}: {bad}");
    }
}

#[test]
fn effort_stays_only_while_the_model_stays() {
    let stored = resolve(&full()).unwrap();
    let model =
        |body: Value| served(&update(&stored, json!({"model": body})).unwrap())["model"].clone();
    let same = json!({"id": "claude-opus-5-5", "effort": {"type": "low"}, "speed": "standard"});
    assert_eq!(model(json!({"id": "claude-opus-5-5"})), same);
    assert_eq!(model(json!("claude-opus-5-5")), same);
    assert_eq!(
        model(json!("other")),
        json!({"id": "other", "effort": {"type": "high"}, "speed": "standard"})
    );
}

#[test]
fn overrides_inherit_clear_or_replace() {
    let base = resolve(&full()).unwrap();
    let snapshot =
        |body: Value| base.session_snapshot(id(9), 4, Some(read::<AgentOverrides>(&body).unwrap()));
    let plain = base.session_snapshot(id(9), 4, None).unwrap();
    assert_eq!(snapshot(json!({})).unwrap(), plain);
    let agent = snapshot(json!({"model": {"id": "m", "effort": "max"}, "system": null})).unwrap();
    assert_eq!(
        serde_json::to_value(&agent.model).unwrap(),
        json!({"id": "m", "speed": "standard"}),
        "an override's effort is dropped, and so is the agent's pin"
    );
    assert_eq!(agent.system, None);
    let agent = snapshot(json!({"tools": [], "mcp_servers": null, "skills": []})).unwrap();
    assert!(agent.tools.is_empty() && agent.skills.is_empty() && agent.mcp_servers.is_empty());
    for (body, path) in [
        (json!({"model": null}), "agent.model"),
        (json!({"tools": null, "mcp_servers": null}), "agent.tools"),
        (
            json!({"mcp_servers": null}),
            "agent.tools[1].mcp_server_name",
        ),
        (
            json!({"tools": [{"type": "agent_toolset_20260401"}]}),
            "agent.mcp_servers[0].name",
        ),
        (json!({"system": "x".repeat(100_001)}), "agent.system"),
    ] {
        assert_eq!(
            snapshot(body.clone()).expect_err(&body.to_string()).path,
            path,
            "{body}"
        );
    }
}
