//! Reads the event stream of Anthropic Messages. Unknown events and blocks are tolerated; what breaks the
//! order of a known one is garbage. No IO.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::judge::words_of;
use crate::request::Delta;
use crate::sse::Event;
use crate::stream::{Blocks, Building, Flow, Reader, Trouble, str_of};
use crate::transcript::{Reply, Stop, Usage};
use crate::{Dialect, Sink};

/// The answer as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    started: bool,
    ended: bool,
    model: String,
    blocks: Blocks,
    /// The provider's block index → ours.
    places: BTreeMap<u64, usize>,
    stop: Option<Stop>,
    usage: Usage,
}

impl Reader for Messages {
    fn event(&mut self, event: &Event, sink: Sink<'_>) -> Result<Flow, Trouble> {
        let data: Value = serde_json::from_str(&event.data)
            .map_err(|e| Trouble::Garbage(format!("an event that is not JSON ({e})")))?;
        match str_of(&data, "type") {
            "message_start" => self.message_start(&data, sink)?,
            "content_block_start" => self.block_start(&data, sink)?,
            "content_block_delta" => self.block_delta(&data, sink)?,
            "content_block_stop" => {
                let index = self.place(&data)?;
                sink(Delta::BlockEnd { index });
            }
            "message_delta" => self.message_delta(&data),
            "message_stop" => {
                self.need_start()?;
                self.ended = true;
                return Ok(Flow::Done);
            }
            "error" => return Err(provider_error(&data)),
            // ping, and whatever will be invented
            _ => {}
        }
        Ok(Flow::More)
    }

    fn usage(&self) -> Usage {
        self.usage
    }

    fn finish(self: Box<Self>, model: &str) -> Option<Reply> {
        if !self.ended {
            return None;
        }
        let stop = match self.stop {
            None | Some(Stop::EndTurn | Stop::Pause) if self.blocks.has_calls() => Stop::ToolUse,
            None => Stop::EndTurn,
            Some(stop) => stop,
        };
        let named = if self.model.is_empty() {
            model.to_owned()
        } else {
            self.model
        };
        let cut = stop.is_cut();
        let blocks = self.blocks.finish(Dialect::AnthropicMessages, cut);
        Some(Reply {
            blocks,
            stop,
            usage: self.usage,
            model: named,
        })
    }
}

impl Messages {
    fn need_start(&self) -> Result<(), Trouble> {
        if self.started {
            Ok(())
        } else {
            Err(Trouble::Garbage(
                "no message_start before its content".to_owned(),
            ))
        }
    }

    fn message_start(&mut self, data: &Value, sink: Sink<'_>) -> Result<(), Trouble> {
        if std::mem::replace(&mut self.started, true) {
            return Err(Trouble::Garbage("a second message_start".to_owned()));
        }
        let message = data.get("message").unwrap_or(&Value::Null);
        str_of(message, "model").clone_into(&mut self.model);
        self.count(message.get("usage"));
        sink(Delta::MessageStart);
        Ok(())
    }

    fn place(&self, data: &Value) -> Result<usize, Trouble> {
        self.need_start()?;
        let place = data
            .get("index")
            .and_then(Value::as_u64)
            .and_then(|i| self.places.get(&i));
        place
            .copied()
            .ok_or_else(|| Trouble::Garbage("an event for a block that was not begun".to_owned()))
    }

    fn block_start(&mut self, data: &Value, sink: Sink<'_>) -> Result<(), Trouble> {
        self.need_start()?;
        let index = data.get("index").and_then(Value::as_u64);
        let index = index
            .ok_or_else(|| Trouble::Garbage("a content_block_start without index".to_owned()))?;
        let block = data.get("content_block").unwrap_or(&Value::Null);
        let mut first_words = String::new();
        let building = match str_of(block, "type") {
            "text" => {
                str_of(block, "text").clone_into(&mut first_words);
                Building::Text(String::new())
            }
            "thinking" => {
                str_of(block, "thinking").clone_into(&mut first_words);
                let signature = str_of(block, "signature").to_owned();
                Building::Thinking {
                    text: String::new(),
                    signature,
                }
            }
            "redacted_thinking" => Building::Redacted(str_of(block, "data").to_owned()),
            "tool_use" => Building::Tool {
                id: str_of(block, "id").to_owned(),
                name: str_of(block, "name").to_owned(),
                json: String::new(),
                initial: block.get("input").cloned().unwrap_or(Value::Null),
            },
            "" => return Err(Trouble::Garbage("a content block without type".to_owned())),
            _ => Building::Opaque {
                raw: block.clone(),
                json: String::new(),
            },
        };
        if matches!(&building, Building::Tool { id, name, .. } if id.is_empty() || name.is_empty())
        {
            return Err(Trouble::Garbage(
                "a tool call without id or name".to_owned(),
            ));
        }
        let ours = self.blocks.start(building, sink)?;
        if self.places.insert(index, ours).is_some() {
            return Err(Trouble::Garbage(
                "two content blocks with one index".to_owned(),
            ));
        }
        self.blocks.text(ours, &first_words, sink);
        self.blocks.thinking(ours, &first_words, sink);
        Ok(())
    }

