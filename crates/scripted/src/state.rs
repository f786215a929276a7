//! What the server remembers: the log, the ledger, the gates and the failures that have happened. All of
//! it bounded; no IO.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::{LOG_BYTES, LOG_ENTRIES, NAMES};
use crate::prefix::{Ledger, Prompt, Stats, Tokens};
use crate::script::{
    Aside, Script, Step, Turn, aside, default_aside, default_step, find, graded, judged,
};

/// One request as it came.
#[derive(Clone, Debug, Serialize)]
pub struct Recorded {
    /// Its number, from 0.
    pub index: u64,
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// Where it came from; the same port means the same connection.
    pub peer: String,
    /// Its headers; keys are shown as `(set)`.
    pub headers: BTreeMap<String, String>,
    /// Its body: JSON, or the text when it is none.
    pub body: Value,
    /// The share of its input tokens that a cache could give back; `None` when it was refused.
    pub prefix_ratio: Option<f64>,
    #[serde(skip)]
    size: usize,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    log: VecDeque<Recorded>,
    log_bytes: usize,
    ledger: Ledger,
    released: BTreeSet<String>,
    waiting: BTreeMap<String, usize>,
    failures: HashMap<(u64, usize), u32>,
    /// For conversations that bring none.
    common: Option<Vec<Step>>,
}

