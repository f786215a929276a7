//! Reads the event stream of OpenAI Responses, as OpenAI and its imitators send it. Unknown events are
//! passed over, unknown items kept as they came. No IO.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::judge::words_of;
use crate::openai_responses_request::PHASE;
use crate::request::Delta;
use crate::sse::Event;
use crate::stream::{Blocks, Building, Flow, Reader, Trouble, made_id, str_of};
use crate::transcript::{Reply, Stop, Usage};
use crate::{Dialect, Sink};

/// The answer as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Responses {
    started: bool,
    id: String,
    model: String,
    blocks: Blocks,
    /// Output index → what is known of that item.
    items: BTreeMap<u64, Item>,
    refusal: String,
    end: Option<End>,
    usage: Usage,
}

/// One item of the output.
#[derive(Debug, Default)]
struct Item {
    /// Content index → our block; an item that is no message has one at 0.
    parts: BTreeMap<u64, usize>,
    /// Nothing more may come.
    done: bool,
}

/// How the provider ended its answer.
#[derive(Debug)]
enum End {
    Completed,
    Incomplete(String),
}

impl Reader for Responses {
    fn event(&mut self, event: &Event, sink: Sink<'_>) -> Result<Flow, Trouble> {
        if event.data.trim() == "[DONE]" {
            return Ok(if self.end.is_some() {
                Flow::Done
            } else {
                Flow::More
            });
        }
        let data: Value = serde_json::from_str(&event.data)
            .map_err(|e| Trouble::Garbage(format!("an event that is not JSON ({e})")))?;
        let kind = match str_of(&data, "type") {
            "" => event.name.as_str(),
            kind => kind,
        };
        match kind {
            "response.completed" | "response.incomplete" | "response.done" => {
                return self.ended(&data, sink);
            }
            "response.failed" | "response.cancelled" => return Err(failed(&data)),
            "error" => return Err(provider_error(data.get("error").unwrap_or(&data))),
            _ if data.get("error").is_some_and(|e| !e.is_null()) => {
                return Err(provider_error(data.get("error").unwrap_or(&data)));
            }
            "" => return Err(Trouble::Garbage("an event without type".to_owned())),
            _ => self.begin(data.get("response"), sink),
        }
        match kind {
            "response.output_item.added" => self.item_added(&data, sink)?,
            "response.output_item.done" => self.item_done(&data, sink)?,
            "response.output_text.delta" => {
                let block = self.part(&data, sink)?;
                self.blocks.text(block, str_of(&data, "delta"), sink);
            }
            "response.refusal.delta" => self.refusal.push_str(str_of(&data, "delta")),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                if let Some(index) = self.block(&data) {
                    let text = str_of(&data, "delta").to_owned();
                    if !text.is_empty() {
                        sink(Delta::Thinking { index, text });
                    }
                }
            }
            "response.function_call_arguments.delta" => {
                if let Some(index) = self.block(&data)
                    && let Some(Building::Tool { json, .. }) = self.blocks.get(index)
                {
                    json.push_str(str_of(&data, "delta"));
                }
            }
            // Lifecycle, parts that begin, and ends that the item's own end repeats; and whatever will be invented.
            _ => {}
        }
        Ok(Flow::More)
    }

    fn usage(&self) -> Usage {
        self.usage
    }

    fn finish(self: Box<Self>, model: &str) -> Option<Reply> {
        let stop = match self.end? {
            End::Incomplete(reason) if reason == "pause_turn" && self.blocks.has_calls() => {
                Stop::ToolUse
            }
            End::Incomplete(reason) => incomplete(reason, &self.refusal),
            End::Completed if !self.refusal.is_empty() => refused(None, &self.refusal),
            End::Completed if self.blocks.has_calls() => Stop::ToolUse,
            End::Completed => Stop::EndTurn,
        };
        let named = if self.model.is_empty() {
            model.to_owned()
        } else {
            self.model
        };
        let cut = stop.is_cut();
        Some(Reply {
            blocks: self.blocks.finish(Dialect::OpenAiResponses, cut),
            stop,
            usage: self.usage,
            model: named,
        })
    }
}

impl Responses {
    fn begin(&mut self, response: Option<&Value>, sink: Sink<'_>) {
        if !std::mem::replace(&mut self.started, true) {
            sink(Delta::MessageStart);
        }
        let Some(response) = response else { return };
        for (known, field) in [(&mut self.id, "id"), (&mut self.model, "model")] {
            if known.is_empty() {
                str_of(response, field).clone_into(known);
            }
        }
        self.count(response.get("usage"));
    }

