//! Owns sockets of this process inside the network of a sandbox. It starts nothing there and looks at nothing.

use std::io;
use std::net::{Ipv4Addr, TcpListener as Listener};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use rustix::io::Errno;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::error::{Doing, Error};

/// What is being done.
const LISTEN: &str = "listen in the sandbox's network";

/// Listens on that port of the loopback in the network of `pid_one`; 0 is any that is free.
///
/// A socket belongs to the network that its thread was in when it was made, whoever holds it later. So a thread of
/// its own goes there, makes the socket, and ends: no thread that does anything else is ever there.
///
/// # Errors
/// As [`crate::Sandbox::listen`].
pub(super) async fn listen(pid_one: OwnedFd, port: u16) -> Result<TcpListener, Error> {
    let (made, listener) = oneshot::channel();
    let thread = thread::Builder::new().name("inside".to_owned());
    let spawned = thread.spawn(move || {
        // Nobody may be waiting any more; then it closes.
        let _ = made.send(bound(&pid_one, port));
    });
    spawned.doing(|| LISTEN.to_owned())?;
    let listener = listener.await.unwrap_or(Err(io::ErrorKind::Other.into()));
    let listener = listener.map_err(why)?;
    listener.set_nonblocking(true).doing(|| LISTEN.to_owned())?;
    TcpListener::from_std(listener).doing(|| LISTEN.to_owned())
}

fn bound(pid_one: &OwnedFd, port: u16) -> io::Result<Listener> {
    move_into_thread_name_spaces(pid_one.as_fd(), ThreadNameSpaceType::NETWORK)?;
    Listener::bind((Ipv4Addr::LOCALHOST, port))
}

fn why(error: io::Error) -> Error {
    match Errno::from_io_error(&error) {
        Some(Errno::SRCH) => Error::Gone,
        Some(errno @ Errno::PERM) => Error::Unsupported {
            step: LISTEN.to_owned(),
            errno: errno.raw_os_error(),
            hint: "this takes the rights of root on the host".to_owned(),
        },
        _ => Error::Io {
            doing: LISTEN.to_owned(),
            source: error,
        },
    }
}
