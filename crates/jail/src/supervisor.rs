//! Owns one sandbox's processes from the host's side: starts PID 1, outlives it, kills it. It speaks to nobody inside.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpid,
    pidfd_open, pidfd_send_signal, set_dumpable_behavior, waitid,
};
use sys::{Forked, clone_process, flags};

use crate::carrier::Carrier;
use crate::control;
use crate::error::{During, GROUPS, LISTEN, NAMESPACES, Result};
use crate::groups::Groups;
use crate::net::{self, Network};
use crate::nursery::Born;
use crate::pid_one::PidOne;
use crate::plan::{Failure, Ground, ID_COUNT, Limits, Live, Plan, Report, Steering, VERSION};
use crate::record::Record;
use crate::setup::{Inherited, become_hand};
use crate::stage;
use crate::userns;
use crate::watch::{Owner, Watch};

/// What an outer container answers to clone3.
const ENOSYS: i32 = Errno::NOSYS.raw_os_error();
/// The most a report of the set-up may be long, in bytes.
const FAILURE_LIMIT: u64 = 1 << 20;

struct Running {
    pid: Pid,
    pidfd: OwnedFd,
}

/// Reads a [`Ground`] from the server and makes what stands on it, then, when the sandbox is somebody's, the [`Plan`],
/// runs the sandbox, reports. Who never hears a plan removes all of it again, and nobody's sandbox was in it.
///
/// The sandbox outlives the server. It ends when its PID 1 ends, when its server says so, when no server
/// has come for it in time (see `watch`), or when this process dies (PID 1 has it as its death signal).
pub(crate) fn supervise(born: Born) -> io::Result<()> {
    let Born { owner, line, alone } = born;
    is_here(&owner)?;
    // What came with it keeps the ids from others, for as long as this process lives.
    let (ground, _ids) = read_ground(&owner)?;
    if ground.has_own_ids() {
        close_to_others()?;
    }
    let own = PidOne::of(getpid().as_raw_nonzero().get())?;
    // Their name says whose they are: whatever happens from here on, somebody knows what to remove.
    let groups = Groups::new(&ground.groups, &own.name());
    let (network, begun, ids) = match prepare(&ground, line, &groups, alone) {
        Ok(made) => made,
        Err(failure) => return give_up(groups, &owner, failure),
    };
    let (plan, lock) = match whose(&owner, &begun) {
        Ok(Whose::Planned(plan, lock)) => (plan, lock),
        Ok(Whose::Failed(failure)) => {
            let _ = kill_and_reap(&begun.running, &groups);
            return give_up(groups, &owner, failure);
        }
        Ok(Whose::Nobodys) | Err(_) => {
            kill_and_reap(&begun.running, &groups)?;
            return Ok(());
        }
    };
    fcntl_setfl(&owner, OFlags::NONBLOCK)?;
    let standing = Standing {
        owner,
        own,
        ground,
        ids,
        groups,
        network,
    };
    standing.lives(&plan, begun, Lock(File::from(lock)))
}

/// What a sandbox stands on, when it is somebody's.
struct Standing {
    owner: OwnedFd,
    /// This process.
    own: PidOne,
    ground: Ground,
    ids: u32,
    groups: Groups,
    network: Option<Network>,
}

impl Standing {
    /// Starts the sandbox, watches it to its end, and reports that. The lock lives exactly as long as anything of it does.
    fn lives(self, plan: &Plan, begun: Begun, lock: Lock) -> io::Result<()> {
        let groups = self.groups;
        let limits = Limits {
            disk: plan.disk,
            ..self.ground.limits
        };
        let record = Record {
            supervisor: self.own,
            pid_one: Some(PidOne::of(begun.running.pid.as_raw_nonzero().get())?),
            groups: groups.dirs(),
            limits: limits.clone(),
        };
        // Before anything of the sandbox's own is touched, and so before a server knows of the hand.
        lock.note(&record)?;
        let sandbox = match start(plan, begun, &groups) {
            Ok(sandbox) => sandbox,
            Err(failure) => return give_up(groups, &self.owner, failure),
        };
        let running = sandbox.running;
        let live = Live {
            pid: running.pid.as_raw_nonzero().get(),
            id_base: self.ground.id_base,
            ids: self.ids,
            groups: groups.dirs(),
            oom_counter: groups.oom_counter(),
            limits,
            network: self.network.as_ref().map(Network::steering),
            gvisor: plan.gvisor.is_some(),
        };
        let mut watch = Watch {
            live: live.clone(),
            pid_one: running.pidfd.as_fd(),
            network: self.network.as_ref(),
            carrier: self.network.as_ref().map(Carrier::new),
            directory: sandbox.directory,
            listener: sandbox.listener,
            handover: sandbox.handover,
            generation: plan.generation,
            orphan: Duration::from_millis(plan.orphan_millis),
            owner: Owner::Server(self.owner),
            guest: None,
        };
        watch.begin(live);
        let ended = watch.until_the_end();
        let status = kill_and_reap(&running, &groups)?;
        ended?;
        let report = ended_as(status.as_ref(), &groups, plan.gvisor.is_some());
        drop(groups);
        control::remove(&watch.directory)?;
        watch.tell(&report)?;
        // Nobody waits for this.
        drop(sandbox.mounts);
        drop(lock);
        Ok(())
    }
}

