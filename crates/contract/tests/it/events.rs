//! Events of clients: the seven types, their blocks, and what this build serves.

use contract::client_event::{BlockParams, ClientEvent, SendEvents};
use contract::content::Block;
use contract::ids::{EventId, ThreadId};
use contract::parse::Invalid;
use serde_json::{Value, json};

use crate::read;

fn send(events: Value) -> Result<SendEvents, Invalid> {
    let send = read::<SendEvents>(&json!({"events": events}))?;
    send.check()?;
    Ok(send)
}

fn event_id() -> String {
    EventId::from_bits(3).to_string()
}

fn message(content: Value) -> Value {
    json!([{"type": "user.message", "content": content}])
}

fn result(content: Value) -> Value {
    json!([{"type": "user.custom_tool_result", "custom_tool_use_id": event_id(), "content": content}])
}

fn blocks() -> Value {
    json!([
        {"type": "text", "text": "hi"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "title": "t", "context": null}
    ])
}

#[test]
fn what_sdks_send_is_accepted_and_echoed() {
    let sent = send(message(blocks())).unwrap();
    let [ClientEvent::UserMessage(message)] = sent.events.as_slice() else {
        panic!("{sent:?}")
    };
    let echoed: Vec<Block> = message.content.iter().cloned().map(Block::from).collect();
    let mut wanted = blocks();
    wanted[3].as_object_mut().unwrap().remove("context");
    assert_eq!(serde_json::to_value(echoed).unwrap(), wanted);

    let thread = ThreadId::from_bits(4).to_string();
    for interrupt in [
        json!({"type": "user.interrupt"}),
        json!({"type": "user.interrupt", "session_thread_id": null}),
        json!({"type": "user.interrupt", "session_thread_id": thread}),
    ] {
        assert!(send(json!([interrupt])).is_ok(), "{interrupt}");
    }
    let search = json!({"type": "search_result", "source": "https://x.y", "title": "t",
        "citations": {"enabled": true}, "content": [{"type": "text", "text": "x"}]});
    let sent = send(result(json!([search]))).unwrap();
    let [ClientEvent::UserCustomToolResult(answer)] = sent.events.as_slice() else {
        panic!()
    };
    let echoed: Vec<Block> = answer.content.iter().cloned().map(Block::from).collect();
    assert_eq!(serde_json::to_value(echoed).unwrap(), json!([search]));
    for content in [json!([]), json!([{"type": "text", "text": ""}])] {
        assert!(send(result(content.clone())).is_ok(), "{content}");
    }
    let bare = json!([{"type": "user.custom_tool_result", "custom_tool_use_id": event_id(), "is_error": null}]);
    assert!(send(bare).is_ok());
}

