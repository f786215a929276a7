//! Asks an endpoint which models it has, to name them in an error. It must never make a request fail, nor
//! hold one up for long.

use reqwest::Client;
use serde::Deserialize;

use crate::endpoint::Dialect;
use crate::headers;
use crate::judge::Context;
use crate::limits::{MODELS_BYTES, MODELS_SHOWN, MODELS_TIME};

/// The list of either family; vLLM, Ollama and LiteLLM have OpenAI's.
#[derive(Deserialize)]
struct List {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
}

/// The ids of the endpoint's models in one line, at most [`MODELS_SHOWN`] and how many more there are; empty
/// if it does not tell within [`MODELS_TIME`].
pub(crate) async fn of(context: Context<'_>, client: &Client) -> String {
    let asked = tokio::time::timeout(MODELS_TIME, ask(context, client)).await;
    let ids = asked.ok().flatten().unwrap_or_default();
    let shown = ids.iter().take(MODELS_SHOWN).map(String::as_str);
    let shown = shown.collect::<Vec<_>>().join(", ");
    let more = match ids.len().saturating_sub(MODELS_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    context.scrub(&(shown + &more))
}

async fn ask(context: Context<'_>, client: &Client) -> Option<Vec<String>> {
    let path = match context.endpoint.dialect {
        Dialect::AnthropicMessages => "/v1/models",
        Dialect::OpenAiChat | Dialect::OpenAiResponses => "/models",
    };
    let request = client
        .get(context.endpoint.base_url.join(path))
        .headers(headers::of(context).ok()?);
    let mut response = request.send().await.ok()?;
    if response.status() != 200 {
        return None;
    }
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.ok()? {
        body.extend_from_slice(&bytes);
        if body.len() > MODELS_BYTES {
            return None;
        }
    }
    let list: List = serde_json::from_slice(&body).ok()?;
    Some(list.data.into_iter().map(|entry| entry.id).collect())
}
