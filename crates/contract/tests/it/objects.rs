//! Objects as they are served: each key that the SDK's type has is there, with the right type.

use contract::agent::CreateAgent;
use contract::event::SessionUsage;
use contract::ids::{AgentId, EnvironmentId, SessionId, ThreadId, VaultId};
use contract::metadata::Metadata;
use contract::model::{Lifecycle, ModelInfo, ModelTag};
use contract::page::{BidiPage, Deleted, IdPage, Page};
use contract::session::{
    Session, SessionStats, SessionTag, SessionThread, Status, ThreadStats, ThreadTag,
};
use contract::time::Micros;
use serde_json::json;

use crate::read;

const T: &str = "1970-01-01T00:00:00.000000Z";

#[test]
fn a_session_and_its_thread_have_the_shape_of_the_sdk() {
    let definition = read::<CreateAgent>(&json!({"name": "a", "model": "m"}))
        .unwrap()
        .resolve()
        .unwrap();
    let agent = definition
        .session_snapshot(AgentId::from_bits(1), 2, None)
        .unwrap();
    let (session, thread) = (SessionId::from_bits(1), ThreadId::from_bits(1));
    let usage = json!({"active_seconds": 0.0, "cache_creation": null, "cache_read_input_tokens": 0,
        "input_tokens": 0, "output_tokens": 0});
    let shown = json!({"id": AgentId::from_bits(1).to_string(), "type": "agent", "version": 2, "name": "a",
        "description": null, "system": null,
        "model": {"id": "m", "effort": {"type": "high"}, "speed": "standard"}, "tools": [],
        "mcp_servers": [], "skills": [], "execution_identity": {"type": "service_account"}});
    let mut with_team = shown.clone();
    with_team["multiagent"] = json!(null);
    let object = Session {
        id: session,
        kind: SessionTag::Session,
        status: Status::Rescheduling,
        title: None,
        metadata: Metadata::new(),
        agent: agent.clone(),
        environment_id: EnvironmentId::from_bits(1),
        vault_ids: vec![VaultId::from_bits(1)],
        resources: Vec::new(),
        outcome_evaluations: Vec::new(),
        budget: None,
        stats: SessionStats {
            active_seconds: 1.5,
            duration_seconds: 2.0,
        },
        usage: SessionUsage::default(),
        created_at: Micros(0),
        updated_at: Micros(0),
        archived_at: None,
        deployment_id: None,
    };
    assert_eq!(
        serde_json::to_value(object).unwrap(),
        json!({"id": session.to_string(), "type": "session", "status": "rescheduling", "title": null,
            "metadata": {}, "agent": with_team, "environment_id": EnvironmentId::from_bits(1).to_string(),
            "vault_ids": [VaultId::from_bits(1).to_string()], "resources": [], "outcome_evaluations": [],
            "budget": null, "stats": {"active_seconds": 1.5, "duration_seconds": 2.0}, "usage": usage,
            "created_at": T, "updated_at": T, "archived_at": null})
    );
    let object = SessionThread {
        id: thread,
        kind: ThreadTag::SessionThread,
        session_id: session,
        agent: agent.into(),
        status: Status::Idle,
        parent_thread_id: None,
        stats: Some(ThreadStats {
            active_seconds: 0.0,
            duration_seconds: 0.0,
            startup_seconds: None,
        }),
        usage: None,
        workflow_run_id: None,
        created_at: Micros(0),
        updated_at: Micros(0),
        archived_at: None,
    };
    assert_eq!(
        serde_json::to_value(object).unwrap(),
        json!({"id": thread.to_string(), "type": "session_thread", "session_id": session.to_string(),
            "agent": shown, "status": "idle", "parent_thread_id": null,
            "stats": {"active_seconds": 0.0, "duration_seconds": 0.0}, "usage": null, "workflow_run_id": null,
            "created_at": T, "updated_at": T, "archived_at": null})
    );
}

#[test]
fn a_model_has_every_key_of_the_sdk() {
    let model = ModelInfo {
        id: "m".to_owned(),
        kind: ModelTag::Model,
        display_name: "M".to_owned(),
        created_at: Micros(0),
        lifecycle: Lifecycle::Active,
        line: None,
        max_input_tokens: Some(200_000),
        max_tokens: Some(8_192),
        deprecated_at: None,
        retires_at: None,
        allowed_fallback_models: None,
        capabilities: None,
    };
    assert_eq!(
        serde_json::to_value(model).unwrap(),
        json!({"id": "m", "type": "model", "display_name": "M", "created_at": T, "lifecycle": "active",
            "line": null, "max_input_tokens": 200_000, "max_tokens": 8_192, "deprecated_at": null,
            "retires_at": null, "allowed_fallback_models": null, "capabilities": null})
    );
}

#[test]
fn lists_and_deletions_have_the_shape_of_the_sdk() {
    let page = Page {
        data: vec![1],
        next_page: None,
    };
    assert_eq!(
        serde_json::to_value(page).unwrap(),
        json!({"data": [1], "next_page": null})
    );
    let page = BidiPage {
        data: vec![1],
        next_page: Some("n".to_owned()),
        prev_page: None,
    };
    let wanted = json!({"data": [1], "next_page": "n", "prev_page": null});
    assert_eq!(serde_json::to_value(page).unwrap(), wanted);
    let page = IdPage {
        data: vec![1],
        has_more: false,
        first_id: Some("a".to_owned()),
        last_id: None,
    };
    let wanted = json!({"data": [1], "has_more": false, "first_id": "a", "last_id": null});
    assert_eq!(serde_json::to_value(page).unwrap(), wanted);
    let deleted = Deleted {
        id: SessionId::from_bits(1),
    };
    let wanted = json!({"id": SessionId::from_bits(1).to_string(), "type": "session_deleted"});
    assert_eq!(serde_json::to_value(deleted).unwrap(), wanted);
}
