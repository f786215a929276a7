//! Bodies that are no requests at all, and the path of an error however deep.

use contract::agent::CreateAgent;
use contract::client_event::SendEvents;
use contract::parse::parse;
use serde_json::json;

use crate::read;

#[test]
fn a_body_that_is_not_json_is_refused_with_its_place() {
    let cases: [(&[u8], &str); 8] = [
        (b"", "empty body"),
        (b"  \n", "empty body"),
        (b"{\"name\": }", "line 1 column"),
        (b"{\"name\": \"a\"} x", "trailing characters"),
        (b"{\"name\": \"\xff\"}", "not UTF-8: the byte at offset 10"),
        (br#"{"name": "\ud800"}"#, "malformed JSON"),
        (br#"{"name": "\udc00x"}"#, "malformed JSON"),
        (
            br#"{"name": "a", "name": "b"}"#,
            "the key `name` stands twice",
        ),
    ];
    for (body, wanted) in cases {
        let bad = parse::<CreateAgent>(body).unwrap_err();
        assert_eq!(bad.path, "", "{bad}");
        assert!(bad.problem.contains(wanted), "{bad}");
    }
}

#[test]
fn a_body_nested_too_deeply_is_refused() {
    let body = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bad = parse::<CreateAgent>(body.as_bytes()).unwrap_err();
    assert!(bad.problem.contains("recursion limit"), "{bad}");
}

#[test]
fn a_body_that_is_no_object_is_refused() {
    for body in [
        json!([]),
        json!("x"),
        json!(1),
        json!(null),
        json!(["name", "model"]),
    ] {
        let bad = read::<CreateAgent>(&body).unwrap_err();
        assert!(bad.problem.starts_with("expected an object, got "), "{bad}");
    }
}

#[test]
fn nul_is_refused_wherever_it_stands() {
    let text =
        |text: &str| json!({"type": "user.message", "content": [{"type": "text", "text": text}]});
    let bad = read::<SendEvents>(&json!({"events": [text("a"), text("b\0c")]})).unwrap_err();
    assert_eq!(bad.path, "events[1].content[0].text");
    assert!(bad.problem.contains("NUL"), "{bad}");

    let tool = json!({"type": "custom", "name": "t", "description": "d",
        "input_schema": {"type": "object", "x": ["\0"]}});
    let agent = json!({"name": "a", "model": "m", "tools": [tool]});
    let bad = read::<CreateAgent>(&agent).unwrap_err();
    assert_eq!(bad.path, "tools[0].input_schema.x[0]");

    let agent = json!({"name": "a", "model": "m", "metadata": {"k\0": "v"}});
    let bad = read::<CreateAgent>(&agent).unwrap_err();
    assert_eq!(bad.path, "metadata");
}

#[test]
fn the_problem_never_repeats_a_value() {
    let bad = read::<CreateAgent>(&json!({"name": 1, "model": "m"})).unwrap_err();
    assert_eq!(bad.to_string(), "`name`: expected a string, got an integer");
    let bad = read::<CreateAgent>(&json!({"name": "a", "model": {"id": "m", "speed": "sekrit"}}));
    let bad = bad.unwrap_err();
    assert_eq!(bad.path, "model.speed");
    assert!(!bad.problem.contains("sekrit"), "{bad}");
}
