//! What the application says in the middle of a conversation, in each dialect.

use model::{Block, Dialect, Message};
use serde_json::{Value, json};

use crate::fixture::{ask, endpoint, request, results, said, script, scripted, text};

fn system(text: &str) -> Message {
    Message::System(vec![text.to_owned()])
}

fn answer(text: &str) -> Message {
    Message::Assistant(vec![Block::Text {
        text: text.to_owned(),
    }])
}

fn roles(body: &Value) -> Vec<&str> {
    let messages = body["messages"].as_array().unwrap();
    messages
        .iter()
        .map(|m| m["role"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn anthropic_gets_a_system_turn_where_the_api_takes_one() {
    let server = scripted().await;
    let ep = endpoint(Dialect::AnthropicMessages, &server.base_url());
    let mut messages = vec![text("a"), system("Be brief."), answer("b")];
    // Nobody answered in between: the strict server takes one system turn, after all that users said.
    messages.extend([
        text("c"),
        system("Be kind."),
        text("d"),
        system("Be exact."),
    ]);
    ask(&ep, &request(messages)).await.unwrap();
    let body = server.requests().pop().unwrap().body;
    let expected = ["user", "system", "assistant", "user", "system"];
    assert_eq!(roles(&body), expected);
    let texts = body["messages"][4]["content"].as_array().unwrap();
    assert_eq!(
        texts.as_slice(),
        [
            json!({"type": "text", "text": "Be kind."}),
            json!({"type": "text", "text": "Be exact."}),
        ]
    );
}

#[tokio::test]
async fn a_system_message_after_results_goes_with_them() {
    let server = scripted().await;
    for (dialect, base, expected) in [
        (
            Dialect::AnthropicMessages,
            server.base_url(),
            vec!["user", "assistant", "user", "system"],
        ),
        (
            Dialect::OpenAiChat,
            format!("{}/v1", server.base_url()),
            vec!["system", "user", "assistant", "tool", "system"],
        ),
    ] {
        let ep = endpoint(dialect, &base);
        let steps = json!([{"tool": "bash", "input": {"command": "ls"}}, {"echo_results": true}]);
        let mut messages = vec![script(steps)];
        let reply = ask(&ep, &request(messages.clone())).await.unwrap();
        messages.push(Message::Assistant(reply.blocks.clone()));
        messages.push(results(&reply, "a.txt"));
        messages.push(system("Say less."));
        let reply = ask(&ep, &request(messages)).await.unwrap();
        assert_eq!(said(&reply), "Results: a.txt", "{dialect:?}");
        let body = server.requests().pop().unwrap().body;
        assert_eq!(roles(&body), expected, "{dialect:?}");
    }
}

#[tokio::test]
async fn a_model_that_takes_none_is_told_in_a_user_message() {
    let server = scripted().await;
    let mut ep = endpoint(Dialect::AnthropicMessages, &server.base_url());
    ep.model_map
        .insert("claude-opus-5".to_owned(), "claude-haiku-4-5".to_owned());
    ask(&ep, &request(vec![text("a"), system("Be brief.")]))
        .await
        .unwrap();
    let body = server.requests().pop().unwrap().body;
    assert_eq!(roles(&body), ["user"]);
    assert_eq!(
        body["messages"][0]["content"][1]["text"],
        "<system-message>\nBe brief.\n</system-message>"
    );
}
