//! OpenAI Responses: what is sent and how the stream is read, thinking included.

use model::{
    Block, Delta, Dialect, Effort, Message, Request, ResultBlock, Source, Stop, UserBlock,
};
use serde_json::{Value, json};

use crate::fixture::{
    ask, ask_with, client, endpoint, request, results, said, script, scripted, text,
};
use crate::raw::Raw;

const THIS: Dialect = Dialect::OpenAiResponses;

fn thinking(messages: Vec<Message>) -> Request {
    Request {
        model: "gpt-5".to_owned(),
        effort: Some(Effort::Max),
        ..request(messages)
    }
}

fn kinds(body: &Value) -> Vec<&str> {
    let items = body["input"].as_array().unwrap().iter();
    items
        .map(|item| match item["type"].as_str() {
            Some(kind) => kind,
            None => item["role"].as_str().unwrap(),
        })
        .collect()
}

#[tokio::test]
async fn a_turn_with_parallel_calls_works_to_its_end_and_thinking_comes_back_encrypted() {
    let server = scripted().await;
    let ep = endpoint(THIS, &format!("{}/v1", server.base_url()));
    let steps = json!([
        {"thinking": "two", "text": "Looking.", "chunks": 3,
         "tools": [{"name": "bash", "input": {"command": "ls"}}, {"name": "read"}]},
        {"echo_results": true}
    ]);
    let mut messages = vec![script(steps)];
    let (reply, deltas) = ask_with(&client(), &ep, &thinking(messages.clone())).await;
    let reply = reply.unwrap();
    assert_eq!(reply.stop, Stop::ToolUse);
    let [
        Block::Reasoning { dialect: THIS, raw },
        Block::Text { text: looking },
        Block::ToolUse { name, input, .. },
        Block::ToolUse { .. },
    ] = reply.blocks.as_slice()
    else {
        panic!("{:?}", reply.blocks)
    };
    assert!(
        raw["encrypted_content"].is_string() && raw["id"].is_string(),
        "{raw}"
    );
    assert_eq!((looking.as_str(), name.as_str()), ("Looking.", "bash"));
    assert_eq!(*input, json!({"command": "ls"}));
    assert_eq!(reply.usage.cache_read, 0);

    let shown =
        |pick: fn(&Delta) -> Option<&str>| deltas.iter().filter_map(pick).collect::<String>();
    let words = shown(|d| match d {
        Delta::Text { index: 1, text } => Some(text),
        _ => None,
    });
    let thoughts = shown(|d| match d {
        Delta::Thinking { index: 0, text } => Some(text),
        _ => None,
    });
    assert_eq!((words.as_str(), thoughts.as_str()), ("Looking.", "two"));
    let ends = deltas
        .iter()
        .filter(|d| matches!(d, Delta::BlockEnd { .. }));
    assert_eq!(ends.count(), 4);

    messages.push(Message::Assistant(reply.blocks.clone()));
    messages.push(results(&reply, "a.txt"));
    messages.push(Message::System(vec!["Be brief.".to_owned()]));
    messages.push(text("and quickly"));
    let reply = ask(&ep, &thinking(messages)).await.unwrap();
    assert_eq!(said(&reply), "Results: a.txt\na.txt");
    assert!(reply.usage.cache_read > 0, "{:?}", reply.usage);
    let body = server.requests().pop().unwrap().body;
    let expected = [
        "user",
        "reasoning",
        "assistant",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
        "system",
        "user",
    ];
    assert_eq!(kinds(&body), expected);
    assert_eq!(
        (
            &body["store"],
            &body["reasoning"]["effort"],
            &body["max_output_tokens"]
        ),
        (&json!(false), &json!("high"), &json!(1000))
    );
    assert_eq!(body["instructions"], "You are a careful engineer.");
}

