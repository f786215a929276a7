//! What every dialect must bear alike: blank answers, pauses, cuts, other dialects' blocks, garbage.

use model::{Block, Dialect, Message, Reply, Stop};
use serde_json::{Value, json};

use crate::fixture::{ask, endpoint, request, scripted, text};
use crate::raw::Raw;

fn base(dialect: Dialect, root: String) -> String {
    match dialect {
        Dialect::AnthropicMessages => root,
        Dialect::OpenAiChat | Dialect::OpenAiResponses => format!("{root}/v1"),
    }
}

/// An answer in the dialect: a text, a call with these arguments, a reason to stop.
fn answer(dialect: Dialect, said: &str, arguments: Option<&str>, reason: &str) -> String {
    let events: Vec<Value> = match dialect {
        Dialect::AnthropicMessages => {
            let mut events = vec![
                json!({"type": "message_start", "message": {"model": "m"}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": said}}),
            ];
            if let Some(arguments) = arguments {
                let call = json!({"type": "tool_use", "id": "c1", "name": "bash", "input": {}});
                events.push(
                    json!({"type": "content_block_start", "index": 1, "content_block": call}),
                );
                events.push(json!({"type": "content_block_delta", "index": 1,
                                   "delta": {"type": "input_json_delta", "partial_json": arguments}}));
            }
            events.push(json!({"type": "message_delta", "delta": {"stop_reason": reason}}));
            events.push(json!({"type": "message_stop"}));
            events
        }
        Dialect::OpenAiChat => {
            let function = arguments.map(|a| json!({"name": "bash", "arguments": a}));
            let calls = function.map(|f| json!([{"index": 0, "id": "c1", "function": f}]));
            let reason = match reason {
                "max_tokens" => "length",
                "end_turn" => "stop",
                other => other,
            };
            let delta = json!({"content": said, "tool_calls": calls});
            vec![json!({"choices": [{"delta": delta, "finish_reason": reason}]})]
        }
        Dialect::OpenAiResponses => {
            let mut output = vec![json!({"type": "message", "role": "assistant",
                                         "content": [{"type": "output_text", "text": said}]})];
            if let Some(arguments) = arguments {
                output.push(json!({"type": "function_call", "call_id": "c1", "name": "bash", "arguments": arguments}));
            }
            let (status, reason) = match reason {
                "max_tokens" => ("incomplete", json!({"reason": "max_output_tokens"})),
                "end_turn" => ("completed", Value::Null),
                other => ("incomplete", json!({"reason": other})),
            };
            let response =
                json!({"status": status, "output": output, "incomplete_details": reason});
            vec![json!({"type": format!("response.{status}"), "response": response})]
        }
    };
    events.iter().map(|e| format!("data: {e}\n\n")).collect()
}

async fn read(dialect: Dialect, body: String) -> Reply {
    let server = Raw::events(&body).await;
    let ep = endpoint(dialect, &server.url());
    ask(&ep, &request(vec![text("hi")])).await.unwrap()
}

#[tokio::test]
async fn blank_words_on_either_side_spoil_no_later_request() {
    let server = scripted().await;
    for dialect in Dialect::ALL {
        let ep = endpoint(dialect, &base(dialect, server.base_url()));
        for blank in ["", " ", "\n\n"] {
            let reply = read(dialect, answer(dialect, blank, None, "end_turn")).await;
            assert_eq!(reply.stop, Stop::EndTurn, "{dialect:?} {blank:?}");
            let messages = vec![
                text("hi"),
                Message::Assistant(reply.blocks),
                text("are you there?"),
                Message::Assistant(vec![Block::Text {
                    text: "Yes.".to_owned(),
                }]),
                text(blank.to_owned() + "\n"),
            ];
            let outcome = ask(&ep, &request(messages)).await;
            assert!(outcome.is_ok(), "{dialect:?} {blank:?}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_pause_is_a_pause_and_a_call_ends_it() {
    for dialect in Dialect::ALL {
        let reply = read(dialect, answer(dialect, "Searching", None, "pause_turn")).await;
        assert_eq!(reply.stop, Stop::Pause, "{dialect:?}");
    }
    for dialect in Dialect::ALL {
        let reply = read(dialect, answer(dialect, "So", Some("{}"), "pause_turn")).await;
        assert_eq!(
            reply.stop,
            Stop::ToolUse,
            "{dialect:?}: the call wants its result first"
        );
    }
}

#[tokio::test]
async fn what_a_sender_says_of_a_document_reaches_the_model() {
    let server = scripted().await;
    let sources = [
        model::Source::Text {
            data: "plain".to_owned(),
        },
        model::Source::Base64 {
            media_type: "application/pdf".to_owned(),
            data: "AAAA".to_owned(),
        },
        model::Source::Url {
            url: "https://example.com/a.pdf".to_owned(),
        },
    ];
    for dialect in Dialect::ALL {
        for source in sources.clone() {
            let document = model::UserBlock::Document {
                source,
                title: Some("a.pdf".to_owned()),
                context: Some("the contract of May".to_owned()),
            };
            let ep = endpoint(dialect, &base(dialect, server.base_url()));
            ask(&ep, &request(vec![Message::User(vec![document])]))
                .await
                .unwrap();
            let body = server.requests().pop().unwrap().body.to_string();
            assert!(body.contains("the contract of May"), "{dialect:?}: {body}");
        }
    }
}

#[tokio::test]
async fn a_call_that_was_cut_off_is_no_object_and_can_be_told_so() {
    let server = scripted().await;
    for dialect in Dialect::ALL {
        for arguments in ["", "{\"command\": \"rm -r"] {
            let reply = read(
                dialect,
                answer(dialect, "So", Some(arguments), "max_tokens"),
            )
            .await;
            assert_eq!(reply.stop, Stop::MaxTokens);
            let Some(Block::ToolUse { input, .. }) = reply.blocks.last() else {
                panic!("{:?}", reply.blocks)
            };
            assert_eq!(*input, json!(arguments), "{dialect:?}");
            let results = crate::fixture::results(&reply, "not run");
            let messages = vec![text("hi"), Message::Assistant(reply.blocks), results];
            let ep = endpoint(dialect, &base(dialect, server.base_url()));
            ask(&ep, &request(messages)).await.unwrap();
        }
        // One whose arguments had come whole is a call; one that was not cut may have none.
        for (arguments, reason) in [("{\"a\":1}", "max_tokens"), ("", "end_turn")] {
            let reply = read(dialect, answer(dialect, "So", Some(arguments), reason)).await;
            let Some(Block::ToolUse { input, .. }) = reply.blocks.last() else {
                panic!("{:?}", reply.blocks)
            };
            assert!(input.is_object(), "{dialect:?} {arguments:?}: {input}");
        }
    }
}

#[tokio::test]
async fn each_dialect_gets_back_its_own_blocks_and_no_others() {
    let server = scripted().await;
    let blocks = vec![
        Block::Opaque {
            dialect: Dialect::AnthropicMessages,
            raw: json!({"type": "server_tool_use", "id": "mark-anthropic", "name": "n", "input": {}}),
        },
        Block::Reasoning {
            dialect: Dialect::OpenAiChat,
            raw: json!({"reasoning_content": "mark-openai_chat"}),
        },
        Block::Reasoning {
            dialect: Dialect::OpenAiResponses,
            raw: json!({"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "mark-openai_responses"}],
                        "status": "completed"}),
        },
        Block::Text {
            text: "Hello.".to_owned(),
        },
    ];
    let messages = vec![text("hi"), Message::Assistant(blocks), text("again")];
    for dialect in Dialect::ALL {
        let ep = endpoint(dialect, &base(dialect, server.base_url()));
        // The Responses server keeps nothing and so refuses thinking without its ciphertext; it was sent all the same.
        let _answer = ask(&ep, &request(messages.clone())).await;
        let body = server.requests().pop().unwrap().body.to_string();
        for other in Dialect::ALL {
            let mark = format!("mark-{}\"", other.name());
            assert_eq!(
                body.contains(&mark),
                other == dialect,
                "{dialect:?}: {body}"
            );
        }
        assert!(!body.contains("\"status\""), "{body}");
    }
}
