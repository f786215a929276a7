//! Which model a session talks to: its LLM vault's, else the operator's default. Resolved at the start of
//! each turn, so that a rotated key is used by the next.

use model::{BaseUrl, Dialect, Endpoint, KeySource, Origin, Secret};
use store::sessions::SessionRow;
use vault::llm::{Api, LlmVault};

use crate::Inner;

const NONE: &str = "no model is configured for this session: attach an LLM vault when creating a session, or start the server with ANTHROPIC_API_KEY or OPENAI_API_KEY set";

/// The session's endpoint, or why there is none, in words for its owner.
pub(crate) async fn of(inner: &Inner, row: &SessionRow) -> Result<Endpoint, String> {
    let vaults = inner
        .store
        .vault_views(row.workspace, row.vault_ids.clone())
        .await;
    let vaults = match vaults {
        Ok(vaults) => vaults,
        // A vault that was deleted takes its key along; what the session has left is the default.
        Err(store::Error::NotFound(thing)) => return Err(format!("{thing} was deleted; {NONE}")),
        Err(error) => return Err(error.to_string()),
    };
    match vault::llm::resolve(&vaults) {
        Ok(Some(chosen)) => from_vault(inner, chosen),
        Ok(None) => inner.endpoint.clone().ok_or_else(|| NONE.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn from_vault(inner: &Inner, chosen: LlmVault) -> Result<Endpoint, String> {
    let dialect = match chosen.api {
        Api::Anthropic => Dialect::AnthropicMessages,
        Api::OpenaiChat => Dialect::OpenAiChat,
        Api::OpenaiResponses => {
            return Err(format!(
                "LLM vault {}: `longhand.llm_api` openai_responses is not implemented yet; use openai_chat",
                chosen.vault
            ));
        }
    };
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
