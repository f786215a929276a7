//! Gateways and local servers as they really answer: LiteLLM, Ollama, vLLM. The bodies are shaped after
//! public recordings; each test says where its shape is to be seen.

use model::{Block, Class, Dialect, Error, Failure, Reply, Stop};
use serde_json::{Value, json};

use crate::fixture::{ask, endpoint, request, said, scripted, text};
use crate::raw::Raw;

const CHAT: Dialect = Dialect::OpenAiChat;

fn events(chunks: &[Value]) -> String {
    let chunks = chunks.iter().map(|chunk| format!("data: {chunk}\n\n"));
    chunks.collect::<String>() + "data: [DONE]\n\n"
}

async fn read(body: &str) -> Result<Reply, Failure> {
    let server = Raw::events(body).await;
    ask(&endpoint(CHAT, &server.url()), &request(vec![text("hi")])).await
}

/// Asks a server that refuses, and lists its models.
async fn refused(status: u16, body: &str, models: &str) -> Failure {
    let answers = vec![
        ("POST /", Raw::json(status, body)),
        ("GET /v1/models", Raw::json(200, models)),
    ];
    let server = Raw::by_path(answers, false).await;
    let ep = endpoint(CHAT, &format!("{}/v1", server.url()));
    ask(&ep, &request(vec![text("hi")])).await.unwrap_err()
}

/// LiteLLM: <https://github.com/BerriAI/litellm/issues/9663> and, with an object in place of the message,
/// <https://github.com/BerriAI/litellm/issues/8821>; its list, <https://github.com/BerriAI/litellm/issues/14257>.
/// vLLM: <https://github.com/vllm-project/vllm/issues/3485> and the envelope it has had since 0.10. Ollama:
/// `NewError` in <https://github.com/ollama/ollama/blob/main/openai/openai.go>.
#[tokio::test]
async fn an_unknown_model_is_named_together_with_those_that_exist() {
    let litellm = "/chat/completions: Invalid model name passed in model=claude-opus-5. Call `/v1/models` to view available models for your key.";
    let vllm = "The model `claude-opus-5` does not exist.";
    for (status, body) in [
        (
            400,
            json!({"error": {"message": litellm, "type": "invalid_request_error", "param": null, "code": "400"}}),
        ),
        (
            400,
            json!({"error": {"message": {"error": litellm}, "type": "None", "param": "None", "code": "400"}}),
        ),
        (
            404,
            json!({"object": "error", "message": vllm, "type": "NotFoundError", "param": null, "code": 404}),
        ),
        (
            404,
            json!({"error": {"message": vllm, "type": "NotFoundError", "param": "model", "code": 404}}),
        ),
        (
            404,
            json!({"error": {"message": "model \"claude-opus-5\" not found, try pulling it first",
                               "type": "not_found_error", "param": null, "code": null}}),
        ),
    ] {
        let listed = json!({"object": "list", "data": [
            {"id": "qwen3:4b", "object": "model", "created": 1_677_610_602, "owned_by": "library"},
            {"id": "gpt-oss:20b"},
        ]});
        let failure = refused(status, &body.to_string(), &listed.to_string()).await;
        assert!(
            matches!(failure.error, Error::NotFound { .. }),
            "{failure:?}"
        );
        assert_eq!(failure.error.class(), Class::Fatal);
        let words = failure.to_string();
        for part in [
            "\"claude-opus-5\"",
            "its models are qwen3:4b, gpt-oss:20b;",
            "model map",
        ] {
            assert!(words.contains(part), "{part} is missing in: {words}");
        }
        assert!(
            !words.contains('{'),
            "the words and not their wrapping: {words}"
        );
    }
}

#[tokio::test]
async fn a_list_that_is_long_or_none_does_not_hide_the_error() {
    let many = (0..50).map(|n| json!({"id": format!("m{n}")}));
    let many = json!({"data": many.collect::<Vec<_>>()}).to_string();
    let body = r#"{"detail":"Not Found"}"#;
    let words = refused(404, body, &many).await.to_string();
    assert!(
        words.contains("m19 and 30 more;") && !words.contains("m20"),
        "{words}"
    );
    assert!(words.contains("it said: Not Found"), "{words}");
    for none in ["<html>", "{\"data\": 3}", "{}"] {
        let words = refused(404, body, none).await.to_string();
        assert!(!words.contains("its models"), "{words}");
    }
}

