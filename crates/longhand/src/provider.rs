//! The operator's default model endpoint, from the variables every SDK knows. An operator's URL is
//! exempt from guarded dialling.

use std::sync::Arc;

use anyhow::Context;
use model::{BaseUrl, Catalog, Dialect, Endpoint, KeySource, Origin, Secret};

use crate::config::Model;

const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";
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

/// The operator's default, if the environment names one. Both keys set: the one that `model.api` wants, else
/// Anthropic's, and it is said.
///
/// # Errors
/// A base URL that is none, or an API that is none or has no key; the text names the variable or setting.
pub fn from_environment(settings: &Model) -> anyhow::Result<Option<Endpoint>> {
    let (anthropic, openai) = (variable(ANTHROPIC.0), variable(OPENAI.0));
    let wanted = settings.api.as_deref().map(api).transpose()?;
    if anthropic.is_some() && openai.is_some() && wanted.is_none() {
        tracing::warn!(
            "both ANTHROPIC_API_KEY and OPENAI_API_KEY are set: sessions without an LLM vault use the first; `model.api` chooses"
        );
    }
    let dialect = match (wanted, &anthropic, &openai) {
        (Some(wanted), _, _) => wanted,
        (None, Some(_), _) => Dialect::AnthropicMessages,
        (None, None, Some(_)) => Dialect::OpenAiChat,
        (None, None, None) => return Ok(None),
    };
    let (key, names) = match dialect {
        Dialect::AnthropicMessages => (anthropic, ANTHROPIC),
        Dialect::OpenAiChat | Dialect::OpenAiResponses => (openai, OPENAI),
    };
    let key = key.with_context(|| {
        format!(
            "`model.api` is {:?}, which needs {} to be set",
            dialect.name(),
            names.0
        )
    })?;
    let url = variable(names.1).unwrap_or_else(|| names.2.to_owned());
    endpoint(dialect, &url, key, names.0, settings)
        .with_context(|| format!("the base URL in {}", names.1))
        .map(Some)
}

fn api(name: &str) -> anyhow::Result<Dialect> {
    Dialect::from_name(name).with_context(|| {
        let names = Dialect::ALL.map(Dialect::name).join(", ");
        format!("`model.api` is {name:?}; it may be one of {names}")
    })
}

/// The certificates of `model.ca_file`.
///
/// # Errors
/// The file cannot be read, or holds no certificate.
pub fn roots(settings: &Model) -> anyhow::Result<Vec<Vec<u8>>> {
    let Some(path) = &settings.ca_file else {
        return Ok(Vec::new());
    };
    let pem = std::fs::read(path)
        .with_context(|| format!("cannot read `model.ca_file` {}", path.display()))?;
    // A file without any would be read as an empty list.
    if !pem.windows(CERTIFICATE.len()).any(|at| at == CERTIFICATE) {
        anyhow::bail!(
            "`model.ca_file` {} holds no certificate in PEM",
            path.display()
        );
    }
    Ok(vec![pem])
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

/// The client of all model providers, which dials a tenant's only where the operator lets it.
///
/// # Errors
/// The TLS roots of this system, those of `model.ca_file`, or `egress.allow_private` cannot be read.
pub fn client(
    config: &crate::config::Config,
    catalog: Arc<Catalog>,
) -> anyhow::Result<model::Client> {
    let allow_private = crate::egress::nets(&config.egress.allow_private)?;
    model::Client::new(model::ClientConfig {
        policy: dial::Policy { allow_private },
        extra_roots_pem: roots(&config.model)?,
        catalog,
        ..Default::default()
    })
    .context("the TLS roots of this system, or those of `model.ca_file`, cannot be loaded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_that_is_none_is_named_with_those_that_exist() {
        let error = api("openai").unwrap_err().to_string();
        for part in ["model.api", "\"openai\"", "anthropic", "openai_responses"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(api("openai_chat").unwrap(), Dialect::OpenAiChat);
    }

    #[test]
    fn a_ca_file_that_is_missing_or_holds_no_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let settings = Model {
            ca_file: Some(path.clone()),
            ..Model::default()
        };
        let error = format!("{:#}", roots(&settings).unwrap_err());
        assert!(
            error.contains("model.ca_file") && error.contains("ca.pem"),
            "{error}"
        );
        std::fs::write(&path, "-----BEGIN PRIVATE KEY-----").unwrap();
        let error = roots(&settings).unwrap_err().to_string();
        assert!(error.contains("holds no certificate"), "{error}");
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n").unwrap();
        assert_eq!(roots(&settings).unwrap().len(), 1);
        assert!(roots(&Model::default()).unwrap().is_empty());
    }
}
