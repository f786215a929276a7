//! Owns the streams that are no processes: files on their way in or out, and connections inside the
//! sandbox. It chooses no path and no port.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::Sender;
use super::files::{self, Draft, Refused};
use super::piped::{Piped, Table, exited, feed, named};
use super::reaper::Exit;
use super::watch::Watch;
use crate::limits::{CHUNK_BYTES, CONNECT_TIME, PROCESSES};
use crate::wire::{FromHand, Id, Open, Refusal, Stream};

const DONE: Exit = Exit {
    code: Some(0),
    signal: None,
};
const FAILED: Exit = Exit {
    code: Some(1),
    signal: None,
};

/// What is open.
#[derive(Clone)]
pub(crate) struct Transfers {
    sender: Sender,
    table: Table<Transfer>,
}

struct Transfer {
    piped: Piped,
    cancelled: AtomicBool,
    socket: Option<TcpStream>,
    /// What wakes one that waits for nothing but changes.
    stop: OnceLock<OwnedFd>,
    /// Whether a file comes in by it.
    writes: bool,
    /// Whether it was cancelled because there is no room for it.
    full: AtomicBool,
}

impl Transfers {
    pub(crate) fn new(sender: Sender) -> Self {
        Self {
            sender,
            table: Table::default(),
        }
    }

    pub(crate) fn start(&self, id: Id, body: &[u8]) {
        let refuse = |(why, problem)| {
            let refused = FromHand::Refused { id, why, problem };
            self.sender.send(&refused, &[]);
        };
        let open: Open = match serde_json::from_slice(body) {
            Ok(open) => open,
            Err(error) => return refuse((Refusal::Invalid, error.to_string())),
        };
        if self.lock().len() >= PROCESSES {
            let problem = format!("more than {PROCESSES} streams at once");
            return refuse((Refusal::Busy, problem));
        }
        let this = self.clone();
        // Opening may wait for a disk or for whoever listens.
        let started = named("open").spawn(move || this.run(id, open));
        if let Err(error) = started {
            refuse((Refusal::Busy, format!("no thread for it: {error}")));
        }
    }

    fn run(&self, id: Id, open: Open) {
        let ran = match open {
            Open::Read { path, from } => self.read(id, &path, from),
            Open::Write { path, mode } => self.write(id, &path, mode),
            Open::Watch { path, deep } => self.watch(id, &path, deep),
            Open::Connect { port } => self.connect(id, port),
        };
        self.lock().remove(&id);
        if let Err((why, problem)) = ran {
            let refused = FromHand::Refused { id, why, problem };
            self.sender.send(&refused, &[]);
        }
    }

    fn read(&self, id: Id, path: &str, from: u64) -> Result<(), Refused> {
        use std::io::{Seek, SeekFrom};
        let (mut file, entry) = files::open(path)?;
        let sought = file.seek(SeekFrom::Start(from));
        sought.map_err(|error| (Refusal::Invalid, format!("{path}: {error}")))?;
        let entry = serde_json::to_vec(&entry);
        let entry = entry.map_err(|error| (Refusal::Invalid, error.to_string()))?;
        let (transfer, _) = self.opened(id, None, false, &entry);
        let read = transfer
            .piped
            .pump(&self.sender, id, Stream::Stdout, file, |_| {});
        self.ended(
            id,
            &transfer,
            read.map_err(|error| format!("{path}: {error}")),
        );
        Ok(())
    }

    fn write(&self, id: Id, path: &str, mode: Option<u32>) -> Result<(), Refused> {
        let draft = Draft::new(path, mode, id)?;
        let (transfer, chunks) = self.opened(id, None, true, &[]);
        let written = self.take(id, draft, &transfer, &chunks);
        self.ended(id, &transfer, written);
        Ok(())
    }

    fn take(
        &self,
        id: Id,
        mut draft: Draft,
        transfer: &Transfer,
        chunks: &Receiver<Vec<u8>>,
    ) -> Result<(), String> {
        while let Ok(chunk) = chunks.recv() {
            if transfer.full.load(Ordering::SeqCst) {
                break;
            }
            if let Err(error) = draft.file.write_all(&chunk) {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                return Err(draft.problem(errno));
            }
            self.sender.send(&FromHand::StdinAck { id }, &[]);
        }
        if transfer.full.load(Ordering::SeqCst) {
            return Err("nothing was written: the disk of the sandbox is full".to_owned());
        }
        if transfer.cancelled.load(Ordering::SeqCst) {
            return Err("given up".to_owned());
        }
        draft.finish()
    }