/// The list is asked for with the key, the headers and the prefix of every other request.
#[tokio::test]
async fn prefix_headers_and_map_of_a_gateway_are_used() {
    let stream =
        events(&[json!({"choices": [{"delta": {"content": "ok"}, "finish_reason": "stop"}]})]);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let answers = vec![
        ("\"model\":\"fast\"", format!("{head}{stream}")),
        ("POST /team-a/llm/v1/chat/completions", Raw::json(404, "{}")),
        (
            "GET /team-a/llm/v1/models",
            Raw::json(200, r#"{"data":[{"id":"fast"}]}"#),
        ),
    ];
    let server = Raw::by_path(answers, false).await;
    let mut ep = endpoint(CHAT, &format!("{}/team-a/llm/v1/", server.url()));
    ep.headers.push(("X-Team".to_owned(), "a".to_owned()));
    ep.model_map
        .insert("claude-opus-5".to_owned(), "fast".to_owned());
    let mut asked = request(vec![text("hi")]);
    assert_eq!(said(&ask(&ep, &asked).await.unwrap()), "ok");
    asked.model = "unmapped".to_owned();
    let words = ask(&ep, &asked).await.unwrap_err().to_string();
    assert!(words.contains("its models are fast;"), "{words}");
}

/// <https://github.com/BerriAI/litellm/issues/12481>: `end_turn` behind a call, ids and names only in the first
/// piece, empty names after it (<https://github.com/BerriAI/litellm/pull/40040>); the usage comes with the last
/// chunk, which has a choice (<https://github.com/router-for-me/CLIProxyAPI/issues/796>).
#[tokio::test]
async fn litellm_ends_a_call_as_it_likes() {
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "chatcmpl-b9de48f9", "created": 1_756_920_514, "model": "llama3.1", "object": "chat.completion.chunk",
               "choices": [{"finish_reason": finish, "index": 0, "delta": delta, "logprobs": null}],
               "provider_specific_fields": null})
    };
    let call = |id: Value, name: &str, arguments: &str| {
        json!({"content": null, "role": null, "function_call": null, "audio": null, "tool_calls": [{"id": id,
               "function": {"arguments": arguments, "name": name}, "type": "function", "index": 0}]})
    };
    let mut last = chunk(json!({"content": null, "role": null}), "end_turn".into());
    last["usage"] = json!({"completion_tokens": 7, "prompt_tokens": 90, "total_tokens": 97,
                           "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": null}});
    let body = events(&[
        chunk(json!({"content": "", "role": "assistant"}), Value::Null),
        chunk(
            call("chatcmpl-tool-a165".into(), "get_weather", ""),
            Value::Null,
        ),
        chunk(call(Value::Null, "", "{\"city\": \""), Value::Null),
        chunk(call(Value::Null, "", "Paris\"}"), Value::Null),
        last,
    ]);
    let reply = read(&body).await.unwrap();
    assert_eq!(reply.stop, Stop::ToolUse);
    let expected = [Block::ToolUse {
        id: "chatcmpl-tool-a165".to_owned(),
        name: "get_weather".to_owned(),
        input: json!({"city": "Paris"}),
    }];
    assert_eq!(reply.blocks, expected);
    let usage = reply.usage;
    assert_eq!((usage.input, usage.cache_read, usage.output), (30, 60, 7));
}

