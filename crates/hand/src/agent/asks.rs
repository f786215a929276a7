//! Owns answering the server's questions, each on a thread of its own. It runs no command.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::clock::Clock;
use super::notes::Notes;
use super::transfer::Transfers;
use super::{Sender, calls::Calls, files, tree, workers};
use crate::limits::{ASKS, NAMED_PROCESSES};
use crate::wire::{Ask, FromHand, Id, Refusal, Running, Said};

pub(crate) struct Asks(Arc<Shared>);

struct Shared {
    sender: Sender,
    calls: Calls,
    clock: Clock,
    notes: Arc<Notes>,
    transfers: Transfers,
    under_way: AtomicUsize,
}

impl Asks {
    pub(crate) fn new(
        sender: Sender,
        calls: Calls,
        clock: Clock,
        notes: Arc<Notes>,
        transfers: Transfers,
    ) -> Self {
        Self(Arc::new(Shared {
            sender,
            calls,
            clock,
            notes,
            transfers,
            under_way: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn start(&self, id: Id, body: &[u8]) {
        let ask = match serde_json::from_slice(body) {
            Ok(ask) => ask,
            Err(error) => return self.0.refuse(id, Refusal::Invalid, error.to_string()),
        };
        // By this thread, so that nothing that the server says after it overtakes it.
        if matches!(ask, Ask::Pause { .. } | Ask::Resume | Ask::End) {
            return self.0.answer(id, ask);
        }
        if self.0.under_way.fetch_add(1, Ordering::SeqCst) >= ASKS {
            self.0.under_way.fetch_sub(1, Ordering::SeqCst);
            let problem = format!("more than {ASKS} questions at once");
            return self.0.refuse(id, Refusal::Busy, problem);
        }
        let shared = Arc::clone(&self.0);
        let started = workers::run(move || {
            shared.answer(id, ask);
            shared.under_way.fetch_sub(1, Ordering::SeqCst);
        });
        if let Err(error) = started {
            self.0.under_way.fetch_sub(1, Ordering::SeqCst);
            let problem = format!("no thread for it: {error}");
            self.0.refuse(id, Refusal::Busy, problem);
        }
    }
}

impl Shared {
    fn answer(&self, id: Id, ask: Ask) {
        let said = match ask {
            Ask::Stat { path } => files::stat(&path).map(|entry| Said::Entry { entry }),
            Ask::List { path } => {
                files::list(&path).map(|(entries, more)| Said::Entries { entries, more })
            }
            Ask::MakeDirectory { path } => files::make_directory(&path).map(|()| Said::Done),
            Ask::Rename { from, to } => files::rename(&from, &to).map(|()| Said::Done),
            Ask::Remove { path, all } => files::remove(&path, all).map(|()| Said::Done),
            Ask::Processes => Ok(Said::Processes {
                processes: tree::running(),
            }),
            Ask::Pause { stop } => {
                self.pause(stop);
                Ok(Said::Done)
            }
            Ask::Resume => {
                self.resume();
                Ok(Said::Done)
            }
            Ask::End => {
                tree::kill_all();
                self.transfers.kill_writes();
                Ok(Said::Done)
            }
            Ask::Rest { reason } => self.rest(&reason).map(|()| Said::Done),
        };
        let body = match said {
            Ok(said) => serde_json::to_vec(&said),
            Err((why, problem)) => return self.refuse(id, why, problem),
        };
        match body {
            Ok(body) => self.sender.send(&FromHand::Done { id }, &body),
            Err(error) => self.refuse(id, Refusal::Invalid, error.to_string()),
        }
    }

    fn pause(&self, stop: bool) {
        self.clock.pause();
        if stop {
            tree::stop_all();
        }
    }

    fn resume(&self) {
        tree::resume_all();
        let Some(paused) = self.clock.resume() else {
            return;
        };
        let frozen = self.background();
        if !frozen.is_empty() {
            let note = format!(
                "[The sandbox was paused for {} s. What runs in the background stood still meanwhile and \
                 goes on now: {}. Its connections may have timed out.]",
                paused.as_secs(),
                shown(&frozen)
            );
            self.notes.add(note);
        }
    }

    /// What runs and is not the shell itself.
    fn background(&self) -> Vec<Running> {
        let shell = self.calls.shell();
        let mut running = tree::running();
        running.retain(|process| Some(process.pid) != shell && process.state != 'Z');
        running
    }

    fn rest(&self, reason: &str) -> Result<(), files::Refused> {
        let ended = self.background();
        let cwd = self.calls.keep_shell();
        let mut note = format!("[The sandbox was stopped: {reason}. Its files are there");
        match cwd {
            Some(cwd) => {
                note.push_str(&format!(
                    "; the shell is back in {cwd} with the variables it had exported"
                ));
            }
            None => note.push_str("; the shell is a new one, in /workspace"),
        }
        if !ended.is_empty() {
            note.push_str(&format!(
                ". What ran in the background was ended: {}. Start it again if it is needed",
                shown(&ended)
            ));
        }
        note.push_str(".]");
        self.notes.keep(note).map_err(|error| {
            let dir = Path::new(super::notes::KEPT).display();
            (Refusal::Invalid, format!("keep a note in {dir}: {error}"))
        })
    }

    fn refuse(&self, id: Id, why: Refusal, problem: String) {
        let refused = FromHand::Refused { id, why, problem };
        self.sender.send(&refused, &[]);
    }
}

/// Some of them by name.
fn shown(processes: &[Running]) -> String {
    let named = processes.iter().take(NAMED_PROCESSES);
    let names: Vec<_> = named.map(|p| format!("`{}`", p.command)).collect();
    let names = names.join(", ");
    match processes.len().saturating_sub(NAMED_PROCESSES) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}
