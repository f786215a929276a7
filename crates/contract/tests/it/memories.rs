//! Memory stores, memories and their versions: what is accepted, refused at which path, and served.

use contract::dialect::Generation;
use contract::error::ApiError;
use contract::ids::{ApiKeyId, MemoryId, MemoryStoreId, MemoryVersionId, RequestId, SessionId};
use contract::memory::{
    self, Actor, CreateMemory, CreateMemoryStore, Memory, MemoryItem, MemoryPathConflict,
    MemoryPreconditionFailed, MemoryPrefix, MemoryPrefixTag, MemoryStore, MemoryStoreDefinition,
    MemoryTag, MemoryVersion, MemoryVersionTag, Operation, UpdateMemory, UpdateMemoryStore,
};
use contract::parse::Invalid;
use contract::time::Micros;
use serde_json::{Value, json};

use crate::read;

const T: &str = "1970-01-01T00:00:00.000000Z";

fn create(body: &Value) -> Result<MemoryStoreDefinition, Invalid> {
    read::<CreateMemoryStore>(body)?.resolve()
}

fn update(stored: &MemoryStoreDefinition, body: &Value) -> Result<MemoryStoreDefinition, Invalid> {
    stored.updated(read::<UpdateMemoryStore>(body)?)
}

fn served(definition: MemoryStoreDefinition) -> Value {
    let id = MemoryStoreId::from_bits(1);
    let store = MemoryStore::new(id, definition, Micros(0), Micros(0), None);
    serde_json::to_value(store).unwrap()
}

#[test]
fn a_store_is_made_changed_field_by_field_and_served() {
    let made = create(&json!({"name": "n", "metadata": {"a": "1", "b": "2"}})).unwrap();
    let mut wanted = json!({"id": MemoryStoreId::from_bits(1).to_string(), "type": "memory_store", "name": "n",
        "description": "", "metadata": {"a": "1", "b": "2"}, "created_at": T, "updated_at": T, "archived_at": null});
    assert_eq!(served(made.clone()), wanted);

    assert_eq!(update(&made, &json!({})).unwrap(), made);
    let nothing = json!({"name": null, "description": null, "metadata": null});
    assert_eq!(update(&made, &nothing).unwrap(), made);
    let changes = json!({"name": "m", "description": "d", "metadata": {"a": null, "c": "3"}});
    let changed = update(&made, &changes).unwrap();
    wanted["name"] = json!("m");
    wanted["description"] = json!("d");
    wanted["metadata"] = json!({"b": "2", "c": "3"});
    assert_eq!(served(changed.clone()), wanted);
    for cleared in [json!({"description": null}), json!({"description": ""})] {
        assert_eq!(update(&changed, &cleared).unwrap().description, "");
    }
}

#[test]
fn a_malformed_store_is_refused_at_its_path() {
    let many = (0..17)
        .map(|n| (n.to_string(), json!("v")))
        .collect::<serde_json::Map<_, _>>();
    for (body, path) in [
        (json!({}), "name"),
        (json!({"name": null}), "name"),
        (json!({"name": ""}), "name"),
        (json!({"name": "n".repeat(256)}), "name"),
        (json!({"name": "a\u{7}b"}), "name"),
        (json!({"name": "n", "description": null}), "description"),
        (
            json!({"name": "n", "description": "d".repeat(1_025)}),
            "description",
        ),
        (json!({"name": "n", "metadata": null}), "metadata"),
        (json!({"name": "n", "metadata": {"k": 1}}), "metadata.k"),
        (json!({"name": "n", "metadata": many}), "metadata"),
        (json!({"name": "n", "colour": "red"}), "colour"),
    ] {
        assert_eq!(
            create(&body).expect_err(&body.to_string()).path,
            path,
            "{body}"
        );
    }
    let stored = create(&json!({"name": "n"})).unwrap();
    for (body, path) in [
        (json!({"name": ""}), "name"),
        (json!({"name": 1}), "name"),
        (json!({"description": []}), "description"),
        (json!({"metadata": {"k": ["v"]}}), "metadata.k"),
        (json!({"metadata": "k"}), "metadata"),
        (json!({"id": "x"}), "id"),
    ] {
        assert_eq!(
            update(&stored, &body).expect_err(&body.to_string()).path,
            path,
            "{body}"
        );
    }
}

