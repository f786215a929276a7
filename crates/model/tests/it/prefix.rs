//! The prefix sent to the model is byte-identical from request to request, cache marks aside.

use model::{Client, Dialect, Message, Stop};
use serde_json::{Value, json};

use crate::fixture::{ask_with, client, endpoint, request, results, script, scripted, text, tool};

/// Fifty turns with a tool call each; `disturb` may change the transcript between requests.
async fn session(
    dialect: Dialect,
    disturb: impl Fn(usize, &mut Vec<Message>),
) -> (scripted::Stats, Value) {
    let server = scripted().await;
    let base = match dialect {
        Dialect::AnthropicMessages => server.base_url(),
        Dialect::OpenAiChat | Dialect::OpenAiResponses => format!("{}/v1", server.base_url()),
    };
    let ep = endpoint(dialect, &base);
    let mut client: Client = client();
    let mut messages: Vec<Message> = Vec::new();
    for turn in 0..50 {
        let input = json!({"command": format!("echo {turn}"), "z": 0.1 + turn as f64 * 1e-9, "a": {"y": 1, "b": [null, "é\u{1F600}"]}});
        messages.push(script(json!([
            {"thinking": "let me see", "text": "I will run it.", "tool": "bash", "input": input},
            {"text": format!("Turn {turn} is done.")}
        ])));
        loop {
            let mut asked = request(messages.clone());
            if dialect == Dialect::OpenAiResponses {
                // One that thinks: its thinking goes back encrypted.
                asked.model = "gpt-5".to_owned();
            }
            asked.system = "You are a careful engineer. ".repeat(40);
            if turn % 2 == 1 {
                asked.tools.reverse();
            }
            asked.tools.push(tool("glob"));
            let reply = ask_with(&client, &ep, &asked).await.0.unwrap();
            messages.push(Message::Assistant(reply.blocks.clone()));
            if reply.stop != Stop::ToolUse {
                break;
            }
            messages.push(results(&reply, &"a line of output\n".repeat(20)));
        }
        if turn == 25 {
            // A restart: the transcript comes back from storage, the client is new.
            let stored: Vec<String> = messages
                .iter()
                .map(|m| serde_json::to_string(m).unwrap())
                .collect();
            messages = stored
                .iter()
                .map(|m| serde_json::from_str(m).unwrap())
                .collect();
            client = crate::fixture::client();
        }
        disturb(turn, &mut messages);
    }
    let last = server.requests().pop().unwrap().body;
    (server.stats(), last)
}

#[tokio::test]
async fn fifty_turns_repeat_their_prefix() {
    for dialect in Dialect::ALL {
        let (stats, last) = session(dialect, |_, _| {}).await;
        let kept = match dialect {
            Dialect::AnthropicMessages => "\"signature\":",
            Dialect::OpenAiChat => "\"reasoning_content\":",
            Dialect::OpenAiResponses => "\"encrypted_content\":",
        };
        // The last request carries the thinking of the 49 turns before it and of its own first answer.
        assert_eq!(last.to_string().matches(kept).count(), 50, "{dialect:?}");
        assert_eq!(stats.requests, 100);
        assert!(
            stats.prefix_breaks.is_empty(),
            "{:?}",
            stats.prefix_breaks.first()
        );
        let ratio = stats.cache_read_tokens as f64 / stats.input_tokens as f64;
        assert!(
            ratio >= 0.95,
            "{dialect:?}: only {ratio:.3} of the input is cache-readable"
        );
    }
}

/// The check itself: a transcript that changes behind is noticed, and the place is named.
#[tokio::test]
async fn a_changed_past_is_noticed() {
    let (stats, _) = session(Dialect::AnthropicMessages, |turn, messages| {
        if turn == 30 {
            messages.insert(40, text("slipped in"));
        }
    })
    .await;
    assert_eq!(stats.prefix_breaks.len(), 1, "{:?}", stats.prefix_breaks);
    assert!(
        stats.prefix_breaks[0].after.contains("slipped in"),
        "{:?}",
        stats.prefix_breaks[0]
    );
}

#[tokio::test]
async fn at_most_four_marks_and_the_last_two_user_messages_bear_them() {
    let server = scripted().await;
    let ep = endpoint(Dialect::AnthropicMessages, &server.base_url());
    let mut messages = Vec::new();
    for turn in 0..4 {
        messages.push(text(format!("turn {turn}")));
        let reply = ask_with(&client(), &ep, &request(messages.clone()))
            .await
            .0
            .unwrap();
        messages.push(Message::Assistant(reply.blocks));
    }
    let body = server.requests().pop().unwrap().body;
    let marked: Vec<usize> = body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .filter(|(_, m)| {
            m["content"]
                .as_array()
                .unwrap()
                .iter()
                .any(|b| b["cache_control"] != Value::Null)
        })
        .map(|(i, _)| i)
        .collect();
    assert_eq!(marked, [4, 6]);
    assert_eq!(body.to_string().matches("cache_control").count(), 3);
}
