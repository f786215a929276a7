//! The level of isolation that a server must have. It finds out nothing itself: the provider of sandboxes does.

use sandbox::{Level, Local, Provider as _};

use crate::Unable;
use crate::config::Sandbox as Settings;

/// Says in the log how well sandboxes are kept apart here, and refuses to run when that is below what `settings` ask for, or
/// where the provider that they choose cannot make a sandbox: nobody is to learn either from a session.
///
/// # Errors
/// [`Unable`] (exit code 3), with what is lacking and the cure.
pub async fn require(provider: &Local, settings: &Settings) -> anyhow::Result<()> {
    let (name, least) = (settings.provider()?, settings.level()?);
    let makes = provider.makes(name);
    makes.map_err(|error| Unable(format!("`sandbox.provider` is \"{name}\": {error}")))?;
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