/// The server's memory.
#[derive(Debug, Default)]
pub(crate) struct State {
    inner: Mutex<Inner>,
    released: Notify,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// What a request is answered with.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// Gates to pass before anything is answered.
    pub(crate) gates: Vec<String>,
    pub(crate) step: Step,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every section leaves the memory whole; a panic elsewhere does not spoil it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a request and gives its number.
    pub(crate) fn record(
        &self,
        peer: SocketAddr,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> u64 {
        let shown = |name: &str, value: &http::HeaderValue| match name {
            "x-api-key" | "authorization" => "(set)".to_owned(),
            _ => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        };
        let text = || Value::String(String::from_utf8_lossy(body).into_owned());
        let mut inner = self.lock();
        let index = inner.next;
        inner.next += 1;
        inner.log_bytes += body.len();
        inner.log.push_back(Recorded {
            index,
            method: "POST".to_owned(),
            path: path.to_owned(),
            peer: peer.to_string(),
            headers: headers
                .iter()
                .map(|(n, v)| (n.to_string(), shown(n.as_str(), v)))
                .collect(),
            body: serde_json::from_slice(body).unwrap_or_else(|_| text()),
            prefix_ratio: None,
            size: body.len(),
        });
        while inner.log.len() > LOG_ENTRIES || inner.log_bytes > LOG_BYTES {
            let Some(old) = inner.log.pop_front() else {
                break;
            };
            inner.log_bytes -= old.size;
        }
        index
    }

    /// Counts a request's prompt.
    pub(crate) fn count(&self, index: u64, key: &str, prompt: Prompt) -> Tokens {
        let mut inner = self.lock();
        let tokens = inner.ledger.enter(key, index, prompt);
        if let Some(entry) = inner.log.iter_mut().rev().find(|e| e.index == index) {
            entry.prefix_ratio = Some(tokens.cache_read as f64 / tokens.total.max(1) as f64);
        }
        tokens
    }

    /// The step that answers this conversation of `who` (dialect and key) now. A failing step that has not
    /// happened often enough is counted here and chosen; the others that leave no message behind are passed
    /// over. `size` is the request's, in tokens.
    pub(crate) fn plan(&self, who: &str, turns: &[Turn], size: u64) -> Result<Planned, String> {
        if let Some(aside) = aside(turns) {
            return self.plan_aside(who, turns, aside, size);
        }
        let common = || Some(Script::common(self.lock().common.clone()?, turns));
        let Some(script) = find(turns)?.or_else(common) else {
            return Ok(Planned {
                gates: Vec::new(),
                step: default_step(turns),
            });
        };
        if let Some(refused) = outgrown(&script, size) {
            return Ok(refused);
        }
        let mut gates = Vec::new();
        let mut answered = script.answered;
        for (number, step) in script.steps.iter().enumerate() {
            if step.is_beside() {
                continue;
            }
            if step.only_waits() {
                if answered == 0 {
                    gates.extend(step.wait.clone());
                }
            } else if step.fails() {
                if answered == 0 && self.happens(who, turns, &script, number, step) {
                    gates.extend(step.wait.clone());
                    return Ok(Planned {
                        gates,
                        step: step.clone(),
                    });
                }
            } else if answered == 0 {
                gates.extend(step.wait.clone());
                return Ok(Planned {
                    gates,
                    step: step.clone(),
                });
            } else {
                answered -= 1;
            }
        }
        Ok(Planned {
            gates,
            step: Step::saying("Done."),
        })
    }

    /// The step that answers a request beside the conversation: the first of its kind that has not
    /// happened often enough.
    fn plan_aside(
        &self,
        who: &str,
        turns: &[Turn],
        aside: Aside,
        size: u64,
    ) -> Result<Planned, String> {
        let quoted = graded(turns).or_else(|| judged(turns));
        let turns = quoted.as_deref().unwrap_or(turns);
        let Some(script) = find(turns)? else {
            return Ok(Planned {
                gates: Vec::new(),
                step: default_aside(aside, 0, &[]),
            });
        };
        if let Some(refused) = outgrown(&script, size) {
            return Ok(refused);
        }
        let mut steps = script.steps.iter().enumerate();
        let chosen = steps.find(|(number, step)| {
            step.on == Some(aside) && self.happens(who, turns, &script, *number, step)
        });
        Ok(match chosen {
            Some((_, step)) => Planned {
                gates: step.wait.clone().into_iter().collect(),
                step: step.clone(),
            },
            None => Planned {
                gates: Vec::new(),
                step: default_aside(aside, script.answered, &self.past(who, turns, &script)),
            },
        })
    }

    fn happens(
        &self,
        who: &str,
        turns: &[Turn],
        script: &Script,
        number: usize,
        step: &Step,
    ) -> bool {
        if script.past.contains(&number) {
            return false;
        }
        let times = step.times.unwrap_or(1);
        let key = (conversation(who, turns, script), number);
        let mut inner = self.lock();
        if inner.failures.len() >= NAMES {
            inner.failures.clear();
        }
        let count = inner.failures.entry(key).or_default();
        *count = count.saturating_add(1);
        times == 0 || *count <= times
    }

    /// The failing steps that have happened as often as they should.
    fn past(&self, who: &str, turns: &[Turn], script: &Script) -> Vec<usize> {
        let conversation = conversation(who, turns, script);
        let inner = self.lock();
        let steps = script.steps.iter().enumerate().filter(|(_, s)| s.fails());
        let over = steps.filter(|(number, step)| {
            let times = step.times.unwrap_or(1);
            let count = inner.failures.get(&(conversation, *number));
            let happened = times != 0 && count.is_some_and(|count| *count >= times);
            happened || script.past.contains(number)
        });
        over.map(|(number, _)| number).collect()
    }

    /// From now on answers conversations that bring no script.
    pub(crate) fn play(&self, steps: Vec<Step>) {
        self.lock().common = Some(steps);
    }

    /// Opens a gate, for those who wait and those who will.
    pub(crate) fn release(&self, name: &str) {
        let mut inner = self.lock();
        if inner.released.len() < NAMES {
            inner.released.insert(name.to_owned());
        }
        drop(inner);
        self.released.notify_waiters();
    }

    /// Waits for a gate or for the end of the server. Cancel safe: yes; the count of waiters is a guard's.
    pub(crate) async fn pass(&self, name: &str) {
        let _waiting = Waiting::new(self, name);
        loop {
            let notified = self.released.notified();
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable();
            if self.lock().released.contains(name) {
                return;
            }
            tokio::select! {
                () = &mut notified => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let inner = self.lock();
        Stats {
            waiting: inner.waiting.keys().cloned().collect(),
            ..inner.ledger.stats.clone()
        }
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.lock().log.iter().cloned().collect()
    }
}

/// The refusal of a request that the script's window cannot hold.
fn outgrown(script: &Script, size: u64) -> Option<Planned> {
    let window = script.steps.iter().find_map(|step| step.window)?;
    (size > window).then(|| Planned {
        gates: Vec::new(),
        step: Step {
            too_long: true,
            ..Step::default()
        },
    })
}

/// What the failures of a script are counted for: the words up to it.
fn conversation(who: &str, turns: &[Turn], script: &Script) -> u64 {
    let said = turns
        .iter()
        .take(script.given_at + 1)
        .flat_map(|t| t.texts.iter().map(String::as_str));
    let said: Vec<&str> = std::iter::once(who).chain(said).collect();
    crate::prefix::fnv(said.join("\n").as_bytes())
}

struct Waiting<'a> {
    state: &'a State,
    name: String,
}

impl<'a> Waiting<'a> {
    fn new(state: &'a State, name: &str) -> Waiting<'a> {
        *state.lock().waiting.entry(name.to_owned()).or_default() += 1;
        Waiting {
            state,
            name: name.to_owned(),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut inner = self.state.lock();
        if let Some(count) = inner.waiting.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                inner.waiting.remove(&self.name);
            }
        }
    }
}
