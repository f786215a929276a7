//! Owns the running tool calls and their cancellation. It knows no tool.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::event::{EventfdFlags, eventfd};

use super::Sender;
use super::reaper::Reaper;
use super::tools::{Outcome, Tools};
use crate::limits::CALLS;
use crate::wire::{FromHand, Id, Output, Refusal, Tool};

/// A wish that a call ends, as a flag to look at and a descriptor to wait for.
pub(crate) struct Cancel {
    wanted: AtomicBool,
    event: OwnedFd,
}

impl Cancel {
    fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            wanted: AtomicBool::new(false),
            event,
        })
    }

    fn want(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        // The counter can only be full when it is readable already.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

pub(crate) struct Calls {
    shared: Arc<Shared>,
}

struct Shared {
    sender: Sender,
    tools: Tools,
    running: Mutex<HashMap<Id, Arc<Cancel>>>,
}

impl Calls {
    pub(crate) fn new(sender: Sender, reaper: Reaper) -> Self {
        let tools = Tools::new(reaper);
        Self {
            shared: Arc::new(Shared {
                sender,
                tools,
                running: Mutex::default(),
            }),
        }
    }

    pub(crate) fn start(&self, id: Id, tool: Tool, input: Vec<u8>) {
        if let Err(problem) = self.try_start(id, tool, input) {
            self.shared.sender.send(
                &FromHand::Refused {
                    id,
                    why: Refusal::Busy,
                    problem,
                },
                &[],
            );
        }
    }

    fn try_start(&self, id: Id, tool: Tool, input: Vec<u8>) -> Result<(), String> {
        let cancel = Arc::new(Cancel::new().map_err(|error| error.to_string())?);
        {
            let mut running = self
                .shared
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if running.len() >= CALLS {
                return Err(format!("more than {CALLS} calls at once"));
            }
            running.insert(id, Arc::clone(&cancel));
        }
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new()
            .name("call".into())
            .stack_size(1024 * 1024);
        let started = thread.spawn(move || shared.run(id, tool, &input, &cancel));
        started.map(drop).map_err(|error| {
            self.shared.forget(id);
            format!("no thread for the call: {error}")
        })
    }

    pub(crate) fn cancel(&self, id: Id) {
        let running = self
            .shared
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(cancel) = running.get(&id) {
            cancel.want();
        }
    }
}

impl Shared {
    fn run(&self, id: Id, tool: Tool, input: &[u8], cancel: &Cancel) {
        let outcome = self.tools.run(tool, id, input, cancel);
        self.forget(id);
        match outcome {
            Outcome::Done(output) => self.done(id, &output),
            Outcome::Cancelled => self.sender.send(&FromHand::Cancelled { id }, &[]),
        }
    }

    fn done(&self, id: Id, output: &Output) {
        let message = FromHand::Done { id };
        match serde_json::to_vec(output) {
            Ok(body) => self.sender.send(&message, &body),
            Err(error) => {
                let problem = error.to_string();
                self.sender.send(
                    &FromHand::Refused {
                        id,
                        why: Refusal::Invalid,
                        problem,
                    },
                    &[],
                );
            }
        }
    }

    fn forget(&self, id: Id) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
    }
}
