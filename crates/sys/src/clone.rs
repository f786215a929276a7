//! Owns process creation into new namespaces. It never runs code of its own in the child.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

/// The namespace flags of clone(2), by the names the kernel gives them.
pub mod flags {
    /// A new mount namespace.
    pub const NEWNS: u64 = libc::CLONE_NEWNS as u64;
    /// A new UTS namespace.
    pub const NEWUTS: u64 = libc::CLONE_NEWUTS as u64;
    /// A new IPC namespace.
    pub const NEWIPC: u64 = libc::CLONE_NEWIPC as u64;
    /// A new user namespace.
    pub const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
    /// A new PID namespace; the child is its PID 1.
    pub const NEWPID: u64 = libc::CLONE_NEWPID as u64;
    /// A new network namespace.
    pub const NEWNET: u64 = libc::CLONE_NEWNET as u64;
}

/// Which side of [`clone_process`] is running.
#[derive(Debug)]
pub enum Forked {
    /// The caller; the handle names the child even after its pid was reused.
    Parent {
        /// The child's pid in the caller's PID namespace.
        pid: Pid,
        /// A close-on-exec handle for signals and waiting.
        pidfd: OwnedFd,
    },
    /// The new process, a copy of the caller.
    Child,
}

/// `CLONE_INTO_CGROUP` of linux/sched.h (Linux 5.7), which is wider than the C library's int.
const INTO_CGROUP: u64 = 0x2_0000_0000;

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

// Without gaps, as long as the kernel's CLONE_ARGS_SIZE_VER2.
const _: () = assert!(size_of::<CloneArgs>() == 88);

/// Makes a child in the namespaces of `namespaces` (see [`flags`]; 0 for a plain fork), and in the
/// cgroup of version 2 whose directory `cgroup` is, if one is given.
///
/// Refuses with `EBUSY` when the calling process has more than one thread: only then may the
/// child go on running ordinary code, because no lock of the allocator or of the C library can be
/// held by a thread that does not exist in the copy. Falls back to clone(2) where an outer
/// container answers `ENOSYS` to clone3, but not with a cgroup: clone(2) knows none.
///
/// One thing of the copy is stale, since it was not made by the C library's fork: musl keeps the
/// thread's number in memory, and the child has its parent's there. It is used for three things.
/// Locks of the C library's own streams compare it only within the process, where all is
/// consistent. `raise` and `abort` signal that number: in a new PID namespace it names nobody, in the
/// same one the parent, which a child with other ids may not signal; `abort` then ends the child by a
/// trap. Joining threads would use it: a child starts none before it execs or exits.
///
/// # Errors
/// The errno of clone3, clone or pidfd_open; `EBUSY` as said above.
pub fn clone_process(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: namespaces | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: checked against clone(2) and kernel/fork.c. `args` is a valid clone_args of the size passed, all
    // its fields u64 without gaps, and lives through the call; the kernel refuses one that is too small and,
    // beyond what it knows, one that is not zero. `pidfd` is a writable int; the kernel stores it after the
    // child's memory was copied, so the child's `pidfd` stays -1 and no descriptor has two owners. The
    // cgroup's descriptor is borrowed and so open. Without CLONE_VM and with stack 0 the child gets its own
    // copy of this address space and continues here. The process has one thread (checked above; nothing
    // between the check and here starts one), so the copy holds no foreign lock. The C library's stale thread
    // number, said above, is never used as an address or index: no memory depends on it.
    let answer =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match answer {
        0 => Ok(Forked::Child),
        -1 => {
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::ENOSYS) && cgroup.is_none() {
                return clone_legacy(namespaces);
            }
            Err(error)
        }
        pid => {
            // SAFETY: with CLONE_PIDFD and success the kernel stored a new descriptor in `pidfd`
            // that nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            Ok(Forked::Parent {
                pid: pid.ok_or(io::ErrorKind::InvalidData)?,
                pidfd,
            })
        }
    }
}

#[cfg(target_arch = "s390x")]
compile_error!("clone(2) has its first two arguments the other way round on s390");

fn clone_legacy(namespaces: u64) -> io::Result<Forked> {
    let flags = namespaces | libc::SIGCHLD as u64;
    // SAFETY: as for clone3: stack 0 without CLONE_VM is fork with namespaces; the remaining
    // arguments are unused with these flags. Their order differs between architectures in the last two, both
    // 0, and on s390 in the first two: there this does not compile (above). The caller checked that there is
    // one thread.
    let answer = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) };
    match answer {
        0 => Ok(Forked::Child),
        -1 => Err(io::Error::last_os_error()),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
            match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(pidfd) => Ok(Forked::Parent { pid, pidfd }),
                Err(errno) => {
                    // Who hears of a failure must find no child that goes on. It was not reaped, so the number
                    // is its own.
                    let _ = kill_process(pid, Signal::KILL);
                    let _ = waitpid(Some(pid), WaitOptions::empty());
                    Err(errno.into())
                }
            }
        }
    }
}

/// Moves this process, which must have one thread, into a new user namespace, in which it has every capability
/// and no id is mapped yet.
///
/// # Errors
/// The errno of unshare: `EINVAL` with more than one thread, `EPERM` or `ENOSPC` where that is forbidden.
pub fn new_user_namespace() -> io::Result<()> {
    // SAFETY: touches no memory and no descriptor; with this flag alone only the credentials of the calling
    // thread change, and the kernel refuses a process with more than one.
    match unsafe { libc::unshare(libc::CLONE_NEWUSER) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the kernel forgets each child of this process that has ended, so that nobody has to wait for it; at first it
/// keeps them until they were waited for. A child has it as its parent has it, until it runs another program.
///
/// # Errors
/// The errno of sigaction: none is known.
pub fn forget_children(forget: bool) -> io::Result<()> {
    let action = if forget { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: checked against signal(2) and waitpid(2), "SIGCHLD". Neither of the two actions is a function of ours
    // that could run at a bad moment; no memory is touched.
    match unsafe { libc::signal(libc::SIGCHLD, action) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Makes the cgroup that this process is in the root of all that it and its children see of cgroups.
///
/// # Errors
/// The errno of unshare; `EPERM` without CAP_SYS_ADMIN.
pub fn hide_cgroups_above() -> io::Result<()> {
    // SAFETY: touches no memory and no descriptor; with this flag alone nothing but the view of
    // cgroups changes.
    match unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