/// Claude behind LiteLLM (<https://docs.litellm.ai/docs/reasoning_content>): the thinking comes twice, once with
/// its proof, and both go back as they came.
#[tokio::test]
async fn thinking_behind_a_gateway_goes_back_with_its_proof() {
    let chunk = |delta: Value, finish: Value| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let thought = |text: &str, signature: Value| {
        let block = json!({"type": "thinking", "thinking": text, "signature": signature});
        chunk(
            json!({"reasoning_content": text, "thinking_blocks": [block]}),
            Value::Null,
        )
    };
    let body = events(&[
        thought("Let me ", Value::Null),
        thought("see.", Value::Null),
        thought("", "EpAC".into()),
        chunk(json!({"content": "Paris."}), "stop".into()),
    ]);
    let reply = read(&body).await.unwrap();
    assert!(matches!(
        reply.blocks.as_slice(),
        [Block::Reasoning { .. }, Block::Text { .. }]
    ));
    let server = scripted().await;
    let messages = vec![
        text("hi"),
        model::Message::Assistant(reply.blocks),
        text("sure?"),
    ];
    ask(&endpoint(CHAT, &server.base_url()), &request(messages))
        .await
        .unwrap();
    let sent = &server.requests().pop().unwrap().body["messages"][2];
    let expected = json!({"role": "assistant", "content": "Paris.", "reasoning_content": "Let me see.",
        "thinking_blocks": [{"type": "thinking", "thinking": "Let me see.", "signature": "EpAC"}]});
    assert_eq!(*sent, expected);
}

/// Errors inside a stream that began with 200: <https://github.com/BerriAI/litellm/issues/25492> (the server behind
/// it says 400 and has `[DONE]` follow), LiteLLM's own with its code as a text
/// (<https://github.com/BerriAI/litellm/issues/40578>).
#[tokio::test]
async fn errors_inside_a_stream_are_classed_by_the_status_they_name() {
    let error = |message: &str, kind: &str, code: Value| json!({"error": {"object": "error", "message": message, "type": kind, "param": null, "code": code}});
    let long = "Requested token count exceeds the model's maximum context length of 196608 tokens.";
    let begun =
        json!({"choices": [{"index": 0, "delta": {"content": "He"}, "finish_reason": null}]});
    for (error, expected) in [
        (error(long, "BadRequestError", 400.into()), "TooLong"),
        (
            error(
                "max_tokens must be at least 1",
                "BadRequestError",
                400.into(),
            ),
            "BadRequest",
        ),
        (
            error(
                "litellm.RateLimitError: no deployments",
                "None",
                "429".into(),
            ),
            "RateLimited",
        ),
        (
            error("litellm.MidStreamFallbackError", "None", "503".into()),
            "Server",
        ),
        (
            error(
                "EngineCore encountered an issue.",
                "InternalServerError",
                500.into(),
            ),
            "Server",
        ),
        (
            error("litellm.AuthenticationError", "auth_error", "401".into()),
            "Auth",
        ),
    ] {
        for chunks in [vec![error.clone()], vec![begun.clone(), error.clone()]] {
            let failure = read(&events(&chunks)).await.unwrap_err();
            let shown = format!("{:?}", failure.error);
            assert!(shown.starts_with(expected), "{error}: {shown}");
        }
    }
}

/// A key's own budget at LiteLLM, <https://docs.litellm.ai/docs/proxy/users>.
#[tokio::test]
async fn a_spent_budget_of_a_gateway_is_the_accounts_business() {
    let body = json!({"error": {"message": "Budget has been exceeded! Current cost: 1.2, Max budget: 1.0",
                                "type": "budget_exceeded", "param": null, "code": "400"}});
    let failure = refused(400, &body.to_string(), "{}").await;
    assert!(
        matches!(failure.error, Error::Billing { .. }),
        "{failure:?}"
    );
}

