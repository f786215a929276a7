//! Which model provider a session's vaults choose (the LLM vault). Pure: it reads rows and opens no
//! secret. Every error names the vault and the metadata key.

use std::collections::BTreeMap;

use contract::ids::{CredentialId, VaultId, WorkspaceId};
use contract::secret::Secret;
use store::vaults::{CredentialKind, Sealed, VaultView};

use crate::crypt::OpenError;
use crate::handle::Vault;

/// Which harness runs the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harness {
    /// Ours, resident.
    Native,
    /// Claude's, in the sandbox.
    Claude,
    /// Codex's, in the sandbox.
    Codex,
}

impl Harness {
    /// What selects it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Claude => "claude",
            Self::Codex => "codex",
        }
    }
}

/// Which dialect the provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Anthropic Messages: the base URL gets `/v1/messages`, the key goes as `x-api-key`.
    Anthropic,
    /// OpenAI Responses: the base URL includes the version and gets `/responses`; a bearer token.
    OpenaiResponses,
    /// OpenAI Chat Completions: the base URL includes the version and gets `/chat/completions`; a
    /// bearer token.
    OpenaiChat,
}

/// The provider that an LLM vault chooses.
#[derive(Debug, Clone)]
pub struct LlmVault {
    /// The vault.
    pub vault: VaultId,
    /// Which harness runs the loop.
    pub harness: Harness,
    /// Which dialect.
    pub api: Api,
    /// Where, without a slash at the end. A tenant's URL: it is dialled under the always-denied set.
    pub base_url: String,
    /// The key, still sealed.
    pub key: SealedKey,
    /// The agent's model to the provider's.
    pub model_map: BTreeMap<String, String>,
    /// Headers for every request.
    pub headers: BTreeMap<String, String>,
}

/// A model key, sealed, with the row it opens in.
#[derive(Debug, Clone)]
pub struct SealedKey {
    /// The workspace of the vault.
    pub workspace: WorkspaceId,
    /// The credential.
    pub credential: CredentialId,
    /// Its secret.
    pub sealed: Sealed,
}

impl LlmVault {
    /// The model that the provider is asked for.
    #[must_use]
    pub fn model<'a>(&'a self, agents: &'a str) -> &'a str {
        self.model_map.get(agents).map_or(agents, String::as_str)
    }

    /// Where the key comes from, for messages to people: never the key.
    #[must_use]
    pub fn key_source(&self) -> String {
        format!("credential {} of vault {}", self.key.credential, self.vault)
    }
}

impl Vault {
    /// Opens the model key of an LLM vault.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_llm_key(&self, key: &SealedKey) -> Result<Secret, OpenError> {
        let opened = self.open_credential(key.workspace, key.credential, &key.sealed)?;
        Ok(opened.token)
    }
}

/// Why the vaults choose no provider although they mean to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LlmVaultError {
    /// Two of them want to.
    #[error("vaults {first} and {second} are both LLM vaults; a session takes one")]
    Two {
        /// One.
        first: VaultId,
        /// The other.
        second: VaultId,
    },
    /// A key that must be there is not.
    #[error("LLM vault {vault}: metadata `{key}` is missing")]
    Missing {
        /// The vault.
        vault: VaultId,
        /// The metadata key.
        key: &'static str,
    },
    /// A value is not what it should be.
    #[error("LLM vault {vault}: metadata `{key}` {problem}")]
    Invalid {
        /// The vault.
        vault: VaultId,
        /// The metadata key.
        key: String,
        /// What is wrong with its value.
        problem: String,
    },
    /// It holds not exactly one key.
    #[error(
        "LLM vault {vault} holds {found} active `static_bearer` credentials; it needs exactly one, the model key"
    )]
    Keys {
        /// The vault.
        vault: VaultId,
        /// How many.
        found: usize,
    },
}

const ROLE: &str = "longhand.role";
const HARNESS: &str = "longhand.harness";
const API: &str = "longhand.llm_api";
const BASE_URL: &str = "longhand.llm_base_url";
const MODEL_MAP: &str = "longhand.llm_model_map";
const HEADERS: &str = "longhand.llm_headers";
const KNOWN: [&str; 6] = [ROLE, HARNESS, API, BASE_URL, MODEL_MAP, HEADERS];

