//! Agents: what is accepted, what is filled in, what is refused where, and updates in three states.

use contract::agent::{
    Agent, AgentDefinition, AgentOverrides, CreateAgent, Found, SessionAgent, SessionThreadAgent,
    UpdateAgent,
};
use contract::ids::AgentId;
use contract::parse::Invalid;
use contract::time::Micros;
use serde_json::{Value, json};

use crate::{read, with};

fn full() -> Value {
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

fn minimal() -> Value {
    json!({"name": "a", "model": "claude-opus-5-5"})
}

fn resolve(body: &Value) -> Result<AgentDefinition, Invalid> {
    read::<CreateAgent>(body)?.resolve()
}

fn update(stored: &AgentDefinition, body: Value) -> Result<AgentDefinition, Invalid> {
    stored.updated(read::<UpdateAgent>(&body)?)
}

fn id(n: u128) -> AgentId {
    AgentId::from_bits(n)
}

fn served(definition: &AgentDefinition) -> Value {
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
fn every_bad_field_is_named() {
    let long = |n: usize| json!("x".repeat(n));
    let pairs: serde_json::Map<String, Value> =
        (0..17).map(|n| (format!("k{n}"), json!("v"))).collect();
    let customs: Vec<Value> = (0..257)
        .map(|n| json!({"type": "custom", "name": format!("t{n}"), "description": "d", "input_schema": {"type": "object"}}))
        .collect();
    let servers: Vec<Value> = (0..21)
        .map(|n| json!({"type": "url", "name": format!("s{n}"), "url": "https://x.y"}))
        .collect();
    let named = |name: Value| {
        Some(
            json!({"type": "custom", "name": name, "description": "d", "input_schema": {"type": "object"}}),
        )
    };
    let cases = [
        ("/name", None, "name"),
        ("/model", None, "model"),
        ("/name", Some(json!(null)), "name"),
        ("/name", Some(json!("")), "name"),
        ("/name", Some(long(257)), "name"),
        ("/description", Some(long(2_049)), "description"),
        ("/system", Some(long(100_001)), "system"),
        ("/model", Some(json!("")), "model"),
        ("/model", Some(json!(3)), "model"),
        ("/model", Some(json!({})), "model.id"),
        (
            "/model",
            Some(json!({"id": "m", "extra": 1})),
            "model.extra",
        ),
        ("/model/effort", Some(json!("hard")), "model.effort"),
        (
            "/model/effort",
            Some(json!({"type": "hard"})),
            "model.effort.type",
        ),
        (
            "/model/effort",
            Some(json!({"type": "low", "x": 1})),
            "model.effort.x",
        ),
        ("/model/speed", Some(json!("slow")), "model.speed"),
        ("/nonsense", Some(json!(1)), "nonsense"),
        ("/tools", Some(json!(null)), "tools"),
        ("/tools", Some(json!(customs)), "tools"),
        ("/tools/0", Some(json!({})), "tools[0].type"),
        ("/tools/0", Some(json!({"type": 1})), "tools[0].type"),
        (
            "/tools/0",
            Some(json!({"type": "browser"})),
            "tools[0].type",
        ),
        ("/tools/0/extra", Some(json!(1)), "tools[0].extra"),
        (
            "/tools/0/configs/0/name",
            Some(json!("rm")),
            "tools[0].configs[0].name",
        ),
        (
            "/tools/0/configs/0/type",
            Some(json!("read")),
            "tools[0].configs[0].type",
        ),
        (
            "/tools/0/configs/0/allowed_domains",
            Some(json!(["a.b"])),
            "tools[0].configs[0].allowed_domains",
        ),
        (
            "/tools/0/configs/0/permission_policy",
            Some(json!("always_allow")),
            "tools[0].configs[0].permission_policy",
        ),
        (
            "/tools/0/configs/0/permission_policy/type",
            Some(json!("never")),
            "tools[0].configs[0].permission_policy.type",
        ),
        (
            "/tools/0/configs/0/permission_policy/x",
            Some(json!(1)),
            "tools[0].configs[0].permission_policy.x",
        ),
        (
            "/tools/0/configs/3",
            Some(json!({"name": "bash"})),
            "tools[0].configs[3].name",
        ),
        (
            "/tools/0/configs/1/allowed_domains",
            Some(json!([])),
            "tools[0].configs[1].allowed_domains",
        ),
        (
            "/tools/0/configs/1/allowed_domains",
            Some(json!(["10.0.0.1"])),
            "tools[0].configs[1].allowed_domains[0]",
        ),
        (
            "/tools/0/configs/1/allowed_domains",
            Some(json!(["a.b", "https://x.y"])),
            "tools[0].configs[1].allowed_domains[1]",
        ),
        (
            "/tools/0/configs/1/blocked_domains",
            Some(json!(["a.b"])),
            "tools[0].configs[1].blocked_domains",
        ),
        (
            "/tools/0/configs/1/url_sources/user_input",
            Some(json!("some")),
            "tools[0].configs[1].url_sources.user_input",
        ),
        (
            "/tools/0/configs/1/url_sources/server_tool_results",
            Some(json!({"type": "only", "tools": [{"type": "tool_reference", "name": "bash"}]})),
            "tools[0].configs[1].url_sources.server_tool_results.tools[0].name",
        ),
        (
            "/tools/0/configs/2/user_location/country",
            Some(json!("Germany")),
            "tools[0].configs[2].user_location.country",
        ),
        (
            "/tools/0/default_config/enabled",
            Some(json!("yes")),
            "tools[0].default_config.enabled",
        ),
        (
            "/tools/1/configs/1",
            Some(json!({"name": "issue"})),
            "tools[1].configs[1].name",
        ),
        (
            "/tools/1/mcp_server_name",
            Some(json!("other")),
            "mcp_servers[0].name",
        ),
        ("/tools/3", named(json!("bash")), "tools[3].name"),
        ("/tools/3", named(json!("a b")), "tools[3].name"),
        ("/tools/3", named(json!("mcp__x")), "tools[3].name"),
        ("/tools/3", named(long(129)), "tools[3].name"),
        (
            "/tools/2/description",
            Some(json!("")),
            "tools[2].description",
        ),
        ("/tools/2/description", None, "tools[2].description"),
        (
            "/tools/2/input_schema",
            Some(json!("object")),
            "tools[2].input_schema",
        ),
        (
            "/tools/2/input_schema/type",
            Some(json!("string")),
            "tools[2].input_schema.type",
        ),
        (
            "/tools/2/input_schema/oneOf",
            Some(json!([])),
            "tools[2].input_schema.oneOf",
        ),
        (
            "/tools/2/input_schema/properties/q/$ref",
            Some(json!("#")),
            "tools[2].input_schema.properties.q.$ref",
        ),
        (
            "/tools/2/input_schema/properties/a b",
            Some(json!({})),
            "tools[2].input_schema.properties",
        ),
        (
            "/tools/2/input_schema/required",
            Some(json!([1])),
            "tools[2].input_schema.required",
        ),
        (
            "/tools/3",
            Some(json!({"type": "agent_toolset_20260401"})),
            "tools[3]",
        ),
        ("/tools/3", Some(full()["tools"][1].clone()), "tools[3]"),
        ("/tools/3", Some(full()["tools"][2].clone()), "tools[3]"),
        ("/mcp_servers", Some(json!([])), "tools[1].mcp_server_name"),
        ("/mcp_servers", Some(json!(servers)), "mcp_servers"),
        (
            "/mcp_servers/0/url",
            Some(json!("ftp://x.y")),
            "mcp_servers[0].url",
        ),
        (
            "/mcp_servers/0/url",
            Some(json!("https://u:p@x.y")),
            "mcp_servers[0].url",
        ),
        (
            "/mcp_servers/0/url",
            Some(json!("https://x.y/#f")),
            "mcp_servers[0].url",
        ),
        (
            "/mcp_servers/0/url",
            Some(json!("https://")),
            "mcp_servers[0].url",
        ),
        (
            "/mcp_servers/0/url",
            Some(json!("https://x.y:0/")),
            "mcp_servers[0].url",
        ),
        (
            "/mcp_servers/1",
            Some(full()["mcp_servers"][0].clone()),
            "mcp_servers[1].name",
        ),
        ("/skills/0/skill_id", Some(json!("")), "skills[0].skill_id"),
        (
            "/skills/2",
            Some(full()["skills"][0].clone()),
            "skills[2].skill_id",
        ),
        (
            "/execution_identity/type",
            Some(json!("root")),
            "execution_identity.type",
        ),
        (
            "/execution_identity/role_arn",
            Some(json!("")),
            "execution_identity.role_arn",
        ),
        ("/metadata", Some(json!(pairs)), "metadata"),
        ("/metadata/k", Some(long(513)), "metadata.k"),
        ("/metadata/k", Some(json!(null)), "metadata.k"),
        ("/metadata", Some(json!({"k".repeat(65): "v"})), "metadata"),
    ];
    for (pointer, value, path) in cases {
        let body = with(&full(), pointer, value.clone());
        let bad = resolve(&body).expect_err(&format!("{pointer} {value:?} was accepted"));
        assert_eq!(bad.path, path, "{pointer}: {bad}");
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

#[test]
fn a_team_is_checked_filled_in_and_merged() {
    let team = json!({"type": "coordinator", "agents": [
        id(5).to_string(), {"type": "agent", "id": id(6).to_string(), "version": 2}, {"type": "self"},
        {"type": "advisor", "model": "m"}]});
    let mut definition = resolve(&with(&minimal(), "/multiagent", Some(team))).unwrap();
    let asked: Vec<_> = definition
        .referenced()
        .into_iter()
        .map(|r| (r.path, r.id, r.version))
        .collect();
    assert_eq!(
        asked,
        [
            ("multiagent.agents[0]".to_owned(), id(5), None),
            ("multiagent.agents[1]".to_owned(), id(6), Some(2))
        ]
    );
    let found = |version, archived, multiagent| {
        Some(Found {
            version,
            archived,
            multiagent,
        })
    };
    let fill = |found: Option<Found>| definition.clone().fill_roster(Some(id(1)), |_| found);
    for refused in [None, found(1, true, false), found(1, false, true)] {
        assert_eq!(fill(refused).unwrap_err().path, "multiagent.agents[0]");
    }
    definition
        .fill_roster(Some(id(1)), |r| found(r.version.unwrap_or(8), false, false))
        .unwrap();
    assert_eq!(
        served(&definition)["multiagent"],
        json!({"type": "coordinator", "agents": [
            {"type": "agent", "id": id(5).to_string(), "version": 8},
            {"type": "agent", "id": id(6).to_string(), "version": 2},
            {"type": "agent", "id": id(1).to_string(), "version": 3},
            {"type": "advisor", "model": "m"}]})
    );
    let text = serde_json::to_string(&definition).unwrap();
    assert_eq!(
        serde_json::from_str::<AgentDefinition>(&text).unwrap(),
        definition
    );

    let stored = update(
        &definition,
        json!({"multiagent": {"type": "multiagent_20261001",
        "subagents": {"type": "disabled"}, "workflows": null}}),
    )
    .unwrap();
    let enabled =
        json!({"type": "enabled", "inline_agents": {"type": "enabled"}, "predefined_agents": []});
    assert_eq!(
        served(&stored)["multiagent"],
        json!({"type": "multiagent_20261001", "advisor": {"type": "disabled"},
            "subagents": {"type": "disabled"}, "workflows": enabled})
    );
    let merged = update(
        &stored,
        json!({"multiagent": {"type": "multiagent_20261001",
        "advisor": {"type": "enabled", "model": "m"}, "workflows": {"type": "disabled"}}}),
    )
    .unwrap();
    assert_eq!(
        served(&merged)["multiagent"],
        json!({"type": "multiagent_20261001", "advisor": {"type": "enabled", "model": "m"},
            "subagents": {"type": "disabled"}, "workflows": {"type": "disabled"}})
    );
    assert_eq!(
        served(&update(&merged, json!({"multiagent": null})).unwrap())["multiagent"],
        json!(null)
    );
}

#[test]
fn a_malformed_team_is_refused_at_its_path() {
    let own = json!({"type": "self"});
    let agents = |agents: Value| json!({"type": "coordinator", "agents": agents});
    let sub = |sub: Value| json!({"type": "multiagent_20261001", "subagents": sub});
    for (team, path) in [
        (json!({"type": "swarm"}), "multiagent.type"),
        (agents(json!([])), "multiagent.agents"),
        (agents(json!([own, own])), "multiagent.agents[1]"),
        (agents(json!(["agent_1"])), "multiagent.agents[0]"),
        (
            agents(json!([{"type": "agent", "id": "x"}])),
            "multiagent.agents[0].id",
        ),
        (
            agents(json!([{"type": "advisor", "model": ""}])),
            "multiagent.agents[0].model",
        ),
        (sub(json!({})), "multiagent.subagents.type"),
        (
            sub(json!({"type": "enabled", "inline_agents": {"type": "disabled"}})),
            "multiagent.subagents.predefined_agents",
        ),
        (
            sub(
                json!({"type": "enabled", "predefined_agents": [{"type": "advisor", "model": "m"}]}),
            ),
            "multiagent.subagents.predefined_agents[0].type",
        ),
        (
            json!({"type": "multiagent_20261001", "advisor": {"type": "enabled"}}),
            "multiagent.advisor.model",
        ),
    ] {
        let body = with(&minimal(), "/multiagent", Some(team.clone()));
        let bad = resolve(&body).expect_err(&team.to_string());
        assert_eq!(bad.path, path, "{team}: {bad}");
    }
}
