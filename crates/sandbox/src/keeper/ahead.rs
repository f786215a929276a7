//! Sandboxes that are made ready before anybody needs them. It takes the room of nobody and makes nobody wait.

use std::pin::Pin;
use std::sync::Arc;

use hand::wire::Tool;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::told::News;
use super::{Keeper, Terms};
use crate::diary::What;
use crate::error::Error;
use crate::limits::PREPARED_QUEUE;
use crate::provider::{Sandbox, SandboxId, Spec, ToolCall};

impl Keeper {
    /// Whether sandboxes are made ready ahead unless somebody says otherwise.
    #[must_use]
    pub fn is_eager(&self) -> bool {
        self.0.settings.eager
    }

    /// From now on `furnish` brings into each sandbox that is made ready ahead what is to run there beside its shell.
    /// Whoever comes to use the sandbox waits for it, so it must come to an end.
    pub fn furnish(
        &self,
        furnish: impl Fn(SandboxId, Arc<dyn Sandbox>) -> Pin<Box<dyn Future<Output = ()> + Send>>
        + Send
        + Sync
        + 'static,
    ) {
        // A second one is a mistake of whoever wires this, and harms nobody.
        let _ = self.0.furnished_by.set(Box::new(furnish));
    }

    /// Makes a sandbox ready in the background, with its shell, and has it stand still. Never waits. Where there
    /// is no room, where too many are under way or where it fails, its first use makes it.
    pub fn prepare(&self, spec: Spec, terms: Terms) {
        if self.0.tasks.len() >= PREPARED_QUEUE || self.0.closing.is_cancelled() {
            tracing::debug!(sandbox = %spec.id, "a sandbox is not made ready ahead: too many are");
            return;
        }
        let keeper = self.clone();
        let id = spec.id.clone();
        let made = async move {
            let Ok(_turn) = keeper.0.ahead.acquire().await else {
                return;
            };
            if let Err(error) = keeper.made_ready(spec, &terms).await {
                tracing::warn!(sandbox = %id, %error, "a sandbox is not made ready ahead; its first use tries again");
            }
        };
        let closing = self.0.closing.clone();
        self.0
            .tasks
            .spawn(async move { closing.run_until_cancelled(made).await });
    }

    async fn made_ready(&self, spec: Spec, terms: &Terms) -> Result<(), Error> {
        let (id, place) = (spec.id.clone(), self.place(&spec.id));
        place.agree(terms);
        // Whoever uses it already needs no help.
        let Some(mut held) = place.unvisited() else {
            return Ok(());
        };
        if held.running.is_some() {
            return Ok(());
        }
        let begun = Instant::now();
        held.slot = self.free_slot(place.workspace.get());
        if held.slot.is_some() {
            let running = self
                .start(&place, &mut held, spec, terms, begun.elapsed())
                .await?;
            place.look().wanted = Some(Instant::now());
            // The shell is most of what a first call would wait for.
            let shell = ToolCall {
                name: Tool::Bash,
                input: json!({"command": ":"}),
                caller: None,
            };
            running.tool(shell, CancellationToken::new()).await?;
            if let Some(furnish) = self.0.furnished_by.get() {
                furnish(id.clone(), Arc::clone(&running)).await;
            }
            // Somebody who waits for this lock is about to use it.
            if !terms.awake && place.is_unvisited() {
                let begun = Instant::now();
                running.pause().await?;
                let paused = News {
                    took: begun.elapsed(),
                    ..News::of(What::Paused)
                };
                self.note(&id, &mut held, paused).await;
                self.save(&id, &mut held).await;
            }
        }
        drop(held);
        self.forget(&id, &place);
        Ok(())
    }
}
