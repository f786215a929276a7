//! The program that is PID 1: reads requests, runs each on a thread of its own, reaps everything.
//! It outlives its server and ends with its supervisor, and everything inside ends with it.

mod ansi;
mod asks;
mod callers;
mod calls;
mod clock;
mod files;
mod keeper;
mod kept;
mod line;
mod notes;
mod output;
mod piped;
mod process;
mod reaper;
mod resolve;
mod shell;
mod terminal;
mod tools;
mod transfer;
mod tree;
mod variables;
mod watch;
mod workers;

use std::io::{self, BufReader};
use std::os::fd::AsFd;
use std::process::ExitCode;

use rustix::process::{DumpableBehavior, Gid, getegid, set_dumpable_behavior};
use rustix::thread::set_thread_res_gid;
use sys::Standard;

use crate::wire::{FromHand, ToHand, VERSION, read_frame};
use asks::Asks;
use callers::Callers;
use calls::{Calls, Name};
use clock::Clock;
use keeper::Keeper;
use kept::Kept;
use line::Lines;
pub(crate) use line::Sender;
use process::{Courier, Processes};
use reaper::Reaper;
use transfer::Transfers;
use variables::Variables;

/// Bytes that are read ahead of what the server says: a whole frame by one call, as a rule.
const READ_AHEAD: usize = 4 << 10;

/// The group `nogroup`, of which nothing is.
const NOBODYS: u32 = 65_534;

/// The role `hand`. Returns when the supervisor has gone.
#[must_use]
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The role `hand-in-gvisor`: the same where gVisor's kernel serves it.
#[must_use]
pub fn run_in_gvisor() -> ExitCode {
    terminal::end_with_their_process();
    run()
}

fn serve() -> io::Result<()> {
    // First of all: nobody inside may look into this process. execve has reset it.
    take_a_second_group();
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_name(c"hand")?;
    // The set-up put /dev/null at the third.
    let null = io::stderr();
    let first = sys::take_standard(Standard::Input, null.as_fd())?;
    let handover = sys::take_standard(Standard::Output, null.as_fd())?;
    let reaper = Reaper::start()?;
    let (clock, kept) = (Clock::default(), Kept::default());
    let variables = Variables::default();
    let callers = Callers::new(reaper.clone(), &clock, variables.clone());
    let calls = Calls::new(callers.clone());
    let keeper = Keeper::new(reaper.clone(), variables.clone());
    let courier = Courier::new(reaper.clone())?;
    let mut lines = Lines::open(first, handover);
    let mut reserved = false;
    while let Some(sender) = lines.next() {
        let transfers = Transfers::new(sender.clone());
        let asks = Asks::new(
            sender.clone(),
            callers.clone(),
            clock.clone(),
            transfers.clone(),
            kept.clone(),
            variables.clone(),
            keeper.clone(),
        );
        let processes = Processes::new(
            sender.clone(),
            reaper.clone(),
            courier.clone(),
            clock.clone(),
            kept.clone(),
            variables.clone(),
        );
        let server = Server {
            calls: calls.clone(),
            keeper: keeper.clone(),
            asks,
            processes,
            transfers,
            sender,
        };
        server.greet();
        if !reserved {
            // While the server reads that; nothing runs in the sandbox before it has said more.
            workers::reserve()?;
            courier.begin()?;
            reserved = true;
        }
        // Whoever breaks the protocol loses its line and nothing else: the next server gets another.
        let _ = server.converse(&lines);
        server.leave();
    }
    Ok(())
}

/// Nobody inside may change this process's limits, by the number of any of its threads, or look into it. Who may needs
/// all ids of the process, one for each kind of them, and this has two groups at once: the saved one is another. What it
/// starts has one again, since exec takes the saved one from the effective one, so the hand limits that. Source:
/// kernel/sys.c, `check_prlimit_permission`; kernel/ptrace.c, `__ptrace_may_access`; security/commoncap.c,
/// `cap_bprm_creds_from_file`.
fn take_a_second_group() {
    let own = getegid();
    // A sandbox that knows one id only has no other.
    let _ = set_thread_res_gid(own, own, Gid::from_raw(NOBODYS));
}

