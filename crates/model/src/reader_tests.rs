//! Readers against whatever order of events: they may refuse, and must never panic nor make up an end.

use proptest::prelude::*;

use crate::anthropic_stream::Messages;
use crate::openai_chat_stream::Chat;
use crate::openai_responses_stream::Responses;
use crate::sse::Event;
use crate::stream::{Flow, Reader};

/// Events that are nearly right.
const EVENTS: [&str; 44] = [
    r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":3}}}"#,
    r#"{"type":"message_start"}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"n"}}"#,
    r#"{"type":"content_block_start","index":2,"content_block":{"type":"new","text":7}}"#,
    r#"{"type":"content_block_start","index":0}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}"#,
    r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{"}}"#,
    r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"x"}}"#,
    r#"{"type":"content_block_delta","index":9,"delta":null}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"refusal","stop_details":3},"usage":{"output_tokens":-1}}"#,
    r#"{"type":"message_stop"}"#,
    r#"{"type":"error"}"#,
    r#"{"choices":[]}"#,
    r#"{"choices":[{"delta":{"content":"x","reasoning":"y","refusal":"z"},"finish_reason":null}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"n","arguments":"{"}}]}}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"index":18446744073709551615,"function":{"name":"n"}}]}}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{}]}}]}"#,
    r#"{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":9}}}"#,
    r#"{"choices":[{"delta":{"content":[{"type":"text","text":"x"},{"type":"thinking","thinking":[{"text":"y"}]},3]}}]}"#,
    r#"{"choices":[{"delta":{"reasoning_details":[{"type":"a","text":"x","index":0},{"type":"a","text":"y","index":0},7],"thinking_blocks":[null]}}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"id":"a","extra_content":{},"function":{"name":"n","arguments":"{}"}}]}}]}"#,
    r#"{"choices":[{"finish_reason":"error","error":{"code":429}}]}"#,
    r#"{"error":{"code":{},"message":[]}}"#,
    r#"{"type":"response.created","response":{"id":"r","model":"m"}}"#,
    r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message"}}"#,
    r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning"}}"#,
    r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","name":"n"}}"#,
    r#"{"type":"response.output_item.added","output_index":2,"item":{"type":"new"}}"#,
    r#"{"type":"response.output_item.added","item":null}"#,
    r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":[{"type":"output_text","text":"x"},{"type":"refusal","refusal":"y"},4]}}"#,
    r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","arguments":"{"}}"#,
    r#"{"type":"response.output_item.done","output_index":2,"item":{"type":"reasoning","summary":7}}"#,
    r#"{"type":"response.output_text.delta","output_index":0,"content_index":3,"delta":"x"}"#,
    r#"{"type":"response.reasoning_summary_text.delta","output_index":2,"delta":"x"}"#,
    r#"{"type":"response.function_call_arguments.delta","output_index":1,"delta":"{"}"#,
    r#"{"type":"response.completed","response":{"output":[{"type":"message","content":3},{"type":"function_call","name":"n"}]}}"#,
    r#"{"type":"response.incomplete","response":{"incomplete_details":{"reason":3},"usage":{"input_tokens":-1}}}"#,
    r#"{"type":"response.failed"}"#,
    "[DONE]",
    "null",
    "3",
    "",
];

/// Feeds the events; whether the reader gave an answer.
fn answers(mut reader: Box<dyn Reader>, stream: &[&str]) -> bool {
    for data in stream {
        let event = Event {
            name: String::new(),
            data: (*data).to_owned(),
        };
        match reader.event(&event, &mut |_| {}) {
            Ok(Flow::More) => {}
            Ok(Flow::Done) | Err(_) => break,
        }
    }
    let _counted = reader.usage().total_input();
    reader.finish("m").is_some()
}

proptest! {
    /// Whatever a provider sends in whatever order: no panic, and an answer only after its end.
    #[test]
    fn no_order_of_events_breaks_a_reader(
        stream in prop::collection::vec(prop::sample::select(EVENTS.to_vec()), 0..24),
    ) {
        let ended = |mark: &str| stream.iter().any(|d| d.contains(mark));
        prop_assert!(!answers(Box::new(Messages::default()), &stream) || ended("message_stop"));
        prop_assert!(!answers(Box::new(Chat::default()), &stream) || ended("\"finish_reason\":\"stop\"") || ended("[DONE]"));
        let last = ended("response.completed") || ended("response.incomplete");
        prop_assert!(!answers(Box::new(Responses::default()), &stream) || last);
    }
}
