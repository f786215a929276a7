//! Anthropic Messages: what is sent and how the stream is read.

use model::{Block, Delta, Dialect, Effort, Message, Stop, Thinking, UserBlock};
use serde_json::{Value, json};

use crate::fixture::{
    ask, ask_with, client, endpoint, request, results, said, script, scripted, text,
};
use crate::raw::Raw;

#[tokio::test]
async fn text_arrives_as_deltas_and_then_whole() {
    let server = scripted().await;
    let ep = endpoint(Dialect::AnthropicMessages, &server.base_url());
    let steps = json!([{"thinking": "hm, well", "text": "Grüße aus Köln", "chunks": 4}]);
    let (reply, deltas) = ask_with(&client(), &ep, &request(vec![script(steps)])).await;
    let reply = reply.unwrap();
    assert_eq!(reply.stop, Stop::EndTurn);
    assert_eq!(reply.model, "claude-opus-5");
    let [
        Block::Thinking {
            text,
            signature: Some(_),
        },
        Block::Text { text: spoken },
    ] = reply.blocks.as_slice()
    else {
        panic!("unexpected blocks {:?}", reply.blocks)
    };
    assert_eq!(
        (text.as_str(), spoken.as_str()),
        ("hm, well", "Grüße aus Köln")
    );
    assert_eq!(deltas.first(), Some(&Delta::MessageStart));
    let pieces: Vec<&str> = deltas
        .iter()
        .filter_map(|d| match d {
            Delta::Text { index: 1, text } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(pieces.len(), 4);
    assert_eq!(pieces.concat(), "Grüße aus Köln");
    assert!(
        deltas.contains(&Delta::ThinkingStart { index: 0 })
            && deltas.contains(&Delta::BlockEnd { index: 1 })
    );
    assert!(reply.usage.total_input() > 0 && reply.usage.output > 0);
}

#[tokio::test]
async fn parallel_calls_and_thinking_are_replayed_so_that_a_strict_server_takes_them() {
    let server = scripted().await;
    let ep = endpoint(Dialect::AnthropicMessages, &server.base_url());
    let steps = json!([
        {"thinking": "two at once", "text": "Looking.",
         "tools": [{"name": "bash", "input": {"command": "ls \"x\"", "n": 1.5e-7}}, {"name": "read", "input": {}}]},
        {"echo_results": true}
    ]);
    let mut messages = vec![script(steps)];
    let reply = ask(&ep, &request(messages.clone())).await.unwrap();
    assert_eq!(reply.stop, Stop::ToolUse);
    let inputs: Vec<&Value> = reply
        .blocks
        .iter()
        .filter_map(|b| match b {
            Block::ToolUse { input, .. } => Some(input),
            _ => None,
        })
        .collect();
    assert_eq!(
        inputs,
        [&json!({"command": "ls \"x\"", "n": 1.5e-7}), &json!({})]
    );
    messages.push(Message::Assistant(reply.blocks.clone()));
    messages.push(results(&reply, "a.txt"));
    let reply = ask(&ep, &request(messages)).await.unwrap();
    assert_eq!(said(&reply), "Results: a.txt\na.txt");
}

#[tokio::test]
async fn wire_shape_is_that_of_the_dialect() {
    let server = scripted().await;
    let mut ep = endpoint(
        Dialect::AnthropicMessages,
        &format!("{}/", server.base_url()),
    );
    ep.model_map
        .insert("claude-opus-5".to_owned(), "claude-house-opus".to_owned());
    ep.headers.push(("x-team".to_owned(), "blue".to_owned()));
    let mut asked = request(vec![text("one"), text(""), text("two")]);
    asked.effort = Some(Effort::High);
    asked.thinking = Thinking::Adaptive;
    assert_eq!(said(&ask(&ep, &asked).await.unwrap()), "You said: one\ntwo");
    let seen = server.requests().pop().unwrap();
    assert_eq!(seen.headers["x-team"], "blue");
    assert_eq!(seen.headers["anthropic-version"], "2023-06-01");
    let mark = json!({"type": "ephemeral"});
    assert_eq!(seen.body["model"], "claude-house-opus");
    assert_eq!(seen.body["output_config"], json!({"effort": "high"}));
    assert_eq!(seen.body["thinking"], json!({"type": "adaptive"}));
    assert_eq!(seen.body["system"][0]["cache_control"], mark);
    let names: Vec<&Value> = seen.body["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["name"])
        .collect();
    assert_eq!(names, ["bash", "read"]);
    let content = &seen.body["messages"][0]["content"];
    assert_eq!(
        *content,
        json!([{"type": "text", "text": "one"}, {"type": "text", "text": "two", "cache_control": mark}])
    );
}

#[tokio::test]
async fn a_message_that_was_noted_before_a_result_goes_behind_it() {
    let server = scripted().await;
    let ep = endpoint(Dialect::AnthropicMessages, &server.base_url());
    let mut messages = vec![script(
        json!([{"tool": "bash", "input": {"command": "ls"}}, {"text": "ok"}]),
    )];
    let reply = ask(&ep, &request(messages.clone())).await.unwrap();
    messages.push(Message::Assistant(reply.blocks.clone()));
    messages.push(text("also this"));
    messages.push(results(&reply, "a"));
    assert_eq!(said(&ask(&ep, &request(messages)).await.unwrap()), "ok");
}

#[tokio::test]
async fn stop_reasons_are_told_apart() {
    let server = scripted().await;
    let ep = endpoint(Dialect::AnthropicMessages, &server.base_url());
    let refusal = Stop::Refusal {
        category: Some("scripted".to_owned()),
        explanation: Some("The script refuses.".to_owned()),
    };
    for (reason, stop) in [
        ("max_tokens", Stop::MaxTokens),
        ("pause_turn", Stop::Pause),
        ("model_context_window_exceeded", Stop::ContextWindow),
        ("refusal", refusal),
        (
            "brand_new",
            Stop::Other {
                reason: "brand_new".to_owned(),
            },
        ),
    ] {
        let asked = request(vec![script(json!([{"text": "so far", "stop": reason}]))]);
        assert_eq!(ask(&ep, &asked).await.unwrap().stop, stop, "{reason}");
    }
}

fn event(data: &Value) -> String {
    format!(
        "event: {}\ndata: {data}\n\n",
        data["type"].as_str().unwrap()
    )
}

fn start() -> String {
    event(
        &json!({"type": "message_start", "message": {"model": "m", "usage":
        {"input_tokens": 7, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 5,
         "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}, "output_tokens": 1}}}),
    )
}

#[tokio::test]
async fn unknown_blocks_are_kept_and_sent_back_as_they_were() {
    let block =
        json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}});
    let body = [
        start(),
        event(&json!({"type": "invented_yesterday", "x": 1})),
        event(&json!({"type": "content_block_start", "index": 0, "content_block": block})),
        event(
            &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\"q\":"}}),
        ),
        event(
            &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "1}"}}),
        ),
        event(&json!({"type": "content_block_stop", "index": 0})),
        event(
            &json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}),
        ),
        event(&json!({"type": "message_stop"})),
    ];
    let server = Raw::events(&body.concat()).await;
    let ep = endpoint(Dialect::AnthropicMessages, &server.url());
    let reply = ask(&ep, &request(vec![text("hi")])).await.unwrap();
    let raw = json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"q": 1}});
    assert_eq!(
        reply.blocks,
        [Block::Opaque {
            dialect: Dialect::AnthropicMessages,
            raw: raw.clone()
        }]
    );
    let usage = reply.usage;
    assert_eq!((usage.input, usage.cache_read, usage.output), (7, 5, 9));
    assert_eq!((usage.cache_creation_5m, usage.cache_creation_1h), (10, 20));

    let stored = serde_json::to_string(&Message::Assistant(reply.blocks)).unwrap();
    let restored: Message = serde_json::from_str(&stored).unwrap();
    let scripted = scripted().await;
    let ep = endpoint(Dialect::AnthropicMessages, &scripted.base_url());
    // The scripted model knows no server tools and says so; what was sent is what matters here.
    let _refused = ask(&ep, &request(vec![text("hi"), restored, text("go on")])).await;
    assert_eq!(
        scripted.requests().pop().unwrap().body["messages"][1]["content"][0],
        raw
    );
}