#[test]
fn a_memory_needs_a_path_and_a_content_that_may_be_null() {
    let read = |body: &Value| {
        let create = read::<CreateMemory>(body)?;
        create.check().map(|()| create.content)
    };
    assert_eq!(
        read(&json!({"path": "/a", "content": "x"})),
        Ok(Some("x".to_owned()))
    );
    assert_eq!(read(&json!({"path": "/a", "content": null})), Ok(None));
    let longest = "x".repeat(102_400);
    assert!(read(&json!({"path": "/a", "content": longest})).is_ok());
    for (body, path) in [
        (json!({"path": "/a"}), "content"),
        (json!({"content": "x"}), "path"),
        (json!({"path": null, "content": "x"}), "path"),
        (json!({"path": "/a", "content": 1}), "content"),
        (
            json!({"path": "/a", "content": "ä".repeat(51_201)}),
            "content",
        ),
        (json!({"path": "a", "content": "x"}), "path"),
        (
            json!({"path": "/a", "content": "x", "view": "full"}),
            "view",
        ),
    ] {
        assert_eq!(
            read(&body).expect_err(&body.to_string()).path,
            path,
            "{body}"
        );
    }
}

#[test]
fn an_update_of_a_memory_keeps_what_is_absent_or_null() {
    let read = |body: &Value| {
        let update = read::<UpdateMemory>(body)?;
        update.check().map(|()| update)
    };
    let nothing = read(&json!({})).unwrap();
    assert_eq!(read(&json!({"content": null, "path": null})), Ok(nothing));
    let digest = "0123456789abcdef".repeat(4);
    let condition = |digest: &str| json!({"type": "content_sha256", "content_sha256": digest});
    assert!(read(&json!({"precondition": condition(&digest)})).is_ok());
    assert!(read(&json!({"precondition": {"type": "content_sha256"}})).is_ok());
    for (body, path) in [
        (json!({"content": 1}), "content"),
        (json!({"path": "/a/"}), "path"),
        (json!({"precondition": null}), "precondition"),
        (json!({"precondition": {}}), "precondition.type"),
        (
            json!({"precondition": {"type": "etag"}}),
            "precondition.type",
        ),
        (
            json!({"precondition": {"type": "content_sha256", "content_sha256": null}}),
            "precondition.content_sha256",
        ),
        (
            json!({"precondition": condition("abc")}),
            "precondition.content_sha256",
        ),
        (
            json!({"precondition": condition(&digest.to_uppercase())}),
            "precondition.content_sha256",
        ),
        (json!({"metadata": {}}), "metadata"),
    ] {
        assert_eq!(
            read(&body).expect_err(&body.to_string()).path,
            path,
            "{body}"
        );
    }
}

#[test]
fn the_path_of_a_memory_is_absolute_plain_and_normal() {
    let deep = "/a".repeat(20);
    let long = format!("/{}", "a".repeat(1_023));
    for good in ["/a", "/a/b.md", "/Ünïcode/ä b", "/...", &deep, &long] {
        assert_eq!(memory::check_path(good), Ok(()), "{good}");
    }
    let (deeper, longer) = (format!("{deep}/a"), format!("{long}a"));
    for bad in [
        "",
        "/",
        "a",
        "a/b",
        "/a/",
        "//a",
        "/a//b",
        "/.",
        "/..",
        "/a/../b",
        "/a/./b",
        "/a\nb",
        "/a\u{7f}b",
        "/a\u{200b}b",
        "/a\u{202e}b",
        "/a\u{2028}b",
        "/a\u{feff}",
        "/a\u{ad}b",
        "/u\u{308}",
        &deeper,
        &longer,
    ] {
        assert_eq!(memory::check_path(bad).expect_err(bad).path, "path");
    }
    for good in ["/", "/a/", "/a/b/"] {
        assert_eq!(memory::check_prefix(good), Ok(()), "{good}");
    }
    for bad in ["", "a/", "/a", "//", "/../", "/a/../"] {
        assert_eq!(
            memory::check_prefix(bad).expect_err(bad).path,
            "path_prefix"
        );
    }
}

