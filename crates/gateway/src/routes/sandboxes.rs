//! `/v1/x/sandboxes`: which there are, how they stand, and what they use. A key sees those of its workspace's
//! sessions, an operator all. It keeps none running itself: the keeper does.

use std::sync::Arc;

use axum::response::Response;
use contract::error::ApiError;
use contract::ids::SessionId;
use contract::page::Page;
use contract::parse::Invalid;
use contract::query;
use contract::time::Micros;
use sandbox::{
    HeldLimit, Isolation, Keeper, ProviderName, Sandbox, SandboxId, Spec, Standing, Steering,
    Terms, Visit,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::Store;
use store::sessions::Scope;
use tokio::time::Instant;

use super::sandbox_terms::{found, made, terms};
use super::volumes;
use crate::call::{Call, missing};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CreateSandbox")]
pub(crate) struct Create {
    /// Absent: a fresh one.
    #[serde(default)]
    id: Option<String>,
    /// The volumes that it has from its first start on: those of the workspace that the request names, or of the default
    /// one. At most 16.
    #[serde(default)]
    volumes: Vec<volumes::Wanted>,
    /// What it is made on: a template's name, its digest as `sha256:…`, or `host`. Absent: as the server is set.
    #[serde(default)]
    template: Option<String>,
    /// Who makes it: `local` or `gvisor`. Absent: as the server is set.
    #[serde(default)]
    #[schemars(extend("enum" = ["local", "gvisor", null]))]
    provider: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Sandbox")]
pub(crate) struct Shown {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "sandbox"))]
    kind: &'static str,
    id: String,
    /// Whose it is; null for one that an operator made.
    session_id: Option<SessionId>,
    /// `running`, `paused`, or `stopped`: then only its files are there.
    #[schemars(extend("enum" = ["running", "paused", "stopped"]))]
    status: &'static str,
    /// Since when it runs in this server.
    running_since: Option<Micros>,
    last_used_at: Option<Micros>,
    /// What its files lie on, as `sha256:…`; null for the host's `/usr`. Only where one is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<Option<String>>,
    /// How well it is kept apart; only while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    isolation: Option<Apart>,
    /// By what means what it sends comes to the egress process (`sk_lookup`, or `tproxy` of nf_tables); null where it
    /// has no network; only while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["sk_lookup", "tproxy", null]))]
    steering: Option<Option<&'static str>>,
    /// What it uses; only where one is asked for that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxIsolation")]
struct Apart {
    /// `basic`, `ids`, `limits` or `disk`; see docs/sandbox.md.
    level: &'static str,
    /// Whose kernel serves what runs in it: the `host`'s, or one of its own, `gvisor`'s.
    #[schemars(extend("enum" = ["host", "gvisor"]))]
    kernel: &'static str,
    own_user_ids: bool,
    /// How many it has: with one, programs inside cannot change their user.
    user_ids: u32,
    memory_bytes: Limit,
    cpu_millis: Limit,
    processes: Limit,
    disk_bytes: Limit,
    /// Read from its disk, and as many written to it.
    io_bytes_per_second: Limit,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxLimit")]
struct Limit {
    /// Null: as much as there is.
    most: Option<u64>,
    held_by: &'static str,
    /// Whether it holds for the sandbox as a whole and is never exceeded.
    firmly: bool,
}

impl From<Isolation> for Apart {
    fn from(isolation: Isolation) -> Self {
        let limit = |held: HeldLimit| Limit {
            most: Some(held.most).filter(|most| *most > 0),
            held_by: held.by,
            firmly: held.firmly,
        };
        Self {
            level: isolation.level.name(),
            kernel: if isolation.own_kernel {
                "gvisor"
            } else {
                "host"
            },
            own_user_ids: isolation.own_ids,
            user_ids: isolation.ids,
            memory_bytes: limit(isolation.memory),
            cpu_millis: limit(isolation.cpu),
            processes: limit(isolation.processes),
            disk_bytes: limit(isolation.disk),
            io_bytes_per_second: limit(isolation.io),
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxUsage")]
struct Usage {
    memory_bytes: Option<u64>,
    cpu_seconds: Option<f64>,
    processes: Option<u64>,
    disk_bytes: u64,
    /// Whether the disk was not walked to its end, because there are too many files.
    disk_bytes_is_least: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxProcess")]
pub(crate) struct Running {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "sandbox_process"))]
    kind: &'static str,
    pid: i32,
    parent: i32,
    state: char,
    command: String,
    cpu_seconds: f64,
    memory_bytes: u64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxDeleted")]
pub(crate) struct Deleted {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "sandbox_deleted"))]
    kind: &'static str,
    id: String,
}

/// A sandbox that the caller may see.
pub(super) struct Named {
    pub(super) id: SandboxId,
    session: Option<SessionId>,
    /// How it is to be kept.
    terms: Terms,
    pub(super) keeper: Keeper,
    store: Store,
    /// When it was named.
    now: Micros,
}

