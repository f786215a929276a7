//! Turns what a provider or the network did into an [`Error`]. It owns scrubbing: no key and no more than
//! 2 KiB of a provider's words pass it.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::endpoint::Endpoint;
use crate::error::{Error, Phase};
use crate::limits::{ERROR_TEXT_BYTES, RETRY_AFTER};
use crate::stream::Trouble;

/// Shortest key that is scrubbed: a shorter one is no key and would make holes in ordinary words.
const SHORTEST_KEY: usize = 4;
/// Shortest header value that is scrubbed: most headers hold words, not secrets.
const SHORTEST_HEADER: usize = 8;

/// What an error about one request needs to know.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) endpoint: &'a Endpoint,
    /// The model id as sent.
    pub(crate) model: &'a str,
    /// The path as sent.
    pub(crate) path: &'static str,
}

impl Context<'_> {
    pub(crate) fn name(&self) -> String {
        self.endpoint.base_url.as_str().to_owned()
    }

    /// A provider's words, fit to be shown: keys and header values replaced, control characters gone, cut.
    pub(crate) fn scrub(&self, words: &str) -> String {
        let text = self.without_secrets(words);
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let text = text.trim();
        if text.len() <= ERROR_TEXT_BYTES {
            return text.to_owned();
        }
        let end = text.floor_char_boundary(ERROR_TEXT_BYTES - '…'.len_utf8());
        format!("{}…", text.get(..end).unwrap_or_default())
    }

    /// A text without the keys and header values that its sender was told.
    pub(crate) fn without_secrets(&self, words: &str) -> String {
        let mut text = words.to_owned();
        let mut remove = |secret: &str, shortest: usize| {
            if secret.len() >= shortest && text.contains(secret) {
                text = text.replace(secret, "[removed]");
            }
        };
        remove(self.endpoint.key.expose(), SHORTEST_KEY);
        for (_, value) in &self.endpoint.headers {
            remove(value, SHORTEST_HEADER);
            // "Bearer xyz": its last word alone is a secret too.
            remove(
                value.rsplit(' ').next().unwrap_or_default(),
                SHORTEST_HEADER,
            );
        }
        text
    }

    /// The answer ended before its end.
    pub(crate) fn cut(&self) -> Error {
        Error::Cut {
            endpoint: self.name(),
        }
    }

    pub(crate) fn garbage(&self, what: &str) -> Error {
        let dialect = self.endpoint.dialect.name();
        Error::Garbage {
            endpoint: self.name(),
            dialect,
            what: self.scrub(what),
        }
    }

    /// An answer that is no event stream. A gateway may put an error into it all the same.
    pub(crate) fn no_stream(&self, kind: &str, body: &[u8]) -> Error {
        let (kinds, words) = words_of_body(&String::from_utf8_lossy(body));
        let what = format!("content of type {kind} where an event stream was asked for");
        if kinds.iter().all(String::is_empty) {
            return self.garbage(&what);
        }
        self.garbage(&format!("{what}, which says: {words}"))
    }

    pub(crate) fn timeout(&self, phase: Phase, limit: Duration) -> Error {
        Error::Timeout {
            endpoint: self.name(),
            phase,
            limit,
        }
    }

    pub(crate) fn settings(&self, what: impl Into<String>) -> Error {
        Error::Settings {
            endpoint: self.name(),
            what: what.into(),
        }
    }

    /// The head of the answer never came.
    pub(crate) fn not_sent(&self, e: reqwest::Error, connect_limit: Duration) -> Error {
        let endpoint = self.name();
        match dial::find(&e) {
            Some(
                denied @ (dial::Error::Denied { .. }
                | dial::Error::Scheme { .. }
                | dial::Error::NoHost),
            ) => {
                return Error::Denied {
                    endpoint,
                    reason: denied.clone(),
                };
            }
            Some(dial::Error::Timeout { limit, .. }) => {
                return self.timeout(Phase::Connect, *limit);
            }
            Some(dial::Error::Unresolvable { .. }) | None => {}
        }
        if e.is_timeout() {
            return self.timeout(Phase::Connect, connect_limit);
        }
        if e.is_connect() {
            let reason = self.scrub(&innermost(&e));
            return Error::Connect {
                endpoint,
                reason,
                cause: e.without_url(),
            };
        }
        Error::Cut { endpoint }
    }

    /// The answer's status is not 200. `body` is the beginning of its body.
    pub(crate) fn status(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Error {
        let (kinds, words) = words_of_body(&String::from_utf8_lossy(body));
        self.by_status(status, &kinds, &words, retry_after(headers))
    }

    fn by_status(
        &self,
        status: u16,
        kinds: &[String; 2],
        words: &str,
        retry_after: Option<Duration>,
    ) -> Error {
        let endpoint = self.name();
        let message = self.scrub(words);
        if status == 413 || (matches!(status, 400 | 422) && is_too_long(kinds, words)) {
            return Error::TooLong { endpoint, message };
        }
        if status == 402 || ((400..500).contains(&status) && is_unpaid(kinds, words)) {
            return Error::Billing { endpoint, message };
        }
        match status {
            400 | 422 if is_unknown_model(kinds, words) => self.not_found(message),
            401 | 403 => self.auth(status, message),
            404 => self.not_found(message),
            429 => Error::RateLimited {
                endpoint,
                retry_after,
                message,
            },
            529 => Error::Overloaded {
                endpoint,
                retry_after,
                message,
            },
            408 | 409 | 500..=599 => Error::Server {
                endpoint,
                status: Some(status),
                retry_after,
                message,
            },
            400..=499 => Error::BadRequest {
                endpoint,
                status,
                message,
            },
            300..=399 => Error::Redirect { endpoint, status },
            _ => self.garbage(&format!("HTTP {status}")),
        }
    }

    fn auth(&self, status: u16, message: String) -> Error {
        let key_source = self.endpoint.key_source.clone();
        let header = self.endpoint.dialect.key_header();
        Error::Auth {
            endpoint: self.name(),
            status,
            header,
            key_source,
            message,
        }
    }

    fn not_found(&self, message: String) -> Error {
        let (model, path) = (self.model.to_owned(), self.path);
        Error::NotFound {
            endpoint: self.name(),
            model,
            path,
            message,
            models: String::new(),
        }
    }

    /// A reader objected in the middle of the stream.
    pub(crate) fn trouble(&self, trouble: Trouble) -> Error {
        let endpoint = self.name();
        let (kinds, words) = match trouble {
            Trouble::Garbage(what) => return self.garbage(&what),
            Trouble::TooLarge { what, limit } => {
                return Error::TooLarge {
                    endpoint,
                    what,
                    limit,
                };
            }
            Trouble::Provider { kinds, message } => (kinds, message),
        };
        let message = self.scrub(&words);
        if is_too_long(&kinds, &words) {
            return Error::TooLong { endpoint, message };
        }
        if is_unpaid(&kinds, &words) {
            return Error::Billing { endpoint, message };
        }
        let known = kinds.iter().find_map(|kind| match kind.as_str() {
            "overloaded_error" | "server_is_overloaded" | "slow_down" => Some(529),
            "rate_limit_error" | "rate_limit_exceeded" | "throttling_error" => Some(429),
            "authentication_error" | "invalid_api_key" => Some(401),
            "permission_error" => Some(403),
            "not_found_error" | "model_not_found" | "NotFoundError" => Some(404),
            "invalid_request_error" | "invalid_prompt" | "BadRequestError" => Some(400),
            // vLLM and LiteLLM put the status they would have had there.
            other => other.parse().ok().filter(|n| (400..600).contains(n)),
        });
        match known {
            Some(status) if status < 500 || status == 529 => {
                self.by_status(status, &kinds, &words, None)
            }
            _ => Error::Server {
                endpoint,
                status: None,
                retry_after: None,
                message,
            },
        }
    }
}

