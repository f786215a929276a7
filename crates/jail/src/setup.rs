//! Owns the order of the set-up inside the new namespaces, up to exec of the hand. It supervises nothing.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{chdir, setsid};
use rustix::system::{setdomainname, sethostname};

use crate::error::{During, GROUPS, RUNSC, Result, SECCOMP};
use crate::groups::Groups;
use crate::plan::{Ground, Gvisor, Plan};
use crate::seccomp::Filter;
use crate::stage::Stage;
use crate::{control, gvisor, mounts, privileges};

/// What a failure of hearing whose the sandbox is is called.
const WAIT: &str = "wait until the sandbox is somebody's";

/// What the child carries over from the supervisor.
pub(crate) struct Inherited<'a> {
    pub(crate) userns: BorrowedFd<'a>,
    /// How many ids that has.
    pub(crate) ids: u32,
    pub(crate) program: BorrowedFd<'a>,
    /// The hand's end of its first line to a server.
    pub(crate) line: BorrowedFd<'a>,
    /// The end at which the hand gets the lines of later servers.
    pub(crate) handover: BorrowedFd<'a>,
    /// Where the supervisor says whose the sandbox is.
    pub(crate) plan: BorrowedFd<'a>,
    /// The mount namespace of the host.
    pub(crate) host: BorrowedFd<'a>,
    pub(crate) errors: BorrowedFd<'a>,
    pub(crate) groups: &'a Groups,
    /// Whether the network was made before, and its loopback is up.
    pub(crate) in_network: bool,
    /// Whether this process was not started in its group of version 2.
    pub(crate) outside_version_2: bool,
}

/// Turns this process, alone in its new namespaces, into the hand. Returns only an error.
///
/// Order matters: everything that needs the real root first, the user namespace last, so that the
/// sandbox's root owns none of what was built; seccomp after the last call it forbids. What is the same for every
/// sandbox comes before what is this one's, for which it may have to wait.
pub(crate) fn become_hand(ground: &Ground, from: &Inherited<'_>) -> Result<Infallible> {
    let (stage, filter) = prepare(ground, from)?;
    let plan: Plan = match control::receive(from.plan).during(WAIT)? {
        Some((plan, _)) => plan,
        // The supervisor has gone, or nobody wants the sandbox.
        None => return Err(io::Error::from(io::ErrorKind::BrokenPipe)).during(WAIT),
    };
    if let Some(gvisor) = &plan.gvisor {
        return become_runsc(gvisor, &stage, ground, &plan, from);
    }
    mounts::build(&stage, ground, &plan, from.userns)?;
    let env = environment(&plan)?;
    chdir("/workspace").during("enter /workspace")?;
    let null = null()?;
    privileges::become_sandbox_root(from.userns, stage.settings(), from.ids)?;
    drop(stage);
    supervisor_is_here(from.errors)?;
    filter.install().during(SECCOMP)?;
    let argv = [c"hand".to_owned(), c"hand".to_owned()];
    // Where `hand::agent` looks for them; the supervisor learns of a success by `errors` closing.
    let standard = [from.line, from.handover, null.as_fd()];
    Err(sys::exec_fd(from.program, &argv, &env, standard)).during("start the hand")
}

/// The same with gVisor between: the process becomes its `runsc`, which starts the hand as its own first process, with
/// the same three descriptors. That one does what of the rest can only be done inside.
fn become_runsc(
    gvisor: &Gvisor,
    stage: &Stage,
    ground: &Ground,
    plan: &Plan,
    from: &Inherited<'_>,
) -> Result<Infallible> {
    let program = mounts::build_for(gvisor, stage, ground, plan, from.userns)?;
    let argv = gvisor::argv(gvisor).during(RUNSC)?;
    let null = null()?;
    privileges::become_root_of(from.userns, stage.settings(), from.ids)?;
    supervisor_is_here(from.errors)?;
    let standard = [from.line, from.handover, null.as_fd()];
    Err(sys::exec_fd(program.as_fd(), &argv, &[], standard)).during(RUNSC)
}

fn null() -> Result<OwnedFd> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    null.during("open /dev/null")
}

/// What needs to know nothing of the sandbox but what it stands on.
fn prepare(ground: &Ground, from: &Inherited<'_>) -> Result<(Stage, Filter)> {
    // First of all: memory counts where it is asked for, and never moves.
    from.groups.enter(from.outside_version_2).during(GROUPS)?;
    sys::hide_cgroups_above().during("make the cgroup namespace")?;
    // In the server's session `/dev/tty` would be the terminal the server was started from.
    setsid().during("leave the server's session")?;
    privileges::die_before_the_host()?;
    sethostname(b"sandbox").during("set the host name")?;
    setdomainname(b"").during("set the host name")?;
    if !from.in_network {
        sys::loopback_up().during("bring up the loopback interface")?;
    }
    let stage = Stage::new(ground, from.host)?;
    privileges::limit_resources(&ground.limits)?;
    let filter = Filter::new().during(SECCOMP)?;
    Ok((stage, filter))
}

fn supervisor_is_here(errors: BorrowedFd<'_>) -> Result<()> {
    if supervisor_is_gone(errors) {
        return Err(io::Error::from(io::ErrorKind::BrokenPipe)).during("die with the supervisor");
    }
    Ok(())
}

/// The death signal reaches only a child whose parent dies after it was set; this closes the gap.
fn supervisor_is_gone(errors: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(errors, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).is_err() || fds[0].revents().contains(PollFlags::ERR)
}

fn environment(plan: &Plan) -> Result<Vec<CString>> {
    plan.env
        .iter()
        .map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect::<std::result::Result<_, _>>()
        .map_err(io::Error::from)
        .during("prepare the environment")
}
