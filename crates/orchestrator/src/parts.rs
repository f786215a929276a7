//! What an orchestrator is given. It holds things and must never do anything with them.

use std::sync::Arc;

use harness::Harness;
use model::{Catalog, Client, Endpoint};
use sandbox::Provider;
use store::Store;
use vault::Vault;

/// What an orchestrator works with.
pub struct Parts {
    /// Where sessions are.
    pub store: Store,
    /// Opens what is sealed.
    pub vault: Arc<Vault>,
    /// Runs turns.
    pub harness: Arc<dyn Harness>,
    /// Run those of sessions whose LLM vault names them.
    pub others: Vec<Arc<dyn Harness>>,
    /// Makes sandboxes.
    pub provider: Arc<dyn Provider>,
    /// Asks models for programs in sandboxes.
    pub client: Client,
    /// Knows models.
    pub catalog: Arc<Catalog>,
    /// The operator's default model endpoint, if there is one.
    pub endpoint: Option<Endpoint>,
}
