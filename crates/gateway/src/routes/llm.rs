//! What a new session's vaults ask for, as far as it can be known before the first turn: a session that
//! could never run, or that would not get what it was promised, is not made. It opens no secret.

use crate::gateway::Installed;
use contract::agent::SessionAgent;
use contract::error::ApiError;
use store::vaults::{CredentialKind, VaultView};
use vault::llm::{self, Api, Harness, LlmVault};

/// Checks a session's vaults: the LLM vault, if there is one, and that no credential needs injection.
///
/// # Errors
/// 400 naming the vaults and the metadata key: two LLM vaults, an incomplete one, or one that needs what
/// this build does not have; 400 naming the vault whose environment variables nobody would inject.
pub(super) fn check(
    vaults: &[VaultView],
    agent: &SessionAgent,
    claude: Option<&Installed>,
) -> Result<(), ApiError> {
    for (index, view) in vaults.iter().enumerate() {
        if view
            .credentials
            .iter()
            .any(|c| c.kind == CredentialKind::EnvironmentVariable)
        {
            let what = format!(
                "injecting the environment variables of vault {} is not supported by this build",
                view.vault.id
            );
            return Err(ApiError::unbuilt(&format!("vault_ids[{index}]"), &what));
        }
    }
    let chosen = llm::resolve(vaults).map_err(|error| ApiError::invalid(error.to_string()))?;
    match chosen {
        Some(chosen) => built(&chosen, agent, claude),
        None => Ok(()),
    }
}

fn built(
    chosen: &LlmVault,
    agent: &SessionAgent,
    claude: Option<&Installed>,
) -> Result<(), ApiError> {
    let vault = chosen.vault;
    let unbuilt = |key: &str, what: &str| {
        let what = format!("{what} is not supported by this build (LLM vault {vault})");
        Err(ApiError::unbuilt(key, &what))
    };
    match (chosen.harness, chosen.api) {
        (Harness::Claude, Api::Anthropic) => {}
        (Harness::Claude, Api::OpenaiResponses | Api::OpenaiChat) => {
            return Err(ApiError::invalid(format!(
                "LLM vault {vault}: the harness `claude` speaks `anthropic`; set `longhand.llm_api` to that, or \
                 `longhand.harness` to `native`, which speaks every API"
            )));
        }
        (Harness::Codex, _) => return unbuilt("longhand.harness", "the harness `codex`"),
        (Harness::Native, _) => return Ok(()),
    }
    if agent.multiagent.is_some() {
        return unbuilt("agent.multiagent", "a team behind the harness `claude`");
    }
    match claude {
        None => unbuilt("longhand.harness", "the harness `claude`"),
        Some(is_installed) if !(is_installed.0)() => Err(ApiError::invalid(format!(
            "LLM vault {vault}: the harness `claude` is not installed on this server; its operator runs \
             `longhand harness install claude`"
        ))),
        Some(_) => Ok(()),
    }
}