const ALIAS_ROLE: &str = "sandbox0.managed_agents.role";
const ALIAS_ENGINE: &str = "sandbox0.managed_agents.engine";
const ALIAS_BASE_URL: &str = "sandbox0.managed_agents.llm_base_url";

/// True if this metadata makes a vault an LLM vault: there, and only there, a `static_bearer` needs no
/// `mcp_server_url`.
#[must_use]
pub fn is_llm(metadata: &BTreeMap<String, String>) -> bool {
    [ROLE, ALIAS_ROLE]
        .iter()
        .any(|key| metadata.get(*key).is_some_and(|v| v == "llm"))
}

/// The provider that these vaults choose, if one of them is an LLM vault.
///
/// # Errors
/// [`LlmVaultError`].
pub fn resolve(vaults: &[VaultView]) -> Result<Option<LlmVault>, LlmVaultError> {
    let mut found: Option<&VaultView> = None;
    for view in vaults {
        let metadata = &view.vault.metadata;
        if let Some(role) = metadata.get(ROLE).filter(|role| *role != "llm") {
            return Err(invalid(
                view,
                ROLE,
                format!("is `{role}`; the only role is `llm`"),
            ));
        }
        if !is_llm(metadata) {
            continue;
        }
        // The same vault named twice is still one.
        if let Some(first) = found.filter(|first| first.vault.id != view.vault.id) {
            return Err(LlmVaultError::Two {
                first: first.vault.id,
                second: view.vault.id,
            });
        }
        found = Some(view);
    }
    found.map(one).transpose()
}

fn invalid(view: &VaultView, key: &str, problem: impl Into<String>) -> LlmVaultError {
    LlmVaultError::Invalid {
        vault: view.vault.id,
        key: key.to_owned(),
        problem: problem.into(),
    }
}

fn one(view: &VaultView) -> Result<LlmVault, LlmVaultError> {
    let metadata = &view.vault.metadata;
    let stranger = metadata
        .keys()
        .find(|k| k.starts_with("longhand.") && !KNOWN.contains(&k.as_str()));
    if let Some(key) = stranger {
        return Err(invalid(view, key, "is not a key of an LLM vault"));
    }
    let (harness, implied) = harness(view)?;
    let api = match metadata.get(API).map(String::as_str) {
        None => implied,
        Some("anthropic") => Api::Anthropic,
        Some("openai_responses") => Api::OpenaiResponses,
        Some("openai_chat") => Api::OpenaiChat,
        Some(other) => {
            let problem =
                format!("is `{other}`; one of `anthropic`, `openai_responses`, `openai_chat`");
            return Err(invalid(view, API, problem));
        }
    };
    Ok(LlmVault {
        vault: view.vault.id,
        harness,
        api,
        base_url: base_url(view, api)?,
        key: key(view)?,
        model_map: model_map(view)?,
        headers: headers(view)?,
    })
}

/// The harness, and the dialect it speaks unless the vault says otherwise.
fn harness(view: &VaultView) -> Result<(Harness, Api), LlmVaultError> {
    let metadata = &view.vault.metadata;
    let is_alias = !metadata.contains_key(ROLE);
    match metadata.get(HARNESS).map(String::as_str) {
        Some("native") => return Ok((Harness::Native, Api::Anthropic)),
        Some("claude") => return Ok((Harness::Claude, Api::Anthropic)),
        Some("codex") => return Ok((Harness::Codex, Api::OpenaiResponses)),
        Some(other) => {
            let problem = format!("is `{other}`; one of `native`, `claude`, `codex`");
            return Err(invalid(view, HARNESS, problem));
        }
        None => {}
    }
    match metadata.get(ALIAS_ENGINE).map(String::as_str) {
        Some("claude") => Ok((Harness::Claude, Api::Anthropic)),
        Some("codex") => Ok((Harness::Codex, Api::OpenaiResponses)),
        Some("sandpi") => Ok((Harness::Native, Api::OpenaiChat)),
        Some(other) => {
            let problem = format!("is `{other}`; one of `claude`, `codex`, `sandpi`");
            Err(invalid(view, ALIAS_ENGINE, problem))
        }
        // The seed product's default.
        None if is_alias => Ok((Harness::Claude, Api::Anthropic)),
        // Ours, unless the vault asks for another.
        None => Ok((Harness::Native, Api::Anthropic)),
    }
}

