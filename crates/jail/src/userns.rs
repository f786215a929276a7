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

/// A new user namespace in which ids 0..65536 are the plan's range of the host, or 0 its user, and in which no
/// further user namespace can be made (the second lock behind seccomp).
pub(crate) fn make(plan: &Plan) -> Result<OwnedFd> {
    let (base, count) = if plan.has_own_ids() {
        (plan.id_base, ID_COUNT)
    } else {
        // That of the user, as the namespace around it has it.
        (0, 1)
    };
    let (mapped_rx, mapped_tx) = pipe_with(PipeFlags::CLOEXEC).during(USER_NAMESPACE)?;
    let (locked_rx, locked_tx) = pipe_with(PipeFlags::CLOEXEC).during(USER_NAMESPACE)?;
    let mut mapped_tx = Some(mapped_tx);
    let (pid, pidfd) = as_owner(base, &plan.limits, || {
        match clone_process(flags::NEWUSER, None).during(USER_NAMESPACE)? {
            Forked::Child => {
                // Or it would never see that the parent has gone.
                drop(mapped_tx.take());
                hold(&mapped_rx, &locked_tx)
            }
            Forked::Parent { pid, pidfd } => Ok((pid, pidfd)),
        }
    })?;
    drop((mapped_rx, locked_tx));
    let namespace = mapped_tx
        .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
        .and_then(|mapped_tx| {
            let map = format!("0 {base} {count}");
            map_and_open(pid, &map, File::from(mapped_tx), File::from(locked_rx))
        });
    // Its work is done or has failed; the descriptor keeps the namespace.
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
    namespace.during(USER_NAMESPACE)
}

fn map_and_open(pid: Pid, map: &str, mut mapped: File, mut locked: File) -> io::Result<OwnedFd> {
    let pid = pid.as_raw_nonzero();
    fs::write(format!("/proc/{pid}/uid_map"), map)?;
    fs::write(format!("/proc/{pid}/gid_map"), map)?;
    mapped.write_all(b"m")?;
    let mut answer = [0];
    locked.read_exact(&mut answer)?;
    if answer != *b"y" {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let path = format!("/proc/{pid}/ns/user");
    Ok(rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
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