#[tokio::test]
async fn a_model_that_does_not_think_is_not_asked_for_its_thinking() {
    let server = scripted().await;
    let ep = endpoint(THIS, &server.base_url());
    let asked = Request {
        model: "gpt-4.1".to_owned(),
        effort: Some(Effort::High),
        ..request(vec![script(
            json!([{"thinking": "hm", "text": "one"}, {"text": "two"}]),
        )])
    };
    let reply = ask(&ep, &asked).await.unwrap();
    // What came without its proof is only a name that the provider did not keep.
    let messages = [
        &asked.messages[..],
        &[Message::Assistant(reply.blocks), text("go on")],
    ]
    .concat();
    let reply = ask(&ep, &Request { messages, ..asked }).await.unwrap();
    assert_eq!(said(&reply), "two");
    let body = server.requests().pop().unwrap().body;
    assert_eq!(kinds(&body), ["user", "assistant", "user"]);
    assert_eq!(
        (&body["include"], &body["reasoning"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn pictures_and_documents_go_in_the_dialects_own_parts() {
    let server = scripted().await;
    let ep = endpoint(THIS, &server.base_url());
    let bytes = |kind: &str| Source::Base64 {
        media_type: kind.to_owned(),
        data: "AAAA".to_owned(),
    };
    let document = |source| UserBlock::Document {
        source,
        title: Some("a.pdf".to_owned()),
        context: None,
    };
    let call = Block::ToolUse {
        id: "c1".to_owned(),
        name: "read".to_owned(),
        input: json!({}),
    };
    let result = UserBlock::ToolResult {
        tool_use_id: "c1".to_owned(),
        content: vec![
            ResultBlock::Text {
                text: "seen".to_owned(),
            },
            ResultBlock::Image {
                source: bytes("image/png"),
            },
        ],
        is_error: true,
    };
    let messages = vec![
        Message::User(vec![
            UserBlock::Image {
                source: bytes("image/png"),
            },
            document(bytes("application/pdf")),
            document(Source::Text {
                data: "plain".to_owned(),
            }),
            document(Source::Url {
                url: "https://example.com/b.pdf".to_owned(),
            }),
        ]),
        Message::Assistant(vec![call]),
        Message::User(vec![result]),
    ];
    ask(&ep, &request(messages)).await.unwrap();
    let body = server.requests().pop().unwrap().body;
    let expected = json!([
        {"role": "user", "content": [
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
            {"type": "input_text", "text": "a.pdf\nplain"},
            {"type": "input_file", "file_url": "https://example.com/b.pdf"},
        ]},
        {"type": "function_call", "call_id": "c1", "name": "read", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [
            {"type": "input_text", "text": "Error: seen"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
        ]},
    ]);
    assert_eq!(body["input"], expected);
}

fn event(data: &Value) -> String {
    format!(
        "event: {}\ndata: {data}\n\n",
        data["type"].as_str().unwrap()
    )
}

fn ended(status: &str, output: Value, more: Value) -> String {
    let mut response = json!({"id": "resp_9", "status": status, "output": output});
    for (key, value) in more.as_object().unwrap() {
        response[key] = value.clone();
    }
    event(&json!({"type": format!("response.{status}"), "response": response}))
}

async fn read(body: String) -> Result<model::Reply, model::Failure> {
    let server = Raw::events(&body).await;
    ask(&endpoint(THIS, &server.url()), &request(vec![text("hi")])).await
}

#[tokio::test]
async fn what_was_not_streamed_is_taken_from_the_end() {
    let output = json!([
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]},
        {"type": "function_call", "name": "bash", "arguments": {"a": 1}},
    ]);
    let usage = json!({"usage": {"input_tokens": 100, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 64}}});
    let reply = read(ended("completed", output, usage)).await.unwrap();
    assert_eq!(reply.stop, Stop::ToolUse);
    let usage = reply.usage;
    assert_eq!((usage.input, usage.cache_read, usage.output), (36, 64, 7));
    let [
        Block::Reasoning { .. },
        Block::Text { text },
        Block::ToolUse { id, input, .. },
    ] = reply.blocks.as_slice()
    else {
        panic!("{:?}", reply.blocks)
    };
    assert_eq!((text.as_str(), input), ("Hello", &json!({"a": 1})));
    assert_eq!(
        id, "call_resp9_2",
        "an id is made where the server gives none"
    );
}

#[tokio::test]
async fn unknown_items_are_kept_verbatim_and_go_back_where_they_stood() {
    let search = json!({"type": "web_search_call", "id": "ws_1", "status": "completed",
                        "action": {"type": "search", "query": "x"}});
    let added = json!({"type": "response.output_item.added", "output_index": 0,
                       "item": {"type": "web_search_call", "id": "ws_1", "status": "in_progress"}});
    let body = event(&added)
        + &event(&json!({"type": "response.web_search_call.searching", "output_index": 0}))
        + &event(&json!({"type": "response.output_item.done", "output_index": 0, "item": search}))
        + &event(
            &json!({"type": "response.output_text.delta", "output_index": 1, "delta": "Found."}),
        )
        + &ended("completed", json!([]), json!({}));
    let reply = read(body).await.unwrap();
    assert_eq!(
        reply.blocks,
        [
            Block::Opaque {
                dialect: THIS,
                raw: search.clone()
            },
            Block::Text {
                text: "Found.".to_owned()
            }
        ]
    );
    let server = scripted().await;
    let messages = vec![text("hi"), Message::Assistant(reply.blocks), text("and?")];
    let ep = endpoint(THIS, &server.base_url());
    ask(&ep, &request(messages.clone())).await.unwrap();
    let body = server.requests().pop().unwrap().body;
    assert_eq!(body["input"][1], search);
    // Another dialect has no place for it.
    for other in [Dialect::AnthropicMessages, Dialect::OpenAiChat] {
        ask(
            &endpoint(other, &server.base_url()),
            &request(messages.clone()),
        )
        .await
        .unwrap();
        let body = server.requests().pop().unwrap().body;
        assert!(!body.to_string().contains("ws_1"), "{body}");
    }
}

#[tokio::test]
async fn what_a_message_is_for_goes_back_with_it_and_with_no_other() {
    let message = |phase: Value, text: &str| {
        json!({"type": "message", "role": "assistant", "phase": phase,
               "content": [{"type": "output_text", "text": text}]})
    };
    let call = json!({"type": "function_call", "call_id": "c1", "name": "bash", "arguments": "{}"});
    let output = json!([
        message("commentary".into(), "I look."),
        call,
        message(Value::Null, "So.")
    ]);
    let reply = read(ended("completed", output, json!({}))).await.unwrap();
    let server = scripted().await;
    let results = results(&reply, "ok");
    let messages = vec![text("hi"), Message::Assistant(reply.blocks), results];
    ask(
        &endpoint(THIS, &server.base_url()),
        &request(messages.clone()),
    )
    .await
    .unwrap();
    let body = server.requests().pop().unwrap().body;
    assert_eq!(
        (&body["input"][1], &body["input"][3]),
        (
            &json!({"role": "assistant", "content": "I look.", "phase": "commentary"}),
            &json!({"role": "assistant", "content": "So."})
        )
    );
    let chat = endpoint(Dialect::OpenAiChat, &server.base_url());
    ask(&chat, &request(messages)).await.unwrap();
    let body = server.requests().pop().unwrap().body.to_string();
    assert!(!body.contains("commentary"), "{body}");
}

#[tokio::test]
async fn a_cut_answer_loses_no_words_and_its_last_thinking_stays_away() {
    let server = scripted().await;
    let ep = endpoint(THIS, &server.base_url());
    let thought = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x", "status": "incomplete"});
    let details = json!({"incomplete_details": {"reason": "max_output_tokens"}});
    let reply = read(ended("incomplete", json!([thought]), details))
        .await
        .unwrap();
    assert_eq!(reply.stop, Stop::MaxTokens);
    assert!(matches!(reply.blocks.as_slice(), [Block::Reasoning { .. }]));
    let messages = vec![text("hi"), Message::Assistant(reply.blocks), text("go on")];
    ask(&ep, &thinking(messages)).await.unwrap();
    assert_eq!(
        kinds(&server.requests().pop().unwrap().body),
        ["user", "user"]
    );

    // Its ciphertext is whole only at its end.
    let item = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "ha"});
    let begun =
        event(&json!({"type": "response.output_item.added", "output_index": 0, "item": item}));
    let words =
        event(&json!({"type": "response.output_text.delta", "output_index": 1, "delta": "So"}));
    let details = json!({"incomplete_details": {"reason": "max_output_tokens"}});
    let reply = read(begun + &words + &ended("incomplete", json!([]), details))
        .await
        .unwrap();
    let messages = vec![text("hi"), Message::Assistant(reply.blocks), text("go on")];
    ask(&ep, &thinking(messages)).await.unwrap();
    let body = server.requests().pop().unwrap().body;
    assert_eq!(kinds(&body), ["user", "assistant", "user"]);

    let begun = json!({"type": "response.output_item.added", "output_index": 0,
                       "item": {"type": "function_call", "call_id": "c1", "name": "bash", "arguments": ""}});
    let details = json!({"incomplete_details": {"reason": "max_output_tokens"}});
    let reply = read(event(&begun) + &ended("incomplete", json!([]), details))
        .await
        .unwrap();
    let [Block::ToolUse { input, .. }] = reply.blocks.as_slice() else {
        panic!("{:?}", reply.blocks)
    };
    assert!(
        !input.is_object(),
        "a call that had no time for its arguments does not mean {{}}"
    );
}

