//! What a process of the world hears of the others: that something was committed, sooner, later or never, and what, in any
//! order; and those who watch sessions at it. Whatever it hears, each of them sees the whole log, in order and once.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use contract::ids::SessionId;
use store::Store;
use store::feed::{Ended, Item};
use store::sessions::Scope;
use store::simulation::Answer;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::books::{Books, Subject, with};
use super::line::{live, travel};

/// Within this a process has read what another one committed, told or not: a beat, and the way there and back.
pub const HEARD_WITHIN: Duration = Duration::from_millis(1_250);

/// Within this whoever watches at a process that nothing ails sees what was committed at another: what was heard is read
/// from the log, one session after the other.
pub const SHOWN_WITHIN: Duration = Duration::from_millis(2_500);

/// When a process is told that others have changed something.
#[derive(Default)]
pub struct News {
    arrives: BTreeSet<Instant>,
    sent: Arc<Notify>,
}

/// One who watches a session at a process.
pub struct Watch {
    /// The place of the event that is next.
    next: u64,
    since: Instant,
    /// The stream has ended.
    ended: bool,
}

impl Subject {
    /// The log goes up to that place now.
    pub fn grow(&mut self, next: u64) {
        if self.grew.back().is_none_or(|(_, last)| *last < next) {
            self.grew.push_back((Instant::now(), next));
        }
    }

    /// How far the log went at that time, if it has grown before.
    fn length_at(&mut self, then: Instant) -> Option<(Instant, u64)> {
        while self.grew.get(1).is_some_and(|(at, _)| *at <= then) {
            self.grew.pop_front();
        }
        self.grew.front().copied().filter(|(at, _)| *at <= then)
    }
}

impl Books {
    /// A commit of `process` changed something that others may read, and are told of, or not.
    pub fn changed(&mut self, process: usize, text: String) {
        if !self.linked {
            return;
        }
        self.changes.push((process, text));
        for number in 1..self.processes.len() {
            if number == process || !self.processes[number].lives || self.rng.chance(15) {
                continue;
            }
            let after = match self.rng.below(10) {
                0..8 => self.rng.below(20),
                _ => self.rng.below(5_000),
            };
            let news = &mut self.processes[number].news;
            news.arrives
                .insert(Instant::now() + Duration::from_millis(after));
            news.sent.notify_one();
        }
    }

    /// Whether those who watch see what was committed in good time.
    pub fn streams(&mut self) {
        if !self.linked {
            return;
        }
        let then = Instant::now() - SHOWN_WITHIN;
        let mut late = Vec::new();
        for at in 0..self.subjects.len() {
            let subject = &mut self.subjects[at];
            let deleted = subject.tale.is_deleted();
            let Some((since, length)) = subject.length_at(then) else {
                continue;
            };
            let id = subject.id;
            for number in 1..self.processes.len() {
                let Some(watch) = self.processes[number].watches.get(&id) else {
                    continue;
                };
                // What is deleted is shown with its last words, and none of what was before them.
                let short = if deleted {
                    !watch.ended
                } else {
                    watch.next < length
                };
                if short && self.is_well(number, watch.since.max(since)) {
                    late.push((number, watch.next, length));
                }
            }
        }
        if let Some((number, next, length)) = late.pop() {
            self.blame(format!(
                "a stream of process {number} waits for {next} of {length}"
            ));
        }
    }
}

/// What the process of that number hears of the others.
#[derive(Debug)]
pub struct Others(pub usize);

impl store::simulation::Others for Others {
    fn heard(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            loop {
                let (first, sent) = with(|books| {
                    let news = &books.processes[self.0].news;
                    (news.arrives.first().copied(), Arc::clone(&news.sent))
                });
                let arrives = async {
                    match first {
                        Some(at) => sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = arrives => {
                        with(|books| books.processes[self.0].news.arrives.pop_first());
                        return live(self.0).await;
                    }
                    () = sent.notified() => {}
                }
            }
        })
    }

    fn read(&self, since: Option<usize>) -> Answer<'_, (Vec<String>, usize)> {
        Box::pin(async move {
            travel(self.0, true).await?;
            let mut found = with(|books| {
                let end = books.changes.len();
                let new = &books.changes[since.unwrap_or(end)..];
                let of_others = new.iter().filter(|(whose, _)| *whose != self.0);
                (
                    of_others.map(|(_, text)| text.clone()).collect::<Vec<_>>(),
                    end,
                )
            });
            // Their numbers are not in the order of their commits.
            with(|books| {
                for at in (1..found.0.len()).rev() {
                    let other = usize::try_from(books.rng.below(at as u64 + 1)).unwrap();
                    found.0.swap(at, other);
                }
            });
            travel(self.0, true).await?;
            Ok(found)
        })
    }

    fn beat(&self) -> Answer<'_, bool> {
        Box::pin(async {
            travel(self.0, true).await?;
            Ok(false)
        })
    }

    fn held(&self) -> Answer<'_, Vec<SessionId>> {
        Box::pin(async {
            travel(self.0, true).await?;
            Ok(with(|books| books.subjects.iter().map(|s| s.id).collect()))
        })
    }
}

/// Watches a session at a process as a client's stream does, from where the log ends.
pub async fn watch(process: usize, store: Store, session: SessionId) {
    loop {
        let mut seat = store.subscribe(session);
        let row = match store.session(Scope::Any, session).await {
            Ok(row) => row,
            Err(store::Error::NotFound(_)) => return,
            // The client comes again.
            Err(_) => continue,
        };
        seat.begin_at(row.state.next_seq);
        with(|books| {
            let watch = Watch {
                next: row.state.next_seq,
                since: Instant::now(),
                ended: false,
            };
            books.processes[process].watches.insert(session, watch);
        });
        let mut announced = BTreeSet::new();
        loop {
            match seat.next().await {
                Ok(Item::Event(event)) => with(|books| {
                    books.saw(process, session, event.seq, &event.json);
                }),
                Ok(Item::Announced(event)) if !announced.insert(event.id) => {
                    with(|books| books.blame("what waits was announced twice"));
                }
                Ok(Item::Announced(_) | Item::Preview(_)) => {}
                Err(Ended::Lagged) => break,
                Err(Ended::Deleted | Ended::Closed) => {
                    let end = |books: &mut Books| {
                        let watch = books.processes[process].watches.get_mut(&session)?;
                        watch.ended = true;
                        Some(())
                    };
                    with(end);
                    return;
                }
            }
        }
    }
}

impl Books {
    /// Who watches `session` at `process` was shown an event.
    fn saw(&mut self, process: usize, session: SessionId, seq: Option<u64>, json: &str) {
        self.shown += 1;
        let Some(watch) = self.processes[process].watches.get_mut(&session) else {
            return;
        };
        let due = watch.next;
        watch.next = due + 1;
        let Some(subject) = self.subject(session) else {
            return;
        };
        if subject.tale.is_deleted() {
            return;
        }
        let placed = usize::try_from(due - 1)
            .ok()
            .and_then(|at| subject.tale.log().get(at));
        let decided = placed.map(|placed| serde_json::to_string(&placed.event).unwrap());
        if seq != Some(due) || decided.as_deref() != Some(json) {
            self.blame(format!("a stream showed {seq:?} where {due} was next"));
        }
    }
}
