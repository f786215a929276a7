//! Bytes of one socket on their way to another, as they are. Where many come at once the kernel hands them on by
//! itself, by way of a pipe (splice(2)), and none is copied into this process. It judges nothing: whoever calls it
//! has.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::limits;

/// Who may have a pipe, of all connections of this process.
static PIPES: Semaphore = Semaphore::const_new(limits::PIPES);

/// Passes on what comes until it ends, and then the end.
///
/// Cancel safe: no, what was taken from one and not given to the other is lost; both are to be ended then.
///
/// # Errors
/// What either socket says.
pub(super) async fn relay(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    count: &AtomicU64,
) -> io::Result<()> {
    loop {
        // Who waits holds no buffer.
        from.readable().await?;
        let mut buffer = Vec::with_capacity(limits::COPY);
        if from.read_buf(&mut buffer).await? == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer).await?;
        count.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        if buffer.len() < limits::COPY {
            continue;
        }
        drop(buffer);
        if let Some(pipe) = Pipe::open()
            && pipe.relay(from.as_ref(), to.as_ref(), count).await? == Then::End
        {
            return to.shutdown().await;
        }
    }
}

/// What comes behind that for which a pipe was worth it.
#[derive(PartialEq, Eq)]
enum Then {
    /// Little, or nothing for now.
    Little,
    /// Nothing any more.
    End,
}

/// What the kernel hands bytes on by. It is empty whenever nobody is in [`Self::relay`].
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    _place: SemaphorePermit<'static>,
}

impl Pipe {
    /// One, unless there are as many as there may be.
    fn open() -> Option<Self> {
        let place = PIPES.try_acquire().ok()?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // A user who has many pipes is refused larger ones (pipe(7)): then less goes at one time.
        let _as_it_is = fcntl_setpipe_size(&write, limits::PIPE);
        Some(Self {
            read,
            write,
            _place: place,
        })
    }

    /// Hands on what comes for as long as there is much of it.
    async fn relay(&self, from: &TcpStream, to: &TcpStream, count: &AtomicU64) -> io::Result<Then> {
        loop {
            // The pipe is empty: where nothing goes in, nothing has come.
            let taken = from.try_io(Interest::READABLE, || {
                moved(from, &self.write, limits::PIPE)
            });
            let taken = match taken {
                Ok(0) => return Ok(Then::End),
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    from.readable().await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut held = taken;
            while held > 0 {
                let give = || moved(&self.read, to, held);
                let given = to.async_io(Interest::WRITABLE, give).await?;
                held = held.saturating_sub(given);
                count.fetch_add(given as u64, Ordering::Relaxed);
            }
            if taken <= limits::COPY {
                // It has caught up: others may need the place more.
                return Ok(Then::Little);
            }
        }
    }
}

/// Has the kernel move up to so many bytes, and never waits.
fn moved(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    let moving = || splice(&from, None, &to, None, most, flags);
    Ok(retry_on_intr(moving)?)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Two ends of one connection over the loopback.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(connecting, listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// What comes out of a relay, and what it counts, of pieces that are each written when the one before has come.
    async fn relayed(pieces: &[Vec<u8>], in_step: bool) -> (Vec<u8>, u64) {
        let (mut client, mut from) = connection().await;
        let (mut to, mut server) = connection().await;
        let count = AtomicU64::new(0);
        let relaying = relay(from.split().0, to.split().1, &count);
        let saying = async {
            let mut heard = Vec::new();
            for piece in pieces.iter().filter(|_| in_step) {
                let mut part = vec![0; piece.len()];
                let both = tokio::join!(client.write_all(piece), server.read_exact(&mut part));
                both.0.unwrap();
                both.1.unwrap();
                heard.extend(part);
            }
            let rest = async {
                for piece in pieces.iter().filter(|_| !in_step) {
                    client.write_all(piece).await.unwrap();
                }
                client.shutdown().await.unwrap();
            };
            tokio::join!(rest, server.read_to_end(&mut heard))
                .1
                .unwrap();
            heard
        };
        let (heard, relayed) = tokio::join!(saying, relaying);
        relayed.unwrap();
        (heard, count.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn much_and_little_by_turns_come_out_as_they_went_in() {
        let piece = |length: usize| -> Vec<u8> { (0..=250).cycle().take(length).collect() };
        let lengths = [
            1,
            limits::COPY,
            3 << 20,
            7,
            limits::COPY + 1,
            limits::PIPE * 2 + 3,
            0,
            5,
        ];
        let pieces = lengths.map(piece);
        for in_step in [true, false] {
            let (heard, counted) = relayed(&pieces, in_step).await;
            assert_eq!(counted, heard.len() as u64);
            assert!(heard == pieces.concat(), "the same bytes in the same order");
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_reset_ends_the_relay_with_an_error() {
        let (mut client, mut from) = connection().await;
        let (mut to, _server) = connection().await;
        client.write_all(&vec![1; limits::COPY * 2]).await.unwrap();
        rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        let count = AtomicU64::new(0);
        let relaying = relay(from.split().0, to.split().1, &count);
        assert!(relaying.await.is_err());
    }
}
