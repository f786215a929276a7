//! What a new session's vaults ask for, as far as it can be known before the first turn: a session that
//! could never run, or that would not get what it was promised, is not made. It opens no secret.

use crate::gateway::Installed;
use contract::agent::SessionAgent;
use contract::error::ApiError;
use store::vaults::VaultView;
use vault::llm::{self, Api, Harness, LlmVault};

/// Checks a session's vaults: the LLM vault, if there is one.
///
/// # Errors
/// 400 naming the vaults and the metadata key: two LLM vaults, an incomplete one, or one that needs what
/// this build does not have.
pub(super) fn check(
    vaults: &[VaultView],
    agent: &SessionAgent,
    claude: Option<&Installed>,
) -> Result<(), ApiError> {
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
