//! The egress process: it carries what sandboxes send, as far as their policies allow, and records it. It must
//! never carry for a sandbox that has no policy, nor a byte that was not judged.
//!
//! It holds no privilege ([`renounce`]): the sockets of a sandbox come to it from the sandbox's supervisor, by
//! way of the server. Without the server the policies stand; without this process a sandbox has no network. It
//! ends when it is told to, or when nobody has used it for a while.

mod ahead;
mod answer;
mod audited;
mod bytes;
mod carried;
mod client;
mod dns;
mod explain;
mod flow;
mod held;
mod http;
mod limits;
mod line;
mod logins;
mod orders;
mod password;
mod postgres;
mod program;
mod question;
mod ready;
mod redis;
mod refusing;
mod relay;
mod renewal;
mod renounce;
mod speech;
mod tls;
mod upstream;
pub mod wire;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contract::time::Micros;
use rustix::fs::{FlockOperation, flock};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::carried::{Carried, Ends};
pub use self::client::Carrier;
pub use self::orders::Orders;
pub use self::program::Program;
pub use self::question::CarrierError;
pub use self::renounce::renounce;
use self::wire::{Answer, Request, VERSION};
pub use self::wire::{Explained, Keep, Owner, RefusedToken};
use crate::audit::{Action, Audit, AuditError, Kind, Options, Record};
use crate::inject::Credentials;
use crate::intercept::{Ca, Trust};
use crate::limits as bounds;
use crate::policy::Policy;

/// The name of the audit's database in the directory of the egress process.
pub const AUDIT: &str = "audit.db";
/// How long to wait before looking again whether an earlier process has gone.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How the process works.
pub struct Settings {
    /// Its directory: socket, lock and audit.
    pub dir: PathBuf,
    /// The time, for the audit.
    pub clock: fn() -> Micros,
    /// Where names are looked up: exempt, since every address is judged by the sandbox's policy.
    pub resolver: dial::Resolver,
    /// What servers are held against where requests inside TLS are judged.
    pub trust: Trust,
    /// Ends it.
    pub stop: CancellationToken,
}

/// Why there is no egress process.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Another one has the directory.
    #[error("another egress process runs in {0}")]
    Running(PathBuf),
    /// Without an audit there is no traffic.
    #[error("the egress audit")]
    Audit(#[from] AuditError),
    /// Its files or sockets.
    #[error("the egress process: {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// What all sandboxes share.
struct Host {
    dir: PathBuf,
    audit: Audit,
    /// Searches of the audit that may run.
    searches: Semaphore,
    ready: ready::Authorities,
    renewals: renewal::Renewals,
    /// How long the audit is kept, as the last server has said.
    keep: watch::Sender<Option<Keep>>,
    resolver: dial::Resolver,
    trust: Trust,
    stop: CancellationToken,
    tasks: TaskTracker,
    room: Arc<Semaphore>,
    clock: fn() -> Micros,
    begun: Instant,
    sandboxes: Mutex<HashMap<String, Arc<Carried>>>,
    /// By the listener of each: open while it is carried for.
    carries: Mutex<HashMap<u64, OwnedFd>>,
}

/// Carries until it is told to end. The caller has called [`renounce`] before it started any thread.
///
/// # Errors
/// [`HostError`]: nothing is carried.
pub async fn serve(settings: Settings) -> Result<(), HostError> {
    let doing = |doing| move |source| HostError::Io { doing, source };
    let lock = lock(&settings).await?;
    let listener = wire::listen(&settings.dir).map_err(doing("listen"))?;
    let listener = std::os::unix::net::UnixListener::from(listener);
    let listener = UnixListener::from_std(listener).map_err(doing("listen"))?;
    let audit = Audit::open(&settings.dir.join(AUDIT), Options::default())?;
    let host = Arc::new(Host {
        dir: settings.dir,
        audit,
        searches: Semaphore::new(bounds::AUDIT_SEARCHES),
        ready: ready::Authorities::default(),
        renewals: renewal::Renewals::default(),
        keep: watch::Sender::new(None),
        resolver: settings.resolver,
        trust: settings.trust,
        stop: settings.stop,
        tasks: TaskTracker::new(),
        room: Arc::new(Semaphore::new(renounce::connections())),
        clock: settings.clock,
        begun: Instant::now(),
        sandboxes: Mutex::default(),
        carries: Mutex::default(),
    });
    host.tasks.spawn(audited::keep(Arc::clone(&host)));
    host.tasks.spawn(ready::make(Arc::clone(&host)));
    let servers = TaskTracker::new();
    let mut used = Instant::now();
    loop {
        tokio::select! {
            () = host.stop.cancelled() => break,
            accepted = listener.accept() => {
                if let Ok((server, _)) = accepted && wire::check_peer(&server).is_ok() {
                    servers.spawn(hear(Arc::clone(&host), server));
                }
            }
            () = sleep(bounds::IDLE / 10) => {}
        }
        if !servers.is_empty() || !host.sandboxes().is_empty() {
            used = Instant::now();
        } else if used.elapsed() >= bounds::IDLE {
            break;
        }
    }
    host.stop.cancel();
    drop(listener);
    for tasks in [&servers, &host.tasks] {
        tasks.close();
        tasks.wait().await;
    }
    // The last of it is on the disk before the next process may begin.
    if let Some(host) = Arc::into_inner(host) {
        let closed = tokio::task::spawn_blocking(move || host.audit.close());
        let _ended = closed.await;
    }
    drop(lock);
    Ok(())
}

/// The directory, when an earlier process that is ending has let go of it.
async fn lock(settings: &Settings) -> Result<OwnedFd, HostError> {
    let doing = |source: io::Error| HostError::Io {
        doing: "lock its directory",
        source,
    };
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(settings.dir.join("lock"));
    let file = OwnedFd::from(file.map_err(doing)?);
    let deadline = Instant::now() + bounds::START;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                sleep(LOOK_AGAIN).await;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(HostError::Running(settings.dir.clone()));
            }
            Err(errno) => return Err(doing(errno.into())),
        }
    }
}

