//! Owns how two processes of one user talk: one JSON value a packet, its descriptors beside it, over SEQPACKET
//! sockets that are found by a directory which only that user can enter. It gives no packet a meaning.
//!
//! A reader gets a whole packet or none.

#![forbid(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, unlinkat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    recv, recvmsg, sendmsg, socketpair,
};
use rustix::path::Arg;
use rustix::process::{Pid, geteuid};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The name of a socket in its directory.
pub const SOCKET: &str = "control.sock";

/// Descriptors beside one packet, at most.
pub const DESCRIPTORS: usize = 6;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 8;

/// Both ends of a new conversation.
///
/// # Errors
/// The errno of socketpair.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (flags, kind) = (SocketFlags::CLOEXEC, SocketType::SEQPACKET);
    Ok(socketpair(AddressFamily::UNIX, kind, flags, None)?)
}

/// Sends one packet of at most `most` bytes, whole or not at all. Never waits.
///
/// # Errors
/// `InvalidInput` for a longer one, or more than [`DESCRIPTORS`]; `WouldBlock` when the other side leaves its packets
/// unread; `BrokenPipe` when it has gone.
pub fn send(
    to: impl AsFd,
    value: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
    most: usize,
) -> io::Result<()> {
    let packet = serde_json::to_vec(value)?;
    if packet.len() > most {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(to, &[IoSlice::new(&packet)], &mut beside, flags)?;
    Ok(())
}

/// Takes one packet of at most `most` bytes and what came beside it; `None` when the other side has gone. Waits
/// for it unless the socket is a non-blocking one.
///
/// # Errors
/// `InvalidData` for what is no such packet; `WouldBlock`; the errno of recvmsg.
pub fn receive<T: DeserializeOwned>(
    from: impl AsFd,
    most: usize,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    // As long as it is: room for the longest would be mapped and unmapped by the kernel for each.
    let mut packet = vec![0; length(&from)?.min(most)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let mut parts = [IoSliceMut::new(&mut packet)];
        match recvmsg(&from, &mut parts, &mut beside, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    if got
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let value = serde_json::from_slice(&packet[..got.bytes])?;
    Ok(Some((value, descriptors)))
}

/// How long the next packet is; 0 when the other side has gone.
fn length(from: impl AsFd) -> io::Result<usize> {
    loop {
        match recv(&from, &mut [0; 1], RecvFlags::PEEK | RecvFlags::TRUNC) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok((_, length)) => return Ok(length),
        }
    }
}

/// Opens a directory as what [`connect`] and [`listen`] reach its socket through: the path to it may be longer
/// than the name of a socket can be.
///
/// # Errors
/// The errno of open; `NotFound` when there is no such directory.
pub fn directory(path: impl Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// A conversation with who listens in `directory`, and that process.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when none listens; `PermissionDenied` when it is another user's.
pub fn connect(directory: impl AsFd) -> io::Result<(OwnedFd, Pid)> {
    let socket = socket()?;
    rustix::net::connect(&socket, &address(directory.as_fd())?)?;
    let host = peer(&socket)?;
    Ok((socket, host))
}

/// Removes the socket from `directory`; one that is not there is success.
///
/// # Errors
/// The errno of unlink.
pub fn remove(directory: impl AsFd) -> io::Result<()> {
    match unlinkat(directory, SOCKET, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Listens in `directory`, in place of whatever a process that was killed left there. Never blocks.
///
/// # Errors
/// The errno of unlink, socket, bind or listen.
pub fn listen(directory: impl AsFd) -> io::Result<OwnedFd> {
    let directory = directory.as_fd();
    remove(directory)?;
    let socket = socket()?;
    rustix::net::bind(&socket, &address(directory)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The next connection, if it is one of this user's.
///
/// # Errors
/// `WouldBlock` when there is none; `PermissionDenied` when it is another user's.
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let guest = rustix::net::accept_with(listener, flags)?;
    peer(&guest)?;
    Ok(guest)
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = SocketType::SEQPACKET;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        kind,
        flags,
        None,
    )?)
}

fn address(directory: BorrowedFd<'_>) -> io::Result<SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
    Ok(SocketAddrUnix::new(path)?)
}

/// Who is at the other end, if it is this user. Of a listening socket's connection: who listened.
///
/// # Errors
/// `PermissionDenied` when it is another user.
pub fn peer(socket: impl AsFd) -> io::Result<Pid> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?;
    if peer.uid == geteuid() {
        Ok(peer.pid)
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the longest packet here.
    const MOST: usize = 1_024;

    #[test]
    fn a_packet_and_its_descriptors_arrive_together_and_whole() {
        let (ours, theirs) = pair().unwrap();
        let (pipe, _other) = rustix::pipe::pipe().unwrap();
        send(&ours, &7, &[pipe.as_fd(), ours.as_fd()], MOST).unwrap();
        let (request, descriptors) = receive::<u32>(&theirs, MOST).unwrap().unwrap();
        assert_eq!((request, descriptors.len()), (7, 2));
        // One of them is a second handle on the sender's own end.
        drop((ours, descriptors));
        assert!(receive::<u32>(&theirs, MOST).unwrap().is_none());
    }

    #[test]
    fn what_is_no_packet_is_an_error() {
        let (ours, theirs) = pair().unwrap();
        send(&ours, &"nonsense", &[], MOST).unwrap();
        let error = receive::<u32>(&theirs, MOST).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let long = "x".repeat(MOST);
        let error = send(&ours, &long, &[], MOST).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_directory_in_which_nobody_listens_is_told_from_one_with() {
        let place = tempfile::tempdir().unwrap();
        // Longer than the name of a socket can be.
        let deep = place.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let directory = directory(&deep).unwrap();
        let error = connect(&directory).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let listener = listen(&directory).unwrap();
        let (guest, pid) = connect(&directory).unwrap();
        assert_eq!(pid, rustix::process::getpid());
        let host = accept(&listener).unwrap();
        send(&guest, &7, &[], MOST).unwrap();
        assert!(receive::<u32>(&host, MOST).unwrap().is_some());
        drop((listener, host));
        let error = connect(&directory).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        remove(&directory).unwrap();
        remove(&directory).unwrap();
    }
}