#[test]
fn a_memory_a_folder_and_a_version_have_the_shape_of_the_sdk() {
    let (store, id, version) = (
        MemoryStoreId::from_bits(1),
        MemoryId::from_bits(2),
        MemoryVersionId::from_bits(3),
    );
    let memory = Memory {
        id,
        kind: MemoryTag::Memory,
        memory_store_id: store,
        memory_version_id: version,
        path: "/a".to_owned(),
        content: None,
        content_sha256: "0".repeat(64),
        content_size_bytes: 0,
        created_at: Micros(0),
        updated_at: Micros(0),
    };
    let prefix = MemoryPrefix {
        kind: MemoryPrefixTag::MemoryPrefix,
        path: "/b/".to_owned(),
    };
    let items = [
        MemoryItem::Memory(Box::new(memory)),
        MemoryItem::Prefix(prefix),
    ];
    assert_eq!(
        serde_json::to_value(items).unwrap(),
        json!([
            {"id": id.to_string(), "type": "memory", "memory_store_id": store.to_string(),
                "memory_version_id": version.to_string(), "path": "/a", "content": null,
                "content_sha256": "0".repeat(64), "content_size_bytes": 0, "created_at": T, "updated_at": T},
            {"type": "memory_prefix", "path": "/b/"}
        ])
    );
    let session = SessionId::from_bits(4);
    let shown = MemoryVersion {
        id: version,
        kind: MemoryVersionTag::MemoryVersion,
        memory_store_id: store,
        memory_id: id,
        operation: Operation::Deleted,
        path: None,
        content: None,
        content_sha256: None,
        content_size_bytes: None,
        created_at: Micros(0),
        created_by: Some(Actor::SessionActor {
            session_id: session,
        }),
        redacted_at: None,
        redacted_by: None,
    };
    assert_eq!(
        serde_json::to_value(shown).unwrap(),
        json!({"id": version.to_string(), "type": "memory_version", "memory_store_id": store.to_string(),
            "memory_id": id.to_string(), "operation": "deleted", "path": null, "content": null,
            "content_sha256": null, "content_size_bytes": null, "created_at": T, "redacted_at": null,
            "created_by": {"type": "session_actor", "session_id": session.to_string()}})
    );
    let key = Actor::ApiActor {
        api_key_id: ApiKeyId::from_bits(5),
    };
    let text = json!({"type": "api_actor", "api_key_id": ApiKeyId::from_bits(5).to_string()});
    assert_eq!(serde_json::from_value::<Actor>(text).unwrap(), key);
}

#[test]
fn the_conflicts_of_memories_carry_what_the_sdk_reads() {
    let (id, request) = (MemoryId::from_bits(1), RequestId::from_bits(1));
    let conflict = MemoryPathConflict::with(id, "/a");
    let object = serde_json::to_value(&conflict).unwrap();
    let error = ApiError::from(conflict);
    assert_eq!((error.status, error.should_retry), (409, Some(false)));
    assert_eq!(error.envelope(Generation::V2026, &request)["error"], object);
    assert_eq!(object["type"], "memory_path_conflict_error");
    assert_eq!(object["conflicting_memory_id"], id.to_string());
    assert_eq!(object["conflicting_path"], "/a");

    let failed = MemoryPreconditionFailed::default();
    let object = serde_json::to_value(&failed).unwrap();
    let error = ApiError::from(failed);
    assert_eq!((error.status, error.should_retry), (409, Some(false)));
    assert_eq!(error.envelope(Generation::V2026, &request)["error"], object);
    assert_eq!(object["type"], "memory_precondition_failed_error");
}
