//! The work queue, resources of sessions, dreams and checks of credentials: requests and objects.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::credential::{
    HttpAnswer, McpProbe, RefreshAttempt, RefreshStatus, Validation, ValidationStatus,
    ValidationTag,
};
use contract::dialect::Generation;
use contract::dream::{CreateDream, Dream, DreamDefinition, DreamStatus, DreamTag, DreamUsage};
use contract::error::ApiError;
use contract::ids::{
    CredentialId, DreamId, EnvironmentId, FileId, MemoryStoreId, RequestId, SessionId, VaultId,
    WorkId,
};
use contract::metadata::Metadata;
use contract::parse::Invalid;
use contract::secret::Secret;
use contract::session::{AddResource, UpdateResource};
use contract::time::Micros;
use contract::work::{
    Heartbeat, HeartbeatFailed, HeartbeatTag, LeaseState, StopWork, UpdateWork, Work, WorkData,
    WorkSecret, WorkState, WorkStats, WorkStatsTag, WorkTag,
};
use serde_json::{Value, json};

use crate::read;

const T: &str = "1970-01-01T00:00:00.000000Z";

#[test]
fn the_metadata_of_work_change_key_by_key() {
    let stored = Metadata::from([
        ("a".to_owned(), "1".to_owned()),
        ("b".to_owned(), "2".to_owned()),
    ]);
    let update = |body: &Value| read::<UpdateWork>(body)?.updated(&stored);
    let changed = update(&json!({"metadata": {"a": null, "c": "3"}})).unwrap();
    assert_eq!(
        serde_json::to_value(changed).unwrap(),
        json!({"b": "2", "c": "3"})
    );
    for (body, path) in [
        (json!({}), "metadata"),
        (json!({"metadata": null}), "metadata"),
        (json!({"metadata": {"k": 1}}), "metadata.k"),
        (json!({"metadata": {"": "v"}}), "metadata"),
        (json!({"metadata": {}, "state": "stopped"}), "state"),
    ] {
        assert_eq!(
            update(&body).expect_err(&body.to_string()).path,
            path,
            "{body}"
        );
    }
}

#[test]
fn work_is_stopped_gently_unless_it_is_forced() {
    let force = |body: Value| read::<StopWork>(&body).map(|stop| stop.force);
    assert_eq!(force(json!({})), Ok(None));
    assert_eq!(force(json!({"force": true})), Ok(Some(true)));
    for (body, path) in [
        (json!({"force": null}), "force"),
        (json!({"force": "yes"}), "force"),
        (json!({"now": true}), "now"),
    ] {
        assert_eq!(force(body.clone()).expect_err(&body.to_string()).path, path);
    }
}

#[test]
fn work_and_its_heartbeat_have_the_shape_of_the_sdk() {
    let (id, environment, session) = (
        WorkId::from_bits(1),
        EnvironmentId::from_bits(2),
        SessionId::from_bits(3),
    );
    let work = Work {
        id,
        kind: WorkTag::Work,
        environment_id: environment,
        data: WorkData::Session { id: session },
        state: WorkState::Queued,
        metadata: Metadata::new(),
        secret: None,
        created_at: Micros(0),
        acknowledged_at: None,
        started_at: None,
        latest_heartbeat_at: None,
        stop_requested_at: None,
        stopped_at: None,
    };
    assert_eq!(
        serde_json::to_value(work).unwrap(),
        json!({"id": id.to_string(), "type": "work", "environment_id": environment.to_string(),
            "data": {"type": "session", "id": session.to_string()}, "state": "queued", "metadata": {},
            "secret": null, "created_at": T, "acknowledged_at": null, "started_at": null,
            "latest_heartbeat_at": null, "stop_requested_at": null, "stopped_at": null})
    );
    let beat = Heartbeat {
        kind: HeartbeatTag::WorkHeartbeat,
        last_heartbeat: T.to_owned(),
        lease_extended: true,
        state: WorkState::Active,
        ttl_seconds: 300,
    };
    assert_eq!(
        serde_json::to_value(beat).unwrap(),
        json!({"type": "work_heartbeat", "last_heartbeat": T, "lease_extended": true, "state": "active",
            "ttl_seconds": 300})
    );
    let stats = WorkStats {
        kind: WorkStatsTag::WorkQueueStats,
        depth: 1,
        pending: 0,
        oldest_queued_at: Some(Micros(0)),
        workers_polling: None,
    };
    assert_eq!(
        serde_json::to_value(stats).unwrap(),
        json!({"type": "work_queue_stats", "depth": 1, "pending": 0, "oldest_queued_at": T, "workers_polling": null})
    );
}

