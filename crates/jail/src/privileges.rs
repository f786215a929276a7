//! Owns the last steps before the hand: ids, capabilities, limits. It mounts nothing.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, write};
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, LinkNameSpaceType, Uid, capabilities,
    clear_ambient_capability_set, move_into_link_name_space, remove_capability_from_bounding_set,
    set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::error::{During, Result, USER_NAMESPACE};
use crate::plan::{By, Limits};

/// What package managers need, and nothing else. All of it counts only in the sandbox's own user
/// namespace, which owns none of its mount, network, pid, ipc or uts namespaces.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SETFCAP);

/// Bytes of a core dump. One, not none: less than any dump, so no file is written, and the only value
/// that also keeps the kernel from piping a dump to a handler on the host.
const CORE_BYTES: u64 = 1;
/// Open files a process.
pub(crate) const MAX_FILES: u64 = 65_536;
/// Bytes that stay in memory for ever: a process's own, and of shared memory the whole sandbox's.
const MAX_LOCKED_BYTES: u64 = 64 << 10;
/// Bytes of message queues, of the whole sandbox: what Linux gives to one user.
const MAX_QUEUE_BYTES: u64 = 819_200;
/// Signals that wait, and timers, of the whole sandbox.
const MAX_SIGNALS: u64 = 16_384;
/// Of what the kernel counts for a user namespace as a whole. Processes are counted whatever ids they
/// have; see [`as_owner`].
fn whole(limits: &Limits) -> [(Resource, u64); 4] {
    [
        (Resource::Nproc, limits.processes.most),
        (Resource::Memlock, MAX_LOCKED_BYTES),
        (Resource::Msgqueue, MAX_QUEUE_BYTES),
        (Resource::Sigpending, MAX_SIGNALS),
    ]
}

/// Of each process or id.
const EACH: [(Resource, u64); 4] = [
    (Resource::Core, CORE_BYTES),
    (Resource::Nofile, MAX_FILES),
    // No priority above the ordinary.
    (Resource::Rtprio, 0),
    (Resource::Nice, 0),
];
/// How ready the kernel is to end a process of a sandbox when memory is short, as `oom_score_adj` has
/// it: well before the server, whose own is 0 or less as a rule.
const OOM_SCORE: i32 = 500;

/// Runs `action` as the user who is root in the sandbox, with the capabilities of the real root.
///
/// overlayfs acts for ever as whoever mounted it; through an id-mapped upper layer only an id
/// that has a place in that map can write.
pub(crate) fn as_mapped_root<T>(base: u32, action: impl FnOnce() -> Result<T>) -> Result<T> {
    const STEP: &str = "act as the sandbox's root";
    let before = capabilities(None).during(STEP)?;
    set_keep_capabilities(true).during(STEP)?;
    let (uid, gid) = (Uid::from_raw(base), Gid::from_raw(base));
    set_thread_res_gid(gid, gid, Gid::ROOT).during(STEP)?;
    set_thread_res_uid(uid, uid, Uid::ROOT).during(STEP)?;
    let raised = CapabilitySets {
        effective: before.permitted,
        ..before
    };
    set_capabilities(None, raised).during(STEP)?;
    let result = action();
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).during(STEP)?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).during(STEP)?;
    set_keep_capabilities(false).during(STEP)?;
    set_capabilities(None, before).during(STEP)?;
    result
}

/// Runs `action` as the owner of the user namespace that it makes: under the first id of the range,
/// with the limits of a whole sandbox.
///
/// Beyond the count of each id, the kernel counts the processes of all ids of a user namespace for
/// the id that made it, and holds that sum to the maker's limit of that moment; only an owner other
/// than the real root is held to it. Source: kernel/user_namespace.c, `create_user_ns`;
/// kernel/ucount.c, `is_rlimit_overlimit` (Linux 5.14).
pub(crate) fn as_owner<T>(
    base: u32,
    limits: &Limits,
    action: impl FnOnce() -> Result<T>,
) -> Result<T> {
    const STEP: &str = "set the limits of the whole sandbox";
    let whole = whole(limits);
    let before = whole.map(|(resource, _)| getrlimit(resource));
    for ((resource, wanted), before) in whole.into_iter().zip(&before) {
        // The soft one counts, and can be set back.
        let most = before.maximum.unwrap_or(u64::MAX).min(wanted);
        let limit = Rlimit {
            current: Some(most),
            maximum: before.maximum,
        };
        setrlimit(resource, limit).during(STEP)?;
    }
    let result = as_mapped_root(base, action);
    for ((resource, _), before) in whole.into_iter().zip(before) {
        setrlimit(resource, before).during(STEP)?;
    }
    result
}

