//! OpenAI Responses: reads a request into turns and a prompt, writes an answer. The script decides what is
//! said.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::anthropic_check::{Refusal, invalid, kind, signature};
use crate::openai_chat::{call_id, texts};
use crate::openai_responses_check::is_output;
use crate::prefix::{Prompt, Tokens};
use crate::pump::{Answer, Frame, split};
use crate::script::Turn;

#[derive(Deserialize)]
struct RawBody<'a> {
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow)]
    input: &'a RawValue,
}

/// The prompt of a checked body. This dialect caches without marks.
pub(crate) fn prompt(bytes: &[u8], body: &Value) -> Result<Prompt, Refusal> {
    let raw: RawBody<'_> = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    let head = [raw.tools, raw.instructions];
    let head: Vec<&str> = head.iter().flatten().map(|r| r.get()).collect();
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(raw.input.get()) else {
        return Ok(Prompt::new(&head, &[raw.input.get()], 0).cached_without_marks());
    };
    let items: Vec<&str> = items.iter().map(|r| r.get()).collect();
    // What the model said last is a run of items: the request before it ended where the run begins.
    let said: Vec<bool> = input(body).map(is_output).collect();
    let last = said.iter().rposition(|said| *said).unwrap_or(0);
    let before = said
        .get(..last)
        .and_then(|s| s.iter().rposition(|said| !said));
    let settled = before.map_or(0, |at| at + 1);
    Ok(Prompt::new(&head, &items, settled).cached_without_marks())
}

fn input(body: &Value) -> impl Iterator<Item = &Value> {
    body.get("input")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The turns of a checked body: the model's items in a row are one turn, and so is what it is told.
pub(crate) fn turns(body: &Value) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    if let Some(text) = body.get("input").and_then(Value::as_str) {
        turns.push(Turn {
            texts: vec![text.to_owned()],
            ..Turn::default()
        });
    }
    for item in input(body) {
        let role = item.get("role").and_then(Value::as_str).unwrap_or_default();
        if matches!(role, "system" | "developer") {
            continue;
        }
        let assistant = is_output(item);
        if turns.last().is_none_or(|t| t.assistant != assistant) {
            turns.push(Turn {
                assistant,
                ..Turn::default()
            });
        }
        let Some(turn) = turns.last_mut() else {
            continue;
        };
        if kind(item) == "function_call_output" {
            turn.results.extend(texts(item.get("output")));
        } else {
            turn.texts.extend(texts(item.get("content")));
        }
    }
    turns
}

/// How the API says that a request does not fit; its code is `context_length_exceeded`.
pub(crate) const TOO_LONG: &str =
    "Your input exceeds the context window of this model. Please adjust your input and try again.";

fn usage(tokens: Tokens, output: u64) -> Value {
    json!({"input_tokens": tokens.total, "input_tokens_details": {"cached_tokens": tokens.cache_read},
           "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0},
           "total_tokens": tokens.total + output})
}

/// The items of the answer. `encrypt` says that the client wants the thinking in a form to send back.
fn items(answer: &Answer, encrypt: bool) -> Vec<Value> {
    let mut items = Vec::new();
    let id = |kind: &str, number: usize| format!("{kind}_{}{number:02}", answer.id);
    if let Some(thinking) = &answer.thinking {
        let proof = if encrypt {
            signature(thinking).into()
        } else {
            Value::Null
        };
        items.push(
            json!({"type": "reasoning", "id": id("rs", 0), "encrypted_content": proof,
                          "summary": [{"type": "summary_text", "text": thinking}]}),
        );
    }
    if answer.stop.as_deref() == Some("refusal") {
        let part = json!({"type": "refusal", "refusal": answer.text()});
        items.push(
            json!({"type": "message", "id": id("msg", 0), "role": "assistant",
                          "status": "completed", "content": [part]}),
        );
    } else if !answer.pieces.is_empty() {
        let part = json!({"type": "output_text", "text": answer.text(), "annotations": []});
        items.push(
            json!({"type": "message", "id": id("msg", 0), "role": "assistant",
                          "status": "completed", "content": [part]}),
        );
    }
    for (number, call) in answer.calls.iter().enumerate() {
        items.push(
            json!({"type": "function_call", "id": id("fc", number), "call_id": call_id(&call.id),
                   "name": call.name, "arguments": call.arguments(), "status": "completed"}),
        );
    }
    items
}

/// Why the answer is not complete, when it is not.
fn cut(answer: &Answer) -> Option<&str> {
    match answer.stop.as_deref() {
        None | Some("refusal" | "end_turn" | "tool_use") => None,
        Some("max_tokens") => Some("max_output_tokens"),
        other => other,
    }
}

fn response(answer: &Answer, status: &str, output: &[Value], usage: &Value) -> Value {
    let details = cut(answer).filter(|_| status == "incomplete");
    json!({"id": format!("resp_{}", answer.id), "object": "response", "created_at": 0, "status": status,
           "error": null, "incomplete_details": details.map(|reason| json!({"reason": reason})),
           "model": answer.model, "output": output, "store": false, "usage": usage})
}

