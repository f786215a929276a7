//! Owns one sandbox's processes from the host's side: starts PID 1, outlives it, kills it. It speaks to nobody inside.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::Duration;

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
use crate::plan::{Failure, ID_COUNT, Live, Plan, Report, Steering, VERSION};
use crate::record::Record;
use crate::setup::{Inherited, become_hand};
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

/// Reads a [`Plan`] from the server, runs the sandbox, reports.
///
/// The sandbox outlives the server. It ends when its PID 1 ends, when its server says so, when no server
/// has come for it in time (see `watch`), or when this process dies (PID 1 has it as its death signal).
pub(crate) fn supervise(born: Born) -> io::Result<()> {
    let Born {
        owner,
        line,
        lock,
        alone,
    } = born;
    let mut lock = Lock(File::from(lock));
    is_here(&owner)?;
    // What came with it keeps the ids from others, for as long as this process lives.
    let (plan, _ids) = read_plan(&owner)?;
    if plan.has_own_ids() {
        close_to_others()?;
    }
    fcntl_setfl(&owner, OFlags::NONBLOCK)?;
    let own = PidOne::of(getpid().as_raw_nonzero().get())?;
    let groups = Groups::new(&plan.groups, &own.name());
    let mut record = first_record(own, &groups, &plan);
    // Before they are made: whatever happens from here on, somebody knows what to remove.
    lock.note(&record)?;
    let (network, sandbox, ids) = match set_up(&plan, line, &groups, alone) {
        Ok(made) => made,
        Err(failure) => return give_up(groups, &owner, failure),
    };
    let Sandbox {
        running,
        mounts,
        directory,
        listener,
        handover,
    } = sandbox;
    let steering = network.as_ref().map(Network::steering);
    let live = live(&plan, running.pid, &groups, steering, ids);
    let mut watch = Watch {
        live: live.clone(),
        pid_one: running.pidfd.as_fd(),
        network: network.as_ref(),
        carrier: network.as_ref().map(Carrier::new),
        directory,
        listener,
        handover,
        generation: plan.generation,
        orphan: Duration::from_millis(plan.orphan_millis),
        owner: Owner::Server(owner),
        guest: None,
    };
    // Before a server knows of the hand, which runs nothing until it is asked to.
    let noted = PidOne::of(live.pid).and_then(|pid_one| {
        record.pid_one = Some(pid_one);
        lock.note(&record)
    });
    let ended = noted.and_then(|()| {
        watch.begin(live);
        watch.until_the_end()
    });
    let status = kill_and_reap(&running, &groups)?;
    ended?;
    let report = ended_as(status.as_ref(), &groups, plan.gvisor.is_some());
    drop(groups);
    control::remove(&watch.directory)?;
    watch.tell(&report)?;
    // Nobody waits for this.
    drop(mounts);
    // The lock lives exactly as long as anything of the sandbox does.
    drop(lock);
    Ok(())
}

/// Says that this process is there, so that the server can end it, whatever becomes of the set-up.
fn is_here(owner: &OwnedFd) -> io::Result<()> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    control::send(owner, &Report::Here, &[this.as_fd()])
}

