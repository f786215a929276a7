//! Where a model is and with which key. It owns the key's bytes in memory and must never print them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

/// The wire protocol of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Anthropic Messages; in vault metadata `anthropic`.
    AnthropicMessages,
    /// OpenAI Chat Completions; in vault metadata `openai_chat`.
    OpenAiChat,
    /// OpenAI Responses; in vault metadata `openai_responses`.
    OpenAiResponses,
}

impl Dialect {
    /// Every dialect that is spoken.
    pub const ALL: [Dialect; 3] = [
        Dialect::AnthropicMessages,
        Dialect::OpenAiChat,
        Dialect::OpenAiResponses,
    ];

    /// The header that carries the key, lower case.
    #[must_use]
    pub fn key_header(self) -> &'static str {
        match self {
            Dialect::AnthropicMessages => "x-api-key",
            Dialect::OpenAiChat | Dialect::OpenAiResponses => "authorization",
        }
    }

    /// The word of `longhand.llm_api` for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Dialect::AnthropicMessages => "anthropic",
            Dialect::OpenAiChat => "openai_chat",
            Dialect::OpenAiResponses => "openai_responses",
        }
    }

    /// The dialect of that word; `None` for any other word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|d| d.name() == name)
    }
}

/// A model key. It has no `Debug`, `Display` or `Serialize`, and is wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the key over. Surrounding white space is removed: a pasted newline would break the header.
    #[must_use]
    pub fn new(key: String) -> Secret {
        let key = Zeroizing::new(key);
        Secret(Zeroizing::new(key.trim().to_owned()))
    }

    /// The key's text, for the one place that sets the header and the one that scrubs error texts.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// Where a key came from, in words that may be shown: `vault vlt_… credential vcrd_…` or
/// `ANTHROPIC_API_KEY`. Never the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource(pub String);

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who named the endpoint, and so how it is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The operator: exempt from the always-denied set.
    Operator,
    /// A tenant: dialled under the always-denied set.
    Tenant,
}

/// A provider's base URL: http or https, with a host, without userinfo, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Url);

/// Why a text is no base URL.
#[derive(Debug, thiserror::Error)]
pub enum BaseUrlError {
    /// It does not parse.
    #[error("is not a URL")]
    Syntax(#[source] url::ParseError),
    /// Neither http nor https.
    #[error("must begin with https:// or http://, not {scheme}:")]
    Scheme {
        /// What it begins with.
        scheme: String,
    },
    /// A user name or password in it.
    #[error("must not hold a user name or password")]
    Userinfo,
    /// A query or fragment in it.
    #[error("must not hold a query or fragment")]
    Query,
    /// No host.
    #[error("has no host")]
    Host,
}

impl BaseUrl {
    /// Reads and checks a base URL.
    ///
    /// # Errors
    /// [`BaseUrlError`] says what is wrong; its texts complete the sentence "the base URL …".
    pub fn parse(text: &str) -> Result<BaseUrl, BaseUrlError> {
        let url = Url::parse(text.trim()).map_err(BaseUrlError::Syntax)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BaseUrlError::Scheme {
                scheme: url.scheme().to_owned(),
            });
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BaseUrlError::Userinfo);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BaseUrlError::Query);
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(BaseUrlError::Host);
        }
        Ok(BaseUrl(url))
    }

    /// The base URL with `path` (leading slash) appended after its own path.
    #[must_use]
    pub(crate) fn join(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        let joined = format!("{}{path}", self.0.path().trim_end_matches('/'));
        url.set_path(&joined);
        url
    }

    /// The text without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place that answers model requests.
#[derive(Clone)]
pub struct Endpoint {
    /// Its protocol.
    pub dialect: Dialect,
    /// Its base URL; Anthropic gets `/v1/messages` appended, OpenAI Chat `/chat/completions`,
    /// OpenAI Responses `/responses`.
    pub base_url: BaseUrl,
    /// The key, sent as [`Dialect::key_header`].
    pub key: Secret,
    /// Where the key came from.
    pub key_source: KeySource,
    /// Further headers, name and value. The key's header, `host` and framing headers are refused.
    pub headers: Vec<(String, String)>,
    /// The agent's model id → the provider's; ids that are absent go as they are.
    pub model_map: BTreeMap<String, String>,
    /// Who named it.
    pub origin: Origin,
}

impl Endpoint {
    /// The provider's id for the agent's model id.
    #[must_use]
    pub fn provider_model<'a>(&'a self, model: &'a str) -> &'a str {
        self.model_map.get(model).map_or(model, String::as_str)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(n, _)| n.as_str()).collect();
        f.debug_struct("Endpoint")
            .field("dialect", &self.dialect)
            .field("base_url", &self.base_url.as_str())
            .field("key_source", &self.key_source)
            .field("headers", &names)
            .field("model_map", &self.model_map)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}
