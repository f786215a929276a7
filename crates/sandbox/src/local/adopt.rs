//! Owns taking over a sandbox that an earlier server left running. It starts none, and takes none from a
//! server that is there.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use hand::wire::Ask;
use jail::control;
use jail::plan::{Refusal, Report, Request, VERSION};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::client::Client;
use super::freezer::Freezer;
use super::memory::Memory;
use super::running::Running;
use super::supervisor::{Body, Supervisor};
use super::trust::{Files, Store, Trusting};
use super::{Shared, blocking, net};
use crate::error::{Doing, Error};
use crate::limits::{ADOPTION, OWNED_RETRY, STOP};
use crate::provider::{How, SandboxId};

/// What became of one try.
enum Tried {
    Adopted(Box<Running>),
    /// No supervisor runs.
    None,
    /// The server that has it is there.
    Owned,
}

/// The sandbox, if an earlier server left it running. One that cannot be talked to any more is ended: its
/// workspace stays.
///
/// Cancel safe: yes; a sandbox that is half taken over ends.
///
/// # Errors
/// [`Error::Busy`] when another process has it for all of the time that a handover may take.
pub(super) async fn adopt(shared: &Arc<Shared>, id: &SandboxId) -> Result<Option<Running>, Error> {
    let doing = || format!("take over sandbox {id}");
    let directory = match control::directory(shared.dirs.path(id)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.doing(doing)?,
    };
    let deadline = Instant::now() + shared.dirs.handover();
    loop {
        match try_adopt(shared, id, &directory).await? {
            Tried::Adopted(running) => return Ok(Some(*running)),
            // One whose server died while it was on its way up can be talked to only when it is there.
            Tried::None if shared.dirs.is_held(id) && Instant::now() < deadline => {
                sleep(OWNED_RETRY).await;
            }
            Tried::None => return Ok(None),
            Tried::Owned if Instant::now() < deadline => sleep(OWNED_RETRY).await,
            Tried::Owned => {
                return Err(Error::busy(format!("another process runs sandbox {id}")));
            }
        }
    }
}

async fn try_adopt(
    shared: &Arc<Shared>,
    id: &SandboxId,
    directory: &OwnedFd,
) -> Result<Tried, Error> {
    let doing = || format!("take over sandbox {id}");
    let Some(mut supervisor) = Supervisor::found(directory, &shared.leaving).doing(doing)? else {
        return Ok(Tried::None);
    };
    let generation = shared.dirs.generation();
    let asked = supervisor.tell(&Request::Adopt {
        version: VERSION,
        generation,
    });
    let answer = match asked {
        Ok(()) => timeout(ADOPTION, supervisor.report()).await.ok().flatten(),
        Err(_) => None,
    };
    let body = match answer {
        Some((Report::Adopted(live), descriptors)) => Body::new(live, descriptors),
        Some((
            Report::Refused {
                why: Refusal::Owned,
            },
            _,
        )) => {
            supervisor.forget();
            return Ok(Tried::Owned);
        }
        Some((
            Report::Refused {
                why: Refusal::Stale,
            },
            _,
        )) => {
            supervisor.forget();
            return Err(Error::busy(format!("a later process had sandbox {id}")));
        }
        // It was about to end, or is of a build that nobody understands.
        _ => None,
    };
    if let Some(body) = &body {
        // A hand that stands still answers nobody.
        let frozen = Freezer::among(&body.live.groups);
        let _ = tokio::task::spawn_blocking(move || frozen.thaw()).await;
    }
    if let Some(mut body) = body
        && let Some(line) = body.line.take()
        && let Ok(client) = connect(shared, line).await
        && client.ask(&Ask::Resume).await.is_ok()
    {
        let running = taken_over(shared, id, client, supervisor, body).await?;
        return Ok(Tried::Adopted(Box::new(running)));
    }
    tracing::warn!(sandbox = %id, "a sandbox that an earlier server left cannot be taken over: it ends");
    supervisor.end();
    if timeout(STOP, supervisor.ended()).await.is_err() {
        supervisor.kill();
    }
    Ok(Tried::None)
}

/// One that runs and answers, with its network.
async fn taken_over(
    shared: &Arc<Shared>,
    id: &SandboxId,
    client: Client,
    supervisor: Supervisor,
    mut body: Body,
) -> Result<Running, Error> {
    let trusting = Trusting::new(java(shared, id).await, Files::Running);
    trusting.is_up(client.clone());
    net::attach(shared, id, &mut body, &trusting).await?;
    net::renew_variables(shared, id, &trusting).await;
    let range = shared.ranges.share(body.live.id_base);
    let memory = Memory::of(&body.live);
    let running = Running::new(
        (client, trusting),
        supervisor,
        body,
        range,
        memory,
        shared,
        id.clone(),
    );
    let running = running.born(How::TakenOver, Vec::new());
    tracing::info!(sandbox = %id, "took over a sandbox that runs");
    Ok(running)
}

/// What Java trusts in that sandbox's template. One that cannot be read keeps nobody from a sandbox that runs.
async fn java(shared: &Arc<Shared>, id: &SandboxId) -> Option<Arc<Store>> {
    let (known, dir) = (Arc::clone(shared), shared.dirs.path(id));
    let base = blocking(String::new, move || known.base_of(&dir)).await;
    base.and_then(|base| base).ok()?.java.clone()
}

async fn connect(shared: &Arc<Shared>, line: OwnedFd) -> Result<Client, Error> {
    let doing = || "talk to the hand".to_owned();
    let line = std::os::unix::net::UnixStream::from(line);
    line.set_nonblocking(true).doing(doing)?;
    let line = UnixStream::from_std(line).doing(doing)?;
    let generation = shared.dirs.generation();
    let connected = timeout(ADOPTION, Client::connect(line, generation, &shared.tasks)).await;
    connected.map_err(|_| Error::Lost)?
}
