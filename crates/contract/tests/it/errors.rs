//! The error envelope.

use contract::dialect::Generation;
use contract::error::{ApiError, ErrorKind};
use contract::ids::RequestId;
use contract::parse::Invalid;
use serde_json::json;

#[test]
fn the_envelope_has_details_only_when_there_are_any() {
    let request = RequestId::from_bits(1);
    let plain = ApiError::from(Invalid::at("name", "is required"));
    assert_eq!(
        plain.envelope(Generation::V2026, &request),
        json!({"type": "error", "request_id": request.to_string(),
            "error": {"type": "invalid_request_error", "message": "`name`: is required"}})
    );
    let coded = ApiError::invalid("x")
        .code("environment_archived")
        .detail("since", "today");
    assert_eq!(
        coded.envelope(Generation::V2026, &request)["error"]["details"],
        json!({"error_code": "environment_archived", "since": "today"})
    );
}

#[test]
fn the_type_of_a_conflict_depends_on_the_generation() {
    let conflict = ApiError::conflict("x");
    assert_eq!((conflict.status, conflict.should_retry), (409, Some(false)));
    assert_eq!(conflict.kind.wire(Generation::V2026), "conflict_error");
    assert_eq!(
        conflict.kind.wire(Generation::V2023),
        "invalid_request_error"
    );
}

#[test]
fn what_is_not_built_is_not_to_be_retried() {
    let error = ApiError::not_implemented("no");
    assert_eq!(
        (error.status, error.code, error.should_retry),
        (501, Some("not_implemented"), Some(false))
    );
    assert_eq!(error.kind.wire(Generation::V2026), "api_error");
    assert_eq!(ErrorKind::RequestTooLarge.status(), 413);
}

#[test]
fn only_known_versions_are_a_generation() {
    assert_eq!(
        Generation::from_version("2026-10-21"),
        Some(Generation::V2026)
    );
    assert_eq!(
        Generation::from_version(" 2023-06-01 "),
        Some(Generation::V2023)
    );
    assert_eq!(Generation::from_version("2024-01-01"), None);
}