#[test]
fn every_bad_event_is_named() {
    let source = |source: Value| message(json!([{"type": "image", "source": source}]));
    for (events, path) in [
        (json!([]), "events"),
        (json!({}), "events"),
        (json!([1]), "events[0]"),
        (json!([{"content": []}]), "events[0].type"),
        (
            json!([{"type": "agent.message", "content": []}]),
            "events[0].type",
        ),
        (json!([{"type": "user.message"}]), "events[0].content"),
        (message(json!([])), "events[0].content"),
        (message(json!("hi")), "events[0].content"),
        (
            message(json!([{"type": "text", "text": ""}])),
            "events[0].content[0].text",
        ),
        (
            message(json!([{"type": "text"}])),
            "events[0].content[0].text",
        ),
        (
            message(json!([{"type": "text", "text": "a", "cache_control": {}}])),
            "events[0].content[0].cache_control",
        ),
        (
            message(json!([{"type": "redacted"}])),
            "events[0].content[0].type",
        ),
        (
            message(json!([{"type": "redacted", "x": 1}])),
            "events[0].content[0].x",
        ),
        (
            message(
                json!([{"type": "search_result", "source": "s", "title": "t", "citations": {"enabled": true}, "content": []}]),
            ),
            "events[0].content[0].type",
        ),
        (
            message(json!([{"type": "video"}])),
            "events[0].content[0].type",
        ),
        (
            source(json!({"type": "base64", "media_type": "image/tiff", "data": "aGk="})),
            "events[0].content[0].source.media_type",
        ),
        (
            source(json!({"type": "base64", "media_type": "image/png", "data": "a b="})),
            "events[0].content[0].source.data",
        ),
        (
            source(json!({"type": "base64", "media_type": "image/png", "data": ""})),
            "events[0].content[0].source.data",
        ),
        (
            source(json!({"type": "text", "media_type": "text/plain", "data": "x"})),
            "events[0].content[0].source.type",
        ),
        (
            source(json!({"type": "url", "url": "file:///etc/passwd"})),
            "events[0].content[0].source.url",
        ),
        (
            source(json!({"type": "file", "file_id": "file_1"})),
            "events[0].content[0].source.type",
        ),
        (
            source(json!({"type": "file"})),
            "events[0].content[0].source.file_id",
        ),
        (
            result(json!([{"type": "redacted"}])),
            "events[0].content[0].type",
        ),
        (
            json!([{"type": "user.custom_tool_result"}]),
            "events[0].custom_tool_use_id",
        ),
        (
            json!([{"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_1"}]),
            "events[0].custom_tool_use_id",
        ),
        (
            json!([{"type": "user.interrupt", "session_thread_id": "x"}]),
            "events[0].session_thread_id",
        ),
        (
            json!([{"type": "user.interrupt"}, {"type": "user.interrupt", "why": 1}]),
            "events[1].why",
        ),
    ] {
        let bad = send(events.clone()).expect_err(&events.to_string());
        assert_eq!(bad.path, path, "{events}: {bad}");
    }
    let many: Vec<Value> = (0..1_001)
        .map(|_| json!({"type": "user.interrupt"}))
        .collect();
    assert_eq!(send(json!(many)).unwrap_err().path, "events");
}

#[test]
fn types_not_served_yet_parse_and_are_refused_by_name() {
    let text = json!([{"type": "text", "text": "x"}]);
    let event = json!({"type": "user.tool_result", "tool_use_id": event_id(), "content": text});
    let bad = send(json!([{"type": "user.interrupt"}, event])).expect_err("not served");
    assert_eq!(bad.path, "events[1].type");
    assert!(bad.problem.contains("not_implemented"), "{bad}");
    let outcome = json!({"type": "user.define_outcome", "description": "d",
        "rubric": {"type": "text", "content": "c"}, "max_iterations": 20});
    assert!(send(json!([outcome])).is_ok());
}

#[test]
fn every_type_is_checked_whether_it_is_served_or_not() {
    for (event, path) in [
        (
            json!({"type": "user.tool_confirmation", "tool_use_id": event_id(), "result": "maybe"}),
            "result",
        ),
        (
            json!({"type": "user.tool_confirmation", "tool_use_id": event_id(), "result": "allow", "deny_message": "x"}),
            "deny_message",
        ),
        (
            json!({"type": "user.define_outcome", "description": "d"}),
            "rubric",
        ),
        (
            json!({"type": "user.define_outcome", "description": "d", "rubric": {"type": "text", "content": "c"}, "max_iterations": 21}),
            "max_iterations",
        ),
        (
            json!({"type": "system.message", "content": [{"type": "image", "source": {"type": "url", "url": "https://x.y"}}]}),
            "content[0].type",
        ),
    ] {
        let bad = send(json!([event])).expect_err(&event.to_string());
        assert_eq!(bad.path, format!("events[0].{path}"), "{bad}");
    }
}

#[test]
fn a_long_message_is_one_block() {
    let text = "x".repeat(1 << 20);
    let sent = send(message(json!([{"type": "text", "text": text}]))).unwrap();
    let [ClientEvent::UserMessage(message)] = sent.events.as_slice() else {
        panic!()
    };
    let [BlockParams::Text(block)] = message.content.as_slice() else {
        panic!()
    };
    assert_eq!(block.text.len(), 1 << 20);
}
