//! The level of isolation that a server must have. It finds out nothing itself: the provider of sandboxes does.

use sandbox::{Level, Local, Provider, ProviderName};

use crate::Unable;

/// Refuses to run where the provider that was set cannot make a sandbox: nobody is to learn it from a session.
///
/// # Errors
/// [`Unable`] (exit code 3), with the cure.
pub fn can_make(provider: &impl Provider, name: ProviderName) -> anyhow::Result<()> {
    let makes = provider.makes(name);
    makes.map_err(|error| Unable(format!("`sandbox.provider` is \"{name}\": {error}")).into())
}

/// Says in the log how well sandboxes are kept apart here, and refuses to run when that is below `least`.
///
/// # Errors
/// [`Unable`] (exit code 3), with what is lacking.
pub async fn require(provider: &Local, least: Level) -> anyhow::Result<()> {
    let found = provider.isolation().await?;
    let weaker = found.weaker();
    if !found.reaches(least) {
        let own = least == Level::Kernel && !found.own_kernel;
        let own = own.then(|| "no kernel of its own".to_owned());
        let lacking: String = own
            .iter()
            .chain(&weaker)
            .map(|one| format!("\n  {one}"))
            .collect();
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
