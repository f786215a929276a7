//! Owns one sandbox's processes from the host's side: starts PID 1, outlives it, kills it. It speaks to nobody inside.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal,
    set_dumpable_behavior, waitid,
};
use sys::{Forked, Standard, clone_process, flags, take_standard};

use crate::error::{During, GROUPS, NAMESPACES, Result};
use crate::groups::Groups;
use crate::pid_one::PidOne;
use crate::plan::{Failure, Plan, Report, VERSION};
use crate::record::Record;
use crate::setup::{Inherited, become_hand};
use crate::userns;

/// Where `Command` of the server put the control socket.
const CONTROL: Standard = Standard::Input;
/// Where it put the hand's end of its socket.
const HAND: Standard = Standard::Output;
/// Where it put the lock of the sandbox, held until the sandbox is gone.
const LOCK: Standard = Standard::Error;
/// What an outer container answers to clone3.
const ENOSYS: i32 = Errno::NOSYS.raw_os_error();
/// The most a plan or a report may be long, in bytes.
const LINE_LIMIT: u64 = 1 << 20;

/// The role `supervisor`: reads a [`Plan`] from the control socket, runs the sandbox, reports.
///
/// The sandbox ends when its PID 1 ends, when the control socket closes (the server is gone or
/// wants it gone), or when this process dies (PID 1 has it as its death signal).
#[must_use]
pub fn run() -> ExitCode {
    match supervise() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

struct Running {
    pid: Pid,
    pidfd: OwnedFd,
}

fn supervise() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut control = UnixStream::from(take_standard(CONTROL, null.as_fd())?);
    let hand = take_standard(HAND, null.as_fd())?;
    let mut lock = Lock(File::from(take_standard(LOCK, null.as_fd())?));
    sys::keep_only_standard_over_exec()?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let plan = read_plan(&control)?;
    let own = PidOne::of(rustix::process::getpid().as_raw_nonzero().get())?;
    let groups = Groups::new(&plan.groups, &own.name());
    let mut record = Record {
        supervisor: own,
        pid_one: None,
        groups: groups.dirs(),
        limits: plan.limits.clone(),
    };
    // Before they are made: whatever happens from here on, somebody knows what to remove.
    lock.note(&record)?;
    let running = match start(&plan, &hand, &groups) {
        Ok(Ok(running)) => running,
        Ok(Err(failure)) => return give_up(groups, &mut control, failure),
        Err(error) => return give_up(groups, &mut control, error.to_failure()),
    };
    // Only the hand may hold its end: the server must see it close.
    drop(hand);
    let pid = running.pid.as_raw_nonzero().get();
    // Before the server knows of the hand, which runs nothing until it is asked to.
    let told = PidOne::of(pid).and_then(|pid_one| {
        record.pid_one = Some(pid_one);
        lock.note(&record)?;
        let groups = record.groups;
        tell(&mut control, &Report::Started { pid, groups })
    });
    let ended = told.and_then(|()| wait_for_end(&running, &control));
    let status = kill_and_reap(&running)?;
    ended?;
    let report = Report::Ended {
        code: status.as_ref().and_then(WaitIdStatus::exit_status),
        signal: status.as_ref().and_then(WaitIdStatus::terminating_signal),
        oom_kills: groups.oom_kills(),
    };
    drop(groups);
    tell(&mut control, &report)?;
    // The lock lives exactly as long as anything of the sandbox does.
    drop(lock);
    Ok(())
}

/// Who hears of the failure finds nothing left of it.
fn give_up(groups: Groups, control: &mut UnixStream, failure: Failure) -> io::Result<()> {
    drop(groups);
    tell(control, &Report::Failed(failure))
}

/// The lock of the sandbox, and in it the record of it.
struct Lock(File);

impl Lock {
    fn note(&mut self, record: &Record) -> io::Result<()> {
        let note = serde_json::to_vec(record)?;
        self.0.set_len(0)?;
        self.0.write_all_at(&note, 0)
    }
}

fn read_plan(control: &UnixStream) -> io::Result<Plan> {
    let mut line = String::new();
    BufReader::new(control.take(LINE_LIMIT)).read_line(&mut line)?;
    let plan: Plan = serde_json::from_str(&line)?;
    if plan.version == VERSION {
        Ok(plan)
    } else {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn tell(control: &mut UnixStream, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    control.write_all(&line)
}

fn start(
    plan: &Plan,
    hand: &OwnedFd,
    groups: &Groups,
) -> Result<std::result::Result<Running, Failure>> {
    // Absent keyrings are as good as an empty one.
    let _ = sys::leave_session_keyring();
    let program = rustix::fs::open(
        "/proc/self/exe",
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let program = program.during("open the helper")?;
    let userns = userns::make(plan.id_base, &plan.limits)?;
    groups.make().during(GROUPS)?;
    let (errors_rx, errors_tx) = pipe_with(PipeFlags::CLOEXEC).during(NAMESPACES)?;
    let (forked, outside_version_2) = fork(groups)?;
    match forked {
        Forked::Child => {
            drop(errors_rx);
            let inherited = Inherited {
                userns: userns.as_fd(),
                program: program.as_fd(),
                hand: hand.as_fd(),
                errors: errors_tx.as_fd(),
                groups,
                outside_version_2,
            };
            let Err(error) = become_hand(plan, &inherited);
            let failure = serde_json::to_vec(&error.to_failure()).unwrap_or_default();
            report_failure(errors_tx, &failure)
        }
        Forked::Parent { pid, pidfd } => {
            drop(errors_tx);
            let mut failure = Vec::new();
            let read = File::from(errors_rx)
                .take(LINE_LIMIT)
                .read_to_end(&mut failure);
            let running = Running { pid, pidfd };
            if read.is_ok() && failure.is_empty() {
                return Ok(Ok(running));
            }
            kill_and_reap(&running).during(NAMESPACES)?;
            Ok(Err(serde_json::from_slice(&failure).unwrap_or_else(|_| {
                Failure {
                    step: "set up the sandbox".to_owned(),
                    errno: 0,
                    hint: "the set-up process died without a word".to_owned(),
                }
            })))
        }
    }
}

/// The child in its namespaces, and if it can be in its group of version 2 from its first instruction;
/// whether it still has to enter that one.
fn fork(groups: &Groups) -> Result<(Forked, bool)> {
    // Not the cgroup namespace: its root is to be the group that the child enters.
    let namespaces = flags::NEWNS | flags::NEWPID | flags::NEWNET | flags::NEWIPC | flags::NEWUTS;
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

/// Returns when PID 1 has ended or the server has closed its end.
fn wait_for_end(running: &Running, control: &UnixStream) -> io::Result<()> {
    let mut fds = [
        PollFd::new(&running.pidfd, PollFlags::IN),
        PollFd::new(control, PollFlags::IN | PollFlags::RDHUP),
    ];
    loop {
        match poll(&mut fds, None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Killing PID 1 kills every process of its pid namespace; the wait returns after the last one.
fn kill_and_reap(running: &Running) -> io::Result<Option<WaitIdStatus>> {
    match pidfd_send_signal(&running.pidfd, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    loop {
        match waitid(WaitId::PidFd(running.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