    /// The block of an item that is no message.
    fn block(&self, data: &Value) -> Option<usize> {
        self.items
            .get(&number(data, "output_index"))?
            .parts
            .get(&0)
            .copied()
    }

    /// The text block of a message's part; some servers do not say when one begins.
    fn part(&mut self, data: &Value, sink: Sink<'_>) -> Result<usize, Trouble> {
        let (output, content) = (number(data, "output_index"), number(data, "content_index"));
        let item = self.items.entry(output).or_default();
        if let Some(index) = item.parts.get(&content) {
            return Ok(*index);
        }
        let index = self.blocks.start(Building::Text(String::new()), sink)?;
        item.parts.insert(content, index);
        Ok(index)
    }

    fn item_added(&mut self, data: &Value, sink: Sink<'_>) -> Result<(), Trouble> {
        let output = number(data, "output_index");
        let item = data.get("item").unwrap_or(&Value::Null);
        if self.items.contains_key(&output) {
            return Err(Trouble::Garbage(
                "two output items with one index".to_owned(),
            ));
        }
        let building = match str_of(item, "type") {
            "message" => phase(item),
            "reasoning" => Some(Building::Reasoning(unfinished(item))),
            // A server that does not know the name yet tells it at the item's end.
            "function_call" if str_of(item, "name").is_empty() => None,
            "function_call" => Some(self.call(output, item)),
            "" => return Err(Trouble::Garbage("an output item without type".to_owned())),
            _ => Some(Building::Opaque {
                raw: item.clone(),
                json: String::new(),
            }),
        };
        let known = self.items.entry(output).or_default();
        if let Some(building) = building {
            let index = self.blocks.start(building, sink)?;
            if str_of(item, "type") != "message" {
                known.parts.insert(0, index);
            }
        }
        Ok(())
    }

    fn call(&self, output: u64, item: &Value) -> Building {
        let id = match (str_of(item, "call_id"), str_of(item, "id")) {
            ("", "") => made_id(&self.id, output),
            ("", id) | (id, _) => id.to_owned(),
        };
        Building::Tool {
            id,
            name: str_of(item, "name").to_owned(),
            json: String::new(),
            initial: Value::Null,
        }
    }

    /// The item's end holds all of it: what was streamed is completed from it.
    fn item_done(&mut self, data: &Value, sink: Sink<'_>) -> Result<(), Trouble> {
        let output = number(data, "output_index");
        let item = data.get("item").unwrap_or(&Value::Null);
        if self.items.get(&output).is_some_and(|known| known.done) {
            return Ok(());
        }
        if !self.items.contains_key(&output) {
            self.item_added(data, sink)?;
        }
        match str_of(item, "type") {
            "message" => self.message_done(output, item, sink)?,
            "function_call" => self.call_done(output, item, sink)?,
            _ => {
                let place = self.items.get(&output).and_then(|i| i.parts.get(&0));
                match place.and_then(|index| self.blocks.get(*index)) {
                    Some(Building::Reasoning(raw) | Building::Opaque { raw, .. })
                        if item.is_object() =>
                    {
                        raw.clone_from(item);
                    }
                    _ => {}
                }
            }
        }
        if let Some(known) = self.items.get_mut(&output) {
            known.done = true;
            for index in known.parts.values() {
                sink(Delta::BlockEnd { index: *index });
            }
        }
        Ok(())
    }

