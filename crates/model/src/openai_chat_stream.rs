//! Reads the chunk stream of OpenAI Chat Completions, as OpenAI and its many imitators send it. No IO.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::request::Delta;
use crate::sse::Event;
use crate::stream::{Blocks, Building, Flow, Reader, Trouble, str_of};
use crate::transcript::{Reply, Stop, Usage};
use crate::{Dialect, Sink};

/// The answer as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    started: bool,
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
    Thinking,
}

impl Reader for Chat {
    fn event(&mut self, event: &Event, sink: Sink<'_>) -> Result<Flow, Trouble> {
        if event.data.trim() == "[DONE]" {
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

    /// Complete when a finish reason came: some servers leave `[DONE]` away.
    fn finish(self: Box<Self>, model: &str) -> Option<Reply> {
        let mut stop = self.stop?;
        if !self.refusal.is_empty() && matches!(stop, Stop::EndTurn | Stop::Refusal { .. }) {
            stop = Stop::Refusal {
                category: None,
                explanation: Some(self.refusal),
            };
        } else if stop == Stop::EndTurn && self.blocks.has_calls() {
            stop = Stop::ToolUse;
        } else if stop == Stop::ToolUse && !self.blocks.has_calls() {
            stop = Stop::EndTurn;
        }
        let named = if self.model.is_empty() {
            model.to_owned()
        } else {
            self.model
        };
        let blocks = self.blocks.finish(Dialect::OpenAiChat);
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
        let delta = choice.get("delta").unwrap_or(&Value::Null);
        for field in ["reasoning_content", "reasoning"] {
            self.piece(Kind::Thinking, str_of(delta, field), sink)?;
        }
        self.piece(Kind::Text, str_of(delta, "content"), sink)?;
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
            self.stop = Some(stop(reason));
        }
        Ok(())
    }

    fn piece(&mut self, kind: Kind, piece: &str, sink: Sink<'_>) -> Result<(), Trouble> {
        if piece.is_empty() {
            return Ok(());
        }
        let index = match self.open {
            Some((open, index)) if open == kind => index,
            _ => {
                self.close(sink);
                let block = match kind {
                    Kind::Text => Building::Text(String::new()),
                    Kind::Thinking => Building::Thinking {
                        text: String::new(),
                        signature: String::new(),
                    },
                };
                let index = self.blocks.start(block, sink)?;
                self.open = Some((kind, index));
                index
            }
        };
        match kind {
            Kind::Text => self.blocks.text(index, piece, sink),
            Kind::Thinking => self.blocks.thinking(index, piece, sink),
        }
        Ok(())
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
        // Another name under another id is another call, even under the same index.
        let other = |open: &&Open| !name.is_empty() && !id.is_empty() && open.id != id;
        let index = match self.calls.get(&number).filter(|open| !other(open)) {
            Some(open) => open.index,
            None if name.is_empty() => {
                return Err(Trouble::Garbage(
                    "a tool call that begins without a name".to_owned(),
                ));
            }
            None => {
                self.close(sink);
                let id = if id.is_empty() {
                    self.made_id(number)
                } else {
                    id.to_owned()
                };
                let known = id.clone();
                let block = Building::Tool {
                    id,
                    name: name.to_owned(),
                    json: String::new(),
                    initial: Value::Null,
                };
                let index = self.blocks.start(block, sink)?;
                let open = Open {
                    index,
                    id: known,
                    shown: false,
                };
                if let Some(before) = self.calls.insert(number, open).filter(|o| !o.shown) {
                    sink(Delta::BlockEnd {
                        index: before.index,
                    });
                }
                index
            }
        };
        if let Some(Building::Tool { json, .. }) = self.blocks.get(index) {
            match function.get("arguments") {
                Some(Value::String(piece)) => json.push_str(piece),
                // Some imitators send the object itself.
                Some(whole @ Value::Object(_)) => json.push_str(&whole.to_string()),
                _ => {}
            }
        }
        Ok(())
    }

    /// An id for a call whose provider gave none: unique in the transcript because the answer's id is.
    fn made_id(&self, number: u64) -> String {
        let answer: String = self
            .id
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(40)
            .collect();
        format!("call_{answer}_{number}")
    }

    fn count(&mut self, usage: Option<&Value>) {
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

fn stop(reason: &str) -> Stop {
    match reason {
        "stop" => Stop::EndTurn,
        "tool_calls" | "function_call" => Stop::ToolUse,
        "length" => Stop::MaxTokens,
        "content_filter" => Stop::Refusal {
            category: Some("content_filter".to_owned()),
            explanation: None,
        },
        other => Stop::Other {
            reason: other.to_owned(),
        },
    }
}

fn provider_error(error: &Value) -> Trouble {
    let kind = [str_of(error, "code"), str_of(error, "type")]
        .into_iter()
        .find(|k| !k.is_empty());
    let message = error.as_str().unwrap_or_else(|| str_of(error, "message"));
    Trouble::Provider {
        kind: kind.unwrap_or_default().to_owned(),
        message: message.to_owned(),
    }
}