    fn block_delta(&mut self, data: &Value, sink: Sink<'_>) -> Result<(), Trouble> {
        let index = self.place(data)?;
        let delta = data.get("delta").unwrap_or(&Value::Null);
        match (str_of(delta, "type"), self.blocks.get(index)) {
            ("text_delta", Some(Building::Opaque { raw, .. })) => {
                append(raw, "text", str_of(delta, "text"))
            }
            ("text_delta", _) => self.blocks.text(index, str_of(delta, "text"), sink),
            ("thinking_delta", _) => self.blocks.thinking(index, str_of(delta, "thinking"), sink),
            ("signature_delta", Some(Building::Thinking { signature, .. })) => {
                signature.push_str(str_of(delta, "signature"));
            }
            (
                "input_json_delta",
                Some(Building::Tool { json, .. } | Building::Opaque { json, .. }),
            ) => {
                json.push_str(str_of(delta, "partial_json"));
            }
            // citations, and whatever will be invented
            _ => {}
        }
        Ok(())
    }

    fn message_delta(&mut self, data: &Value) {
        self.count(data.get("usage"));
        let delta = data.get("delta").unwrap_or(&Value::Null);
        if let Some(reason) = delta.get("stop_reason").and_then(Value::as_str) {
            self.stop = Some(stop(
                reason,
                delta.get("stop_details").unwrap_or(&Value::Null),
            ));
        }
    }

    /// Counts are cumulative: what a later event names replaces what an earlier one did.
    pub(crate) fn count(&mut self, usage: Option<&Value>) {
        let Some(usage) = usage else { return };
        let number = |of: &Value, key: &str| of.get(key).and_then(Value::as_u64);
        let set = |field: &mut u64, value: Option<u64>| *field = value.unwrap_or(*field);
        set(&mut self.usage.input, number(usage, "input_tokens"));
        set(&mut self.usage.output, number(usage, "output_tokens"));
        set(
            &mut self.usage.cache_read,
            number(usage, "cache_read_input_tokens"),
        );
        match usage.get("cache_creation").filter(|c| c.is_object()) {
            Some(by_age) => {
                set(
                    &mut self.usage.cache_creation_5m,
                    number(by_age, "ephemeral_5m_input_tokens"),
                );
                set(
                    &mut self.usage.cache_creation_1h,
                    number(by_age, "ephemeral_1h_input_tokens"),
                );
            }
            None => {
                let written = number(usage, "cache_creation_input_tokens");
                let written = written.map(|w| w.saturating_sub(self.usage.cache_creation_1h));
                set(&mut self.usage.cache_creation_5m, written);
            }
        }
    }
}

fn append(raw: &mut Value, key: &str, piece: &str) {
    if let Some(map) = raw.as_object_mut() {
        match map
            .entry(key)
            .or_insert_with(|| Value::String(String::new()))
        {
            Value::String(text) => text.push_str(piece),
            other => *other = Value::String(piece.to_owned()),
        }
    }
}

fn stop(reason: &str, details: &Value) -> Stop {
    let words = |key: &str| details.get(key).and_then(Value::as_str).map(str::to_owned);
    match reason {
        "end_turn" => Stop::EndTurn,
        "tool_use" => Stop::ToolUse,
        "max_tokens" => Stop::MaxTokens,
        "model_context_window_exceeded" => Stop::ContextWindow,
        "stop_sequence" => Stop::StopSequence,
        "pause_turn" => Stop::Pause,
        "refusal" => Stop::Refusal {
            category: words("category"),
            explanation: words("explanation"),
        },
        other => Stop::Other {
            reason: other.to_owned(),
        },
    }
}

fn provider_error(data: &Value) -> Trouble {
    let (kinds, message) = words_of(data.get("error").unwrap_or(data));
    Trouble::Provider { kinds, message }
}