/// The sandbox that the path names. One that the caller may not see is missing like one that does not exist.
pub(super) async fn named(gateway: &Gateway, call: &Call) -> Result<Named, Failure> {
    let keeper = keeper(gateway)?.clone();
    let text = call.text("sandbox_id");
    let none = || Failure::Api(missing("Sandbox"));
    let id = SandboxId::new(text).map_err(|_| none())?;
    let session = text.parse::<SessionId>().ok();
    let terms = match session {
        // Not there, or not for this caller.
        Some(session) => terms(&gateway.store.session(call.scope(), session).await?)?,
        None if call.is_operator() => Terms::default(),
        None => return Err(none()),
    };
    if let Some(session) = session {
        is_here(&gateway.store, session).await?;
    }
    Ok(Named {
        id,
        session,
        terms,
        keeper,
        store: gateway.store.clone(),
        now: gateway.now(),
    })
}

/// Among several servers a session's workspace is on one of them, and another would make a second, empty one.
async fn is_here(store: &Store, session: SessionId) -> Result<(), Failure> {
    let Some((me, _)) = store.replica() else {
        return Ok(());
    };
    let bound = store.binding(Scope::Any, session).await?;
    match bound.and_then(|bound| bound.host) {
        Some(host) if host != me.as_str() => Err(Failure::Api(ApiError::conflict(format!(
            "The sandbox of this session is on the server {host:?}, and this is {:?}: ask that one.",
            me.as_str()
        )))),
        Some(_) | None => Ok(()),
    }
}

impl Named {
    /// The sandbox, started or resumed if need be. One that was never made is missing, but for a session's:
    /// its first use makes it.
    pub(super) async fn visit(&self) -> Result<Visit, Failure> {
        if self.session.is_none() && self.keeper.running(&self.id).is_none() {
            self.exists().await?;
        }
        if let Some(session) = self.session {
            // Before there is anything that another server's turn would miss.
            self.store.bind_here(session, self.now).await?;
            is_here(&self.store, session).await?;
        }
        let spec = Spec::new(self.id.clone());
        Ok(self.keeper.visit(spec, &self.terms).await?)
    }

    /// Whether it is a session's; else an operator made it.
    pub(super) fn is_of_session(&self) -> bool {
        self.session.is_some()
    }

    /// Whose it is; none: an operator's.
    pub(super) fn workspace(&self) -> Option<String> {
        self.terms.workspace.as_ref().map(ToString::to_string)
    }

    /// How it stands, if it was ever made. One that an earlier server left running runs, also before this one has come
    /// to look after it.
    pub(super) async fn exists(&self) -> Result<Standing, Failure> {
        let all = self.keeper.list().await?;
        let found = all.into_iter().find(|one| one.id == self.id);
        let mut standing = found.ok_or_else(|| Failure::Api(missing("Sandbox")))?;
        if standing.running.is_none() {
            standing.running = self.keeper.left(&self.id).await?;
        }
        Ok(standing)
    }
}

pub(super) fn keeper(gateway: &Gateway) -> Result<&Keeper, ApiError> {
    gateway
        .sandboxes
        .as_ref()
        .ok_or_else(|| ApiError::not_implemented("This server has no sandboxes."))
}

/// `GET /v1/x/sandboxes`
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let mut data = Vec::new();
    for one in keeper(&gateway)?.list().await? {
        let session = one.id.as_str().parse::<SessionId>().ok();
        let visible = match session {
            _ if call.is_operator() => true,
            Some(session) => match gateway.store.session(call.scope(), session).await {
                Ok(_) => true,
                Err(store::Error::NotFound(_)) => false,
                Err(other) => return Err(other.into()),
            },
            None => false,
        };
        if visible {
            data.push(shown(&gateway, &one, None));
        }
    }
    reply::json(&Page {
        data,
        next_page: None,
    })
}

/// `POST /v1/x/sandboxes`
pub(crate) async fn create(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let request = call.json::<Create>().await?;
    let keeper = keeper(&gateway)?;
    let name = request
        .id
        .unwrap_or_else(|| format!("sbx_{:026x}", gateway.id_bits() >> 24));
    if name.parse::<SessionId>().is_ok() {
        return Err(Invalid::at("id", "is a session's; it has its sandbox by itself").into());
    }
    let id = SandboxId::new(name).map_err(|error| Invalid::at("id", error.to_string()))?;
    if keeper.list().await?.iter().any(|one| one.id == id) {
        return Err(ApiError::conflict(format!("A sandbox {id} exists already.")).into());
    }
    let mut spec = Spec::new(id.clone());
    if let Some(template) = request.template {
        spec = spec.on(found(keeper, &template, "template").await?);
    }
    if let Some(provider) = request.provider {
        let at = |problem: String| Invalid::at("provider", problem);
        let provider: ProviderName = provider.parse().map_err(at)?;
        made(keeper, provider, "provider")?;
        spec = spec.by(provider);
    }
    let mut terms = Terms::default();
    if !request.volumes.is_empty() {
        let wanted = volumes::wanted(keeper, call.workspace(), request.volumes).await?;
        terms.volumes = Some(wanted);
    }
    drop(keeper.visit(spec, &terms).await?);
    reply::json(&shown(&gateway, &keeper.standing(id), None))
}

