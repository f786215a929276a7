//! A model request that a program in a sandbox has written, in the words of its session's provider: what of it is passed
//! on under our key, and its answer as it comes. It must never let the program reach anything through the provider (tools
//! that run there, pictures and files that are fetched from there, what is kept there), nor choose key or endpoint.

use reqwest::header::{ACCEPT, HeaderValue};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::client::{Asked, path};
use crate::endpoint::{Dialect, Endpoint};
use crate::error::{Error, Failure};
use crate::headers;
use crate::judge::Context;
use crate::limits::{BETAS_BYTES, PASSED_BYTES};
use crate::sse::Event;
use crate::stream::{Flow, Reader, Trouble};
use crate::transcript::{Reply, Usage};
use crate::{Client, Sink};
use crate::{anthropic_stream, openai_chat_stream, openai_responses_stream};

/// Fields that are passed on as they are, by dialect; with spaces between them.
const ANTHROPIC: &str = "context_management max_tokens messages model output_config stop_sequences stream system \
    temperature thinking tool_choice tools top_k top_p";
const CHAT: &str = "frequency_penalty logit_bias logprobs max_completion_tokens max_tokens messages model \
    parallel_tool_calls presence_penalty prompt_cache_key reasoning_effort response_format seed stop \
    stream stream_options temperature tool_choice tools top_logprobs top_p verbosity";
const RESPONSES: &str = "include input instructions max_output_tokens max_tool_calls model parallel_tool_calls \
    prompt_cache_key reasoning stream stream_options temperature text tool_choice tools top_p \
    truncation";
/// Fields that are left out: they say who asks, or how fast and for how long at another price or place.
const LEFT_OUT: &str =
    "metadata prompt_cache_retention safety_identifier service_tier speed store user inference_geo";
/// Types of tools that the program itself runs, or the beginnings of their names with Anthropic.
const OWN_TOOLS: [&str; 8] = [
    "apply_patch",
    "bash_",
    "computer_",
    "custom",
    "function",
    "local_shell",
    "memory_",
    "text_editor_",
];

/// A request that may be passed on.
#[derive(Debug, Clone)]
pub struct Passing {
    dialect: Dialect,
    body: Map<String, Value>,
    betas: Option<String>,
    streams: bool,
    /// The last chunk of a stream of OpenAI Chat has the usage, and the program asked for it itself.
    wants_usage: bool,
}

/// Why a request is not passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct Unpassable {
    field: String,
    problem: &'static str,
}

/// A piece of an answer, as it comes.
#[derive(Debug)]
pub enum Piece {
    /// An event of the stream.
    Event(String),
    /// The whole answer, where no stream was asked for.
    Whole(String),
}

impl Passing {
    /// Looks a body over. `betas` is the value of `anthropic-beta`, if there was one.
    ///
    /// # Errors
    /// [`Unpassable`], which names the field.
    pub fn read(
        dialect: Dialect,
        mut body: Map<String, Value>,
        betas: Option<String>,
    ) -> Result<Self, Unpassable> {
        let wrong = |field: &str, problem| Unpassable {
            field: field.to_owned(),
            problem,
        };
        let known = match dialect {
            Dialect::AnthropicMessages => ANTHROPIC,
            Dialect::OpenAiChat => CHAT,
            Dialect::OpenAiResponses => RESPONSES,
        };
        let is_of = |list: &str, name: &str| list.split(' ').any(|one| one == name);
        // A null is as good as nothing to all of them.
        body.retain(|name, value| !is_of(LEFT_OUT, name) && !value.is_null());
        if let Some(name) = body.keys().find(|name| !is_of(known, name)) {
            return Err(wrong(name, "is not passed on from sandboxes"));
        }
        if !body.get("model").is_some_and(Value::is_string) {
            return Err(wrong("model", "must be a text"));
        }
        let streams = match body.get("stream") {
            None => false,
            Some(Value::Bool(streams)) => *streams,
            Some(_) => return Err(wrong("stream", "must be true or false")),
        };
        let is_own = |kind: &str| {
            let mut own = OWN_TOOLS.iter();
            own.any(|own| kind == *own || (own.ends_with('_') && kind.starts_with(own)))
        };
        let tools = body.get("tools").and_then(Value::as_array);
        for tool in tools.into_iter().flatten() {
            if !tool
                .get("type")
                .is_none_or(|it| it.as_str().is_some_and(is_own))
            {
                return Err(wrong("tools", "has one that the provider would run"));
            }
        }
        let words = ["messages", "input", "system", "instructions"];
        if words.iter().filter_map(|name| body.get(*name)).any(refers) {
            return Err(wrong(
                "messages",
                "have something that the provider would fetch or has kept",
            ));
        }
        let usage = body.get("stream_options");
        let usage = usage.and_then(|options| options.get("include_usage"));
        Ok(Self {
            dialect,
            wants_usage: usage == Some(&Value::Bool(true)),
            betas: betas.filter(|betas| betas.len() <= BETAS_BYTES),
            streams,
            body,
        })
    }

    /// The model that the program asks for.
    #[must_use]
    pub fn model(&self) -> &str {
        let model = self.body.get("model").and_then(Value::as_str);
        model.unwrap_or_default()
    }