fn base_url(view: &VaultView, api: Api) -> Result<String, LlmVaultError> {
    let metadata = &view.vault.metadata;
    let is_alias = !metadata.contains_key(ROLE);
    let (key, url) = match (metadata.get(BASE_URL), metadata.get(ALIAS_BASE_URL)) {
        (Some(url), _) => (BASE_URL, url.trim()),
        (None, Some(url)) => (ALIAS_BASE_URL, url.trim()),
        // Optional in the seed product.
        (None, None) if is_alias => match api {
            Api::Anthropic => (ALIAS_BASE_URL, "https://api.anthropic.com"),
            Api::OpenaiResponses | Api::OpenaiChat => (ALIAS_BASE_URL, "https://api.openai.com/v1"),
        },
        (None, None) => {
            return Err(LlmVaultError::Missing {
                vault: view.vault.id,
                key: BASE_URL,
            });
        }
    };
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err(invalid(
            view,
            key,
            "must start with `https://` or `http://`",
        ));
    };
    let host = rest.split('/').next().unwrap_or_default();
    if host.is_empty() || host.starts_with(':') {
        return Err(invalid(view, key, "has no host"));
    }
    if host.contains('@') {
        return Err(invalid(view, key, "must not hold a user or password"));
    }
    if rest
        .bytes()
        .any(|b| !b.is_ascii_graphic() || b"?#\\\"<>".contains(&b))
    {
        return Err(invalid(
            view,
            key,
            "must be a plain URL without query or fragment",
        ));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn key(view: &VaultView) -> Result<SealedKey, LlmVaultError> {
    let vault = view.vault.id;
    let active = || {
        let keys = view.credentials.iter();
        keys.filter(|c| c.kind == CredentialKind::StaticBearer && c.archived_at.is_none())
    };
    let mut keys = active();
    match (keys.next(), keys.next()) {
        (Some(row), None) => match &row.sealed {
            Some(sealed) => Ok(SealedKey {
                workspace: view.vault.workspace,
                credential: row.id,
                sealed: sealed.clone(),
            }),
            None => Err(LlmVaultError::Keys { vault, found: 0 }),
        },
        _ => {
            let found = active().count();
            Err(LlmVaultError::Keys { vault, found })
        }
    }
}

fn object(view: &VaultView, key: &str) -> Result<BTreeMap<String, String>, LlmVaultError> {
    let Some(text) = view.vault.metadata.get(key) else {
        return Ok(BTreeMap::new());
    };
    // The parser's words could quote the value, which may be what a user took for private.
    serde_json::from_str(text)
        .map_err(|_| invalid(view, key, "must be a JSON object of strings, as text"))
}

fn model_map(view: &VaultView) -> Result<BTreeMap<String, String>, LlmVaultError> {
    let map = object(view, MODEL_MAP)?;
    if map
        .iter()
        .any(|(from, to)| from.is_empty() || to.is_empty())
    {
        return Err(invalid(view, MODEL_MAP, "names an empty model"));
    }
    Ok(map)
}

/// Headers that we set or the connection needs: a vault may not.
const RESERVED: [&str; 12] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
];

fn headers(view: &VaultView) -> Result<BTreeMap<String, String>, LlmVaultError> {
    let mut headers = BTreeMap::new();
    for (name, value) in object(view, HEADERS)? {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(invalid(
                view,
                HEADERS,
                format!("names a malformed header `{name}`"),
            ));
        }
        let name = name.to_ascii_lowercase();
        if RESERVED.contains(&name.as_str()) {
            return Err(invalid(view, HEADERS, format!("may not set `{name}`")));
        }
        if !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return Err(invalid(
                view,
                HEADERS,
                format!("has a malformed value for `{name}`"),
            ));
        }
        headers.insert(name, value);
    }
    Ok(headers)
}
