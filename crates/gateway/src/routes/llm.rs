//! Which model provider a new session's vaults choose, as far as it can be known before the first turn:
//! a session that could never run is not made. It opens no secret.

use contract::error::ApiError;
use store::vaults::VaultView;
use vault::llm::{self, Api, Harness, LlmVault};

/// Checks the LLM vault among a session's vaults, if there is one.
///
/// # Errors
/// 400 naming the vaults and the metadata key: two of them, an incomplete one, or one that needs what
/// this build does not have.
pub(super) fn check(vaults: &[VaultView]) -> Result<(), ApiError> {
    let chosen = llm::resolve(vaults).map_err(|error| ApiError::invalid(error.to_string()))?;
    match chosen {
        Some(chosen) => built(&chosen),
        None => Ok(()),
    }
}

fn built(chosen: &LlmVault) -> Result<(), ApiError> {
    let vault = chosen.vault;
    let unbuilt = |key: &str, what: &str| {
        let what = format!("{what} is not supported by this build (LLM vault {vault})");
        Err(ApiError::unbuilt(key, &what))
    };
    match (chosen.harness, chosen.api) {
        (Harness::Claude, _) => unbuilt("longhand.harness", "the harness `claude`"),
        (Harness::Codex, _) => unbuilt("longhand.harness", "the harness `codex`"),
        (Harness::Native, Api::OpenaiResponses) => {
            unbuilt("longhand.llm_api", "the dialect `openai_responses`")
        }
        (Harness::Native, Api::Anthropic | Api::OpenaiChat) => Ok(()),
    }
}
