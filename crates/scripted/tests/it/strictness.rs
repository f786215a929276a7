//! What the real APIs refuse is refused here, and usage follows the cache marks.

use serde_json::{Value, json};

use crate::talk::{Talk, assistant, user};

fn call(id: &str) -> Value {
    json!({"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": "bash", "input": {}}]})
}

fn system(text: &str) -> Value {
    json!({"role": "system", "content": text})
}

fn result(id: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": "ok"})
}

#[tokio::test]
async fn malformed_conversations_are_refused() {
    let talk = Talk::start().await;
    let block = |block: Value| json!([{"role": "user", "content": [block]}]);
    for (messages, words) in [
        (json!([]), "at least one message"),
        (json!([assistant("hi")]), "roles must alternate"),
        (json!([user("a"), user("b")]), "roles must alternate"),
        (json!([user("a"), assistant("b")]), "prefill"),
        (json!([system("s")]), "top-level 'system'"),
        (
            json!([user("a"), assistant("b"), system("s")]),
            "must follow a 'user'",
        ),
        (
            json!([user("a"), system("s"), user("b")]),
            "must precede an 'assistant'",
        ),
        (
            json!([user("a"), system("s"), system("t")]),
            "must precede an 'assistant'",
        ),
        (json!([user("")]), "non-empty content"),
        (
            block(json!({"type": "text", "text": ""})),
            "must be non-empty",
        ),
        (block(result("t1")), "unexpected `tool_use_id`"),
        (
            block(json!({"type": "text", "text": "a", "cache_control": {"type": "forever"}})),
            "ephemeral",
        ),
        (
            json!([user("a"), call("t1"), user("b")]),
            "without `tool_result` blocks immediately after: t1",
        ),
        (
            json!([user("a"), call("t1"), {"role": "user", "content": [result("t1"), result("t1")]}]),
            "single result",
        ),
        (
            json!([user("a"), call("t1"), {"role": "user", "content": [{"type": "text", "text": "x"}, result("t1")]}]),
            "come first",
        ),
        (
            json!([user("a"), {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "forged"}]}, user("b")]),
            "Invalid `signature`",
        ),
        (
            json!([user("a"), {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "n", "input": "{}"}]}, {"role": "user", "content": [result("t")]}]),
            "valid dictionary",
        ),
    ] {
        let (status, body) = talk.messages(messages.clone()).await;
        let message = body["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            status == 400 && message.contains(words),
            "{messages}: {status} {message}"
        );
    }
    let (status, _) = talk
        .messages(json!([user("a"), call("t1"), {"role": "user", "content": [result("t1")]}]))
        .await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn wrong_headers_and_fields_are_refused() {
    let talk = Talk::start().await;
    let good = json!({"model": "m", "max_tokens": 1, "messages": [user("hi")]});
    for (header, value, status) in [
        ("x-api-key", "", 401),
        ("x-api-key", "bad-one", 401),
        ("anthropic-version", "2020-01-01", 400),
        ("content-type", "text/plain", 400),
    ] {
        let mut request = talk.post("/v1/messages", &good).build().unwrap();
        request.headers_mut().insert(header, value.parse().unwrap());
        let client = dial::client(&dial::Mode::Exempt, &dial::Options::default()).unwrap();
        assert_eq!(
            client.execute(request).await.unwrap().status(),
            status,
            "{header}: {value}"
        );
    }
    for (field, value) in [
        ("max_token", json!(1)),
        ("max_tokens", json!(0)),
        ("tools", json!([{"name": "a b"}])),
    ] {
        let mut body = good.clone();
        body[field] = value;
        assert_eq!(talk.send(body).await.0, 400, "{field}");
    }
    let mut five_marks = good.clone();
    let block = json!({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}});
    five_marks["messages"][0]["content"] = json!([block, block, block, block, block]);
    assert_eq!(talk.send(five_marks).await.0, 400);
    assert_eq!(
        talk.get("/v1/nothing").await["error"]["type"],
        "not_found_error"
    );
}

#[tokio::test]
async fn chat_is_strict_about_tool_messages() {
    let talk = Talk::start().await;
    let call = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": "{}"}}]});
    let answer = json!({"role": "tool", "tool_call_id": "c1", "content": "ok"});
    for (messages, status) in [
        (json!([user("a"), call, answer]), 200),
        (json!([user("a"), call]), 400),
        (json!([user("a"), call, user("b"), answer]), 400),
        (json!([user("a"), answer]), 400),
        (
            json!([user("a"), {"role": "assistant", "content": null}]),
            400,
        ),
    ] {
        let body = json!({"model": "m", "messages": messages});
        let response = talk
            .post("/v1/chat/completions", &body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status().as_u16(), status, "{messages}");
    }
}

