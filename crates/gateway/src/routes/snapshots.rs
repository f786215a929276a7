//! `/v1/x/snapshots`, and what is done with the files of a sandbox as a whole: kept, forked, set back. A key sees
//! the snapshots of its workspace, an operator all. It changes no files itself: the keeper has that done.

use std::sync::Arc;

use axum::response::Response;
use contract::error::{ApiError, ErrorKind};
use contract::ids::SessionId;
use contract::page::Page;
use contract::parse::Invalid;
use contract::query;
use contract::time::Micros;
use sandbox::{NewSnapshot, SandboxId, Snapshot, SnapshotId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sandbox_terms::terms;
use super::sandboxes::{keeper, named, standing};
use crate::call::{Call, missing};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CreateSnapshot")]
pub(crate) struct Create {
    /// For people; at most 500 bytes.
    #[serde(default)]
    note: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ForkSandbox")]
pub(crate) struct Fork {
    /// The sandbox that is made: a session's that has none yet, or for an operator any new name. Absent: a fresh one
    /// of the operator's.
    #[serde(default)]
    to: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RestoreSandbox")]
pub(crate) struct Restore {
    snapshot_id: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxSnapshot")]
pub(crate) struct Kept {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "sandbox_snapshot"))]
    kind: &'static str,
    id: String,
    /// The sandbox it was taken of; it may be gone.
    sandbox_id: String,
    created_at: Micros,
    note: Option<String>,
    /// Whether the sandbox ran then: files are as they were at one moment, but a program may have been about to write
    /// more.
    live: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxSnapshotDeleted")]
pub(crate) struct Deleted {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "sandbox_snapshot_deleted"))]
    kind: &'static str,
    id: String,
}

impl From<Snapshot> for Kept {
    fn from(one: Snapshot) -> Self {
        Self {
            kind: "sandbox_snapshot",
            id: one.id.to_string(),
            sandbox_id: one.sandbox,
            created_at: Micros(one.at),
            note: one.note,
            live: one.live,
        }
    }
}

/// Every snapshot that the caller may see, the newest first.
async fn visible(gateway: &Gateway, call: &Call) -> Result<Vec<Snapshot>, Failure> {
    let mut all = keeper(gateway)?.snapshots().await?;
    if !call.is_operator() {
        let own = call.workspace().to_string();
        all.retain(|one| one.workspace.as_ref() == Some(&own));
    }
    all.reverse();
    Ok(all)
}

/// The one of that name. One that the caller may not see is missing like one that does not exist.
pub(super) async fn one(gateway: &Gateway, call: &Call, id: &str) -> Result<Snapshot, Failure> {
    let all = visible(gateway, call).await?;
    let found = all.into_iter().find(|one| one.id.as_str() == id);
    found.ok_or_else(|| Failure::Api(missing("Snapshot")))
}

fn page(all: Vec<Snapshot>) -> Result<Response, Failure> {
    reply::json(&Page {
        data: all.into_iter().map(Kept::from).collect(),
        next_page: None,
    })
}

/// `GET /v1/x/snapshots`
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    page(visible(&gateway, &call).await?)
}

/// `GET /v1/x/snapshots/{snapshot_id}`
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let found = one(&gateway, &call, call.text("snapshot_id")).await?;
    reply::json(&Kept::from(found))
}

/// `DELETE /v1/x/snapshots/{snapshot_id}`: what was made from it stays.
pub(crate) async fn delete(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let found = one(&gateway, &call, call.text("snapshot_id")).await?;
    keeper(&gateway)?.remove_snapshot(&found.id).await?;
    reply::json(&Deleted {
        kind: "sandbox_snapshot_deleted",
        id: found.id.to_string(),
    })
}

/// `GET /v1/x/sandboxes/{sandbox_id}/snapshots`
pub(crate) async fn of_sandbox(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let named = named(&gateway, &call).await?;
    let mut all = visible(&gateway, &call).await?;
    all.retain(|one| one.sandbox == named.id.as_str());
    page(all)
}

/// `POST /v1/x/sandboxes/{sandbox_id}/snapshots`
pub(crate) async fn create(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let request = call.json::<Create>().await?;
    let named = named(&gateway, &call).await?;
    named.exists().await?;
    let id = SnapshotId::new(format!("snap_{:026x}", gateway.id_bits() >> 24))?;
    let mut new = NewSnapshot::new(id, gateway.now().0);
    new.workspace = named.workspace();
    new.note = request.note;
    let taken = named.keeper.snapshot(&named.id, new).await?;
    reply::json(&Kept::from(taken))
}

/// `POST /v1/x/sandboxes/{sandbox_id}/fork`
pub(crate) async fn fork(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let request = call.json::<Fork>().await?;
    let from = named(&gateway, &call).await?;
    from.exists().await?;
    let to = target(&gateway, &call, request.to).await?;
    let all = from.keeper.list().await?;
    if all.iter().any(|one| one.id == to) {
        return Err(ApiError::conflict(format!("The sandbox {to} has files already.")).into());
    }
    from.keeper.fork(&from.id, &to).await?;
    reply::json(&standing(&gateway, &from.keeper.standing(to)))
}

/// The name of a sandbox that is made for this caller.
async fn target(gateway: &Gateway, call: &Call, to: Option<String>) -> Result<SandboxId, Failure> {
    let at = |problem: String| Failure::from(Invalid::at("to", problem));
    let to = match to {
        Some(to) => SandboxId::new(to).map_err(|error| at(error.to_string()))?,
        None => SandboxId::new(format!("sbx_{:026x}", gateway.id_bits() >> 24))?,
    };
    match to.as_str().parse::<SessionId>() {
        Ok(session) => match gateway.store.session(call.scope(), session).await {
            Ok(row) => drop(terms(&row)?),
            Err(store::Error::NotFound(_)) => {
                return Err(at("there is no such session".to_owned()));
            }
            Err(other) => return Err(other.into()),
        },
        Err(_) if call.is_operator() => {}
        Err(_) => {
            let problem = "Only an operator's key makes a sandbox that is no session's: give `to` the id of a \
                session that has no sandbox yet.";
            return Err(ApiError::new(ErrorKind::Permission, problem).into());
        }
    }
    Ok(to)
}

/// `POST /v1/x/sandboxes/{sandbox_id}/restore`: it is stopped if it runs, and made if there is none.
pub(crate) async fn restore(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let request = call.json::<Restore>().await?;
    let named = named(&gateway, &call).await?;
    let snapshot = match one(&gateway, &call, &request.snapshot_id).await {
        Err(Failure::Api(error)) if error.kind == ErrorKind::NotFound => {
            return Err(Invalid::at("snapshot_id", "there is no such snapshot").into());
        }
        other => other?,
    };
    named.keeper.restore(&snapshot.id, &named.id).await?;
    reply::json(&standing(&gateway, &named.keeper.standing(named.id)))
}
