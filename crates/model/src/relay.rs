//! A model request that somebody else has written: a loop that is not ours, whose words we pass on under our key. It
//! owns what of such a request reaches the provider, and must never let it choose the model, the key or the endpoint.

use reqwest::header::HeaderValue;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::anthropic_request;
use crate::anthropic_stream::Messages;
use crate::catalog::Quirks;
use crate::client::{Asked, path};
use crate::endpoint::{Dialect, Endpoint};
use crate::error::{Error, Failure};
use crate::headers;
use crate::judge::Context;
use crate::limits::BETAS_BYTES;
use crate::request::Effort;
use crate::sse::Event;
use crate::stream::{Flow, Reader, Trouble};
use crate::transcript::{Message, Reply, Usage};
use crate::{Client, Sink};

/// The fields of a request that are passed on, as the provider knows them. What identifies a user or an account of
/// the loop's maker (`metadata`) is not among them.
const PASSED: [&str; 13] = [
    "context_management",
    "max_tokens",
    "messages",
    "output_config",
    "speed",
    "stop_sequences",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];

/// A request in the words of Anthropic Messages.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// The body; fields that are not known are left out, `model` and `stream` are ours.
    pub body: Map<String, Value>,
    /// The value of `anthropic-beta`, if there was one.
    pub betas: Option<String>,
    /// How hard the model should try, whatever the body says of it.
    pub effort: Option<Effort>,
}

/// An answer, whole: as we read it, and as it came.
#[derive(Debug)]
pub struct Relayed {
    /// What it means.
    pub reply: Reply,
    /// The event stream as the provider wrote it, its pings left out.
    pub stream: String,
}

/// A transcript in the words of Anthropic Messages: `role` and `content` by turns.
#[must_use]
pub fn anthropic_messages(messages: &[Message]) -> Vec<Value> {
    anthropic_request::messages(messages)
}

impl Client {
    /// Asks `endpoint`, of the dialect Anthropic Messages, for the agent's `model` in these words. As
    /// [`Client::stream`], also in being cancel safe.
    ///
    /// # Errors
    /// [`Failure`]: what failed and what it had cost.
    pub async fn relay(
        &self,
        endpoint: &Endpoint,
        model: &str,
        words: Words,
        cancel: &CancellationToken,
        sink: Sink<'_>,
    ) -> Result<Relayed, Failure> {
        let context = Context {
            endpoint,
            model: endpoint.provider_model(model),
            path: path(endpoint.dialect),
        };
        let fail = |error| Failure {
            error,
            partial_usage: Usage::default(),
        };
        if endpoint.dialect != Dialect::AnthropicMessages {
            let what = format!("it speaks {}", endpoint.dialect.name());
            return Err(fail(Error::Malformed { what }));
        }
        let asked = asked(context, words, self.quirks(context.model)).map_err(fail)?;
        let mut reader = Recorder::default();
        self.ask(context, asked, &mut reader, cancel, sink).await?;
        let Recorder { inner, stream } = reader;
        let partial_usage = inner.usage();
        let reply = Box::new(inner).finish(context.model);
        let reply = reply.ok_or_else(|| Failure {
            error: context.cut(),
            partial_usage,
        })?;
        Ok(Relayed { reply, stream })
    }
}

fn asked(context: Context<'_>, words: Words, quirks: Quirks) -> Result<Asked, Error> {
    let mut body = words.body;
    body.retain(|name, _| PASSED.contains(&name.as_str()));
    // A model that knows no effort refuses it.
    if let Some(output) = body.get_mut("output_config").and_then(Value::as_object_mut) {
        output.remove("effort");
        if output.is_empty() {
            body.remove("output_config");
        }
    }
    if let Some(effort) = words.effort.filter(|_| quirks.effort) {
        let output = body.entry("output_config").or_insert_with(|| json!({}));
        output["effort"] = effort.name().into();
    }
    body.insert("model".to_owned(), context.model.into());
    body.insert("stream".to_owned(), true.into());
    let body = serde_json::to_vec(&body).map_err(|e| Error::Malformed {
        what: format!("it cannot be written as JSON: {e}"),
    })?;
    let mut headers = headers::of(context)?;
    let betas = words.betas.filter(|betas| betas.len() <= BETAS_BYTES);
    let betas = betas.and_then(|betas| HeaderValue::from_str(&betas).ok());
    if let Some(betas) = betas {
        // What the endpoint's settings say of it stands.
        headers.entry("anthropic-beta").or_insert(betas);
    }
    Ok(Asked { body, headers })
}

/// Reads an answer and keeps it as it came.
#[derive(Default)]
struct Recorder {
    inner: Messages,
    stream: String,
}

impl Reader for Recorder {
    fn event(&mut self, event: &Event, sink: Sink<'_>) -> Result<Flow, Trouble> {
        let flow = self.inner.event(event, sink)?;
        if event.name != "ping" {
            // The parser has joined the lines of the data, which are JSON and so hold no line feed that matters.
            let data = event.data.replace('\n', " ");
            let name = &event.name;
            self.stream
                .push_str(&format!("event: {name}\ndata: {data}\n\n"));
        }
        Ok(flow)
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn finish(self: Box<Self>, model: &str) -> Option<Reply> {
        Box::new(self.inner).finish(model)
    }
}