/// Ollama's chunks as its `ToChunk` makes them: role and empty content in each, whole calls, all under index 0
/// in older versions, `reasoning`, a finish reason of `stop` behind calls
/// (<https://github.com/ollama/ollama/pull/7963>), usage in a chunk of its own.
#[tokio::test]
async fn ollama_sends_its_calls_whole() {
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "chatcmpl-432", "object": "chat.completion.chunk", "created": 1_741_638_022, "model": "qwen3:4b",
               "system_fingerprint": "fp_ollama", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    };
    let call = |id: &str, name: &str, arguments: &str| {
        json!({"role": "assistant", "content": "", "tool_calls": [{"id": id, "index": 0, "type": "function",
               "function": {"name": name, "arguments": arguments}}]})
    };
    let mut usage = chunk(json!({}), Value::Null);
    usage["choices"] = json!([]);
    usage["usage"] = json!({"prompt_tokens": 165, "completion_tokens": 28, "total_tokens": 193});
    let body = events(&[
        chunk(
            json!({"role": "assistant", "content": "", "reasoning": "Okay, "}),
            Value::Null,
        ),
        chunk(
            json!({"role": "assistant", "content": "", "reasoning": "two."}),
            Value::Null,
        ),
        chunk(
            call("call_9x1", "bash", "{\"command\":\"ls\"}"),
            Value::Null,
        ),
        chunk(call("call_9x2", "read", "{}"), Value::Null),
        chunk(json!({"role": "assistant", "content": ""}), "stop".into()),
        usage,
    ]);
    let reply = read(&body).await.unwrap();
    assert_eq!(
        (&reply.stop, reply.model.as_str()),
        (&Stop::ToolUse, "qwen3:4b")
    );
    let [
        Block::Reasoning { raw, .. },
        Block::ToolUse { input, .. },
        Block::ToolUse { name, .. },
    ] = reply.blocks.as_slice()
    else {
        panic!("{:?}", reply.blocks)
    };
    assert_eq!(*raw, json!({"reasoning": "Okay, two."}));
    assert_eq!((input, name.as_str()), (&json!({"command": "ls"}), "read"));
    assert_eq!((reply.usage.input, reply.usage.output), (165, 28));
}

/// Ollama writes an error in the middle of a stream without the frame of an event (`writeError` in
/// <https://github.com/ollama/ollama/blob/main/middleware/openai.go>), and its native errors are bare texts.
#[tokio::test]
async fn ollamas_errors_are_errors_wherever_they_stand() {
    let begun =
        json!({"choices": [{"index": 0, "delta": {"content": "He"}, "finish_reason": null}]});
    let bare = json!({"error": {"message": "llama runner process has terminated", "type": "api_error", "param": null, "code": null}});
    let failure = read(&format!("data: {begun}\n\n{bare}")).await.unwrap_err();
    assert_eq!(failure.error.class(), Class::Retry, "{failure:?}");

    let body = json!({"error": "registry.ollama.ai/library/gemma:2b does not support tools"});
    let failure = refused(400, &body.to_string(), "{}").await;
    assert!(
        matches!(failure.error, Error::BadRequest { .. }),
        "{failure:?}"
    );
    let words = failure.to_string();
    assert!(
        words.ends_with("it said: registry.ollama.ai/library/gemma:2b does not support tools"),
        "{words}"
    );
}

/// vLLM: <https://github.com/vllm-project/vllm/pull/19662> for the chunks (`stop_reason` beside the finish reason,
/// `usage` null until the end), <https://github.com/vllm-project/vllm/issues/27572> for an answer whose finish
/// reason never comes. Both spellings of thinking were sent at once for some releases.
#[tokio::test]
async fn vllm_streams_thinking_and_calls_and_may_forget_the_reason() {
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "chatcmpl-2b45106e", "object": "chat.completion.chunk", "created": 1_750_067_911, "model": "Qwen/Qwen3-8B",
               "usage": null, "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish, "stop_reason": null}]})
    };
    let thought = chunk(
        json!({"reasoning_content": "Hm.", "reasoning": "Hm."}),
        Value::Null,
    );
    let call = chunk(
        json!({"tool_calls": [{"id": "chatcmpl-tool-040a", "type": "function", "index": 0,
               "function": {"name": "bash", "arguments": ""}}]}),
        Value::Null,
    );
    let piece = |text: &str| {
        chunk(
            json!({"tool_calls": [{"index": 0, "function": {"arguments": text}}]}),
            Value::Null,
        )
    };
    let usage = json!({"id": "chatcmpl-2b45106e", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}});
    for end in [
        vec![
            chunk(json!({"content": ""}), "tool_calls".into()),
            usage.clone(),
        ],
        vec![usage.clone()],
        vec![],
    ] {
        let chunks = [
            thought.clone(),
            call.clone(),
            piece("{\"a\""),
            piece(": 1}"),
        ];
        let reply = read(&events(&[&chunks[..], &end[..]].concat()))
            .await
            .unwrap();
        assert_eq!(reply.stop, Stop::ToolUse);
        let [Block::Reasoning { raw, .. }, Block::ToolUse { input, .. }] = reply.blocks.as_slice()
        else {
            panic!("{:?}", reply.blocks)
        };
        assert_eq!(
            (raw, input),
            (&json!({"reasoning_content": "Hm."}), &json!({"a": 1}))
        );
    }
}

