//! Reads the chunk stream of OpenAI Chat Completions, as OpenAI and its many imitators send it. No IO.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::judge::words_of;
use crate::openai_chat_request::EXTRA;
use crate::request::Delta;
use crate::sse::Event;
use crate::stream::{Blocks, Building, Flow, Reader, Trouble, made_id, str_of};
use crate::transcript::{Reply, Stop, Usage};
use crate::{Dialect, Sink};

/// The answer as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    started: bool,
    /// `[DONE]` came after something.
    done: bool,
    id: String,
    model: String,
    blocks: Blocks,
    /// The text or thinking block that is open; a new kind closes it.
    open: Option<(Kind, usize)>,
    /// The provider's call index → the call that its pieces go to.
    calls: BTreeMap<u64, Open>,
    refusal: String,
    stop: Option<Stop>,
    usage: Usage,
}

/// A call of which more may come.
#[derive(Debug)]
struct Open {
    /// Our block.
    index: usize,
    /// The provider's id for it.
    id: String,
    /// Its end was shown; pieces may follow all the same.
    shown: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    /// Shown, and never sent back.
    Thinking,
    /// Sent back as it came.
    Reasoning,
}

impl Reader for Chat {
    fn event(&mut self, event: &Event, sink: Sink<'_>) -> Result<Flow, Trouble> {
        if event.data.trim() == "[DONE]" {
            self.done = self.started;
            return Ok(Flow::Done);
        }
        let data: Value = serde_json::from_str(&event.data)
            .map_err(|e| Trouble::Garbage(format!("a chunk that is not JSON ({e})")))?;
        if let Some(error) = data.get("error").filter(|e| !e.is_null()) {
            return Err(provider_error(error));
        }
        let choices = data.get("choices").and_then(Value::as_array);
        if choices.is_none() && data.get("usage").is_none() {
            return Err(Trouble::Garbage("a chunk without choices".to_owned()));
        }
        if !std::mem::replace(&mut self.started, true) {
            str_of(&data, "id").clone_into(&mut self.id);
            sink(Delta::MessageStart);
        }
        if self.model.is_empty() {
            str_of(&data, "model").clone_into(&mut self.model);
        }
        self.count(data.get("usage"));
        // We ask for one choice; whatever else a server sends is not ours. The last chunk has none.
        if let Some(choice) = choices.and_then(|c| c.first()) {
            self.choice(choice, sink)?;
        }
        Ok(Flow::More)
    }

    fn usage(&self) -> Usage {
        self.usage
    }

    /// Complete when a finish reason came or `[DONE]`: some servers leave the one away, some the other
    /// (<https://github.com/vllm-project/vllm/issues/27572>).
    fn finish(self: Box<Self>, model: &str) -> Option<Reply> {
        let mut stop = self.stop.or(self.done.then_some(Stop::EndTurn))?;
        if !self.refusal.is_empty() && matches!(stop, Stop::EndTurn | Stop::Refusal { .. }) {
            stop = Stop::Refusal {
                category: None,
                explanation: Some(self.refusal),
            };
        } else if matches!(stop, Stop::EndTurn | Stop::Pause) && self.blocks.has_calls() {
            stop = Stop::ToolUse;
        } else if stop == Stop::ToolUse && !self.blocks.has_calls() {
            stop = Stop::EndTurn;
        }
        let named = if self.model.is_empty() {
            model.to_owned()
        } else {
            self.model
        };
        let cut = stop.is_cut();
        let blocks = self.blocks.finish(Dialect::OpenAiChat, cut);
        Some(Reply {
            blocks,
            stop,
            usage: self.usage,
            model: named,
        })
    }
}