#[tokio::test]
async fn garbled_tool_input_is_kept_as_text_and_replayed_as_an_object() {
    let body = [
        start(),
        event(&json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "tool_use", "id": "toolu_1", "name": "bash", "input": {}}})),
        event(
            &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\"comm"}}),
        ),
        event(&json!({"type": "content_block_stop", "index": 0})),
        event(
            &json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 9}}),
        ),
        event(&json!({"type": "message_stop"})),
    ];
    let server = Raw::events(&body.concat()).await;
    let ep = endpoint(Dialect::AnthropicMessages, &server.url());
    let reply = ask(&ep, &request(vec![text("hi")])).await.unwrap();
    assert_eq!(reply.stop, Stop::MaxTokens);
    assert!(
        matches!(reply.blocks.as_slice(), [Block::ToolUse { input: Value::String(raw), .. }] if raw == "{\"comm")
    );

    let scripted = scripted().await;
    let ep = endpoint(Dialect::AnthropicMessages, &scripted.base_url());
    let answer = results(&reply, "that was cut off");
    let messages = vec![text("hi"), Message::Assistant(reply.blocks), answer];
    ask(&ep, &request(messages)).await.unwrap();
}

#[tokio::test]
async fn transcript_survives_its_storage_format() {
    let message = Message::User(vec![
        UserBlock::Text {
            text: "a".to_owned(),
        },
        UserBlock::ToolResult {
            tool_use_id: "t".to_owned(),
            content: Vec::new(),
            is_error: true,
        },
    ]);
    let stored = serde_json::to_value(&message).unwrap();
    assert_eq!(
        stored,
        json!({"role": "user", "content": [
        {"type": "text", "text": "a"}, {"type": "tool_result", "tool_use_id": "t", "content": [], "is_error": true}]})
    );
    assert_eq!(serde_json::from_value::<Message>(stored).unwrap(), message);
}

#[tokio::test]
async fn requests_in_a_row_use_one_connection() {
    let server = scripted().await;
    let ep = endpoint(Dialect::AnthropicMessages, &server.base_url());
    let client = client();
    for _ in 0..5 {
        ask_with(&client, &ep, &request(vec![text("hi")]))
            .await
            .0
            .unwrap();
    }
    let peers: std::collections::BTreeSet<String> =
        server.requests().into_iter().map(|r| r.peer).collect();
    assert_eq!(peers.len(), 1, "{peers:?}");
}

#[tokio::test]
async fn effort_goes_only_to_models_that_are_known_to_take_it() {
    let server = scripted().await;
    let mut ep = endpoint(Dialect::AnthropicMessages, &server.base_url());
    for (model, taken) in [
        ("claude-opus-5", true),
        ("claude-haiku-4-5-20251001", false),
        ("house-model", false),
    ] {
        ep.model_map
            .insert("claude-opus-5".to_owned(), model.to_owned());
        let mut asked = request(vec![text("hi")]);
        asked.effort = Some(Effort::High);
        ask(&ep, &asked).await.unwrap();
        let body = server.requests().pop().unwrap().body;
        assert_eq!(body.get("output_config").is_some(), taken, "{model}");
    }
}