#[tokio::test]
async fn refusals_filters_and_failures_are_told_apart() {
    let refusal = json!([{"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}]);
    let streamed = event(
        &json!({"type": "response.refusal.delta", "output_index": 0, "content_index": 0, "delta": "No."}),
    );
    for body in [
        ended("completed", refusal.clone(), json!({})),
        streamed + &ended("completed", refusal, json!({})),
    ] {
        let stop = read(body).await.unwrap().stop;
        let explanation = Some("No.".to_owned());
        assert_eq!(
            stop,
            Stop::Refusal {
                category: None,
                explanation
            }
        );
    }
    let filtered = json!({"incomplete_details": {"reason": "content_filter"}});
    let stop = read(ended("incomplete", json!([]), filtered))
        .await
        .unwrap()
        .stop;
    assert!(matches!(stop, Stop::Refusal { category: Some(c), .. } if c == "content_filter"));

    for (code, expected) in [
        ("rate_limit_exceeded", "RateLimited"),
        ("server_error", "Server"),
        ("context_length_exceeded", "TooLong"),
        ("insufficient_quota", "Billing"),
        ("invalid_prompt", "BadRequest"),
    ] {
        let error = json!({"code": code, "message": "so it is"});
        for body in [
            ended("failed", json!([]), json!({"error": error})),
            event(&json!({"type": "error", "code": code, "message": "so it is", "param": null})),
            format!(
                "event: error\ndata: {}\n\n",
                json!({"type": "error", "error": error})
            ),
        ] {
            let failure = read(body.clone()).await.unwrap_err();
            let shown = format!("{:?}", failure.error);
            assert!(
                shown.starts_with(expected) && shown.contains("so it is"),
                "{body}: {shown}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_without_its_end_is_no_answer_and_garbage_is_named() {
    let begun = event(
        &json!({"type": "response.created", "response": {"id": "resp_1", "usage": {"input_tokens": 5, "output_tokens": 0}}}),
    );
    let piece = event(&json!({"type": "response.output_text.delta", "delta": "Hel"}));
    let failure = read(begun + &piece).await.unwrap_err();
    assert!(
        matches!(failure.error, model::Error::Cut { .. }),
        "{failure:?}"
    );
    assert_eq!(failure.partial_usage.input, 5);
    for garbage in [
        "data: {\"choices\":[]}\n\n",
        "data: <html>\n\ndata: x\n\n",
        "event: x\ndata: 3\n\n: nothing\n\n",
    ] {
        assert!(read(garbage.to_owned()).await.is_err(), "{garbage}");
    }
    let empty = read(ended("completed", json!([]), json!({})))
        .await
        .unwrap();
    assert_eq!((empty.blocks.len(), empty.stop), (0, Stop::EndTurn));
}
