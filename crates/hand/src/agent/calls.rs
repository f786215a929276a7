//! Owns the running tool calls, their cancellation, and the results that nobody has taken yet. It knows no tool.
//!
//! A call with a key outlives the server that asked for it: it runs on, and its result stays until a server
//! says that it is taken. A call without one ends with the line it came over.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::callers::{Callers, may_be_named};
use super::line::Sender;
use super::tools::{self, Outcome};
use super::workers;
use crate::limits::{CALLS, KEPT_BYTES, KEPT_RESULTS, KEY_CHARS};
use crate::wire::{FromHand, Id, Refusal, Tool};

/// A wish that a call ends, as a flag to look at and a descriptor to wait for.
pub(crate) struct Cancel {
    wanted: AtomicBool,
    event: OwnedFd,
}

impl Cancel {
    pub(crate) fn new() -> io::Result<Self> {
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

/// What a call is known by.
pub(crate) struct Name {
    pub(crate) id: Id,
    pub(crate) key: Option<String>,
    pub(crate) caller: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Calls {
    shared: Arc<Shared>,
}

struct Shared {
    callers: Callers,
    table: Mutex<Table>,
}

/// By the order in which they came.
#[derive(Default)]
struct Table {
    calls: BTreeMap<u64, Held>,
    next: u64,
}

struct Held {
    name: Name,
    /// Who is told of the end.
    asker: Sender,
    state: State,
}

enum State {
    Running(Arc<Cancel>),
    /// Only of a call with a key.
    Ended(Answer),
}

#[derive(Clone)]
enum Answer {
    Done(Arc<[u8]>),
    Cancelled,
    Failed(String),
}

impl Calls {
    pub(crate) fn new(callers: Callers) -> Self {
        Self {
            shared: Arc::new(Shared {
                callers,
                table: Mutex::default(),
            }),
        }
    }

    /// Starts a call; `asker` is told how it ends, or why it was not started.
    pub(crate) fn start(&self, asker: &Sender, name: Name, tool: Tool, input: Vec<u8>) {
        let id = name.id;
        if let Err((why, problem)) = self.try_start(asker, name, tool, input) {
            asker.send(&FromHand::Refused { id, why, problem }, &[]);
        }
    }

    fn try_start(
        &self,
        asker: &Sender,
        name: Name,
        tool: Tool,
        input: Vec<u8>,
    ) -> Result<(), (Refusal, String)> {
        let busy = |problem| (Refusal::Busy, problem);
        let cancel = Arc::new(Cancel::new().map_err(|error| busy(error.to_string()))?);
        let (id, caller) = (name.id, name.caller.clone());
        let number = self.shared.lock().add(name, asker, &cancel)?;
        // By this thread: what is said of callers after it finds this one there.
        let caller = self.shared.callers.get(caller.as_deref());
        let shared = Arc::clone(&self.shared);
        let started = workers::run(move || {
            let outcome = tools::run(caller.as_deref(), tool, id, &input, &cancel);
            shared.ended(number, outcome);
        });
        started.map(drop).map_err(|error| {
            self.shared.lock().calls.remove(&number);
            busy(format!("no thread for the call: {error}"))
        })
    }

    /// Has the shells end of all callers but those and the one without a name. A call that is under way ends first.
    pub(crate) fn keep_callers(&self, keep: &[String]) {
        self.shared.callers.keep(keep);
    }

    /// Ends the call that `asker` knows by `id`; one that has ended is left alone.
    pub(crate) fn cancel(&self, asker: &Sender, id: Id) {
        for held in self.shared.lock().calls.values() {
            if let State::Running(cancel) = &held.state
                && held.name.id == id
                && held.asker.is(asker)
            {
                cancel.want();
            }
        }
    }

    /// Tells `asker` under `id`, now or when it ends, how the call with that key ended.
    pub(crate) fn resume(&self, asker: &Sender, id: Id, key: &str) {
        let mut table = self.shared.lock();
        let Some(held) = table.with_key(key) else {
            drop(table);
            asker.send(&FromHand::Unknown { id }, &[]);
            return;
        };
        held.asker = asker.clone();
        held.name.id = id;
        if let State::Ended(answer) = &held.state {
            let answer = answer.clone();
            // Sending waits for the server, and others must not.
            drop(table);
            answer.send(asker, id);
        }
    }

    /// The result of the call with that key is safe elsewhere.
    pub(crate) fn taken(&self, key: &str) {
        let mut table = self.shared.lock();
        if let Some(held) = table.with_key(key) {
            held.name.key = None;
        }
        table
            .calls
            .retain(|_, held| held.name.key.is_some() || held.is_running());
    }

    /// Nobody asks over this line any more: what it alone wanted to know has no reader.
    pub(crate) fn leave(&self, asker: &Sender) {
        for held in self.shared.lock().calls.values() {
            if let State::Running(cancel) = &held.state
                && held.name.key.is_none()
                && held.asker.is(asker)
            {
                cancel.want();
            }
        }
    }
}

impl Shared {
    fn ended(&self, number: u64, outcome: Outcome) {
        let answer = match outcome {
            Outcome::Cancelled => Answer::Cancelled,
            Outcome::Done(output) => match serde_json::to_vec(&output) {
                Ok(body) => Answer::Done(body.into()),
                Err(error) => Answer::Failed(error.to_string()),
            },
        };
        let told = self.lock().end(number, &answer);
        if let Some((asker, id)) = told {
            answer.send(&asker, id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn add(
        &mut self,
        name: Name,
        asker: &Sender,
        cancel: &Arc<Cancel>,
    ) -> Result<u64, (Refusal, String)> {
        let running = self.calls.values().filter(|held| held.is_running());
        if running.count() >= CALLS {
            let problem = format!("more than {CALLS} calls at once");
            return Err((Refusal::Busy, problem));
        }
        if name.caller.as_deref().is_some_and(|it| !may_be_named(it)) {
            let problem = format!(
                "a caller's name is 1 to {KEY_CHARS} letters, digits, underscores and hyphens"
            );
            return Err((Refusal::Invalid, problem));
        }
        if let Some(key) = &name.key {
            if key.len() > KEY_CHARS {
                let problem = format!("a call's key is over {KEY_CHARS} bytes");
                return Err((Refusal::Invalid, problem));
            }
            // No call runs twice.
            if self.with_key(key).is_some() {
                let problem = format!("the call {key} was started before");
                return Err((Refusal::Invalid, problem));
            }
        }
        let number = self.next;
        self.next += 1;
        let held = Held {
            name,
            asker: asker.clone(),
            state: State::Running(Arc::clone(cancel)),
        };
        self.calls.insert(number, held);
        Ok(number)
    }

    fn with_key(&mut self, key: &str) -> Option<&mut Held> {
        let mut calls = self.calls.values_mut();
        calls.find(|held| held.name.key.as_deref() == Some(key))
    }

    /// Keeps the answer if the call has a key; whom to tell.
    fn end(&mut self, number: u64, answer: &Answer) -> Option<(Sender, Id)> {
        let held = self.calls.get_mut(&number)?;
        let told = (held.asker.clone(), held.name.id);
        if held.name.key.is_some() {
            held.state = State::Ended(answer.clone());
            self.forget_oldest();
        } else {
            self.calls.remove(&number);
        }
        Some(told)
    }

    /// Holds the results that are kept to their limits; the latest one stays in any case.
    fn forget_oldest(&mut self) {
        let (mut results, mut bytes) = (0, 0);
        let mut latest_first = self.calls.iter().rev();
        let mut over = Vec::new();
        for (number, held) in &mut latest_first {
            if let State::Ended(answer) = &held.state {
                results += 1;
                bytes += answer.bytes();
                if results > 1 && (results > KEPT_RESULTS || bytes > KEPT_BYTES) {
                    over.push(*number);
                }
            }
        }
        for number in over {
            self.calls.remove(&number);
        }
    }
}

impl Held {
    fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }
}

impl Answer {
    fn send(&self, to: &Sender, id: Id) {
        match self {
            Self::Done(body) => to.send(&FromHand::Done { id }, body),
            Self::Cancelled => to.send(&FromHand::Cancelled { id }, &[]),
            Self::Failed(problem) => {
                let (why, problem) = (Refusal::Invalid, problem.clone());
                to.send(&FromHand::Refused { id, why, problem }, &[]);
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Done(body) => body.len(),
            Self::Cancelled => 0,
            Self::Failed(problem) => problem.len(),
        }
    }
}