/// What is known before there is a sandbox.
fn first_record(own: PidOne, groups: &Groups, plan: &Plan) -> Record {
    Record {
        supervisor: own,
        pid_one: None,
        groups: groups.dirs(),
        limits: plan.limits.clone(),
    }
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

/// The sandbox, and what leads out of it. After a failure whatever was started dies with this process.
fn set_up(
    plan: &Plan,
    line: OwnedFd,
    groups: &Groups,
    alone: bool,
) -> std::result::Result<(Option<Network>, Sandbox, u32), Failure> {
    let ids = own_rights(plan)?;
    let (network, in_network) = network(plan, alone);
    let sandbox = start(plan, line, groups, in_network, ids)?;
    if !plan.has_own_ids() {
        let closed = close_to_others().during("close the supervisor to others");
        closed.map_err(|error| error.to_failure())?;
    }
    Ok((network, sandbox, ids))
}

fn live(plan: &Plan, pid: Pid, groups: &Groups, network: Option<Steering>, ids: u32) -> Live {
    Live {
        pid: pid.as_raw_nonzero().get(),
        id_base: plan.id_base,
        ids,
        groups: groups.dirs(),
        oom_counter: groups.oom_counter(),
        limits: plan.limits.clone(),
        network,
        gvisor: plan.gvisor.is_some(),
    }
}

/// The network, if there is to be one: made before anything is started that could use it. From then on this
/// process is inside it too. Where none can be made the sandbox has
/// none, which is never more than it may have: [`try_network`] says why.
///
/// And whether the sandbox is to be born in the network that this process is in. Not in one that was begun and is not
/// whole.
fn network(plan: &Plan, alone: bool) -> (Option<Network>, bool) {
    if !plan.network {
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
fn own_rights(plan: &Plan) -> std::result::Result<u32, Failure> {
    if plan.has_own_ids() {
        return Ok(ID_COUNT);
    }
    userns::enter_own(plan.sub_ids).map_err(|error| error.to_failure())
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
    fn note(&mut self, record: &Record) -> io::Result<()> {
        let note = serde_json::to_vec(record)?;
        // At no time is there no record: whoever finds more behind it reads the first.
        self.0.write_all_at(&note, 0)?;
        self.0
            .set_len(u64::try_from(note.len()).unwrap_or(u64::MAX))
    }
}

/// The plan, and the locks that are to be held while its sandbox lives.
fn read_plan(owner: &OwnedFd) -> io::Result<(Plan, Vec<OwnedFd>)> {
    let (plan, locks) = control::receive::<Plan>(owner)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if plan.version == VERSION {
        Ok((plan, locks))
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

/// Starts the hand, with `line` to the server. On a failure nothing of it is left but the groups.
fn start(
    plan: &Plan,
    line: OwnedFd,
    groups: &Groups,
    in_network: bool,
    ids: u32,
) -> std::result::Result<Sandbox, Failure> {
    let begun =
        begin(plan, line.as_fd(), groups, in_network, ids).map_err(|error| error.to_failure())?;
    let mounts = mounts_of(begun.running.pid);
    // Only the hand may hold its end: the server must see it close.
    drop(line);
    // While the child works: nobody waits for it.
    let listening = listen(plan);
    let failed = failure(begun.errors);
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

/// A child that becomes the hand, or says by `errors` why not.
struct Begun {
    running: Running,
    handover: OwnedFd,
    errors: OwnedFd,
}

fn begin(
    plan: &Plan,
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
    let making = userns::begin(plan, ids)?;
    groups.make().during(GROUPS)?;
    let (errors, errors_tx) = pipe_with(PipeFlags::CLOEXEC).during(NAMESPACES)?;
    let (handover, handover_theirs) = control::pair().during(NAMESPACES)?;
    let userns = making.finish()?;
    let (forked, outside_version_2) = fork(in_network, groups)?;
    match forked {
        Forked::Child => {
            drop((errors, handover));
            let inherited = Inherited {
                userns: userns.as_fd(),
                ids,
                program: program.as_fd(),
                line,
                handover: handover_theirs.as_fd(),
                errors: errors_tx.as_fd(),
                groups,
                in_network,
                outside_version_2,
            };
            let Err(error) = become_hand(plan, &inherited);
            let failure = serde_json::to_vec(&error.to_failure()).unwrap_or_default();
            report_failure(errors_tx, &failure)
        }
        Forked::Parent { pid, pidfd } => Ok(Begun {
            running: Running { pid, pidfd },
            handover,
            errors,
        }),
    }
}

/// Why the child could not become the hand; waits until that is known.
fn failure(errors: OwnedFd) -> Option<Failure> {
    let mut failure = Vec::new();
    let read = File::from(errors)
        .take(FAILURE_LIMIT)
        .read_to_end(&mut failure);
    if read.is_ok() && failure.is_empty() {
        return None;
    }
    let unknown = |_| Failure {
        step: "set up the sandbox".to_owned(),
        errno: 0,
        hint: "the set-up process died without a word".to_owned(),
    };
    Some(serde_json::from_slice(&failure).unwrap_or_else(unknown))
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
