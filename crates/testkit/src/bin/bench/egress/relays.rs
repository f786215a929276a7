//! The plainest things that could stand between a client and a server: what comes on one socket goes out on another.
//! They judge and record nothing, so nothing that does can be faster. They end with the process.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::server::SERVER;
use crate::Wrong;

/// Bytes that each holds of one direction: with the kernel's hands as many as the egress process.
const COPY: usize = 64 << 10;
const PIPE: usize = 256 << 10;

/// How bytes come from one socket to the other.
#[derive(Clone, Copy)]
pub(super) enum Relay {
    /// A thread a direction reads and writes.
    Threads,
    /// One thread waits for both sockets, reads and writes.
    Loop,
    /// A thread a direction has the kernel move them (splice(2)).
    Kernel,
}

/// Stands between that client and the server's port, to the end.
pub(super) fn between(client: TcpStream, port: u16, how: Relay) -> Result<(), Wrong> {
    let server = TcpStream::connect(SocketAddr::new(SERVER.parse()?, port))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let pass = match how {
        Relay::Loop => return Ok(waiting(client, server)?),
        Relay::Threads => copied,
        Relay::Kernel => moved,
    };
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let back = std::thread::spawn(move || pass(server, client));
    let passed = pass(from, to);
    back.join().map_err(|_| "the way back panicked")??;
    Ok(passed?)
}

fn copied(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    // Not std's copy, which may not read and write: this is the plain one.
    let mut buffer = vec![0; COPY];
    loop {
        match from.read(&mut buffer)? {
            0 => return to.shutdown(Shutdown::Write),
            length => to.write_all(buffer.get(..length).unwrap_or_default())?,
        }
    }
}

fn moved(from: TcpStream, to: TcpStream) -> io::Result<()> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setpipe_size(&write, PIPE)?;
    loop {
        let mut held = splice(&from, None, &write, None, PIPE, SpliceFlags::MOVE)?;
        if held == 0 {
            return to.shutdown(Shutdown::Write);
        }
        while held > 0 {
            held -= splice(&read, None, &to, None, held, SpliceFlags::MOVE)?;
        }
    }
}

/// One direction: what was read and not written yet.
struct Way {
    from: TcpStream,
    to: TcpStream,
    buffer: Vec<u8>,
    held: std::ops::Range<usize>,
    ended: bool,
}

impl Way {
    fn new(from: &TcpStream, to: &TcpStream) -> io::Result<Self> {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        Ok(Self {
            from,
            to,
            buffer: vec![0; COPY],
            held: 0..0,
            ended: false,
        })
    }

    /// Reads and writes until it would have to wait.
    fn go(&mut self) -> io::Result<()> {
        while !self.ended {
            let done = if self.held.is_empty() {
                self.from.read(&mut self.buffer).map(|length| {
                    self.held = 0..length;
                    self.ended = length == 0;
                })
            } else {
                let rest = self.buffer.get(self.held.clone()).unwrap_or_default();
                self.to.write(rest).map(|length| self.held.start += length)
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                done => done?,
            }
        }
        self.to.shutdown(Shutdown::Write)
    }

    /// What it waits for.
    fn waits(&self) -> PollFd<'_> {
        if self.held.is_empty() {
            PollFd::new(&self.from, PollFlags::IN)
        } else {
            PollFd::new(&self.to, PollFlags::OUT)
        }
    }
}

fn waiting(client: TcpStream, server: TcpStream) -> io::Result<()> {
    for stream in [&client, &server] {
        stream.set_nonblocking(true)?;
    }
    let mut ways = [Way::new(&client, &server)?, Way::new(&server, &client)?];
    loop {
        for way in ways.iter_mut().filter(|way| !way.ended) {
            way.go()?;
        }
        let open = ways.iter().filter(|way| !way.ended);
        let mut waits: Vec<_> = open.map(Way::waits).collect();
        if waits.is_empty() {
            return Ok(());
        }
        poll(&mut waits, None)?;
    }
}