impl Chat {
    fn choice(&mut self, choice: &Value, sink: Sink<'_>) -> Result<(), Trouble> {
        // A server that does not stream sends the whole message in one chunk.
        let delta = choice.get("delta").or_else(|| choice.get("message"));
        let delta = delta.unwrap_or(&Value::Null);
        self.reasoning(delta, sink)?;
        match delta.get("content") {
            Some(Value::Array(parts)) => self.parts(parts, sink)?,
            _ => self.text(str_of(delta, "content"), sink)?,
        }
        self.refusal.push_str(str_of(delta, "refusal"));
        for call in delta
            .get("tool_calls")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            self.call(call, sink)?;
        }
        // Some servers send an empty reason along with every chunk: it is none.
        let reason = str_of(choice, "finish_reason");
        if !reason.is_empty() {
            self.close(sink);
            for call in self.calls.values_mut() {
                if !std::mem::replace(&mut call.shown, true) {
                    sink(Delta::BlockEnd { index: call.index });
                }
            }
            self.stop = Some(stop(reason, choice)?);
        }
        Ok(())
    }

    /// Thinking, which goes back in the fields it came in. Servers that name it twice mean it once.
    fn reasoning(&mut self, delta: &Value, sink: Sink<'_>) -> Result<(), Trouble> {
        let fields = ["reasoning_content", "reasoning"];
        let spoken = fields.iter().find(|f| !str_of(delta, f).is_empty());
        let lists = ["reasoning_details", "thinking_blocks"]
            .iter()
            .filter_map(|field| {
                let list = delta.get(*field)?.as_array()?;
                (!list.is_empty()).then_some((*field, list))
            });
        let lists = lists.collect::<Vec<_>>();
        if spoken.is_none() && lists.is_empty() {
            return Ok(());
        }
        let index = match self.open {
            Some((Kind::Reasoning, index)) => index,
            _ => {
                let block = Building::Reasoning(Value::Object(Map::new()));
                self.begin(Kind::Reasoning, block, sink)?
            }
        };
        if let Some(Building::Reasoning(Value::Object(raw))) = self.blocks.get(index) {
            if let Some(field) = spoken {
                append(raw, field, str_of(delta, field));
            }
            for (field, list) in lists {
                list.iter().for_each(|piece| add_piece(raw, field, piece));
            }
        }
        if let Some(field) = spoken {
            let text = str_of(delta, field).to_owned();
            sink(Delta::Thinking { index, text });
        }
        Ok(())
    }

    /// Content as a list: texts, and Mistral's thinking, which goes nowhere again.
    fn parts(&mut self, parts: &[Value], sink: Sink<'_>) -> Result<(), Trouble> {
        for part in parts {
            match str_of(part, "type") {
                "text" => self.text(str_of(part, "text"), sink)?,
                "thinking" => {
                    let said = part.get("thinking").and_then(Value::as_array);
                    for piece in said.into_iter().flatten() {
                        self.thinking(str_of(piece, "text"), sink)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn text(&mut self, piece: &str, sink: Sink<'_>) -> Result<(), Trouble> {
        if !piece.is_empty() {
            let index = match self.open {
                Some((Kind::Text, index)) => index,
                _ => self.begin(Kind::Text, Building::Text(String::new()), sink)?,
            };
            self.blocks.text(index, piece, sink);
        }
        Ok(())
    }

    fn thinking(&mut self, piece: &str, sink: Sink<'_>) -> Result<(), Trouble> {
        if !piece.is_empty() {
            let block = || Building::Thinking {
                text: String::new(),
                signature: String::new(),
            };
            let index = match self.open {
                Some((Kind::Thinking, index)) => index,
                _ => self.begin(Kind::Thinking, block(), sink)?,
            };
            self.blocks.thinking(index, piece, sink);
        }
        Ok(())
    }

    fn begin(&mut self, kind: Kind, block: Building, sink: Sink<'_>) -> Result<usize, Trouble> {
        self.close(sink);
        let index = self.blocks.start(block, sink)?;
        self.open = Some((kind, index));
        Ok(index)
    }

    fn close(&mut self, sink: Sink<'_>) {
        if let Some((_, index)) = self.open.take() {
            sink(Delta::BlockEnd { index });
        }
    }

    fn call(&mut self, call: &Value, sink: Sink<'_>) -> Result<(), Trouble> {
        let function = call.get("function").unwrap_or(&Value::Null);
        let (id, name) = (str_of(call, "id"), str_of(function, "name"));
        let last = self.calls.keys().next_back().copied();
        // Without an index, a name begins a call and its absence continues the last one.
        let number = call
            .get("index")
            .and_then(Value::as_u64)
            .unwrap_or_else(|| match last {
                Some(last) if name.is_empty() => last,
                Some(last) => last.saturating_add(1),
                None => 0,
            });
        let known = self
            .calls
            .get(&number)
            .map(|open| (open.index, open.id != id));
        // Another name under another id is another call, even under the same index; without ids, when what
        // came before is whole.
        let known = known.filter(|(index, renamed)| {
            name.is_empty()
                || !(if id.is_empty() {
                    self.is_whole(*index)
                } else {
                    *renamed
                })
        });
        let index = match known {
            Some((index, _)) => index,
            None if name.is_empty() => {
                return Err(Trouble::Garbage(
                    "a tool call that begins without a name".to_owned(),
                ));
            }
            None => self.begin_call(number, id, name, sink)?,
        };
        if let Some(Building::Tool { json, .. }) = self.blocks.get(index) {
            match function.get("arguments") {
                Some(Value::String(piece)) => json.push_str(piece),
                // Some imitators send the object itself.
                Some(whole @ Value::Object(_)) => json.push_str(&whole.to_string()),
                _ => {}
            }
        }
        self.keep_extra(index, call, sink)
    }

    fn begin_call(
        &mut self,
        number: u64,
        id: &str,
        name: &str,
        sink: Sink<'_>,
    ) -> Result<usize, Trouble> {
        self.close(sink);
        let id = if id.is_empty() {
            made_id(&self.id, self.blocks.len())
        } else {
            id.to_owned()
        };
        let block = Building::Tool {
            id: id.clone(),
            name: name.to_owned(),
            json: String::new(),
            initial: Value::Null,
        };
        let index = self.blocks.start(block, sink)?;
        let open = Open {
            index,
            id,
            shown: false,
        };
        if let Some(before) = self.calls.insert(number, open).filter(|o| !o.shown) {
            sink(Delta::BlockEnd {
                index: before.index,
            });
        }
        Ok(index)
    }

    /// Whether the call's arguments are complete.
    fn is_whole(&mut self, index: usize) -> bool {
        let json = match self.blocks.get(index) {
            Some(Building::Tool { json, .. }) => json.as_str(),
            _ => "",
        };
        serde_json::from_str::<Map<String, Value>>(json).is_ok()
    }

    /// What the provider wants back with the call.
    fn keep_extra(&mut self, index: usize, call: &Value, sink: Sink<'_>) -> Result<(), Trouble> {
        let (Some(extra), Some(Building::Tool { id, .. })) = (
            call.get(EXTRA).filter(|e| e.is_object()),
            self.blocks.get(index),
        ) else {
            return Ok(());
        };
        let raw = json!({"id": id, EXTRA: extra});
        let json = String::new();
        self.blocks.start(Building::Opaque { raw, json }, sink)?;
        Ok(())
    }

    pub(crate) fn count(&mut self, usage: Option<&Value>) {
        let Some(usage) = usage.filter(|u| u.is_object()) else {
            return;
        };
        let number = |key: &str| usage.get(key).and_then(Value::as_u64).unwrap_or(0);
        let cached = usage
            .pointer("/prompt_tokens_details/cached_tokens")
            .and_then(Value::as_u64);
        // DeepSeek's spelling
        let cached = cached
            .unwrap_or_else(|| number("prompt_cache_hit_tokens"))
            .min(number("prompt_tokens"));
        self.usage = Usage {
            input: number("prompt_tokens").saturating_sub(cached),
            output: number("completion_tokens"),
            cache_read: cached,
            cache_creation_5m: 0,
            cache_creation_1h: 0,
        };
    }
}

/// The reasons of the dialect, and those its imitators let through from behind them.
fn stop(reason: &str, choice: &Value) -> Result<Stop, Trouble> {
    Ok(match reason.to_ascii_lowercase().as_str() {
        "stop" | "end_turn" | "eos" | "stop_sequence" => Stop::EndTurn,
        "tool_calls" | "function_call" | "tool_use" => Stop::ToolUse,
        "length" | "max_tokens" | "max_output_tokens" => Stop::MaxTokens,
        // Mistral; z.ai
        "model_length" | "model_context_window_exceeded" => Stop::ContextWindow,
        "pause_turn" => Stop::Pause,
        "content_filter" | "content_filtered" | "refusal" | "safety" | "sensitive" => {
            Stop::Refusal {
                category: Some("content_filter".to_owned()),
                explanation: None,
            }
        }
        // OpenRouter, vLLM, DeepSeek, z.ai: the provider behind the answer failed, and half an answer is none.
        "error" | "abort" | "insufficient_system_resource" | "network_error" => {
            let error = choice.get("error").filter(|e| !e.is_null());
            return Err(error.map_or_else(
                || Trouble::Provider {
                    kinds: Default::default(),
                    message: format!("it ended its answer with finish_reason {reason:?}"),
                },
                provider_error,
            ));
        }
        _ => Stop::Other {
            reason: reason.to_owned(),
        },
    })
}

fn append(raw: &mut Map<String, Value>, field: &str, piece: &str) {
    match raw.get_mut(field) {
        Some(Value::String(text)) => text.push_str(piece),
        _ => {
            raw.insert(field.to_owned(), piece.into());
        }
    }
}

/// Adds to a list of thinking: OpenRouter's (<https://openrouter.ai/docs/use-cases/reasoning-tokens>) or
/// LiteLLM's (<https://docs.litellm.ai/docs/reasoning_content>). The pieces of one entry have one type and one
/// index, if any, and the proof comes last; their words are joined, and what a later piece names is the entry's.
fn add_piece(raw: &mut Map<String, Value>, list: &str, piece: &Value) {
    let list = raw.entry(list).or_insert_with(|| Value::Array(Vec::new()));
    let (Value::Array(list), Value::Object(fields)) = (list, piece) else {
        return;
    };
    let same = |entry: &&mut Value| {
        let alike = |key: &str| entry.get(key) == fields.get(key);
        alike("type")
            && alike("index")
            && !fields.contains_key("data")
            && str_of(entry, "signature").is_empty()
    };
    let Some(Value::Object(entry)) = list.last_mut().filter(same) else {
        list.push(piece.clone());
        return;
    };
    for (field, value) in fields {
        match (field.as_str(), value) {
            ("text" | "summary" | "thinking", Value::String(more)) => append(entry, field, more),
            (_, Value::Null) => {}
            _ => {
                entry.insert(field.clone(), value.clone());
            }
        }
    }
}

fn provider_error(error: &Value) -> Trouble {
    let (kinds, message) = words_of(error);
    Trouble::Provider { kinds, message }
}