/// Hard limits that no process of the sandbox can raise again.
///
/// Where no cgroup limits the memory of the sandbox, each process of it may have that much of its own:
/// of what it may write (`RLIMIT_DATA`), since runtimes reserve far more addresses than they use.
pub(crate) fn limit_resources(limits: &Limits) -> Result<()> {
    const STEP: &str = "set the resource limits";
    let memory = (limits.memory.by == By::Rlimit).then_some((Resource::Data, limits.memory.most));
    for (resource, wanted) in EACH.into_iter().chain(whole(limits)).chain(memory) {
        // Raising a hard limit needs CAP_SYS_RESOURCE, which even root may lack.
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX).min(wanted);
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit).during(STEP)?;
    }
    Ok(())
}

/// Makes the sandbox what the kernel ends first when memory is short. Nobody inside can undo it if this
/// process has CAP_SYS_RESOURCE; else a process of the sandbox can set its own back, to the server's.
pub(crate) fn die_before_the_host() -> Result<()> {
    const STEP: &str = "set the score for running out of memory";
    const FILE: &str = "/proc/self/oom_score_adj";
    let now = std::fs::read_to_string(FILE).during(STEP)?;
    let now: i32 = now.trim().parse().unwrap_or(0);
    std::fs::write(FILE, now.max(OOM_SCORE).to_string()).during(STEP)
}

/// Forbids further user namespaces from inside the one that this process is in: the second lock behind seccomp.
/// `settings` is a `/proc/sys` that this process may write to.
fn forbid_user_namespaces(settings: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let setting = openat(settings, "user/max_user_namespaces", flags, Mode::empty())?;
    match write(&setting, b"0")? {
        1 => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Enters the user namespace as its root and locks it. All rights over what that namespace owns stay, which is nothing
/// yet: for gVisor, which makes namespaces in it and gives its parts fewer.
pub(crate) fn become_root_of(
    userns: BorrowedFd<'_>,
    settings: BorrowedFd<'_>,
    ids: u32,
) -> Result<()> {
    enter(userns, settings, ids)?;
    set_no_new_privs(true).during("set no_new_privs")?;
    set_parent_process_death_signal(Some(Signal::KILL)).during("die with the supervisor")
}

fn enter(userns: BorrowedFd<'_>, settings: BorrowedFd<'_>, ids: u32) -> Result<()> {
    const ENTER: &str = "enter the user namespace";
    move_into_link_name_space(userns, Some(LinkNameSpaceType::User)).during(ENTER)?;
    // Before its first right is dropped: whose file this is, the kernel tells by who looks it up.
    forbid_user_namespaces(settings).during(USER_NAMESPACE)?;
    if ids > 1 {
        set_thread_groups(&[]).during(ENTER)?;
    }
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).during(ENTER)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).during(ENTER)
}

/// Enters the user namespace as its root, locks it, and drops every right beyond [`KEPT`].
///
/// With one id alone it keeps its user's groups: see [`crate::userns::enter_own`].
pub(crate) fn become_sandbox_root(
    userns: BorrowedFd<'_>,
    settings: BorrowedFd<'_>,
    ids: u32,
) -> Result<()> {
    enter(userns, settings, ids)?;
    const DROP: &str = "drop the capabilities";
    // Entering a user namespace refills the bounding set, so it is reduced only now.
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if KEPT.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            // Past the kernel's last capability.
            Err(Errno::INVAL) => break,
            dropped => dropped.during(DROP)?,
        }
    }
    clear_ambient_capability_set().during(DROP)?;
    let sets = CapabilitySets {
        effective: KEPT,
        permitted: KEPT,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).during(DROP)?;
    set_no_new_privs(true).during("set no_new_privs")?;
    // Every change of ids above has cleared it, so it stands here.
    set_parent_process_death_signal(Some(Signal::KILL)).during("die with the supervisor")
}
