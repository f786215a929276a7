//! One sandbox that is carried for: its policy, its names, its open connections. It must never let anything
//! through that the policy in force does not, nor outlive the sandbox.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rustix::event::epoll;
use rustls::ClientConfig;
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::answer::reset;
use super::http::Call;
use super::wire::Owner;
use super::{Host, dns, flow};
use crate::dns::Pool;
use crate::inject::{Credentials, Refused};
use crate::intercept::Ca;
use crate::limits;
use crate::name::Target;
use crate::path::Path;
use crate::policy::{Attempt, Decision, Policy, Request, Seen, Verdict};

/// How long to wait when no connection can be accepted, as for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Room for one more connection.
pub(super) type Place = [OwnedSemaphorePermit; 2];

/// A sandbox.
pub(super) struct Carried {
    pub(super) host: Arc<Host>,
    pub(super) name: String,
    pub(super) owner: Option<Owner>,
    /// Which socket its listener is: another one is another sandbox of that name.
    pub(super) listener: u64,
    policy: RwLock<Arc<Policy>>,
    credentials: RwLock<Arc<Credentials>>,
    pool: Mutex<Pool>,
    flows: Mutex<HashMap<u64, Open>>,
    numbers: AtomicU64,
    room: Arc<Semaphore>,
    /// Who computes the proof of a password: one connection at a time.
    pub(super) proving: Arc<Semaphore>,
    /// What its programs trust where requests inside TLS are judged.
    pub(super) ca: Ca,
    trust: [Arc<ClientConfig>; 2],
    /// Nothing of it is carried any more.
    pub(super) over: CancellationToken,
}

/// A connection that was let through.
pub(super) struct Open {
    pub(super) target: Target,
    pub(super) port: u16,
    /// What it was judged by.
    pub(super) spoken: Spoken,
    /// The request that it carries, if it is one.
    pub(super) request: Option<Asked>,
    /// Where it leads.
    pub(super) address: IpAddr,
    /// It is to end: the policy that let it through is no more.
    pub(super) revoked: CancellationToken,
}

/// A request, as far as rules speak of it.
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: Path,
    /// What it asks of an MCP server.
    pub(super) calls: Vec<Call>,
}

/// What has been seen of a connection that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Tls,
    Http,
    Opaque,
}

impl Spoken {
    pub(super) fn seen(self) -> Seen<'static> {
        match self {
            Self::Tls => Seen::Tls,
            Self::Http => Seen::Http,
            Self::Opaque => Seen::Opaque,
        }
    }

    /// As in the audit.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Opaque => "tcp",
        }
    }
}

/// The descriptors of a sandbox.
pub(super) struct Ends {
    pub(super) pid_one: OwnedFd,
    pub(super) tcp: OwnedFd,
    pub(super) dns: OwnedFd,
}

/// A place among the open connections, given back when dropped.
pub(super) struct Registered {
    carried: Arc<Carried>,
    number: u64,
    pub(super) revoked: CancellationToken,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.carried.flows().remove(&self.number);
    }
}

impl Carried {
    /// Carries for the sandbox of these ends until it has ended.
    ///
    /// # Errors
    /// They are no such descriptors.
    pub(super) fn start(
        host: Arc<Host>,
        name: String,
        owner: Option<Owner>,
        ends: Ends,
        (policy, credentials): (Policy, Credentials),
        ca: Ca,
    ) -> io::Result<Arc<Self>> {
        let listener = identity(&ends.tcp)?;
        let tcp = std::net::TcpListener::from(ends.tcp);
        tcp.set_nonblocking(true)?;
        let tcp = TcpListener::from_std(tcp)?;
        let udp = std::net::UdpSocket::from(ends.dns);
        udp.set_nonblocking(true)?;
        let udp = UdpSocket::from_std(udp)?;
        let pid_one = End::of(ends.pid_one)?;
        let carried = Arc::new(Self {
            name,
            owner,
            listener,
            policy: RwLock::new(Arc::new(policy)),
            credentials: RwLock::new(Arc::new(credentials)),
            pool: Mutex::default(),
            flows: Mutex::default(),
            numbers: AtomicU64::new(0),
            room: Arc::new(Semaphore::new(limits::FLOWS)),
            proving: Arc::new(Semaphore::new(1)),
            ca,
            trust: [host.trust.both(), host.trust.only_one()],
            over: host.stop.child_token(),
            host,
        });
        let tasks = &carried.host.tasks;
        tasks.spawn(Arc::clone(&carried).accept(tcp));
        tasks.spawn(dns::serve(Arc::clone(&carried), udp));
        tasks.spawn(Arc::clone(&carried).until_the_end(pid_one));
        Ok(carried)
    }

