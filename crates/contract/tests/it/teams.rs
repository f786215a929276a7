//! Teams of agents: structure, look-ups by the caller, merging on update.

use contract::agent::{AgentDefinition, AgentOverrides, Found, SessionAgent};
use contract::parse::Invalid;
use contract::patch::Patch;
use serde_json::{Value, json};

use crate::agents::{id, minimal, resolve, served, update};
use crate::with;

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

/// A definition with this team; version 8 of every other agent.
fn with_team(team: Value) -> AgentDefinition {
    let mut definition = resolve(&with(&minimal(), "/multiagent", Some(team))).unwrap();
    let found = Found {
        version: 8,
        archived: false,
        multiagent: false,
    };
    definition
        .fill_roster(Some(id(1)), |_| Some(found))
        .unwrap();
    definition
}

/// A session's copy of agent 1 at version 3, whose system prompt the session overrides.
fn cast(definition: &AgentDefinition, known: bool) -> Result<Value, Invalid> {
    let overrides = AgentOverrides {
        system: Patch::Value("only here".to_owned()),
        ..AgentOverrides::default()
    };
    let other = resolve(&with(&minimal(), "/name", Some(json!("other")))).unwrap();
    let find = |asked, version| {
        assert_eq!((asked, version), (id(5), 8));
        known.then(|| other.clone())
    };
    let agent = definition.team_snapshot(id(1), 3, Some(overrides), find)?;
    let text = serde_json::to_string(&agent).unwrap();
    assert_eq!(serde_json::from_str::<SessionAgent>(&text).unwrap(), agent);
    Ok(serde_json::to_value(&agent).unwrap())
}

#[test]
fn a_session_holds_a_whole_copy_of_each_member_of_its_team() {
    let five = id(5).to_string();
    let team = json!({"type": "coordinator",
        "agents": [five, {"type": "self"}, {"type": "advisor", "model": "m"}]});
    let shown = cast(&with_team(team), true).unwrap();
    let agents = &shown["multiagent"]["agents"];
    assert_eq!(shown["multiagent"]["type"], "coordinator");
    assert_eq!(agents[2], json!({"type": "advisor", "model": "m"}));

    let mut own = shown.clone();
    own.as_object_mut().unwrap().remove("multiagent");
    assert_eq!(own["system"], "only here");
    assert_eq!(
        agents[1], own,
        "the agent itself, with the session's overrides and without a team"
    );

    let mut other = own;
    for (key, value) in [
        ("id", json!(five)),
        ("version", json!(8)),
        ("name", json!("other")),
        ("system", json!(null)),
    ] {
        other[key] = value;
    }
    assert_eq!(agents[0], other, "another agent as it is defined");
}

#[test]
fn the_newer_topology_is_copied_group_by_group() {
    let team = json!({"type": "multiagent_20261001", "advisor": {"type": "enabled", "model": "m"},
        "subagents": {"type": "enabled", "predefined_agents": [id(5).to_string(), {"type": "self"}]},
        "workflows": {"type": "disabled"}});
    let shown = cast(&with_team(team), true).unwrap();
    let team = &shown["multiagent"];
    assert_eq!(team["type"], "multiagent_20261001");
    assert_eq!(team["advisor"], json!({"type": "enabled", "model": "m"}));
    assert_eq!(team["workflows"], json!({"type": "disabled"}));
    assert_eq!(
        team["subagents"]["inline_agents"],
        json!({"type": "enabled"})
    );
    let members = team["subagents"]["predefined_agents"].as_array().unwrap();
    let members = members
        .iter()
        .map(|member| (&member["type"], &member["name"], &member["tools"]));
    let (kind, tools) = (json!("agent"), json!([]));
    let (other, own) = (json!("other"), minimal()["name"].clone());
    assert_eq!(
        members.collect::<Vec<_>>(),
        [(&kind, &other, &tools), (&kind, &own, &tools)]
    );
}

#[test]
fn a_member_that_is_not_there_is_refused_at_its_path() {
    let five = id(5).to_string();
    let own = json!({"type": "self"});
    for (team, path) in [
        (
            json!({"type": "coordinator", "agents": [own, five]}),
            "agent.multiagent.agents[1]",
        ),
        (
            json!({"type": "multiagent_20261001",
                "workflows": {"type": "enabled", "predefined_agents": [five]}}),
            "agent.multiagent.workflows.predefined_agents[0]",
        ),
    ] {
        assert_eq!(cast(&with_team(team), false).unwrap_err().path, path);
    }
}