/// Finish reasons that are no end: OpenRouter's `error` with its cause (<https://openrouter.ai/docs/api-reference/errors>),
/// vLLM's `abort`, DeepSeek's `insufficient_system_resource` (<https://api-docs.deepseek.com/api/create-chat-completion>).
#[tokio::test]
async fn a_reason_that_names_a_failure_is_a_failure() {
    let ended = |reason: &str, more: Value| {
        let mut choice = json!({"index": 0, "delta": {"content": ""}, "finish_reason": reason});
        for (key, value) in more.as_object().unwrap() {
            choice[key] = value.clone();
        }
        events(&[json!({"choices": [choice]})])
    };
    for reason in [
        "error",
        "abort",
        "insufficient_system_resource",
        "network_error",
    ] {
        let failure = read(&ended(reason, json!({}))).await.unwrap_err();
        assert_eq!(failure.error.class(), Class::Retry, "{reason}: {failure:?}");
        assert!(failure.to_string().contains(reason), "{failure}");
    }
    let cause = json!({"error": {"code": 429, "message": "Provider returned error"}});
    let failure = read(&ended("error", cause)).await.unwrap_err();
    assert!(
        matches!(failure.error, Error::RateLimited { .. }),
        "{failure:?}"
    );
    for (reason, stop) in [
        ("max_tokens", Stop::MaxTokens),
        ("model_length", Stop::ContextWindow),
        ("STOP", Stop::EndTurn),
        ("eos", Stop::EndTurn),
        (
            "whim",
            Stop::Other {
                reason: "whim".to_owned(),
            },
        ),
    ] {
        assert_eq!(read(&ended(reason, json!({}))).await.unwrap().stop, stop);
    }
}

/// Gemini behind its OpenAI dialect: <https://ai.google.dev/gemini-api/docs/thought-signatures>. A call whose proof
/// does not come back is refused.
#[tokio::test]
async fn what_a_provider_attaches_to_a_call_goes_back_with_it() {
    let extra = json!({"google": {"thought_signature": "CrkB"}});
    let call = json!({"id": "function-call-1", "type": "function", "extra_content": extra,
                      "function": {"name": "bash", "arguments": "{}"}});
    let chunk = json!({"choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "stop"}]});
    let reply = read(&events(&[chunk])).await.unwrap();
    assert_eq!(reply.stop, Stop::ToolUse);
    let server = scripted().await;
    let results = crate::fixture::results(&reply, "ok");
    let messages = vec![text("hi"), model::Message::Assistant(reply.blocks), results];
    ask(&endpoint(CHAT, &server.base_url()), &request(messages))
        .await
        .unwrap();
    let sent = &server.requests().pop().unwrap().body["messages"][2]["tool_calls"];
    assert_eq!(sent.as_array().unwrap().len(), 1);
    assert_eq!(sent[0]["extra_content"], extra);
}

/// An error that comes with 200 and as JSON is shown, not called an event stream.
#[tokio::test]
async fn an_answer_that_is_no_stream_is_quoted() {
    let body = json!({"error": {"message": "streaming is switched off for this key", "type": "None", "code": "400"}});
    let server = Raw::start(Raw::json(200, &body.to_string()), false).await;
    let failure = ask(&endpoint(CHAT, &server.url()), &request(vec![text("hi")]))
        .await
        .unwrap_err();
    assert!(
        failure.to_string().contains("streaming is switched off"),
        "{failure}"
    );
}