    /// Whether the answer is to be a stream of events.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.streams
    }

    fn asked(mut self, context: Context<'_>) -> Result<Asked, Error> {
        let body = &mut self.body;
        body.insert("model".to_owned(), context.model.into());
        match self.dialect {
            Dialect::OpenAiChat if self.streams => {
                // Some servers say what a stream has used only then.
                let options = body.entry("stream_options").or_insert_with(|| json!({}));
                *options = json!({"include_usage": true});
            }
            // Nothing of it stays there.
            Dialect::OpenAiResponses => {
                body.insert("store".to_owned(), false.into());
            }
            Dialect::OpenAiChat | Dialect::AnthropicMessages => {}
        }
        let written = serde_json::to_vec(body).map_err(|e| Error::Malformed {
            what: format!("it cannot be written as JSON: {e}"),
        })?;
        let mut headers = headers::of(context)?;
        if !self.streams {
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        }
        let betas = self.betas.and_then(|it| HeaderValue::from_str(&it).ok());
        if let Some(betas) = betas {
            headers.entry("anthropic-beta").or_insert(betas);
        }
        Ok(Asked {
            body: written,
            headers,
        })
    }
}

/// Whether the provider would fetch something for these words, or look up what it has kept. What a tool was called with is
/// the program's own.
fn refers(words: &Value) -> bool {
    match words {
        Value::Array(all) => all.iter().any(refers),
        Value::Object(all) => {
            let is_call = all.get("type").and_then(Value::as_str) == Some("tool_use");
            all.iter()
                .any(|(name, value)| match (name.as_str(), value) {
                    ("input", _) if is_call => false,
                    ("file_id" | "file_url" | "container_id", Value::String(_)) => true,
                    ("url" | "image_url", Value::String(url)) => !url.starts_with("data:"),
                    _ => refers(value),
                })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

impl Client {
    /// Asks `endpoint` what a program has written, and hands on what it answers, with our key taken out of it. Says what
    /// that has used. Cancel safe: yes, as [`Client::stream`].
    ///
    /// # Errors
    /// [`Failure`]: what failed and what it had cost. Pieces may have gone before it.
    pub async fn pass(
        &self,
        endpoint: &Endpoint,
        passing: Passing,
        cancel: &CancellationToken,
        hand_on: &mut (dyn FnMut(Piece) + Send),
    ) -> Result<Usage, Failure> {
        let model = passing.model().to_owned();
        let context = Context {
            endpoint,
            model: endpoint.provider_model(&model),
            path: path(endpoint.dialect),
        };
        let (dialect, streams) = (passing.dialect, passing.streams);
        let hides_usage = !passing.wants_usage;
        let asked = passing.asked(context).map_err(|error| Failure {
            error,
            partial_usage: Usage::default(),
        })?;
        if !streams {
            let body = self.ask_whole(context, asked, cancel).await?;
            let usage = usage_of(dialect, &body);
            hand_on(Piece::Whole(context.without_secrets(&body)));
            return Ok(usage);
        }
        let mut passer = Passer {
            inner: reader(dialect),
            context,
            hides_usage,
            passed: 0,
            is_done: false,
            hand_on,
        };
        self.ask(context, asked, &mut passer, cancel, &mut |_| {})
            .await?;
        let partial_usage = passer.usage();
        if passer.is_done {
            return Ok(partial_usage);
        }
        Err(Failure {
            error: context.cut(),
            partial_usage,
        })
    }
}

fn reader(dialect: Dialect) -> Box<dyn Reader> {
    match dialect {
        Dialect::AnthropicMessages => Box::new(anthropic_stream::Messages::default()),
        Dialect::OpenAiChat => Box::new(openai_chat_stream::Chat::default()),
        Dialect::OpenAiResponses => Box::new(openai_responses_stream::Responses::default()),
    }
}

/// What a whole answer says that it has used.
fn usage_of(dialect: Dialect, body: &str) -> Usage {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let usage = body.get("usage");
    match dialect {
        Dialect::AnthropicMessages => {
            let mut reader = anthropic_stream::Messages::default();
            reader.count(usage);
            reader.usage()
        }
        Dialect::OpenAiChat => {
            let mut reader = openai_chat_stream::Chat::default();
            reader.count(usage);
            reader.usage()
        }
        Dialect::OpenAiResponses => {
            let mut reader = openai_responses_stream::Responses::default();
            reader.count(usage);
            reader.usage()
        }
    }
}

/// Reads an answer and hands each event on.
struct Passer<'a> {
    inner: Box<dyn Reader>,
    context: Context<'a>,
    /// A chunk that has nothing but the usage is ours.
    hides_usage: bool,
    /// Bytes that were handed on.
    passed: usize,
    /// Its end was seen.
    is_done: bool,
    hand_on: &'a mut (dyn FnMut(Piece) + Send),
}

impl Passer<'_> {
    fn is_ours(&self, data: &str) -> bool {
        if !self.hides_usage || self.context.endpoint.dialect != Dialect::OpenAiChat {
            return false;
        }
        let chunk: Value = serde_json::from_str(data).unwrap_or_default();
        let choices = chunk.get("choices").and_then(Value::as_array);
        chunk.get("usage").is_some_and(Value::is_object) && choices.is_none_or(Vec::is_empty)
    }
}

impl Reader for Passer<'_> {
    fn event(&mut self, event: &Event, sink: Sink<'_>) -> Result<Flow, Trouble> {
        let flow = self.inner.event(event, sink)?;
        self.is_done = flow == Flow::Done;
        if self.is_ours(&event.data) {
            return Ok(flow);
        }
        // The parser has joined the lines of the data, which are JSON and so hold no line feed that matters.
        let data = self.context.without_secrets(&event.data.replace('\n', " "));
        let name = match event.name.as_str() {
            "" => String::new(),
            name => format!("event: {}\n", self.context.without_secrets(name)),
        };
        let text = format!("{name}data: {data}\n\n");
        self.passed += text.len();
        if self.passed > PASSED_BYTES {
            return Err(Trouble::TooLarge {
                what: "bytes",
                limit: PASSED_BYTES,
            });
        }
        (self.hand_on)(Piece::Event(text));
        Ok(flow)
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn finish(self: Box<Self>, _model: &str) -> Option<Reply> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dialect: Dialect, body: Value) -> Result<Passing, String> {
        let Value::Object(body) = body else {
            panic!("{body} is no object")
        };
        Passing::read(dialect, body, None).map_err(|refused| refused.to_string())
    }

    #[test]
    fn what_would_reach_something_through_the_provider_is_refused_by_its_field() {
        use Dialect::{AnthropicMessages as A, OpenAiChat as C, OpenAiResponses as R};
        let picture = |source: Value| json!([{"role": "user", "content": [{"type": "image", "source": source}]}]);
        for (dialect, field, value) in [
            (
                A,
                "tools",
                json!([{"type": "web_search_20250305", "name": "web_search"}]),
            ),
            (
                A,
                "tools",
                json!([{"type": "code_execution_20250825", "name": "x"}]),
            ),
            (A, "tools", json!([{"type": 1}])),
            (
                A,
                "mcp_servers",
                json!([{"type": "url", "url": "https://evil.test"}]),
            ),
            (A, "container", json!("c_1")),
            (
                A,
                "messages",
                picture(json!({"type": "url", "url": "https://evil.test/?it"})),
            ),
            (
                A,
                "messages",
                picture(json!({"type": "file", "file_id": "f_1"})),
            ),
            (C, "web_search_options", json!({})),
            (C, "n", json!(2)),
            (
                C,
                "messages",
                json!([{"content": [{"type": "image_url", "image_url": {"url": "https://evil.test"}}]}]),
            ),
            (
                R,
                "tools",
                json!([{"type": "mcp", "server_url": "https://evil.test"}]),
            ),
            (R, "tools", json!([{"type": "web_search"}])),
            (R, "previous_response_id", json!("r_1")),
            (R, "background", json!(true)),
            (
                R,
                "input",
                json!([{"content": [{"type": "input_image", "image_url": "https://evil.test"}]}]),
            ),
            (
                R,
                "input",
                json!([{"content": [{"type": "input_file", "file_url": "https://evil.test"}]}]),
            ),
        ] {
            let mut body = json!({"model": "m"});
            body[field] = value;
            let refused = read(dialect, body.clone())
                .err()
                .unwrap_or_else(|| panic!("{body} passes"));
            let named = if field == "input" { "messages" } else { field };
            assert!(refused.starts_with(&format!("`{named}`")), "{refused}");
        }
    }

    #[test]
    fn what_sdks_write_passes_and_who_asks_is_left_out() {
        use Dialect::{AnthropicMessages as A, OpenAiChat as C, OpenAiResponses as R};
        let call = json!([{"role": "assistant", "content": [{"type": "tool_use", "input": {"url": "https://a.test"}}]}]);
        for (dialect, body) in [
            (
                A,
                json!({"model": "m", "max_tokens": 1, "messages": call, "metadata": {"user_id": "u"}, "system": "s",
                "tools": [{"name": "t", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"}]}),
            ),
            (
                A,
                json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "image",
                "source": {"type": "base64", "data": "AA"}}]}]}),
            ),
            (
                C,
                json!({"model": "m", "messages": [], "user": "u", "n": null, "tools": [{"type": "function"}]}),
            ),
            (
                C,
                json!({"model": "m", "messages": [{"content": [{"type": "image_url",
                "image_url": {"url": "data:image/png;base64,AA"}}]}]}),
            ),
            (
                R,
                json!({"model": "m", "input": "hello", "store": true, "tools": [{"type": "custom", "name": "c"}]}),
            ),
        ] {
            let passing = read(dialect, body).unwrap();
            assert_eq!(passing.model(), "m");
            assert!(
                LEFT_OUT
                    .split(' ')
                    .all(|name| !passing.body.contains_key(name))
            );
        }
        assert!(read(A, json!({"messages": []})).is_err(), "no model");
        assert!(read(A, json!({"model": "m", "stream": "yes"})).is_err());
    }
}