/// Answers one server until it goes.
async fn hear(host: Arc<Host>, server: UnixStream) {
    loop {
        let receive = || wire::receive::<Request>(&server);
        let heard = tokio::select! {
            () = host.stop.cancelled() => return,
            heard = server.async_io(Interest::READABLE, receive) => heard,
        };
        // Gone, or it talks nonsense: what it said before stands.
        let Ok(Some((request, descriptors))) = heard else {
            return;
        };
        let answered = match request {
            Request::Refusals => return host.renewals.tell(server, &host.stop).await,
            Request::Audit { search, wait } => audited::answer(&host, &server, *search, wait).await,
            Request::Explain {
                sandbox,
                url,
                method,
            } => Some((host.explain(&sandbox, &url, &method).await, None)),
            request => Some((host.obey(request, descriptors), None)),
        };
        let Some((answer, beside)) = answered else {
            return;
        };
        let beside: Vec<_> = beside.iter().map(AsFd::as_fd).collect();
        if wire::send(&server, &answer, &beside).is_err() {
            return;
        }
    }
}

impl Host {
    fn obey(self: &Arc<Self>, request: Request, descriptors: Vec<OwnedFd>) -> Answer {
        let done = match request {
            Request::Hello { version } if version == VERSION => {
                return Answer::Welcome { version };
            }
            Request::Hello { .. } => return Answer::Welcome { version: VERSION },
            Request::Attach { sandbox, owner } => {
                return match self.attach(sandbox, owner, descriptors) {
                    Ok(certificate) => Answer::Attached { certificate },
                    Err(problem) => Answer::Refused { problem },
                };
            }
            Request::Policy { sandbox } => self.set_policy(&sandbox, descriptors),
            Request::Keep { keep } => {
                self.keep.send_replace(Some(keep));
                Ok(())
            }
            Request::Renewed {
                sandbox,
                credential,
            } => {
                self.renewals.answered(&sandbox, credential);
                Ok(())
            }
            // These wait for something: they are answered elsewhere.
            Request::Audit { .. } | Request::Explain { .. } | Request::Refusals => {
                Err("it cannot wait".to_owned())
            }
            Request::End => {
                self.stop.cancel();
                Ok(())
            }
        };
        match done {
            Ok(()) => Answer::Done,
            Err(problem) => Answer::Refused { problem },
        }
    }

