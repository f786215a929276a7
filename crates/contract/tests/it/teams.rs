//! Teams of agents: structure, look-ups by the caller, merging on update.

use contract::agent::{AgentDefinition, Found};
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
