//! The operator's default model endpoint, from the variables every SDK knows. An operator's URL is
//! exempt from guarded dialling.

use anyhow::Context;
use model::{BaseUrl, Dialect, Endpoint, KeySource, Origin, Secret};

use crate::config::Model;

const ANTHROPIC: (&str, &str, &str) = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "https://api.anthropic.com",
);
const OPENAI: (&str, &str, &str) = (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "https://api.openai.com/v1",
);

/// The operator's default, if the environment names one. Both keys set: Anthropic's, and it is said.
///
/// # Errors
/// A base URL that is none; the text names its variable.
pub fn from_environment(settings: &Model) -> anyhow::Result<Option<Endpoint>> {
    let anthropic = variable(ANTHROPIC.0);
    let openai = variable(OPENAI.0);
    if anthropic.is_some() && openai.is_some() {
        tracing::warn!(
            "both ANTHROPIC_API_KEY and OPENAI_API_KEY are set: sessions without an LLM vault use the first"
        );
    }
    let (key, dialect, names) = match (anthropic, openai) {
        (Some(key), _) => (key, Dialect::AnthropicMessages, ANTHROPIC),
        (None, Some(key)) => (key, Dialect::OpenAiChat, OPENAI),
        (None, None) => return Ok(None),
    };
    let url = variable(names.1).unwrap_or_else(|| names.2.to_owned());
    endpoint(dialect, &url, key, names.0, settings)
        .with_context(|| format!("the base URL in {}", names.1))
        .map(Some)
}

/// The scripted model of the demo.
///
/// # Errors
/// Its URL is none.
pub fn scripted(url: &str) -> anyhow::Result<Endpoint> {
    let key = "the scripted model takes any key".to_owned();
    endpoint(
        Dialect::AnthropicMessages,
        url,
        key,
        "the demo",
        &Model::default(),
    )
}

fn endpoint(
    dialect: Dialect,
    url: &str,
    key: String,
    source: &str,
    settings: &Model,
) -> anyhow::Result<Endpoint> {
    let headers = settings
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()));
    Ok(Endpoint {
        dialect,
        base_url: BaseUrl::parse(url)?,
        key: Secret::new(key),
        key_source: KeySource(source.to_owned()),
        headers: headers.collect(),
        model_map: settings.map.clone(),
        origin: Origin::Operator,
    })
}

#[allow(clippy::disallowed_methods)] // the binary is where the environment is read
fn variable(name: &str) -> Option<String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
}