/// Says that this process is there, so that the server can end it, whatever becomes of the set-up.
fn is_here(owner: &OwnedFd) -> io::Result<()> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    control::send(owner, &Report::Here, &[this.as_fd()])
}

/// `runsc` says by its own exit code, as shells do, which signal has ended gVisor's kernel; and that does not go on without
/// a part of it that was ended for want of memory.
fn ended_as(status: Option<&WaitIdStatus>, groups: &Groups, of_runsc: bool) -> Report {
    const SIGNALLED: i32 = 128;
    let code = status.and_then(WaitIdStatus::exit_status);
    let signal = status.and_then(WaitIdStatus::terminating_signal);
    let oom_kills = groups.oom_kills();
    let (code, signal) = match code {
        Some(_) if of_runsc && oom_kills > 0 => (None, Some(Signal::KILL.as_raw())),
        Some(code) if of_runsc && code > SIGNALLED => (None, Some(code - SIGNALLED)),
        code => (code, signal),
    };
    Report::Ended {
        code,
        signal,
        oom_kills,
    }
}

/// All that stands on the ground, and what leads out of it. After a failure whatever was started dies with this process.
fn prepare(
    ground: &Ground,
    line: OwnedFd,
    groups: &Groups,
    alone: bool,
) -> std::result::Result<(Option<Network>, Begun, u32), Failure> {
    let ids = own_rights(ground)?;
    let (network, in_network) = network(ground, alone);
    let begun = begin(ground, line.as_fd(), groups, in_network, ids);
    let begun = begun.map_err(|error| error.to_failure())?;
    // Only the hand may hold its end: the server must see it close.
    drop(line);
    if !ground.has_own_ids() {
        let closed = close_to_others().during("close the supervisor to others");
        closed.map_err(|error| error.to_failure())?;
    }
    Ok((network, begun, ids))
}

/// Whose the sandbox is to be.
enum Whose {
    /// That of this plan, and its lock.
    Planned(Box<Plan>, OwnedFd),
    /// There can be none.
    Failed(Failure),
    /// Nobody wants it any more.
    Nobodys,
}

/// Waits until that is known.
fn whose(owner: &OwnedFd, begun: &Begun) -> io::Result<Whose> {
    let mut both = [owner, &begun.errors].map(|end| PollFd::new(end, PollFlags::IN));
    while let Err(errno) = poll(&mut both, None) {
        if errno != Errno::INTR {
            return Err(errno.into());
        }
    }
    if !both[1].revents().is_empty() {
        return Ok(Whose::Failed(
            failure(&begun.errors).unwrap_or_else(unknown),
        ));
    }
    let Some((plan, beside)) = control::receive::<Box<Plan>>(owner)? else {
        return Ok(Whose::Nobodys);
    };
    let lock = beside
        .into_iter()
        .next()
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok(Whose::Planned(plan, lock))
}

/// The network, if there is to be one: made before anything is started that could use it. From then on this
/// process is inside it too. Where none can be made the sandbox has
/// none, which is never more than it may have: [`try_network`] says why.
///
/// And whether the sandbox is to be born in the network that this process is in. Not in one that was begun and is not
/// whole.
fn network(ground: &Ground, alone: bool) -> (Option<Network>, bool) {
    if !ground.network {
        return (None, alone);
    }
    let is_alone = alone || net::alone().is_ok();
    let network = is_alone.then(Network::make).and_then(Result::ok);
    let is_whole = network.is_some();
    (network, is_whole)
}

