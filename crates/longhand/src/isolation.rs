//! The level of isolation that a server must have. It finds out nothing itself: the provider of sandboxes does.

use sandbox::{Level, Local};

use crate::Unable;

/// Says in the log how well sandboxes are kept apart here, and refuses to run when that is below `least`.
///
/// # Errors
/// [`Unable`] (exit code 3), with what is lacking.
pub async fn require(provider: &Local, least: Level) -> anyhow::Result<()> {
    let found = provider.isolation().await?;
    let weaker = found.weaker();
    if found.level < least {
        let lacking: String = weaker.iter().map(|one| format!("\n  {one}")).collect();
        return Err(Unable(format!(
            "this server must not run below the isolation level `{least}` (--require-isolation), and here it \
             reaches `{}`:{lacking}\n  → `longhand doctor` says what mends each",
            found.level
        ))
        .into());
    }
    if found.level < Level::Limits {
        let weaker = weaker.join("; ");
        tracing::warn!(level = %found.level, weaker, "sandboxes are kept apart less well than they can be");
    } else {
        tracing::info!(level = %found.level, "isolation of sandboxes");
    }
    Ok(())
}
