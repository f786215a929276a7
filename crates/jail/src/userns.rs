//! Owns the making of user namespaces: the one around a server without rights, and a sandbox's, as a descriptor. It
//! never enters a sandbox's.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::lchown;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getegid, geteuid, getpid, pidfd_send_signal, waitid,
};
use sys::{Forked, clone_process, flags};

use crate::error::{During, Result, USER_NAMESPACE};
use crate::plan::{Ground, ID_COUNT, SUB_IDS, SubIds};
use crate::privileges::as_owner;

/// Moves this process into a user namespace of its own, in which it is root and may mount and make namespaces.
/// For who has no right to more. Returns how many ids that knows: [`ID_COUNT`], of which all but the user's own are
/// those of `given`, or no other than the user's, where nothing is given or those who map it refuse.
///
/// With its own id alone the user's other groups cannot be given up there, since no way back may be opened to files
/// that a group is kept from. Source: user_namespaces(7), setgroups.
pub(crate) fn enter_own(given: Option<SubIds>) -> Result<u32> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let mapper = given
        .map(|given| Mapper::begin(given, uid, gid))
        .transpose()?;
    sys::new_user_namespace().during(USER_NAMESPACE)?;
    if let Some(mapper) = mapper
        && mapper.map().during(USER_NAMESPACE)?
    {
        return Ok(ID_COUNT);
    }
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), text).during(USER_NAMESPACE)?;
    }
    Ok(1)
}

/// A process that stays outside the namespace that its parent moves to, since only from there more than one id can be
/// given, and only by programs that look up what this user may give. Source: newuidmap(1).
struct Mapper {
    child: Pid,
    /// It begins when it hears a byte, and ends when it hears the end.
    go: OwnedFd,
}

impl Mapper {
    fn begin(given: SubIds, uid: u32, gid: u32) -> Result<Self> {
        let whose = getpid();
        let (heard, go) = pipe_with(PipeFlags::CLOEXEC).during(USER_NAMESPACE)?;
        match clone_process(0, None).during(USER_NAMESPACE)? {
            Forked::Child => {
                drop(go);
                let begins = rustix::io::read(&heard, &mut [0]) == Ok(1);
                let mapped = begins
                    && give("/usr/bin/newuidmap", whose, uid, given.users)
                    && give("/usr/bin/newgidmap", whose, gid, given.groups);
                std::process::exit(i32::from(!mapped))
            }
            Forked::Parent { pid, .. } => Ok(Self { child: pid, go }),
        }
    }

    /// Whether they were given.
    fn map(self) -> io::Result<bool> {
        rustix::io::write(&self.go, b"g")?;
        let ended = waitid(WaitId::Pid(self.child), WaitIdOptions::EXITED)?;
        Ok(ended.and_then(|status| status.exit_status()) == Some(0))
    }
}

/// Has `program` map 0 to the user's own id and those from 1 to the ones that it may give.
fn give(program: &str, whose: Pid, own: u32, first: u32) -> bool {
    let mut command = Command::new(program);
    command.arg(whose.as_raw_nonzero().to_string());
    for number in [0, own, 1, 1, first, SUB_IDS] {
        command.arg(number.to_string());
    }
    command.env_clear().stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The role `reclaim`: gives the directories below the one named last back to the user, whatever id of the two ranges
/// named before has them, so that the user can remove them. Follows no link.
#[must_use]
pub fn reclaim() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(2).collect();
    let number = |at: usize| words.get(at)?.to_str()?.parse().ok();
    let (Some(users), Some(groups), Some(dir)) = (number(0), number(1), words.get(2)) else {
        return ExitCode::from(2);
    };
    match enter_own(Some(SubIds { users, groups })) {
        Ok(ID_COUNT) => {}
        _ => return ExitCode::FAILURE,
    }
    let mut waiting = vec![PathBuf::from(dir)];
    while let Some(dir) = waiting.pop() {
        // One that cannot be given back is found by whoever removes it.
        let _ = lchown(&dir, Some(0), Some(0));
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
        }
    }
    ExitCode::SUCCESS
}

/// A user namespace that is being made, by a process that does nothing else. Dropped, that ends: the descriptor that
/// was taken keeps the namespace.
pub(crate) struct Making {
    holder: Pid,
    pidfd: OwnedFd,
    /// The holder ends when this is closed.
    _held: OwnedFd,
}

/// Begins a new user namespace in which `count` ids from 0 on are the sandbox's range of the host, or the same ones of the
/// namespace around it. Whoever enters it locks it.
pub(crate) fn begin(ground: &Ground, count: u32) -> Result<Making> {
    // Without ids of its own: those of the namespace around it, of which 0 is the user.
    let base = ground.id_base;
    let (held, held_tx) = pipe_with(PipeFlags::CLOEXEC).during(USER_NAMESPACE)?;
    let mut held_tx = Some(held_tx);
    let (holder, pidfd) = as_owner(base, &ground.limits, || {
        match clone_process(flags::NEWUSER, None).during(USER_NAMESPACE)? {
            Forked::Child => {
                // Or it would never see that the parent has gone.
                drop(held_tx.take());
                hold(&held)
            }
            Forked::Parent { pid, pidfd } => Ok((pid, pidfd)),
        }
    })?;
    let made = Making {
        holder,
        pidfd,
        _held: held_tx
            .ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))
            .during(USER_NAMESPACE)?,
    };
    let map = if ground.has_own_ids() || count == 1 {
        format!("0 {base} {count}")
    } else {
        // The kernel takes no piece that crosses the pieces of the namespace around it.
        format!("0 {base} 1\n1 1 {SUB_IDS}")
    };
    made.map(&map).during(USER_NAMESPACE)?;
    Ok(made)
}

impl Making {
    fn map(&self, map: &str) -> io::Result<()> {
        let holder = self.holder.as_raw_nonzero();
        fs::write(format!("/proc/{holder}/uid_map"), map)?;
        fs::write(format!("/proc/{holder}/gid_map"), map)
    }

    /// What it is entered by.
    pub(crate) fn finish(&self) -> Result<OwnedFd> {
        let path = format!("/proc/{}/ns/user", self.holder.as_raw_nonzero());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).during(USER_NAMESPACE)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // Its work is done or has failed.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = waitid(WaitId::Pid(self.holder), WaitIdOptions::EXITED);
    }
}

/// The holder: waits to be killed, or for the end of its parent.
fn hold(held: &OwnedFd) -> ! {
    let _ = rustix::io::read(held, &mut [0]);
    std::process::exit(0)
}