/// The role `network`: whether a network can be made on this host, with nothing but this process in it. Says on
/// standard output by what means ([`crate::plan::Steering`]), or what failed, as a [`Failure`].
#[must_use]
pub fn try_network() -> ExitCode {
    told(tried())
}

/// The role `network-of-user`: the same for sandboxes without ids of their own.
#[must_use]
pub fn try_network_of_user() -> ExitCode {
    told(userns::enter_own(None).and_then(|_| tried()))
}

fn tried() -> Result<Steering> {
    net::alone()?;
    let network = Network::make()?;
    network.try_it()?;
    Ok(network.steering())
}

fn told(tried: Result<Steering>) -> ExitCode {
    let (said, code) = match tried {
        Ok(steering) => (serde_json::to_vec(&steering), ExitCode::SUCCESS),
        Err(error) => (serde_json::to_vec(&error.to_failure()), ExitCode::FAILURE),
    };
    // Whoever asked has the code as well.
    let _ = io::stdout().write_all(&said.unwrap_or_default());
    code
}

/// Whoever may not give the sandbox ids of its own gets its rights from a user namespace around it. Returns how many
/// ids the sandbox can have.
fn own_rights(ground: &Ground) -> std::result::Result<u32, Failure> {
    if ground.has_own_ids() {
        return Ok(ID_COUNT);
    }
    userns::enter_own(ground.sub_ids).map_err(|error| error.to_failure())
}

/// Nobody may look into this process. One without rights of its own could then not set up a sandbox either: it
/// does this afterwards, when there is a sandbox.
fn close_to_others() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Who hears of the failure finds nothing left of it.
fn give_up(groups: Groups, owner: &OwnedFd, failure: Failure) -> io::Result<()> {
    drop(groups);
    control::send(owner, &Report::Failed(failure), &[])
}

/// The lock of the sandbox, and in it the record of it.
struct Lock(File);

impl Lock {
    fn note(&self, record: &Record) -> io::Result<()> {
        let note = serde_json::to_vec(record)?;
        // At no time is there no record: whoever finds more behind it reads the first.
        self.0.write_all_at(&note, 0)?;
        self.0
            .set_len(u64::try_from(note.len()).unwrap_or(u64::MAX))
    }
}