fn innermost(e: &reqwest::Error) -> String {
    let mut at: &dyn std::error::Error = e;
    while let Some(next) = at.source() {
        at = next;
    }
    match dial::find(e) {
        Some(named) => format!("{named} ({at})"),
        None => at.to_string(),
    }
}

/// Code, type and message of an error's body, else the text itself.
fn words_of_body(body: &str) -> ([String; 2], String) {
    let Ok(json) = serde_json::from_str::<Value>(body) else {
        return (<[String; 2]>::default(), body.to_owned());
    };
    // OpenAI's and Anthropic's envelope; FastAPI's; vLLM's before 0.10, which is the error itself.
    let error = ["error", "detail"].iter().find_map(|key| json.get(*key));
    match words_of(error.unwrap_or(&json)) {
        (kinds, words) if words.is_empty() => (kinds, body.to_owned()),
        named => named,
    }
}

/// Code, type and message of an error object, or of whatever stands in its place.
pub(crate) fn words_of(error: &Value) -> ([String; 2], String) {
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let message = match error.get("message") {
        None => text(Some(error)),
        // LiteLLM: an error in the place of the message
        Some(inner @ Value::Object(_)) => text(inner.get("error").or_else(|| inner.get("message"))),
        message => text(message),
    };
    ([text(error.get("code")), text(error.get("type"))], message)
}