#[test]
fn a_refused_heartbeat_shows_the_lease_in_its_details() {
    let failed = HeartbeatFailed::at(LeaseState {
        last_heartbeat: Some(T.to_owned()),
        lease_extended: false,
        state: WorkState::Active,
        ttl_seconds: 300,
    });
    let details = serde_json::to_value(&failed).unwrap();
    let error = ApiError::from(failed);
    assert_eq!(error.status, 412);
    let envelope = error.envelope(Generation::V2026, &RequestId::from_bits(1));
    assert_eq!(envelope["error"]["details"], details);
    assert_eq!(details["error_code"], "heartbeat_precondition_failed");
    assert_eq!(details["current_state"]["last_heartbeat"], T);
}

#[test]
fn a_workers_secret_is_url_safe_base64_of_json_and_is_not_printed() {
    let secret = WorkSecret {
        sessions_token: Secret::new("tok?>".to_owned()),
        api_base_url: None,
    };
    assert!(!format!("{secret:?}").contains("tok?"));
    let decode = |secret: &WorkSecret| {
        let bytes = URL_SAFE_NO_PAD.decode(secret.encode().expose()).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    assert_eq!(decode(&secret), json!({"sessions_token": "tok?>"}));
    let told = WorkSecret {
        api_base_url: Some("https://here.example".to_owned()),
        ..secret
    };
    assert_eq!(
        decode(&told),
        json!({"sessions_token": "tok?>", "api_base_url": "https://here.example"})
    );
}

#[test]
fn only_files_are_added_to_a_session_and_only_tokens_change() {
    let add = |body: &Value| read::<AddResource>(body).and_then(|add| add.check());
    let file = FileId::from_bits(1).to_string();
    assert_eq!(add(&json!({"type": "file", "file_id": file})), Ok(()));
    assert_eq!(
        add(&json!({"type": "file", "file_id": file, "mount_path": null})),
        Ok(())
    );
    for (body, path) in [
        (json!({"file_id": file}), "type"),
        (
            json!({"type": "memory_store", "memory_store_id": "x"}),
            "type",
        ),
        (json!({"type": "file"}), "file_id"),
        (json!({"type": "file", "file_id": "file_1"}), "file_id"),
        (
            json!({"type": "file", "file_id": file, "mount_path": ""}),
            "mount_path",
        ),
        (
            json!({"type": "file", "file_id": file, "mount_path": "p".repeat(4_097)}),
            "mount_path",
        ),
        (
            json!({"type": "file", "file_id": file, "name": "x"}),
            "name",
        ),
    ] {
        assert_eq!(
            add(&body).expect_err(&body.to_string()).path,
            path,
            "{body}"
        );
    }
    let update = |body: &Value| {
        let update = read::<UpdateResource>(body)?;
        assert!(!format!("{update:?}").contains("s3cret"));
        update.check()
    };
    assert_eq!(update(&json!({"authorization_token": "s3cret"})), Ok(()));
    for (body, path) in [
        (json!({}), "authorization_token"),
        (json!({"authorization_token": null}), "authorization_token"),
        (json!({"authorization_token": ""}), "authorization_token"),
        (
            json!({"authorization_token": "t".repeat(16_385)}),
            "authorization_token",
        ),
        (json!({"authorization_token": "t", "url": "x"}), "url"),
    ] {
        assert_eq!(update(&body).expect_err(&body.to_string()).path, path);
    }
}

fn dream(body: &Value) -> Result<DreamDefinition, Invalid> {
    read::<CreateDream>(body)?.resolve()
}

fn inputs(sessions: &[u128]) -> Value {
    let ids = sessions
        .iter()
        .map(|bits| SessionId::from_bits(*bits).to_string());
    json!([{"type": "sessions", "session_ids": ids.collect::<Vec<_>>()},
        {"type": "memory_store", "memory_store_id": MemoryStoreId::from_bits(1).to_string()}])
}

#[test]
fn a_dream_reads_one_store_and_sessions_in_order() {
    let made = dream(&json!({"inputs": inputs(&[3, 2]), "model": "m"})).unwrap();
    let object = Dream {
        id: DreamId::from_bits(1),
        kind: DreamTag::Dream,
        status: DreamStatus::Pending,
        definition: made.clone(),
        outputs: Vec::new(),
        session_id: None,
        usage: DreamUsage::default(),
        error: None,
        created_at: Micros(0),
        ended_at: None,
        archived_at: None,
    };
    assert_eq!(
        serde_json::to_value(object).unwrap(),
        json!({"id": DreamId::from_bits(1).to_string(), "type": "dream", "status": "pending",
            "inputs": inputs(&[2, 3]), "model": {"id": "m", "speed": "standard"}, "instructions": null,
            "output_behavior": {"type": "create_new"}, "outputs": [], "session_id": null,
            "usage": {"input_tokens": 0, "output_tokens": 0, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0},
            "error": null, "created_at": T, "ended_at": null, "archived_at": null})
    );
    let same = json!({"type": "update_existing", "memory_store_id": MemoryStoreId::from_bits(1).to_string()});
    let long = json!({"inputs": inputs(&[2, 3]), "model": {"id": "m", "speed": null}, "instructions": null,
        "output_behavior": same});
    assert_eq!(dream(&long).unwrap().inputs, made.inputs);
}

#[test]
fn a_malformed_dream_is_refused_at_its_path() {
    let good = inputs(&[1]);
    let with = |key: &str, value: Value| {
        let mut body = json!({"inputs": good, "model": "m"});
        body[key] = value;
        body
    };
    let many = (0..101).collect::<Vec<_>>();
    let other = MemoryStoreId::from_bits(9).to_string();
    for (body, path) in [
        (json!({"model": "m"}), "inputs"),
        (json!({"inputs": good}), "model"),
        (with("inputs", json!([])), "inputs"),
        (with("inputs", json!([good[0]])), "inputs"),
        (with("inputs", json!([good[1], good[1], good[0]])), "inputs"),
        (with("inputs", inputs(&[])), "inputs[0].session_ids"),
        (
            with("inputs", inputs(&[1, 2, 1])),
            "inputs[0].session_ids[2]",
        ),
        (with("inputs", inputs(&many)), "inputs[0].session_ids"),
        (with("inputs", json!([{"type": "files"}])), "inputs[0].type"),
        (with("model", json!("")), "model"),
        (
            with("model", json!({"id": "m", "speed": "fast"})),
            "model.speed",
        ),
        (
            with("model", json!({"id": "m", "effort": "high"})),
            "model.effort",
        ),
        (with("instructions", json!("")), "instructions"),
        (
            with("instructions", json!("i".repeat(4_097))),
            "instructions",
        ),
        (with("output_behavior", json!(null)), "output_behavior"),
        (
            with("output_behavior", json!({"type": "delete"})),
            "output_behavior.type",
        ),
        (
            with(
                "output_behavior",
                json!({"type": "update_existing", "memory_store_id": other}),
            ),
            "output_behavior.memory_store_id",
        ),
    ] {
        let refused = dream(&body).expect_err(&body.to_string());
        assert_eq!(refused.path, path, "{body}: {refused}");
    }
}

#[test]
fn the_check_of_a_credential_has_the_shape_of_the_sdk() {
    let (vault, credential) = (VaultId::from_bits(1), CredentialId::from_bits(2));
    let answer = HttpAnswer {
        status_code: 401,
        content_type: "text/plain".to_owned(),
        body: "no".to_owned(),
        body_truncated: false,
    };
    let validation = Validation {
        kind: ValidationTag::VaultCredentialValidation,
        vault_id: vault,
        credential_id: credential,
        validated_at: Micros(0),
        status: ValidationStatus::Invalid,
        has_refresh_token: true,
        mcp_probe: Some(McpProbe {
            method: "initialize".to_owned(),
            http_response: Some(answer),
        }),
        refresh: Some(RefreshAttempt {
            status: RefreshStatus::ConnectError,
            http_response: None,
        }),
    };
    assert_eq!(
        serde_json::to_value(validation).unwrap(),
        json!({"type": "vault_credential_validation", "vault_id": vault.to_string(),
            "credential_id": credential.to_string(), "validated_at": T, "status": "invalid",
            "has_refresh_token": true,
            "mcp_probe": {"method": "initialize", "http_response": {"status_code": 401,
                "content_type": "text/plain", "body": "no", "body_truncated": false}},
            "refresh": {"status": "connect_error", "http_response": null}})
    );
}