/// What belongs to one conversation.
struct Server {
    sender: Sender,
    calls: Calls,
    asks: Asks,
    processes: Processes,
    transfers: Transfers,
    keeper: Keeper,
}

impl Server {
    /// The first word.
    fn greet(&self) {
        self.sender.send(&FromHand::Hello { version: VERSION }, &[]);
    }

    /// Does what the server says until it hangs up or breaks the protocol.
    fn converse(&self, lines: &Lines) -> io::Result<()> {
        let mut incoming = BufReader::with_capacity(READ_AHEAD, lines.incoming(&self.sender));
        match read_frame::<ToHand>(&mut incoming)? {
            Some((ToHand::Hello { version: VERSION }, _)) => {}
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        while let Some((message, body)) = read_frame::<ToHand>(&mut incoming)? {
            if matches!(message, ToHand::Hello { .. }) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.take(message, body);
        }
        Ok(())
    }

    fn take(&self, message: ToHand, body: Vec<u8>) {
        let Self {
            sender,
            calls,
            asks,
            processes,
            transfers,
            keeper,
        } = self;
        match message {
            // Refused before.
            ToHand::Hello { .. } => {}
            ToHand::Call {
                id,
                tool,
                key,
                caller,
            } => calls.start(sender, Name { id, key, caller }, tool, body),
            ToHand::Callers { keep } => calls.keep_callers(&keep),
            ToHand::Resume { id, key } => calls.resume(sender, id, &key),
            ToHand::Taken { key } => {
                calls.taken(&key);
                processes.taken(&key);
            }
            ToHand::Ping { id } => sender.send(&FromHand::Pong { id }, &[]),
            ToHand::Cancel { id } => calls.cancel(sender, id),
            ToHand::Ask { id } => asks.start(id, &body),
            ToHand::Spawn { id, key } => processes.start(id, key.as_deref(), &body),
            ToHand::Open { id } => transfers.start(id, &body),
            ToHand::Signal { id, signal } => processes.signal(id, signal),
            ToHand::Resize { id, size } => processes.resize(id, size),
            ToHand::Keep { id, key } => keeper.start(sender, id, key, &body),
            ToHand::Attach { id, key } => keeper.attach(sender, id, &key),
            ToHand::Mark { id, heard } => keeper.mark(sender, id, heard, &body),
            ToHand::Stdin { id } if keeper.has(sender, id) => keeper.stdin(sender, id, body),
            // It reads on: a later server may have more to say.
            ToHand::StdinEnd { id } if keeper.has(sender, id) => {}
            ToHand::Ack { id, .. } if keeper.has(sender, id) => keeper.ack(sender, id),
            ToHand::Kill { id } if keeper.has(sender, id) => keeper.kill(sender, id),
            // One or the other knows the id, or it is over.
            ToHand::Stdin { id } if processes.has(id) => processes.stdin(id, body),
            ToHand::Stdin { id } => transfers.stdin(id, body),
            ToHand::StdinEnd { id } if processes.has(id) => processes.stdin_end(id),
            ToHand::StdinEnd { id } => transfers.stdin_end(id),
            ToHand::Ack { id, stream } if processes.has(id) => processes.ack(id, stream),
            ToHand::Ack { id, stream } => transfers.ack(id, stream),
            ToHand::Kill { id } if processes.has(id) => processes.kill(id),
            ToHand::Kill { id } => transfers.kill(id),
        }
    }

    /// The line is no more: what only this server wanted ends with it. What has a key goes on.
    fn leave(&self) {
        self.sender.cut();
        self.calls.leave(&self.sender);
        self.keeper.leave(&self.sender);
        self.processes.leave();
        self.transfers.kill_all();
    }
}