#[tokio::test]
async fn only_what_was_marked_can_be_read_again() {
    let talk = Talk::start().await;
    let long = "word ".repeat(400);
    let marked = |text: &str| json!({"role": "user", "content": [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]});
    let plain = |text: &str| json!({"role": "user", "content": [{"type": "text", "text": text}]});
    let usage = |body: Value| {
        (
            body["usage"]["cache_read_input_tokens"].as_u64().unwrap(),
            body["usage"]["cache_creation_input_tokens"]
                .as_u64()
                .unwrap(),
        )
    };

    let (_, first) = talk.messages(json!([marked(&long)])).await;
    let (read, written) = usage(first);
    assert!(read == 0 && written > 500, "{read} {written}");
    // The mark has moved: the bytes beside it are the same, so the cache answers.
    let (_, second) = talk
        .messages(json!([plain(&long), assistant("ok"), marked("next")]))
        .await;
    let (read, _) = usage(second);
    assert!(read > 500, "{read}");
    // What no mark covered is not in the cache.
    let other = "other ".repeat(400);
    talk.messages(json!([plain(&other)])).await;
    let (_, again) = talk
        .messages(json!([plain(&other), assistant("ok"), marked("next")]))
        .await;
    assert_eq!(usage(again).0, 0);
    assert!(talk.server.stats().prefix_breaks.is_empty());
}

#[tokio::test]
async fn a_changed_key_order_is_a_break() {
    let talk = Talk::start().await;
    let body = |first: &str| {
        format!(
            r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":"a"}},{first},{{"role":"user","content":"b"}},{{"role":"assistant","content":"y"}},{{"role":"user","content":"c"}}]}}"#
        )
    };
    for first in [
        r#"{"role":"assistant","content":"x"}"#,
        r#"{"content":"x","role":"assistant"}"#,
    ] {
        let request = talk.post("/v1/messages", &Value::Null).body(body(first));
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let breaks = talk.server.stats().prefix_breaks;
    let [only] = breaks.as_slice() else {
        panic!("{breaks:?}")
    };
    assert_eq!(only.index, 1);
    assert!(
        only.before.contains(r#"{"role":"assistant""#) && only.after.contains(r#"{"content":"x""#),
        "{only:?}"
    );
}

#[tokio::test]
async fn responses_that_the_api_would_refuse_are_refused() {
    let talk = Talk::start().await;
    let call = json!({"type": "function_call", "call_id": "c1", "name": "bash", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "c1", "output": "ok"});
    let said = json!({"role": "assistant", "content": "b"});
    let thought = |proof: Value| {
        json!({"type": "reasoning", "id": "rs_1", "encrypted_content": proof,
               "summary": [{"type": "summary_text", "text": "hm"}]})
    };
    let tool = json!({"type": "function", "name": "bash", "parameters": {"type": "object"}});
    for (change, words) in [
        (json!({"messages": []}), "Unknown parameter: 'messages'"),
        (json!({"input": []}), "'input'"),
        (
            json!({"input": [user("a"), call]}),
            "No tool output found for function call c1",
        ),
        (json!({"input": [user("a"), output]}), "No tool call found"),
        (
            json!({"input": [user("a"), thought(Value::Null), said]}),
            "not found",
        ),
        (
            json!({"input": [user("a"), thought("forged".into()), said]}),
            "could not be verified",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}),
            "content[0].type",
        ),
        (
            json!({"input": [user("a"), {"type": "telepathy"}]}),
            "telepathy",
        ),
        (json!({"tools": [tool]}), "required"),
        (
            json!({"include": ["reasoning.encrypted_content"]}),
            "Encrypted content is not supported",
        ),
        (json!({"reasoning": {"effort": "low"}}), "reasoning.effort"),
    ] {
        let mut body = json!({"model": "gpt-4.1", "input": [user("a")], "store": false});
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        let response = talk.post("/v1/responses", &body).send().await.unwrap();
        let status = response.status().as_u16();
        let answer: Value = response.json().await.unwrap();
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(
            matches!(status, 400 | 404) && message.contains(words),
            "{change}: {status} {answer}"
        );
    }
}

#[tokio::test]
async fn a_response_in_one_piece_can_be_sent_back() {
    let talk = Talk::start().await;
    let script = user(
        r#"SCRIPT: [{"thinking": "hm", "text": "Looking.", "tool": "bash"}, {"echo_results": true}]"#,
    );
    let ask = |input: Value| {
        let body = json!({"model": "gpt-5", "input": input, "store": false, "include": ["reasoning.encrypted_content"]});
        let sent = talk.post("/v1/responses", &body).send();
        async move { sent.await.unwrap().json::<Value>().await.unwrap() }
    };
    let answer = ask(json!([script])).await;
    assert_eq!(answer["status"], "completed");
    let output = answer["output"].as_array().unwrap().clone();
    let kinds: Vec<&str> = output.iter().map(|i| i["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call"]);
    let mut input = vec![script];
    input.extend(output.iter().cloned());
    input.push(
        json!({"type": "function_call_output", "call_id": output[2]["call_id"], "output": "a.txt"}),
    );
    let answer = ask(input.into()).await;
    assert_eq!(
        answer["output"][0]["content"][0]["text"], "Results: a.txt",
        "{answer}"
    );
    assert!(talk.server.stats().prefix_breaks.is_empty());
    assert_eq!(
        answer["usage"]["input_tokens_details"]["cached_tokens"]
            .as_u64()
            .map(|n| n > 0),
        Some(true)
    );
}
