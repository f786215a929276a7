//! Which model a session talks to: its LLM vault's, else the operator's default. Resolved at the start of
//! each turn, so that a rotated key is used by the next.

use std::sync::Arc;

use harness::Harness;
use model::{BaseUrl, Dialect, Endpoint, KeySource, Origin, Secret};
use store::Store;
use store::sessions::SessionRow;
use vault::llm::{self, Api, LlmVault};

use crate::Inner;

const NONE: &str = "no model is configured for this session: attach an LLM vault when creating a session, or start the server with ANTHROPIC_API_KEY or OPENAI_API_KEY set";

/// Why a session has no endpoint.
pub(crate) enum NoEndpoint {
    /// In words for its owner, who can mend it.
    Unusable(String),
    /// It could not be read now.
    Unread(store::Error),
}

/// What runs a session's turns, and where its models are.
pub(crate) struct Chosen {
    pub(crate) harness: Arc<dyn Harness>,
    pub(crate) endpoint: Endpoint,
}

/// What the session's vaults choose, or the operator's defaults.
pub(crate) async fn of(inner: &Inner, row: &SessionRow) -> Result<Chosen, NoEndpoint> {
    let vaults = inner
        .store
        .vault_views(row.workspace, row.vault_ids.clone())
        .await;
    let vaults = match vaults {
        Ok(vaults) => vaults,
        // A vault that was deleted takes its key along; what the session has left is the default.
        Err(store::Error::NotFound(thing)) => {
            let text = format!("{thing} was deleted; {NONE}");
            return Err(NoEndpoint::Unusable(text));
        }
        Err(error) => return Err(NoEndpoint::Unread(error)),
    };
    let chosen = match vault::llm::resolve(&vaults) {
        Ok(Some(chosen)) => harness(inner, chosen.harness).and_then(|harness| {
            let endpoint = from_vault(inner, chosen)?;
            Ok(Chosen { harness, endpoint })
        }),
        Ok(None) => {
            let endpoint = inner.endpoint.clone().ok_or_else(|| NONE.to_owned());
            let harness = Arc::clone(&inner.harness);
            endpoint.map(|endpoint| Chosen { harness, endpoint })
        }
        Err(error) => Err(error.to_string()),
    };
    chosen.map_err(NoEndpoint::Unusable)
}

/// What the model of the session's LLM vault speaks: none if it has no such vault, and nothing in it if that cannot be used.
///
/// # Errors
/// The store cannot be read now.
pub(crate) async fn dialect(
    store: &Store,
    row: &SessionRow,
) -> Result<Option<Option<Dialect>>, store::Error> {
    match store
        .vault_views(row.workspace, row.vault_ids.clone())
        .await
    {
        Ok(vaults) => match vault::llm::resolve(&vaults) {
            Ok(chosen) => Ok(chosen.map(|chosen| Some(spoken(chosen.api)))),
            Err(_) => Ok(Some(None)),
        },
        Err(store::Error::NotFound(_)) => Ok(Some(None)),
        Err(error) => Err(error),
    }
}

const fn spoken(api: Api) -> Dialect {
    match api {
        Api::Anthropic => Dialect::AnthropicMessages,
        Api::OpenaiChat => Dialect::OpenAiChat,
        Api::OpenaiResponses => Dialect::OpenAiResponses,
    }
}

fn harness(inner: &Inner, named: llm::Harness) -> Result<Arc<dyn Harness>, String> {
    let name = named.name();
    let mut all = std::iter::once(&inner.harness).chain(&inner.others);
    let found = all.find(|harness| harness.name() == name);
    // What is tested under a name of its own stands for ours.
    let found = found.or((named == llm::Harness::Native).then_some(&inner.harness));
    found
        .cloned()
        .ok_or_else(|| format!("the harness `{name}` is not part of this server"))
}

fn from_vault(inner: &Inner, chosen: LlmVault) -> Result<Endpoint, String> {
    let dialect = spoken(chosen.api);
    let base_url = BaseUrl::parse(&chosen.base_url).map_err(|problem| {
        format!(
            "LLM vault {}: `longhand.llm_base_url` {problem}",
            chosen.vault
        )
    })?;
    let key_source = KeySource(chosen.key_source());
    let key = inner.vault.open_llm_key(&chosen.key);
    let key = key.map_err(|_| format!("the secret of {key_source} cannot be decrypted"))?;
    Ok(Endpoint {
        dialect,
        base_url,
        key: Secret::new(key.expose().to_owned()),
        key_source,
        headers: chosen.headers.into_iter().collect(),
        model_map: chosen.model_map,
        origin: Origin::Tenant,
    })
}
