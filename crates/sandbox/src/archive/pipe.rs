//! Owns the way of an archive between a thread that works on files and a caller that waits: bounded, and given up when
//! one side stands still. It knows no file.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes, BytesMut};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::timeout;

use super::{Fault, Refused};
use crate::limits::{ARCHIVE_STALL, ARCHIVE_WINDOW};

/// Bytes of one piece on its way.
const PIECE: usize = 128 * 1024;
/// How hard is tried to make it small: 1 takes about as long as reading the files.
const LEVEL: i32 = 1;

/// What comes of an archive, packed as it is. For threads that may wait.
pub(crate) struct Coming {
    queue: Receiver<Bytes>,
    piece: Bytes,
    came: Arc<AtomicU64>,
    runtime: Handle,
}

impl Coming {
    /// Counts in `came` what has come. Inside a runtime only.
    pub(crate) fn new(queue: Receiver<Bytes>, came: Arc<AtomicU64>) -> Self {
        Self {
            queue,
            piece: Bytes::new(),
            came,
            runtime: Handle::current(),
        }
    }
}

impl Read for Coming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let next = timeout_of(&self.runtime, self.queue.recv())?;
            let Some(piece) = next else {
                return Ok(0);
            };
            self.came.fetch_add(piece.len() as u64, Ordering::Relaxed);
            self.piece = piece;
        }
        let length = self.piece.len().min(into.len());
        into[..length].copy_from_slice(&self.piece[..length]);
        self.piece.advance(length);
        Ok(length)
    }
}

/// What goes out of an archive. For threads that may wait.
pub(crate) struct Going {
    queue: Sender<io::Result<Bytes>>,
    piece: BytesMut,
    runtime: Handle,
}

impl Going {
    /// Inside a runtime only.
    pub(crate) fn new(queue: Sender<io::Result<Bytes>>) -> Self {
        Self {
            queue,
            piece: BytesMut::with_capacity(PIECE),
            runtime: Handle::current(),
        }
    }

    /// Says that no more comes, and why.
    pub(crate) fn fail(self, error: io::Error) {
        // Nobody may be there any more.
        let _ = timeout_of(&self.runtime, self.queue.send(Err(error)));
    }

    fn give(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, BytesMut::with_capacity(PIECE));
        let given = timeout_of(&self.runtime, self.queue.send(Ok(piece.freeze())))?;
        given.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Going {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..length]);
        if self.piece.len() == PIECE {
            self.give()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.piece.is_empty() {
            true => Ok(()),
            false => self.give(),
        }
    }
}

fn timeout_of<T>(runtime: &Handle, work: impl Future<Output = T>) -> io::Result<T> {
    let done = runtime.block_on(async { timeout(ARCHIVE_STALL, work).await });
    done.map_err(|_| io::ErrorKind::TimedOut.into())
}

/// Has `write` write what is packed on its way to `to`.
pub(crate) fn packed<W: Write>(
    to: W,
    write: impl FnOnce(zstd::Encoder<'static, W>) -> io::Result<zstd::Encoder<'static, W>>,
) -> io::Result<W> {
    let mut encoder = zstd::Encoder::new(to, LEVEL)?;
    encoder.include_checksum(true)?;
    // One thread reads files while another packs.
    encoder.multithread(1)?;
    let mut to = write(encoder)?.finish()?;
    to.flush()?;
    Ok(to)
}

/// Has `read` read what is unpacked of `from`, which must end where that does.
pub(crate) fn unpacked<R: Read>(
    from: R,
    read: impl FnOnce(&mut dyn Read) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut decoder = zstd::Decoder::new(from)?.single_frame();
    decoder.window_log_max(ARCHIVE_WINDOW)?;
    read(&mut decoder)?;
    let mut rest = decoder.finish();
    match rest.read(&mut [0]) {
        Ok(0) => Ok(()),
        _ => Err(Refused::Trailing.into()),
    }
}
