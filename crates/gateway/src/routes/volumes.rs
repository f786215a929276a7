//! `/v1/x/volumes`: directories that outlive sandboxes. A key sees and makes those of its workspace, an operator sees
//! all and makes them in the workspace that the request names. It keeps none itself: the keeper has that done.

use std::sync::Arc;

use axum::response::Response;
use contract::ids::WorkspaceId;
use contract::page::Page;
use contract::parse::Invalid;
use contract::query::{self, RemoveVolume};
use contract::session::{SANDBOX_VOLUMES, VolumeWish};
use contract::time::Micros;
use sandbox::{Keeper, Mount, Mounts, NewVolume, SandboxId, Volume, VolumeId, VolumeName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sandboxes::keeper;
use crate::call::{Call, missing};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::limits::SHOWN_SANDBOXES;
use crate::reply;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CreateVolume")]
pub(crate) struct Create {
    /// Unique in its workspace: 1 to 63 small letters, digits, `_` or `-`.
    name: String,
    /// MiB that may lie in it; absent: as many as the operator lets any have.
    #[serde(default)]
    size_mib: Option<u64>,
}

/// A volume that a sandbox is to have, as `/mnt/volumes/NAME`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SandboxVolume")]
pub(crate) struct Wanted {
    name: String,
    /// Whether the sandbox may only read it.
    #[serde(default)]
    read_only: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Volume")]
pub(crate) struct Shown {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "volume"))]
    kind: &'static str,
    id: String,
    name: String,
    workspace_id: String,
    created_at: Micros,
    /// MiB that may lie in it; null: as many as there is room for.
    size_mib: Option<u64>,
    /// The sandboxes that have it, running or not; the first 100.
    sandboxes: Vec<String>,
    /// What lies in it; only where one is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "VolumeUsage")]
struct Usage {
    disk_bytes: u64,
    /// Whether it was not walked to its end, because there are too many files.
    disk_bytes_is_least: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "VolumeDeleted")]
pub(crate) struct Deleted {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "volume_deleted"))]
    kind: &'static str,
    id: String,
}

impl Shown {
    fn of(one: Volume, usage: Option<Usage>) -> Self {
        let sandboxes = one.sandboxes.iter().take(SHOWN_SANDBOXES);
        Self {
            kind: "volume",
            id: one.id.to_string(),
            name: one.name.to_string(),
            workspace_id: one.workspace,
            created_at: Micros(one.at),
            size_mib: Some(one.bytes >> 20).filter(|_| one.bytes > 0),
            sandboxes: sandboxes.map(SandboxId::to_string).collect(),
            usage,
        }
    }
}

/// `GET /v1/x/volumes`
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let all = visible(&gateway, &call).await?;
    reply::json(&Page {
        data: all.into_iter().map(|one| Shown::of(one, None)).collect(),
        next_page: None,
    })
}

/// `POST /v1/x/volumes`
pub(crate) async fn create(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let request = call.json::<Create>().await?;
    let keeper = keeper(&gateway)?;
    let name = VolumeName::new(request.name);
    let made = keeper.create_volume(NewVolume {
        id: VolumeId::new(format!("vol_{:026x}", gateway.id_bits() >> 24))?,
        name: name.map_err(|error| Invalid::at("name", error.to_string()))?,
        workspace: call.workspace().to_string(),
        at: gateway.now().0,
        bytes: request.size_mib.map(|size| size.saturating_mul(1 << 20)),
    });
    match made.await {
        Err(sandbox::Error::Invalid { problem }) => Err(Invalid::at("size_mib", problem).into()),
        made => reply::json(&Shown::of(made?, None)),
    }
}

/// `GET /v1/x/volumes/{volume_id}`
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let one = one(&gateway, &call).await?;
    let (disk_bytes, disk_bytes_is_least) = keeper(&gateway)?.volume_usage(&one.id).await?;
    let usage = Usage {
        disk_bytes,
        disk_bytes_is_least,
    };
    reply::json(&Shown::of(one, Some(usage)))
}

/// `DELETE /v1/x/volumes/{volume_id}`: with what is in it.
pub(crate) async fn delete(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let RemoveVolume { force } = RemoveVolume::parse(call.query())?;
    let one = one(&gateway, &call).await?;
    keeper(&gateway)?.remove_volume(&one.id, force).await?;
    reply::json(&Deleted {
        kind: "volume_deleted",
        id: one.id.to_string(),
    })
}

/// Every volume that the caller may see, the newest first.
async fn visible(gateway: &Gateway, call: &Call) -> Result<Vec<Volume>, Failure> {
    let mut all = keeper(gateway)?.volumes().await?;
    if !call.is_operator() {
        let own = call.workspace().to_string();
        all.retain(|one| one.workspace == own);
    }
    all.reverse();
    Ok(all)
}

/// The one that the path names, by its id, or by its name in the caller's workspace. One that the caller may not see is
/// missing like one that does not exist.
async fn one(gateway: &Gateway, call: &Call) -> Result<Volume, Failure> {
    let (wanted, own) = (call.text("volume_id"), call.workspace().to_string());
    let all = visible(gateway, call).await?;
    let found = all.into_iter().find(|one| {
        one.id.as_str() == wanted || one.name.as_str() == wanted && one.workspace == own
    });
    found.ok_or_else(|| Failure::Api(missing("Volume")))
}

/// What an operator's sandbox is to have. None of it is missing a moment before it is made.
pub(super) async fn wanted(
    keeper: &Keeper,
    workspace: WorkspaceId,
    wanted: Vec<Wanted>,
) -> Result<Mounts, Failure> {
    let all = names(keeper, workspace).await?;
    for (n, one) in wanted.iter().enumerate() {
        if !all.contains(&one.name) {
            let problem = format!("there is no volume {:?} in this workspace", one.name);
            return Err(Invalid::at(format!("volumes[{n}].name"), problem).into());
        }
    }
    let mount = |one: Wanted| Mount {
        name: one.name,
        read_only: one.read_only,
    };
    Ok(Mounts {
        workspace: workspace.to_string().into(),
        each: wanted.into_iter().map(mount).collect(),
    })
}

/// Refuses a session that wishes for volumes that there are none of. Among several servers only the one that comes to
/// have the session's files can say that.
pub(super) async fn check(
    gateway: &Gateway,
    workspace: WorkspaceId,
    wishes: &[VolumeWish],
) -> Result<(), Failure> {
    let Some(keeper) = &gateway.sandboxes else {
        return Ok(());
    };
    if wishes.is_empty() || gateway.store.replica().is_some() {
        return Ok(());
    }
    let all = names(keeper, workspace).await?;
    match wishes.iter().find(|wish| !all.contains(&wish.name)) {
        None => Ok(()),
        Some(wish) => {
            let problem = format!(
                "there is no volume {:?} in this workspace, and the session or its environment names it",
                wish.name
            );
            Err(Invalid::at(format!("metadata.{SANDBOX_VOLUMES}"), problem).into())
        }
    }
}

/// Of all volumes of a workspace.
async fn names(keeper: &Keeper, workspace: WorkspaceId) -> Result<Vec<String>, Failure> {
    let workspace = workspace.to_string();
    let all = keeper.volumes().await?.into_iter();
    let own = all.filter(|one| one.workspace == workspace);
    Ok(own.map(|one| one.name.into()).collect())
}
