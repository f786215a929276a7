//! Owns answering the server's questions, each on a thread of its own. It runs no command.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::callers::{Callers, beside};
use super::clock::Clock;
use super::keeper::Keeper;
use super::kept::Kept;
use super::notes::Note;
use super::transfer::Transfers;
use super::variables::Variables;
use super::{Sender, files, tree, workers};
use crate::limits::{ASKS, NAMED_PROCESSES};
use crate::wire::{Ask, FromHand, Id, Refusal, Running, Said};

pub(crate) struct Asks(Arc<Shared>);

struct Shared {
    sender: Sender,
    callers: Callers,
    clock: Clock,
    transfers: Transfers,
    kept: Kept,
    variables: Variables,
    keeper: Keeper,
    under_way: AtomicUsize,
}

impl Asks {
    pub(crate) fn new(
        sender: Sender,
        callers: Callers,
        clock: Clock,
        transfers: Transfers,
        kept: Kept,
        variables: Variables,
        keeper: Keeper,
    ) -> Self {
        Self(Arc::new(Shared {
            sender,
            callers,
            clock,
            transfers,
            kept,
            variables,
            keeper,
            under_way: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn start(&self, id: Id, body: &[u8]) {
        let ask = match serde_json::from_slice(body) {
            Ok(ask) => ask,
            Err(error) => return self.0.refuse(id, Refusal::Invalid, error.to_string()),
        };
        // By this thread, so that nothing that the server says after it overtakes it.
        if matches!(
            ask,
            Ask::Pause { .. } | Ask::Resume | Ask::End | Ask::Environment { .. }
        ) {
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
    fn answer(self: &Arc<Self>, id: Id, ask: Ask) {
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
            Ask::Execs => Ok(Said::Execs {
                execs: self.kept.list(),
            }),
            Ask::Exec {
                key,
                stdout,
                stderr,
            } => {
                let printed = self.kept.look(&key, stdout, stderr);
                let printed = printed.ok_or_else(|| unknown(&key));
                printed.map(|printed| Said::Printed { printed })
            }
            Ask::EndExec { key } => match self.kept.end(&key) {
                true => Ok(Said::Done),
                false => Err(unknown(&key)),
            },
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
            Ask::Environment { env } => {
                self.variables.set(env);
                Ok(Said::Done)
            }
            Ask::Compose { files } => files::compose(&files, id).map(|()| Said::Done),
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

    /// Looking at what runs takes longer the more there is, and only the next result needs it: nothing else that the
    /// server says waits for that.
    fn resume(self: &Arc<Self>) {
        tree::resume_all();
        let Some(paused) = self.clock.resume() else {
            return;
        };
        let note = Note::default();
        self.callers.tell(&note);
        // What begins from now on has not stood still.
        let there: HashSet<i32> = tree::numbers().collect();
        let shared = Arc::clone(self);
        beside(move || {
            let mut frozen = shared.background();
            frozen.retain(|process| there.contains(&process.pid));
            // Nobody else writes it.
            let _ = note.set(if frozen.is_empty() {
                String::new()
            } else {
                stood_still(paused, &frozen)
            });
        });
    }

    /// What runs and is neither a caller's shell itself nor the loop that the model speaks through.
    fn background(&self) -> Vec<Running> {
        let (shells, kept) = (self.callers.shells(), self.keeper.pid());
        let mut running = tree::running();
        running.retain(|process| {
            let is_ours = shells.contains(&process.pid) || Some(process.pid) == kept;
            !is_ours && process.state != 'Z'
        });
        running
    }

    fn rest(&self, reason: &str) -> Result<(), files::Refused> {
        let ended = self.background();
        let kept = self.callers.rest(|cwd| {
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
            note
        });
        kept.map_err(|error| {
            let dir = super::notes::KEPT;
            (Refusal::Invalid, format!("keep a note in {dir}: {error}"))
        })
    }

    fn refuse(&self, id: Id, why: Refusal, problem: String) {
        let refused = FromHand::Refused { id, why, problem };
        self.sender.send(&refused, &[]);
    }
}

fn unknown(key: &str) -> files::Refused {
    (Refusal::Missing, format!("no program {key} is known"))
}

fn stood_still(paused: Duration, frozen: &[Running]) -> String {
    format!(
        "[The sandbox was paused for {} s. What runs in the background stood still meanwhile and \
         goes on now: {}. Its connections may have timed out.]",
        paused.as_secs(),
        shown(frozen)
    )
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