    fn message_done(&mut self, output: u64, item: &Value, sink: Sink<'_>) -> Result<(), Trouble> {
        let parts = item.get("content").and_then(Value::as_array);
        for (content, part) in parts.into_iter().flatten().enumerate() {
            let at = serde_json::json!({"output_index": output, "content_index": content});
            match str_of(part, "type") {
                "output_text" | "text" => {
                    let index = self.part(&at, sink)?;
                    let streamed =
                        matches!(self.blocks.get(index), Some(Building::Text(t)) if !t.is_empty());
                    if !streamed {
                        self.blocks.text(index, str_of(part, "text"), sink);
                    }
                }
                "refusal" if self.refusal.is_empty() => {
                    self.refusal.push_str(str_of(part, "refusal"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn call_done(&mut self, output: u64, item: &Value, sink: Sink<'_>) -> Result<(), Trouble> {
        let known = self.items.get(&output).and_then(|i| i.parts.get(&0));
        let index = match known {
            Some(index) => *index,
            None if str_of(item, "name").is_empty() => {
                return Err(Trouble::Garbage("a function call without name".to_owned()));
            }
            None => {
                let index = self.blocks.start(self.call(output, item), sink)?;
                self.items.entry(output).or_default().parts.insert(0, index);
                index
            }
        };
        if let Some(Building::Tool { json, .. }) = self.blocks.get(index) {
            match item.get("arguments") {
                Some(Value::String(whole)) if !whole.is_empty() => json.clone_from(whole),
                // Some imitators send the object itself.
                Some(whole @ Value::Object(_)) => *json = whole.to_string(),
                _ => {}
            }
        }
        Ok(())
    }

    /// The last event repeats the whole output: what a server did not stream is taken from it.
    fn ended(&mut self, data: &Value, sink: Sink<'_>) -> Result<Flow, Trouble> {
        let response = data.get("response").unwrap_or(&Value::Null);
        if let Some(error) = response.get("error").filter(|e| !e.is_null()) {
            return Err(provider_error(error));
        }
        self.begin(Some(response), sink);
        let output = response.get("output").and_then(Value::as_array);
        for (index, item) in output.into_iter().flatten().enumerate() {
            self.item_done(
                &serde_json::json!({"output_index": index, "item": item}),
                sink,
            )?;
        }
        let reason = response
            .pointer("/incomplete_details/reason")
            .and_then(Value::as_str);
        let is_cut = str_of(data, "type") == "response.incomplete"
            || str_of(response, "status") == "incomplete";
        self.end = Some(match reason {
            Some(reason) => End::Incomplete(reason.to_owned()),
            None if is_cut => End::Incomplete(String::new()),
            None => End::Completed,
        });
        Ok(Flow::Done)
    }

    pub(crate) fn count(&mut self, usage: Option<&Value>) {
        let Some(usage) = usage.filter(|u| u.is_object()) else {
            return;
        };
        let input = number(usage, "input_tokens");
        let cached = usage.pointer("/input_tokens_details/cached_tokens");
        let cached = cached.and_then(Value::as_u64).unwrap_or(0).min(input);
        self.usage = Usage {
            input: input.saturating_sub(cached),
            output: number(usage, "output_tokens"),
            cache_read: cached,
            cache_creation_5m: 0,
            cache_creation_1h: 0,
        };
    }
}

/// What a message is for (`commentary`, `final_answer`): models that name it want it back with the message. It
/// stands before the message's texts.
fn phase(item: &Value) -> Option<Building> {
    let phase = item.get(PHASE).filter(|phase| phase.is_string())?;
    Some(Building::Opaque {
        raw: serde_json::json!({ PHASE: phase }),
        json: String::new(),
    })
}

/// An item of thinking that has only begun: its ciphertext is not whole before its end.
fn unfinished(item: &Value) -> Value {
    let mut item = item.clone();
    if let Some(map) = item.as_object_mut() {
        map.remove("encrypted_content");
    }
    item
}

/// Absent counts as 0: a server that names no index has one item.
fn number(of: &Value, key: &str) -> u64 {
    of.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn refused(category: Option<&str>, words: &str) -> Stop {
    Stop::Refusal {
        category: category.map(str::to_owned),
        explanation: Some(words.to_owned()).filter(|words| !words.is_empty()),
    }
}

fn incomplete(reason: String, refusal: &str) -> Stop {
    match reason.as_str() {
        "max_output_tokens" | "max_tokens" | "length" => Stop::MaxTokens,
        "content_filter" => refused(Some("content_filter"), refusal),
        "pause_turn" => Stop::Pause,
        _ => Stop::Other { reason },
    }
}

fn failed(data: &Value) -> Trouble {
    let response = data.get("response").unwrap_or(&Value::Null);
    match response.get("error").filter(|e| !e.is_null()) {
        Some(error) => provider_error(error),
        None => Trouble::Provider {
            kinds: Default::default(),
            message: format!("the response is {}", str_of(response, "status")),
        },
    }
}

fn provider_error(error: &Value) -> Trouble {
    let (kinds, message) = words_of(error);
    Trouble::Provider { kinds, message }
}