/// How servers say that they have no such model where they do not answer 404.
fn is_unknown_model(kinds: &[String; 2], words: &str) -> bool {
    const WORDS: [&str; 4] = [
        // LiteLLM: "/chat/completions: Invalid model name passed in model=x. Call `/v1/models` to view …"
        "invalid model name",
        // OpenRouter: "x is not a valid model ID"
        "is not a valid model id",
        "model not found",
        "unknown model",
    ];
    let words = words.to_ascii_lowercase();
    has_one_of(kinds, &["model_not_found"]) || WORDS.iter().any(|known| words.contains(known))
}

/// How the providers of both dialects say that a request does not fit: by a code, or else in words.
/// Anthropic has no code of its own for it; servers of the OpenAI dialect agree on neither.
fn is_too_long(kinds: &[String; 2], words: &str) -> bool {
    const CODES: [&str; 4] = [
        "context_length_exceeded",
        "exceed_context_size_error",
        "request_too_large",
        "model_context_window_exceeded",
    ];
    const WORDS: [&str; 8] = [
        // Anthropic: "prompt is too long: 208310 tokens > 200000 maximum"
        "prompt is too long",
        // Anthropic: "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000"
        "exceed context limit",
        // OpenAI, vLLM: "This model's maximum context length is 16384 tokens. However, you requested …"
        "maximum context length",
        "context length exceeded",
        // llama.cpp: "the request exceeds the available context size"
        "available context size",
        "exceeds the context window",
        "exceed context window",
        // Gemini behind the OpenAI dialect: "The input token count (…) exceeds the maximum number of …"
        "exceeds the maximum number of tokens",
    ];
    let words = words.to_ascii_lowercase();
    has_one_of(kinds, &CODES) || WORDS.iter().any(|known| words.contains(known))
}

fn has_one_of(kinds: &[String; 2], known: &[&str]) -> bool {
    kinds.iter().any(|kind| known.contains(&kind.as_str()))
}

/// How providers say that nobody pays for the request. Waiting does not help, whatever the status.
fn is_unpaid(kinds: &[String; 2], words: &str) -> bool {
    const CODES: [&str; 4] = [
        "billing_error",
        "insufficient_quota",
        "billing_hard_limit_reached",
        // LiteLLM's own budget for a key
        "budget_exceeded",
    ];
    has_one_of(kinds, &CODES)
        || words
            .to_ascii_lowercase()
            .contains("credit balance is too low")
}

/// Seconds or milliseconds; the date form needs a clock and is rare with model providers.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str, unit: f64| -> Option<Duration> {
        let value: f64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
        Duration::try_from_secs_f64(value * unit).ok()
    };
    let wait = number("retry-after-ms", 0.001).or_else(|| number("retry-after", 1.0))?;
    Some(wait.min(RETRY_AFTER))
}