    async fn until_the_end(self: Arc<Self>, pid_one: End) {
        tokio::select! {
            () = self.over.cancelled() => {}
            // An error cannot be waited out; a sandbox that nobody watches is not carried for.
            _ = pid_one.epoll.readable() => {}
        }
        self.over.cancel();
        self.host.forget(&self);
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.over.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((client, _)) => self.admit(client).await,
                Err(error) => {
                    tracing::debug!(sandbox = self.name, %error, "no connection is accepted");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    async fn admit(self: &Arc<Self>, client: TcpStream) {
        let Some(room) = self.room() else {
            return flow::refuse_for_want_of_room(self, client).await;
        };
        let carried = Arc::clone(self);
        self.host.tasks.spawn(async move {
            let over = carried.over.clone();
            tokio::select! {
                () = flow::carry(carried, client) => {}
                () = over.cancelled() => {}
            }
            drop(room);
        });
    }

    /// A place for one more connection, of this sandbox and of all.
    pub(super) fn room(&self) -> Option<Place> {
        let own = Arc::clone(&self.room).try_acquire_owned().ok()?;
        let all = Arc::clone(&self.host.room).try_acquire_owned().ok()?;
        Some([own, all])
    }

    /// The policy in force.
    pub(super) fn policy(&self) -> Arc<Policy> {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&policy)
    }

    /// The credentials that its programs may use.
    pub(super) fn credentials(&self) -> Arc<Credentials> {
        let held = self.credentials.read();
        Arc::clone(&held.unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is another token than the one that was refused; its lender is asked for one. Takes as long as that
    /// does, at most [`limits::RENEWAL`].
    ///
    /// Cancel safe: yes.
    pub(super) async fn renewed(&self, refused: &Refused) -> bool {
        if self.credentials().have_other(refused) {
            return true;
        }
        let renewals = &self.host.renewals;
        renewals.ask(&self.name, refused.id, &refused.lent).await;
        self.credentials().have_other(refused)
    }

    /// Puts another policy in force, and closes what it does not allow. The credentials are those of every request
    /// from now on.
    pub(super) fn set_policy(&self, policy: Policy, credentials: Credentials) {
        let policy = Arc::new(policy);
        {
            let held = self.credentials.write();
            *held.unwrap_or_else(PoisonError::into_inner) = Arc::new(credentials);
        }
        {
            let mut held = self.policy.write().unwrap_or_else(PoisonError::into_inner);
            *held = Arc::clone(&policy);
        }
        // One that registers from here on has asked, or asks again, the new one.
        for open in self.flows().values() {
            if !still_allowed(&policy, open) {
                open.revoked.cancel();
            }
        }
    }

    /// Counts a connection that `by` let through as open. `None` if the policy has changed meanwhile so that it
    /// may not be.
    pub(super) fn register(self: &Arc<Self>, open: Open) -> Option<Registered> {
        let revoked = open.revoked.clone();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.flows().insert(number, open);
        let registered = Registered {
            carried: Arc::clone(self),
            number,
            revoked,
        };
        // After it is counted: a policy that came in between has either seen it or is seen here.
        let policy = self.policy();
        let allowed = self
            .flows()
            .get(&number)
            .is_some_and(|open| still_allowed(&policy, open));
        allowed.then_some(registered)
    }

    /// What a connection to that address is to: the name that it stands for, or itself. `None` for a virtual
    /// address that stands for nothing.
    pub(super) fn target(&self, ip: IpAddr) -> Option<Target> {
        if Pool::is_virtual(ip) {
            let name = self.pool().name_of(ip, self.host.seconds());
            return name.map(Target::Name);
        }
        Some(Target::Address(ip))
    }

    /// How servers are spoken to over TLS: in HTTP/1 only, or in what they choose. Sessions are resumed within
    /// one sandbox.
    pub(super) fn trust(&self, only_one: bool) -> Arc<ClientConfig> {
        let [both, one] = &self.trust;
        Arc::clone(if only_one { one } else { both })
    }

    /// The names of the sandbox.
    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flows(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a sandbox, to wait for.
struct End {
    /// Of nothing but the pidfd. It stands between because its flags are its own, and those of the pidfd are the
    /// supervisor's too, which waits for it blockingly. Only to wait for it, it is taken for a stream.
    epoll: UnixStream,
    _pidfd: OwnedFd,
}

impl End {
    fn of(pidfd: OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(0);
        epoll::add(&epoll, &pidfd, data, epoll::EventFlags::IN)?;
        let epoll = std::os::unix::net::UnixStream::from(epoll);
        epoll.set_nonblocking(true)?;
        Ok(Self {
            epoll: UnixStream::from_std(epoll)?,
            _pidfd: pidfd,
        })
    }
}

/// Whether a connection that is open would be let through now.
fn still_allowed(policy: &Policy, open: &Open) -> bool {
    let attempt = |seen| Attempt {
        target: &open.target,
        port: open.port,
        seen,
    };
    let mut seen = Seen::Nothing;
    let mut decision: Decision = policy.decide(&attempt(seen));
    if decision.verdict == Verdict::Look {
        seen = open.spoken.seen();
        decision = policy.decide(&attempt(seen));
    }
    let calls = open.request.iter().flat_map(|asked| {
        asked.calls.iter().map(|call| Request {
            method: &asked.method,
            path: &asked.path,
            mcp: call.as_mcp(),
        })
    });
    for request in calls {
        seen = match open.spoken {
            Spoken::Tls => Seen::RequestInTls(request),
            Spoken::Http | Spoken::Opaque => Seen::Request(request),
        };
        decision = policy.decide(&attempt(seen));
        if decision.verdict != Verdict::Allow {
            return false;
        }
    }
    match decision.verdict {
        Verdict::Allow => {
            policy
                .judge_address(&attempt(seen), &decision, open.address)
                .verdict
                == Verdict::Allow
        }
        Verdict::Deny | Verdict::Look | Verdict::Inspect => false,
    }
}

/// Which socket that is, whoever holds it under whatever number.
pub(super) fn identity(socket: &OwnedFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(socket.as_fd())?.st_ino)
}

/// Ends a connection whose sandbox has no policy for it.
pub(super) fn end(client: TcpStream, upstream: TcpStream) {
    reset(client);
    reset(upstream);
}