    fn watch(&self, id: Id, path: &str, deep: bool) -> Result<(), Refused> {
        let mut watch = Watch::new(path, deep)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let stop = stop.map_err(|errno| (Refusal::Busy, format!("watch {path}: {errno}")))?;
        let (transfer, _) = self.opened(id, None, false, &[]);
        let stop = transfer.stop.get_or_init(|| stop);
        let mut next = Ok(Some(watch.first()));
        while let Ok(Some(changes)) = &next {
            let mut line = serde_json::to_vec(changes).unwrap_or_default();
            line.push(b'\n');
            for chunk in line.chunks(CHUNK_BYTES) {
                transfer.piped.send(&self.sender, id, Stream::Stdout, chunk);
            }
            if transfer.cancelled.load(Ordering::SeqCst) {
                break;
            }
            next = watch.next(stop.as_fd());
        }
        self.ended(
            id,
            &transfer,
            next.map(drop).map_err(|error| error.to_string()),
        );
        Ok(())
    }

    fn connect(&self, id: Id, port: u16) -> Result<(), Refused> {
        let four = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let made = TcpStream::connect_timeout(&four, CONNECT_TIME)
            .or_else(|_| TcpStream::connect_timeout(&six, CONNECT_TIME));
        let made = made.and_then(|socket| {
            let (reading, writing) = (socket.try_clone()?, socket.try_clone()?);
            Ok((reading, writing, socket))
        });
        let (reading, mut writing, socket) = made.map_err(|error| {
            let problem = format!("nothing answers on port {port} in the sandbox: {error}");
            (Refusal::Missing, problem)
        })?;
        let _ = socket.set_nodelay(true);
        let (transfer, chunks) = self.opened(id, Some(socket), false, &[]);
        let sender = self.sender.clone();
        let fed = named("stdin").spawn(move || {
            feed(&sender, id, &mut writing, &chunks, b"");
            // They have said all; the other way may go on.
            let _ = writing.shutdown(Shutdown::Write);
        });
        let read = match fed {
            Ok(_) => transfer
                .piped
                .pump(&self.sender, id, Stream::Stdout, reading, |_| {}),
            Err(error) => Err(error),
        };
        if let Some(socket) = &transfer.socket {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.ended(id, &transfer, read.map_err(|error| error.to_string()));
        Ok(())
    }

    fn opened(
        &self,
        id: Id,
        socket: Option<TcpStream>,
        writes: bool,
        body: &[u8],
    ) -> (Arc<Transfer>, Receiver<Vec<u8>>) {
        let (piped, chunks) = Piped::new(1);
        let transfer = Arc::new(Transfer {
            piped,
            cancelled: AtomicBool::new(false),
            socket,
            stop: OnceLock::new(),
            writes,
            full: AtomicBool::new(false),
        });
        self.lock().insert(id, Arc::clone(&transfer));
        self.sender.send(&FromHand::Spawned { id }, body);
        (transfer, chunks)
    }

    /// Says that nothing more comes and how it went: what went wrong on standard error, and a status.
    fn ended(&self, id: Id, transfer: &Transfer, ended: Result<(), String>) {
        let stream = Stream::Stdout;
        self.sender.send(&FromHand::End { id, stream }, &[]);
        let stream = Stream::Stderr;
        if let Err(problem) = &ended {
            let most = problem.floor_char_boundary(CHUNK_BYTES);
            let problem = &problem.as_bytes()[..most];
            transfer.piped.send(&self.sender, id, stream, problem);
        }
        self.sender.send(&FromHand::End { id, stream }, &[]);
        let exit = if ended.is_ok() { DONE } else { FAILED };
        exited(&self.sender, id, exit, false);
    }

    pub(crate) fn stdin(&self, id: Id, chunk: Vec<u8>) {
        self.with(id, |transfer| {
            transfer.piped.stdin(chunk);
        });
    }

    pub(crate) fn stdin_end(&self, id: Id) {
        self.with(id, |transfer| transfer.piped.stdin_end());
    }

    pub(crate) fn ack(&self, id: Id, stream: Stream) {
        self.with(id, |transfer| {
            transfer.piped.ack(stream);
        });
    }

    pub(crate) fn kill(&self, id: Id) {
        self.with(id, |transfer| {
            transfer.cancelled.store(true, Ordering::SeqCst);
            transfer.piped.discard();
            if let Some(socket) = &transfer.socket {
                let _: io::Result<()> = socket.shutdown(Shutdown::Both);
            }
            if let Some(stop) = transfer.stop.get() {
                // It can only be woken already.
                let _ = rustix::io::write(stop, &1_u64.to_ne_bytes());
            }
        });
    }

    /// Files on their way in end where they are, unfinished.
    pub(crate) fn kill_writes(&self) {
        let all = self.lock().clone();
        for (id, transfer) in all.iter().filter(|(_, transfer)| transfer.writes) {
            transfer.full.store(true, Ordering::SeqCst);
            self.stdin_end(*id);
        }
    }

    /// Nobody drives them any more.
    pub(crate) fn kill_all(&self) {
        let all: Vec<Id> = self.lock().keys().copied().collect();
        for id in all {
            self.kill(id);
        }
    }

    fn with(&self, id: Id, act: impl FnOnce(&Transfer)) {
        let transfer = self.lock().get(&id).cloned();
        if let Some(transfer) = transfer {
            act(&transfer);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<Id, Arc<Transfer>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
