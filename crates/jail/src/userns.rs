//! Owns the making of a sandbox's user namespace as a descriptor. It never enters one.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use sys::{Forked, clone_process, flags};

use crate::error::{During, Result, USER_NAMESPACE};
use crate::plan::{ID_COUNT, Limits};
use crate::privileges::as_owner;

/// A new user namespace in which ids 0..65536 are `base..base + 65536` of the host, and in which no
/// further user namespace can be made (the second lock behind seccomp).
pub(crate) fn make(base: u32, limits: &Limits) -> Result<OwnedFd> {
    let (mapped_rx, mapped_tx) = pipe_with(PipeFlags::CLOEXEC).during(USER_NAMESPACE)?;
    let (locked_rx, locked_tx) = pipe_with(PipeFlags::CLOEXEC).during(USER_NAMESPACE)?;
    let mut mapped_tx = Some(mapped_tx);
    let (pid, pidfd) = as_owner(base, limits, || {
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
            map_and_open(pid, base, File::from(mapped_tx), File::from(locked_rx))
        });
    // Its work is done or has failed; the descriptor keeps the namespace.
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
    namespace.during(USER_NAMESPACE)
}

fn map_and_open(pid: Pid, base: u32, mut mapped: File, mut locked: File) -> io::Result<OwnedFd> {
    let pid = pid.as_raw_nonzero();
    let map = format!("0 {base} {ID_COUNT}");
    fs::write(format!("/proc/{pid}/uid_map"), &map)?;
    fs::write(format!("/proc/{pid}/gid_map"), &map)?;
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
