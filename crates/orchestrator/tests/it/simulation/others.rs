//! What a process of the world hears of the others: that something was committed, sooner, later or never, and what, in any
//! order; and those who watch sessions at it. Whatever it hears, each of them sees the whole log, in order and once.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use contract::ids::SessionId;
use session::{Fact, Input};
use store::Store;
use store::feed::{Ended, Item};
use store::replica::ReplicaName;
use store::runs::Holder;
use store::sessions::Scope;
use store::simulation::Answer;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::books::{Books, PROMPTLY, Subject, with};
use super::line::{live, travel};

/// Within this a process has read what another one committed, told or not: a beat, and the way there and back.
pub const HEARD_WITHIN: Duration = Duration::from_millis(1_250);

/// Within this whoever watches at a process that nothing ails sees what was committed at another: what was heard is read
/// from the log, one session after the other.
pub const SHOWN_WITHIN: Duration = Duration::from_millis(2_500);

/// A process that is gone for so long is gone for the others.
const DEAD_AFTER: Duration = store::limits::DEAD_AFTER;

/// Within this the turns of one that was killed are taken up by one that nothing ails: until it counts as gone, and until
/// somebody looks again.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(7);

/// When a process was seen by the others, by a clock that is none of theirs.
#[derive(Default)]
pub struct Presence {
    /// None: it has never been there, or has left.
    pub seen: Option<Instant>,
    /// Since when its own connection stands: others may have been away only because it was.
    linked: Option<Instant>,
    /// When it was killed.
    pub killed: Option<Instant>,
}

/// The processes as the database sees them for the one of that number.
#[derive(Debug)]
pub struct Seers(pub usize);

impl store::simulation::Fleet for Seers {
    fn me(&self) -> (ReplicaName, Holder) {
        let name = name(self.0);
        (ReplicaName::new(&name).unwrap(), Holder(name))
    }

    fn holds(&self, holder: &str) -> bool {
        with(|books| number(holder).is_some_and(|of| books.sees(self.0, of)))
    }

    fn has(&self, name: &str) -> bool {
        self.holds(name)
    }
}

fn name(of: usize) -> String {
    format!("p{of}")
}

fn number(name: &str) -> Option<usize> {
    name.strip_prefix('p')?.parse().ok()
}

impl Books {
    /// Whether the process `of` is there as `process` sees it.
    fn sees(&self, process: usize, of: usize) -> bool {
        let Some(seen) = self.processes.get(of).and_then(|fate| fate.presence.seen) else {
            return false;
        };
        let linked = self.processes[process].presence.linked;
        linked.map_or(seen, |linked| linked.max(seen)) + DEAD_AFTER > Instant::now()
    }

    /// It is there from now on.
    pub fn enters(&mut self, process: usize) {
        let presence = &mut self.processes[process].presence;
        (presence.seen, presence.linked) = (Some(Instant::now()), Some(Instant::now()));
    }

    /// It ended in order.
    pub fn leaves(&mut self, process: usize) {
        self.processes[process].presence.seen = None;
    }

    /// The session's workspace is with the process of that name.
    pub fn bound(&mut self, session: SessionId, host: &str) {
        let host = number(host);
        if let Some(subject) = self.subject(session) {
            (subject.host, subject.ran_on) = (host, None);
        }
    }

    /// A process claims the session: not while another, whom nothing ails, has its workspace.
    pub fn stays_with_its_workspace(&mut self, process: usize, at: usize) {
        let (mono, host) = (Instant::now(), self.subjects[at].host);
        let ran_on = self.subjects[at].ran_on.filter(|_| self.linked);
        if ran_on.is_some_and(|ran_on| host != Some(ran_on)) {
            self.blame("a model has results from a workspace, and nobody knows where that is");
        }
        if let Some(host) = host
            && host != process
            && self.is_well(host, mono)
            && self.is_well(process, mono)
        {
            self.blame(format!(
                "a turn went to process {process}, and its workspace is with {host}"
            ));
        }
    }

    /// A process has claimed what another held: in good time, if that one was killed.
    pub fn taken_over(&mut self, process: usize, from: usize) {
        if let Some(killed) = self.processes[from].presence.killed
            && killed.elapsed() > TAKEN_OVER_WITHIN
            && self.linked
            && self.is_well(process, killed)
        {
            self.blame(format!(
                "a turn of process {from} was taken up {:?} after it was killed",
                killed.elapsed()
            ));
        }
    }

    /// How soon a turn is taken up that is due since then by the doing of `opener`; nobody can say of one that has to wait
    /// for a process that something ails.
    pub fn promptly(&self, at: usize, opener: usize, since: Instant) -> Option<Duration> {
        match self.subjects[at].host.filter(|_| self.linked) {
            Some(host) if host != opener => {
                self.is_well(host, since).then_some(HEARD_WITHIN + PROMPTLY)
            }
            _ => Some(PROMPTLY),
        }
    }

    /// The session uses its workspace in `process`.
    pub fn attaches(&mut self, process: usize, session: SessionId) {
        let linked = self.linked;
        if let Some(subject) = self.subject(session) {
            if linked && subject.host.is_some_and(|host| host != process) {
                subject.untold = Some(process);
            } else if subject.untold != Some(process) {
                subject.untold = None;
            }
        }
    }

    /// The first result from a workspace that is not the one that the model knew says so.
    pub fn told_of_loss(&mut self, process: usize, at: usize, input: &Input) {
        let Input::Fact { fact, .. } = input else {
            return;
        };
        let Fact::Finished { content, .. } = &**fact else {
            return;
        };
        let texts = content
            .iter()
            .map(|block| serde_json::to_string(block).unwrap());
        let texts = texts.collect::<String>();
        let subject = &mut self.subjects[at];
        let ran = texts.contains("\"ran\"");
        if ran {
            subject.ran_on = Some(process);
        }
        if subject.untold != Some(process) {
            return;
        }
        // Also what failed in the new workspace says so, and then the model knows.
        let told = texts.contains("is gone");
        if told || ran {
            subject.untold = None;
        }
        if ran && !told {
            self.blame("a model was not told that its workspace was lost");
        }
    }
}

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
    fn enter(&self) -> Answer<'_, ()> {
        Box::pin(async {
            travel(self.0, true).await?;
            with(|books| books.enters(self.0));
            travel(self.0, true).await
        })
    }

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
            let orphans = with(|books| {
                books.processes[self.0].presence.seen = Some(Instant::now());
                let held = books.subjects.iter().filter(|s| s.tale.state().is_open());
                let mut holders = held.filter_map(|s| s.held).map(|(holder, ..)| holder);
                holders.any(|holder| !books.sees(self.0, holder))
            });
            travel(self.0, true).await?;
            Ok(orphans)
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