    fn attach(
        self: &Arc<Self>,
        name: String,
        owner: Option<Owner>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<String, String> {
        let Ok([pid_one, tcp, dns, line, policy, memory, credentials]) =
            <[OwnedFd; 7]>::try_from(descriptors)
        else {
            return Err("a sandbox is attached with seven descriptors".to_owned());
        };
        let (orders, problem) = orders(policy, credentials);
        let is_known = carried::identity(&tcp).map_err(|error| error.to_string())?;
        let known = self.sandboxes().get(&name).cloned();
        let certificate = match known {
            Some(known) if known.listener == is_known => {
                wire::save(&memory, &known.ca).map_err(|error| error.to_string())?;
                known.set_policy(orders.0, orders.1);
                known.ca.pem().to_owned()
            }
            other => {
                if let Some(former) = other {
                    former.over.cancel();
                }
                let ca = self.authority(&memory)?;
                let certificate = ca.pem().to_owned();
                let ends = Ends { pid_one, tcp, dns };
                let started =
                    Carried::start(Arc::clone(self), name.clone(), owner, ends, orders, ca);
                let started = started.map_err(|error| error.to_string())?;
                self.sandboxes().insert(name, started);
                // From here on connections are ours.
                let carries = carries(&line).map_err(|error| error.to_string())?;
                self.carries().insert(is_known, carries);
                certificate
            }
        };
        problem.map_or(Ok(certificate), Err)
    }

    /// The authority of a sandbox: the one that an earlier egress process left in that memory, or a new one.
    fn authority(&self, memory: &OwnedFd) -> Result<Ca, String> {
        let saved = wire::saved(memory).map_err(|error| error.to_string())?;
        let restored = saved.map(|saved| Ca::restored(&saved, self.now()));
        if let Some(Ok(ca)) = restored {
            return Ok(ca);
        }
        let ca = self
            .ready
            .take(self.now())
            .map_err(|error| error.to_string())?;
        wire::save(memory, &ca).map_err(|error| error.to_string())?;
        Ok(ca)
    }

    fn set_policy(&self, name: &str, descriptors: Vec<OwnedFd>) -> Result<(), String> {
        let Ok([policy, credentials]) = <[OwnedFd; 2]>::try_from(descriptors) else {
            return Err("a policy and its credentials are two descriptors".to_owned());
        };
        let carried = self.carried(name)?;
        let ((policy, credentials), problem) = orders(policy, credentials);
        carried.set_policy(policy, credentials);
        problem.map_or(Ok(()), Err)
    }

    fn carried(&self, name: &str) -> Result<Arc<Carried>, String> {
        let found = self.sandboxes().get(name).cloned();
        found.ok_or_else(|| format!("no sandbox {name} is attached to the egress process"))
    }

    /// The sandbox has ended; another one of its name may be there already.
    fn forget(&self, ended: &Arc<Carried>) {
        self.carries().remove(&ended.listener);
        let mut sandboxes = self.sandboxes();
        if sandboxes
            .get(&ended.name)
            .is_some_and(|held| Arc::ptr_eq(held, ended))
        {
            sandboxes.remove(&ended.name);
        }
    }

    /// Seconds of a steady clock.
    fn seconds(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    /// The time.
    fn now(&self) -> Micros {
        (self.clock)()
    }

    /// A record of that sandbox, of now, with nothing carried.
    fn record(
        &self,
        carried: &Carried,
        kind: Kind,
        protocol: &str,
        action: Action,
        rule: &str,
        reason: String,
    ) -> Record {
        Record {
            at: self.now(),
            kind,
            sandbox: carried.name.clone(),
            workspace: carried.owner.map(|owner| owner.workspace),
            session: carried.owner.map(|owner| owner.session),
            thread: None,
            name: None,
            address: None,
            port: None,
            protocol: protocol.to_owned(),
            method: None,
            path: None,
            rule: rule.to_owned(),
            action,
            reason,
            credential: None,
            bytes_out: 0,
            bytes_in: 0,
            duration_us: 0,
            upstream_status: None,
        }
    }

    fn carries(&self) -> MutexGuard<'_, HashMap<u64, OwnedFd>> {
        self.carries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sandboxes(&self) -> MutexGuard<'_, HashMap<String, Arc<Carried>>> {
        self.sandboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the supervisor of a sandbox that this process carries for it, until what is returned is closed.
fn carries(line: &OwnedFd) -> io::Result<OwnedFd> {
    let (ours, theirs) = control::pair()?;
    wire::send_word(line, &[theirs.as_fd()])?;
    Ok(ours)
}

/// Policy and credentials behind two descriptors, and what is wrong with them.
fn orders(policy: OwnedFd, credentials: OwnedFd) -> ((Policy, Credentials), Option<String>) {
    let (policy, problem) = compiled(policy);
    let read = wire::credentials_in(credentials).map_err(|error| error.to_string());
    match read.and_then(Credentials::read) {
        Ok(credentials) => ((policy, credentials), problem),
        // Placeholders go out as they are, which is never more than they may.
        Err(of_credentials) => (
            (policy, Credentials::none()),
            problem.or(Some(of_credentials)),
        ),
    }
}

/// The policy behind a descriptor; one that cannot be read allows nothing, and what is wrong with it.
fn compiled(policy: OwnedFd) -> (Policy, Option<String>) {
    let read = wire::policy_in(policy).map_err(|error| error.to_string());
    let compiled =
        read.and_then(|file| Policy::compile(file.into()).map_err(|error| error.to_string()));
    match compiled {
        Ok(policy) => (policy, None),
        Err(problem) => (Policy::nothing(), Some(problem)),
    }
}
