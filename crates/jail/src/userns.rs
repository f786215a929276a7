//! Owns the making of a sandbox's user namespace as a descriptor. It never enters one.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getegid, geteuid, pidfd_send_signal, waitid,
};
use sys::{Forked, clone_process, flags};

use crate::error::{During, Result, USER_NAMESPACE};
use crate::plan::{ID_COUNT, Plan};
use crate::privileges::as_owner;

/// Moves this process into a user namespace of its own, in which it is root and may mount and make namespaces,
/// and which knows no id but its user's. For who has no right to more.
///
/// The user's other groups cannot be given up there, since no way back may be opened to files that a group is
/// kept from. Source: user_namespaces(7), setgroups.
pub(crate) fn enter_own() -> Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    sys::new_user_namespace().during(USER_NAMESPACE)?;
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), text).during(USER_NAMESPACE)?;
    }
    Ok(())
}

/// A user namespace that is being made, by a process that does nothing else. Dropped, that ends: the descriptor that
/// was taken keeps the namespace.
pub(crate) struct Making {
    holder: Pid,
    pidfd: OwnedFd,
    /// The holder ends when this is closed.
    mapped: Option<File>,
    locked: File,
}

/// Begins a new user namespace in which ids 0..65536 are the plan's range of the host, or 0 its user, and in which
/// no further user namespace can be made (the second lock behind seccomp). What is done before
/// [`Making::finish`] is done while the holder works.
pub(crate) fn begin(plan: &Plan) -> Result<Making> {
    let (base, count) = if plan.has_own_ids() {
        (plan.id_base, ID_COUNT)
    } else {
        // That of the user, as the namespace around it has it.
        (0, 1)
    };
    let (mapped_rx, mapped_tx) = pipe_with(PipeFlags::CLOEXEC).during(USER_NAMESPACE)?;
    let (locked_rx, locked_tx) = pipe_with(PipeFlags::CLOEXEC).during(USER_NAMESPACE)?;
    let mut mapped_tx = Some(mapped_tx);
    let (holder, pidfd) = as_owner(base, &plan.limits, || {
        match clone_process(flags::NEWUSER, None).during(USER_NAMESPACE)? {
            Forked::Child => {
                // Or it would never see that the parent has gone.
                drop(mapped_tx.take());
                hold(&mapped_rx, &locked_tx)
            }
            Forked::Parent { pid, pidfd } => Ok((pid, pidfd)),
        }
    })?;
    let mut making = Making {
        holder,
        pidfd,
        mapped: mapped_tx.map(File::from),
        locked: File::from(locked_rx),
    };
    making
        .map(&format!("0 {base} {count}"))
        .during(USER_NAMESPACE)?;
    Ok(making)
}

impl Making {
    fn map(&mut self, map: &str) -> io::Result<()> {
        let holder = self.holder.as_raw_nonzero();
        fs::write(format!("/proc/{holder}/uid_map"), map)?;
        fs::write(format!("/proc/{holder}/gid_map"), map)?;
        let mapped = self.mapped.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        mapped.write_all(b"m")
    }

    /// Waits until it is as it is to be.
    pub(crate) fn finish(&mut self) -> Result<OwnedFd> {
        let mut finish = || -> io::Result<OwnedFd> {
            let mut answer = [0];
            self.locked.read_exact(&mut answer)?;
            if answer != *b"y" {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            let path = format!("/proc/{}/ns/user", self.holder.as_raw_nonzero());
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            Ok(rustix::fs::open(path, flags, Mode::empty())?)
        };
        finish().during(USER_NAMESPACE)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // Its work is done or has failed.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = waitid(WaitId::Pid(self.holder), WaitIdOptions::EXITED);
    }
}

/// The holder: forbids further user namespaces from inside, says so, and waits to be killed.
fn hold(mapped: &OwnedFd, locked: &OwnedFd) -> ! {
    let mut byte = [0];
    let ready = rustix::io::read(mapped, &mut byte) == Ok(1)
        && fs::write("/proc/sys/user/max_user_namespaces", "0").is_ok();
    let _ = rustix::io::write(locked, if ready { b"y" } else { b"n" });
    // The parent closes `mapped` after it opened the namespace, or dies: both end this process.
    let _ = rustix::io::read(mapped, &mut byte);
    std::process::exit(0)
}
