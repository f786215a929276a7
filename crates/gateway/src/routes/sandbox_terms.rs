//! How a session's sandbox is to be kept, as its metadata and its environment's say. It starts none itself: the
//! keeper does.

use contract::environment::EnvironmentDefinition;
use contract::ids::SessionId;
use contract::parse::Invalid;
use contract::session::{
    SANDBOX_PROVIDER, SANDBOX_TEMPLATE, SandboxProvider, SandboxWishes, VolumeWish,
};
use sandbox::{Keeper, Mount, Mounts, ProviderName, SandboxId, Spec, TemplateRef, Terms};
use store::sessions::SessionRow;

use super::stored;
use crate::error::Failure;
use crate::gateway::Gateway;

/// How the session wants its sandbox kept.
pub(super) fn terms(row: &SessionRow) -> Result<Terms, Failure> {
    let environment: EnvironmentDefinition =
        stored::read("a session's environment", &row.environment)?;
    // Checked when it was set; what is older than the check counts as none.
    let wishes = SandboxWishes::of(&row.profile.metadata, &environment.metadata);
    Ok(wished(row, wishes.unwrap_or_default()))
}

fn wished(row: &SessionRow, wishes: SandboxWishes) -> Terms {
    Terms {
        workspace: Some(row.workspace.to_string().into()),
        lifetime: wishes.ttl,
        awake: wishes.keep_awake,
        volumes: Some(mounts(row, wishes.volumes)),
        template: wishes.template.and_then(|template| template.parse().ok()),
        provider: wishes.provider.map(provider),
    }
}

fn provider(wished: SandboxProvider) -> ProviderName {
    match wished {
        SandboxProvider::Local => ProviderName::Local,
        SandboxProvider::Gvisor => ProviderName::Gvisor,
    }
}

/// All of them: one that names no volume has none.
fn mounts(row: &SessionRow, wishes: Vec<VolumeWish>) -> Mounts {
    let mount = |wish: VolumeWish| Mount {
        name: wish.name,
        read_only: wish.read_only,
    };
    Mounts {
        workspace: row.workspace.to_string().into(),
        each: wishes.into_iter().map(mount).collect(),
    }
}

/// Looks whether what a session's sandbox is to be made on is there, and who is to make it.
pub(super) async fn check(gateway: &Gateway, wishes: &SandboxWishes) -> Result<(), Failure> {
    if let (Some(keeper), Some(template)) = (&gateway.sandboxes, &wishes.template) {
        let path = format!("metadata.{SANDBOX_TEMPLATE}");
        found(keeper, template, &path).await?;
    }
    if let (Some(keeper), Some(wished)) = (&gateway.sandboxes, wishes.provider) {
        made(
            keeper,
            provider(wished),
            &format!("metadata.{SANDBOX_PROVIDER}"),
        )?;
    }
    Ok(())
}

/// Refuses a provider that a request names there and that makes nothing here.
pub(super) fn made(keeper: &Keeper, provider: ProviderName, path: &str) -> Result<(), Failure> {
    let makes = keeper.makes(provider);
    makes.map_err(|error| Invalid::at(path, error.to_string()).into())
}

/// The template that a request names there.
pub(super) async fn found(
    keeper: &Keeper,
    named: &str,
    path: &str,
) -> Result<TemplateRef, Failure> {
    let at = |error: sandbox::Error| Failure::from(Invalid::at(path, error.to_string()));
    let which: TemplateRef = named.parse().map_err(at)?;
    match keeper.template(&which).await {
        Err(error @ sandbox::Error::Missing { .. }) => Err(at(error)),
        other => Ok(other.map(|_| which)?),
    }
}

/// A session was made: has its sandbox made too, if that is wished, while nobody waits for it.
pub(super) fn prepare(gateway: &Gateway, row: &SessionRow, wishes: SandboxWishes) {
    let Some(keeper) = &gateway.sandboxes else {
        return;
    };
    if wishes.eager.unwrap_or_else(|| keeper.is_eager())
        && let Ok(id) = SandboxId::new(row.id.to_string())
    {
        keeper.prepare(Spec::new(id), wished(row, wishes));
    }
}

/// A session has changed: its sandbox is kept as it says now.
pub(super) fn agree(gateway: &Gateway, row: &SessionRow) -> Result<(), Failure> {
    if let Some(keeper) = &gateway.sandboxes
        && let Ok(id) = SandboxId::new(row.id.to_string())
    {
        keeper.agree(&id, terms(row)?);
    }
    Ok(())
}

/// A session is over: nothing runs for it any more.
pub(super) fn dismiss(gateway: &Gateway, session: SessionId) {
    if let Some(keeper) = &gateway.sandboxes
        && let Ok(id) = SandboxId::new(session.to_string())
    {
        keeper.dismiss(&id, "its session was archived");
    }
}