/// `GET /v1/x/sandboxes/{sandbox_id}`
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let named = named(&gateway, &call).await?;
    let one = named.exists().await?;
    let usage = match &one.running {
        // It may have ended since.
        Some(running) => usage(running.as_ref()).await.ok(),
        None => None,
    };
    let template = named.keeper.template_of(&named.id).await?;
    let template = template.map(|template| format!("sha256:{template}"));
    reply::json(&Shown {
        template: Some(template),
        ..shown(&gateway, &one, usage)
    })
}

/// `DELETE /v1/x/sandboxes/{sandbox_id}`: its processes and its files.
pub(crate) async fn delete(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let named = named(&gateway, &call).await?;
    named.exists().await?;
    named.keeper.delete(&named.id).await?;
    if !named.is_of_session() {
        // Another one of that name is another one.
        let name = named.id.as_str();
        gateway
            .store
            .set_sandbox_rules(name, None, named.now)
            .await?;
    }
    reply::json(&Deleted {
        kind: "sandbox_deleted",
        id: named.id.to_string(),
    })
}

/// `POST /v1/x/sandboxes/{sandbox_id}/pause`
pub(crate) async fn pause(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let named = named(&gateway, &call).await?;
    let Some(running) = named.exists().await?.running else {
        return Err(ApiError::conflict("The sandbox does not run, so it cannot be paused.").into());
    };
    running.pause().await?;
    reply::json(&shown(&gateway, &named.keeper.standing(named.id), None))
}

/// `POST /v1/x/sandboxes/{sandbox_id}/resume`: one that is stopped is started.
pub(crate) async fn resume(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let named = named(&gateway, &call).await?;
    named.visit().await?.resume().await?;
    reply::json(&shown(&gateway, &named.keeper.standing(named.id), None))
}

/// `POST /v1/x/sandboxes/{sandbox_id}/stop`: its files stay, and so does where its shell was.
pub(crate) async fn stop(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let named = named(&gateway, &call).await?;
    named.exists().await?;
    let reason = "somebody stopped it from outside";
    named.keeper.put_to_sleep(&named.id, reason).await;
    reply::json(&shown(&gateway, &named.keeper.standing(named.id), None))
}

/// `GET /v1/x/sandboxes/{sandbox_id}/processes`
pub(crate) async fn processes(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let named = named(&gateway, &call).await?;
    // Looking starts nothing: in one that does not run, nothing does.
    let running = match named.exists().await?.running {
        Some(running) => running.processes().await?,
        None => Vec::new(),
    };
    let data = running.into_iter().map(|one| Running {
        kind: "sandbox_process",
        pid: one.pid,
        parent: one.parent,
        state: one.state,
        command: one.command,
        cpu_seconds: std::time::Duration::from_millis(one.cpu_ms).as_secs_f64(),
        memory_bytes: one.memory_bytes,
    });
    reply::json(&Page {
        data: data.collect(),
        next_page: None,
    })
}

async fn usage(running: &dyn Sandbox) -> Result<Usage, sandbox::Error> {
    let stats = running.stats().await?;
    Ok(Usage {
        memory_bytes: stats.memory_bytes,
        cpu_seconds: stats.cpu.map(|cpu| cpu.as_secs_f64()),
        processes: stats.processes,
        disk_bytes: stats.disk_bytes,
        disk_bytes_is_least: stats.disk_more,
    })
}

/// One as it stands, without what it uses.
pub(super) fn standing(gateway: &Gateway, one: &Standing) -> Shown {
    shown(gateway, one, None)
}

fn shown(gateway: &Gateway, one: &Standing, usage: Option<Usage>) -> Shown {
    let now = gateway.now();
    let ago = |at: Instant| {
        let past = i64::try_from(at.elapsed().as_micros()).unwrap_or(i64::MAX);
        Micros(now.0.saturating_sub(past))
    };
    Shown {
        kind: "sandbox",
        id: one.id.to_string(),
        session_id: one.id.as_str().parse().ok(),
        status: match &one.running {
            None => "stopped",
            Some(running) if running.is_paused() => "paused",
            Some(_) => "running",
        },
        running_since: one.since.map(ago),
        last_used_at: one.used.map(ago),
        template: None,
        isolation: one
            .running
            .as_ref()
            .and_then(|running| running.isolation())
            .map(Apart::from),
        steering: one.running.as_ref().map(|running| {
            running.steering().map(|steering| match steering {
                Steering::SkLookup => "sk_lookup",
                Steering::Tproxy => "tproxy",
            })
        }),
        usage,
    }
}
