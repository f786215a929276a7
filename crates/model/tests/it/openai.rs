//! OpenAI Chat Completions: what is sent and how the stream is read, imitators included.

use model::{Block, Dialect, Message, ResultBlock, Source, Stop, UserBlock};
use serde_json::{Value, json};

use crate::fixture::{ask, endpoint, request, results, said, script, scripted, text};
use crate::raw::Raw;

#[tokio::test]
async fn a_turn_with_parallel_calls_works_to_its_end() {
    let server = scripted().await;
    let ep = endpoint(Dialect::OpenAiChat, &format!("{}/v1", server.base_url()));
    let steps = json!([
        {"thinking": "two", "text": "Looking.", "tools": [{"name": "bash", "input": {"command": "ls"}}, {"name": "read"}]},
        {"echo_results": true}
    ]);
    let mut messages = vec![script(steps)];
    let reply = ask(&ep, &request(messages.clone())).await.unwrap();
    assert_eq!(reply.stop, Stop::ToolUse);
    assert!(matches!(
        reply.blocks.as_slice(),
        [
            Block::Reasoning { .. },
            Block::Text { .. },
            Block::ToolUse { .. },
            Block::ToolUse { .. }
        ]
    ));
    messages.push(Message::Assistant(reply.blocks.clone()));
    messages.push(results(&reply, "a.txt"));
    messages.push(text("and quickly"));
    let reply = ask(&ep, &request(messages)).await.unwrap();
    assert_eq!(said(&reply), "Results: a.txt\na.txt");
    assert!(reply.usage.cache_read > 0, "{:?}", reply.usage);
    let roles: Vec<Value> = server.requests().pop().unwrap().body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["role"].clone())
        .collect();
    assert_eq!(
        roles,
        ["system", "user", "assistant", "tool", "tool", "user"]
    );
}

#[tokio::test]
async fn pictures_in_results_follow_in_a_user_message() {
    let server = scripted().await;
    let ep = endpoint(Dialect::OpenAiChat, &server.base_url());
    let call = Block::ToolUse {
        id: "c1".to_owned(),
        name: "read".to_owned(),
        input: json!({}),
    };
    let image = Source::Base64 {
        media_type: "image/png".to_owned(),
        data: "AAAA".to_owned(),
    };
    let result = UserBlock::ToolResult {
        tool_use_id: "c1".to_owned(),
        content: vec![ResultBlock::Image { source: image }],
        is_error: false,
    };
    let messages = vec![
        text("hi"),
        Message::Assistant(vec![call]),
        Message::User(vec![result]),
    ];
    ask(&ep, &request(messages)).await.unwrap();
    let body = server.requests().pop().unwrap().body;
    assert_eq!(body["messages"][3]["role"], "tool");
    assert_eq!(
        body["messages"][4]["content"][1]["image_url"]["url"],
        "data:image/png;base64,AAAA"
    );
}

#[tokio::test]
async fn the_field_of_the_output_limit_follows_the_model() {
    let server = scripted().await;
    let ep = endpoint(Dialect::OpenAiChat, &server.base_url());
    for (model, field) in [
        ("gpt-5-mini", "max_completion_tokens"),
        ("openai/o3", "max_completion_tokens"),
        ("llama", "max_tokens"),
    ] {
        let mut asked = request(vec![text("hi")]);
        asked.model = model.to_owned();
        ask(&ep, &asked).await.unwrap();
        let body = server.requests().pop().unwrap().body;
        assert_eq!(body[field], 1000, "{model}");
        let fields = ["max_tokens", "max_completion_tokens"]
            .iter()
            .filter(|f| !body[**f].is_null())
            .count();
        assert_eq!(fields, 1, "{model}");
    }
}