/// What the sandbox is to stand on, and the locks that are to be held while it lives.
fn read_ground(owner: &OwnedFd) -> io::Result<(Ground, Vec<OwnedFd>)> {
    let (ground, locks) = control::receive::<Ground>(owner)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if ground.version == VERSION {
        Ok((ground, locks))
    } else {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A sandbox whose hand runs.
struct Sandbox {
    running: Running,
    /// Its mount namespace. Without this the last process would end only after all of it is taken down, and
    /// taking down an overlay waits for the disk.
    mounts: Option<OwnedFd>,
    directory: OwnedFd,
    listener: OwnedFd,
    handover: OwnedFd,
}

/// Has what was begun become the sandbox of that plan. On a failure nothing of it is left but the groups.
fn start(plan: &Plan, begun: Begun, groups: &Groups) -> std::result::Result<Sandbox, Failure> {
    let mounts = mounts_of(begun.running.pid);
    // One that has gone has said why.
    let _ = control::send(&begun.plan, plan, &[]);
    // While the child works: nobody waits for it.
    let listening = listen(plan);
    let failed = failure(&begun.errors);
    let failed = failed.map_or(listening.map_err(|error| error.to_failure()), Err);
    match failed {
        Ok((directory, listener)) => Ok(Sandbox {
            running: begun.running,
            mounts,
            directory,
            listener,
            handover: begun.handover,
        }),
        Err(failure) => {
            // An error here would hide the cause, and PID 1 dies with this process in any case.
            let _ = kill_and_reap(&begun.running, groups);
            let _ = control::directory(&plan.dir).and_then(control::remove);
            Err(failure)
        }
    }
}

/// Of a child that nobody else has made anything of yet. Where even a parent may not look into it, its end only
/// takes longer.
fn mounts_of(child: Pid) -> Option<OwnedFd> {
    let path = format!("/proc/{}/ns/mnt", child.as_raw_nonzero());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

fn listen(plan: &Plan) -> Result<(OwnedFd, OwnedFd)> {
    let directory = control::directory(&plan.dir).during(LISTEN)?;
    let listener = control::listen(&directory).during(LISTEN)?;
    Ok((directory, listener))
}

/// A child that becomes the hand when it hears whose it is, or says by `errors` why not.
struct Begun {
    running: Running,
    handover: OwnedFd,
    errors: OwnedFd,
    /// Where it hears that. Closed, it ends.
    plan: OwnedFd,
}

fn begin(
    ground: &Ground,
    line: BorrowedFd<'_>,
    groups: &Groups,
    in_network: bool,
    ids: u32,
) -> Result<Begun> {
    // Absent keyrings are as good as an empty one.
    let _ = sys::leave_session_keyring();
    let program = rustix::fs::open(
        "/proc/self/exe",
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let program = program.during("open the helper")?;
    let making = userns::begin(ground, ids)?;
    groups.make().during(GROUPS)?;
    let (errors, errors_tx) = pipe_with(PipeFlags::CLOEXEC).during(NAMESPACES)?;
    let (handover, handover_theirs) = control::pair().during(NAMESPACES)?;
    let (plan, plan_theirs) = control::pair().during(NAMESPACES)?;
    let host = stage::namespace().during(NAMESPACES)?;
    let userns = making.finish()?;
    let (forked, outside_version_2) = fork(in_network, groups)?;
    match forked {
        Forked::Child => {
            // Or it would never see that the parent has gone.
            drop((errors, handover, plan));
            let inherited = Inherited {
                userns: userns.as_fd(),
                ids,
                program: program.as_fd(),
                line,
                handover: handover_theirs.as_fd(),
                plan: plan_theirs.as_fd(),
                host: host.as_fd(),
                errors: errors_tx.as_fd(),
                groups,
                in_network,
                outside_version_2,
            };
            let Err(error) = become_hand(ground, &inherited);
            let failure = serde_json::to_vec(&error.to_failure()).unwrap_or_default();
            report_failure(errors_tx, &failure)
        }
        Forked::Parent { pid, pidfd } => Ok(Begun {
            running: Running { pid, pidfd },
            handover,
            errors,
            plan,
        }),
    }
}

/// Why the child could not become the hand; waits until that is known.
fn failure(errors: &OwnedFd) -> Option<Failure> {
    let mut failure = Vec::new();
    let read = errors.try_clone().and_then(|errors| {
        let mut errors = File::from(errors).take(FAILURE_LIMIT);
        errors.read_to_end(&mut failure)
    });
    if read.is_ok() && failure.is_empty() {
        return None;
    }
    Some(serde_json::from_slice(&failure).unwrap_or_else(|_| unknown()))
}

fn unknown() -> Failure {
    Failure {
        step: "set up the sandbox".to_owned(),
        errno: 0,
        hint: "the set-up process died without a word".to_owned(),
    }
}

/// The child in its namespaces, and if it can be in its group of version 2 from its first instruction;
/// whether it still has to enter that one.
fn fork(in_network: bool, groups: &Groups) -> Result<(Forked, bool)> {
    // Not the cgroup namespace: its root is to be the group that the child enters.
    let namespaces = flags::NEWNS | flags::NEWPID | flags::NEWIPC | flags::NEWUTS;
    // As a rule it was made before, and the child is born in it.
    let alone = if in_network { 0 } else { flags::NEWNET };
    let namespaces = namespaces | alone;
    let group = groups.of_version_2().during(GROUPS)?;
    match clone_process(namespaces, group.as_ref().map(AsFd::as_fd)) {
        Err(error) if group.is_some() && error.raw_os_error() == Some(ENOSYS) => {
            Ok((clone_process(namespaces, None).during(NAMESPACES)?, true))
        }
        other => Ok((other.during(NAMESPACES)?, false)),
    }
}

fn report_failure(errors: OwnedFd, failure: &[u8]) -> ! {
    // Whoever reads it sees the end of the pipe in any case.
    let _ = File::from(errors).write_all(failure);
    std::process::exit(1)
}

/// Killing PID 1 kills every process of its pid namespace; the wait returns after the last one.
fn kill_and_reap(running: &Running, groups: &Groups) -> io::Result<Option<WaitIdStatus>> {
    match pidfd_send_signal(&running.pidfd, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    // After the signal: nothing of it runs again.
    groups.thaw();
    loop {
        match waitid(WaitId::PidFd(running.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