fn last(answer: &Answer, tokens: Tokens, encrypt: bool) -> (&'static str, Value) {
    let status = if cut(answer).is_some() {
        "incomplete"
    } else {
        "completed"
    };
    let usage = usage(tokens, answer.tokens());
    (
        status,
        response(answer, status, &items(answer, encrypt), &usage),
    )
}

/// The answer in one piece.
pub(crate) fn whole(answer: &Answer, tokens: Tokens, encrypt: bool) -> Value {
    last(answer, tokens, encrypt).1
}

/// Numbers the events of a stream.
#[derive(Default)]
struct Events(Vec<Frame>);

impl Events {
    fn add(&mut self, kind: &str, piece: bool, mut data: Value) {
        if let Some(map) = data.as_object_mut() {
            map.insert("type".to_owned(), kind.into());
            map.insert("sequence_number".to_owned(), self.0.len().into());
        }
        let bytes = format!("event: {kind}\ndata: {data}\n\n");
        self.0.push(Frame { bytes, piece });
    }

    fn opening(answer: &Answer) -> Events {
        let mut events = Events::default();
        for kind in ["response.created", "response.in_progress"] {
            let response = response(answer, "in_progress", &[], &Value::Null);
            events.add(kind, false, json!({"response": response}));
        }
        events
    }

    fn item(&mut self, index: usize, item: &Value, answer: &Answer) {
        let mut begun = item.clone();
        if let Some(map) = begun.as_object_mut() {
            for (field, empty) in [
                ("content", json!([])),
                ("summary", json!([])),
                ("arguments", json!("")),
            ] {
                map.entry(field).and_modify(|v| *v = empty);
            }
            map.entry("status")
                .and_modify(|v| *v = "in_progress".into());
        }
        self.add(
            "response.output_item.added",
            false,
            json!({"output_index": index, "item": begun}),
        );
        let at = |more: Value| {
            let mut data = json!({"output_index": index, "item_id": item.get("id")});
            if let (Some(map), Value::Object(more)) = (data.as_object_mut(), more) {
                map.extend(more);
            }
            data
        };
        match kind(item) {
            "reasoning" => {
                for piece in answer.thinking.iter().flat_map(|t| split(t, 2)) {
                    self.add(
                        "response.reasoning_summary_text.delta",
                        false,
                        at(json!({"summary_index": 0, "delta": piece})),
                    );
                }
            }
            "message" => self.message(item, answer, &at),
            _ => {
                let arguments = item
                    .get("arguments")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                for piece in split(arguments, 3) {
                    self.add(
                        "response.function_call_arguments.delta",
                        false,
                        at(json!({"delta": piece})),
                    );
                }
                self.add(
                    "response.function_call_arguments.done",
                    false,
                    at(json!({"arguments": arguments})),
                );
            }
        }
        self.add(
            "response.output_item.done",
            false,
            json!({"output_index": index, "item": item}),
        );
    }

    fn message(&mut self, item: &Value, answer: &Answer, at: &dyn Fn(Value) -> Value) {
        let part = item.pointer("/content/0").cloned().unwrap_or_default();
        let (name, empty) = match kind(&part) {
            "refusal" => ("refusal", json!({"type": "refusal", "refusal": ""})),
            _ => (
                "output_text",
                json!({"type": "output_text", "text": "", "annotations": []}),
            ),
        };
        self.add(
            "response.content_part.added",
            false,
            at(json!({"content_index": 0, "part": empty})),
        );
        for piece in &answer.pieces {
            self.add(
                &format!("response.{name}.delta"),
                true,
                at(json!({"content_index": 0, "delta": piece})),
            );
        }
        self.add(
            &format!("response.{name}.done"),
            false,
            at(json!({"content_index": 0, "text": answer.text()})),
        );
        self.add(
            "response.content_part.done",
            false,
            at(json!({"content_index": 0, "part": part})),
        );
    }
}

/// The answer as events.
pub(crate) fn frames(answer: &Answer, tokens: Tokens, encrypt: bool) -> Vec<Frame> {
    let mut events = Events::opening(answer);
    for (index, item) in items(answer, encrypt).iter().enumerate() {
        events.item(index, item, answer);
    }
    let (status, response) = last(answer, tokens, encrypt);
    events.add(
        &format!("response.{status}"),
        false,
        json!({"response": response}),
    );
    events.0
}

/// A stream that fails after its opening.
pub(crate) fn failing(answer: &Answer, kind: &str) -> Vec<Frame> {
    let mut events = Events::opening(answer);
    let mut response = response(answer, "failed", &[], &Value::Null);
    if let Some(map) = response.as_object_mut() {
        let error = json!({"code": kind, "message": "The script fails here."});
        map.insert("error".to_owned(), error);
    }
    events.add("response.failed", false, json!({"response": response}));
    events.0
}