fn chunk(delta: Value, finish: Value) -> String {
    format!(
        "data: {}\n\n",
        json!({"id": "chatcmpl-9", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    )
}

async fn read(body: String) -> model::Reply {
    let server = Raw::events(&body).await;
    ask(
        &endpoint(Dialect::OpenAiChat, &server.url()),
        &request(vec![text("hi")]),
    )
    .await
    .unwrap()
}

#[tokio::test]
async fn calls_without_ids_or_indices_get_both() {
    let call =
        |name: &str| json!({"tool_calls": [{"function": {"name": name, "arguments": {"a": 1}}}]});
    let body = [
        chunk(call("x"), Value::Null),
        chunk(call("y"), Value::Null),
        chunk(json!({}), "stop".into()),
    ];
    let reply = read(body.concat()).await;
    assert_eq!(reply.stop, Stop::ToolUse);
    let [
        Block::ToolUse {
            id: a,
            name: x,
            input,
        },
        Block::ToolUse { id: b, name: y, .. },
    ] = reply.blocks.as_slice()
    else {
        panic!("{:?}", reply.blocks)
    };
    assert_eq!((x.as_str(), y.as_str()), ("x", "y"));
    assert_eq!(*input, json!({"a": 1}));
    assert_ne!(a, b);
    assert!(a.starts_with("call_chatcmpl9_"));
}

#[tokio::test]
async fn no_usage_no_done_and_no_content_are_tolerated() {
    let reply = read(chunk(
        json!({"role": "assistant", "content": null}),
        "stop".into(),
    ))
    .await;
    assert_eq!(
        (reply.blocks.len(), reply.stop, reply.usage.total_input()),
        (0, Stop::EndTurn, 0)
    );
    assert_eq!(
        reply.model, "claude-opus-5",
        "the id that was asked for stands in"
    );
}

#[tokio::test]
async fn cached_tokens_are_taken_out_of_the_input() {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 3,
                       "prompt_tokens_details": {"cached_tokens": 64}}});
    let reply = read(
        chunk(json!({"content": "x"}), "length".into())
            + &format!("data: {usage}\n\ndata: [DONE]\n\n"),
    )
    .await;
    assert_eq!(
        (
            reply.usage.input,
            reply.usage.cache_read,
            reply.usage.output
        ),
        (36, 64, 3)
    );
    assert_eq!(reply.stop, Stop::MaxTokens);
}

#[tokio::test]
async fn a_refusal_keeps_its_words() {
    let body = chunk(json!({"refusal": "I will "}), Value::Null)
        + &chunk(json!({"refusal": "not."}), "stop".into());
    let explanation = Some("I will not.".to_owned());
    assert_eq!(
        read(body).await.stop,
        Stop::Refusal {
            category: None,
            explanation
        }
    );
}

fn call(index: u64, id: &str, name: &str, arguments: &str) -> Value {
    json!({"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": arguments}}]})
}

#[tokio::test]
async fn an_empty_finish_reason_is_none() {
    let body = chunk(json!({"content": "He"}), "".into())
        + &chunk(json!({"content": "llo"}), "".into())
        + &chunk(call(0, "a", "bash", "{\"x\":"), "".into())
        + &chunk(call(0, "", "", "1}"), "".into())
        + &chunk(json!({}), "tool_calls".into());
    let reply = read(body).await;
    let input = json!({"x": 1});
    assert!(
        matches!(&reply.blocks[..], [Block::Text { text }, Block::ToolUse { input: i, .. }]
            if text == "Hello" && *i == input),
        "{:?}",
        reply.blocks
    );
}

#[tokio::test]
async fn an_answer_that_is_cut_between_chunks_with_empty_reasons_is_no_answer() {
    let body =
        chunk(json!({"content": "He"}), "".into()) + &chunk(json!({"content": "llo"}), "".into());
    let server = Raw::events(&body).await;
    let ep = endpoint(Dialect::OpenAiChat, &server.url());
    assert!(ask(&ep, &request(vec![text("hi")])).await.is_err());
}

#[tokio::test]
async fn two_calls_under_one_index_are_two_calls_and_late_pieces_find_theirs() {
    let body = chunk(call(0, "a", "bash", "{\"x\":1}"), Value::Null)
        + &chunk(call(0, "b", "read", "{\"y\":"), "tool_calls".into())
        + &chunk(call(0, "b", "", "2}"), Value::Null);
    let reply = read(body).await;
    let inputs = reply.blocks.iter().map(|block| match block {
        Block::ToolUse { id, input, .. } => (id.clone(), input.clone()),
        other => panic!("{other:?}"),
    });
    let expected = [("a", json!({"x": 1})), ("b", json!({"y": 2}))];
    let expected = expected.map(|(id, input)| (id.to_owned(), input));
    assert_eq!(inputs.collect::<Vec<_>>(), expected);
}
