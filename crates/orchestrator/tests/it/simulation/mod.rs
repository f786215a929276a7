//! The real orchestrator on the real core and the real statements, in a world where everything else is made
//! up: time, chance, the way to the database, models, sandboxes and clients. Two or three processes share
//! the database; they are killed between any two awaits, stall, drain and start anew. They know nothing of one another, or
//! hear of what the others commit, late, never or out of order. One seed, one history.

mod books;
mod cast;
mod hands;
mod line;
mod others;
mod tale;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::ids::{AgentId, SessionId};
use model::Catalog;
use session::{Command, Input};
use store::Store;
use store::sessions::Scope;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::books::{Books, below, chance, with};
use self::cast::{Ground, Process};
use crate::coverage::Coverage;

/// How long a world has to come to rest once nothing fails any more.
const REST_WITHIN: Duration = Duration::from_secs(1_800);

/// Events of one session that are compared with the books at its end.
const LOG: u32 = 1_000;

/// What a history was.
pub struct Told {
    pub steps: u64,
    pub coverage: Coverage,
    /// Threads that coordinators began.
    pub threads: u64,
    /// Events that those who watch saw.
    pub shown: u64,
    /// Requests of programs that were counted.
    pub bills: u64,
    /// Distinct for histories that differ.
    pub sum: u64,
}

/// A database with nothing in it but its tables, to be copied for each world.
pub fn blank(home: &Path) -> PathBuf {
    let path = home.join("blank.db");
    let options = store::Options {
        synchronous: store::Synchronous::Off,
        readers: 1,
        ..store::Options::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    let store = Store::open(&path, options).unwrap();
    { runtime }.build().unwrap().block_on(store.close());
    path
}

/// Runs the history of `seed`.
///
/// # Panics
/// Something does not hold.
pub fn history(seed: u64, blank: &Path) -> Told {
    history_with(seed, blank, true)
}

/// The same, with or without the oracle of the core: without it only what follows from a defect counts.
pub fn history_with(seed: u64, blank: &Path, second_opinion: bool) -> Told {
    play(seed, blank, |books| books.second_opinion = second_opinion)
}

/// The history of `seed` among processes that hear of one another, and are watched.
pub fn history_among(seed: u64, blank: &Path) -> Told {
    play(seed, blank, |books| books.linked = true)
}

/// The same, while programs in the sandboxes use the sessions' models.
pub fn history_with_programs(seed: u64, blank: &Path) -> Told {
    play(seed, blank, |books| {
        (books.linked, books.programs) = (true, true);
    })
}

fn play(seed: u64, blank: &Path, change: impl FnOnce(&mut Books)) -> Told {
    let dir = tempfile::tempdir_in(blank.parent().unwrap()).unwrap();
    let path = dir.path().join("world.db");
    std::fs::copy(blank, &path).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    store::simulation::listen(true);
    let run = std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            books::open(seed);
            with(change);
            Stage::new(&path).await.play().await;
        });
    });
    let ended = std::panic::catch_unwind(run);
    drop(runtime);
    store::simulation::listen(false);
    let books = books::close();
    if let Err(why) = ended {
        std::panic::resume_unwind(why);
    }
    tell(books.expect("the books of this world"))
}

fn tell(mut books: Books) -> Told {
    let mut sum = books.rng.next();
    let threads = books.subjects.iter().map(|s| s.tale.threads()).sum();
    for subject in &books.subjects {
        let state = subject.tale.state();
        sum = sum.rotate_left(7) ^ state.next_seq ^ state.generation.0;
        sum = sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ state.last_at.0.unsigned_abs();
    }
    Told {
        steps: books.steps,
        coverage: books.coverage,
        threads,
        shown: books.shown,
        bills: books.bills,
        sum,
    }
}

struct Stage {
    path: PathBuf,
    catalog: Arc<Catalog>,
    tasks: JoinSet<()>,
    processes: Vec<Process>,
    /// How many there should be.
    wanted: usize,
    /// Reads what is stored, and nothing ails it.
    auditor: Store,
    agent: AgentId,
}

impl Stage {
    async fn new(path: &Path) -> Self {
        with(|books| books.calm = true);
        let (_, auditor) = cast::connect(path);
        let ground = Ground::lay(&auditor).await;
        let mut stage = Self {
            path: path.to_owned(),
            catalog: Arc::new(Catalog::embedded()),
            tasks: JoinSet::new(),
            processes: Vec::new(),
            wanted: 1 + usize::try_from(below(3)).unwrap(),
            agent: ground.agent(),
            auditor,
        };
        for _ in 0..=below(3) {
            ground.session(&stage.auditor).await;
        }
        for _ in 0..stage.wanted {
            stage.start();
        }
        with(|books| books.calm = false);
        stage
    }

    fn start(&mut self) {
        let process = Process::start(&self.path, &mut self.tasks, &self.catalog);
        self.processes.push(process);
    }

    async fn play(mut self) {
        let acts = 60 + below(120);
        for _ in 0..acts {
            let pause = match below(20) {
                0..14 => below(400),
                14..19 => below(5_000),
                _ => below(60_000),
            };
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.act();
            self.check();
        }
        self.end().await;
        self.check();
    }

    /// Fails if anything was wrong.
    fn check(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        if let Some(wrong) = with(|books| {
            books.streams();
            books.wrong.clone()
        }) {
            panic!("{wrong}");
        }
    }

    /// One thing happens, somewhere.
    fn act(&mut self) {
        if self.processes.len() < self.wanted && (self.processes.is_empty() || chance(30)) {
            self.start();
            return;
        }
        let at = usize::try_from(below(self.processes.len() as u64)).unwrap();
        if with(|books| books.programs && books.rng.chance(15)) {
            if let Some((session, input)) = with(Books::bill) {
                self.submit(at, session, input);
            }
            return;
        }
        match below(100) {
            0..82 => self.client(at),
            82..90 => self.processes.remove(at).kill(),
            90..94 => self.drain(at),
            94..97 => stall(self.processes[at].number),
            _ => leap(),
        }
    }

    /// A client asks the process for something; it may never hear what became of it.
    fn client(&mut self, at: usize) {
        let agent = self.agent;
        let wish = with(|books| {
            let which = books.rng.below(books.subjects.len() as u64);
            let which = usize::try_from(which).unwrap();
            let id = books.subjects[which].id;
            Some((id, books.wish(which, agent)?))
        });
        let Some((session, input)) = wish else {
            return;
        };
        self.submit(at, session, input);
    }

    /// The process tells the core; whoever asked it to may never hear what became of it.
    fn submit(&mut self, at: usize, session: SessionId, input: Input) {
        let store = self.processes[at].store.clone();
        self.tasks.spawn(async move {
            let (now, entropy) = (books::now(), books::entropy());
            let done = store.submit(Scope::Any, session, input, now, entropy).await;
            if let Err(store::SubmitError::Bug(why)) = done {
                with(|books| books.blame(why.to_string()));
            }
        });
    }

    /// A process is told to end in order, and does.
    fn drain(&mut self, at: usize) {
        let process = self.processes.remove(at);
        with(|books| books.processes[process.number].drains = true);
        let patience = Duration::from_millis(below(20_000));
        let (auditor, asked) = (self.auditor.clone(), Instant::now());
        self.tasks.spawn(async move {
            process.orchestrator.drain(patience).await;
            handed_back(&auditor, process.number, asked).await;
            process.end();
        });
    }

    /// Liveness: once nothing fails any more and every question is answered, all sessions come to rest.
    async fn end(&mut self) {
        with(|books| books.calm = true);
        for process in std::mem::take(&mut self.processes) {
            if chance(50) {
                process.kill();
            } else {
                self.processes.push(process);
            }
        }
        self.start();
        let deadline = Instant::now() + REST_WITHIN;
        // What clients of a process said that stood still may be heard only while the others settle.
        loop {
            self.comes_to_rest(deadline).await;
            self.settled().await;
            if self.rest().await {
                break;
            }
        }
        with(|books| books.subjects.iter().for_each(|s| s.tale.at_rest()));
        self.audit().await;
        for command in [Command::Archive, Command::Delete] {
            for (id, _) in subjects() {
                if chance(60) {
                    self.ask(id, command.clone()).await;
                }
            }
        }
        self.settled().await;
        for process in std::mem::take(&mut self.processes) {
            process.orchestrator.drain(Duration::from_secs(60)).await;
            assert_eq!(process.orchestrator.running(), 0, "a turn outlives a drain");
            process.end();
        }
        self.audit().await;
    }

    async fn comes_to_rest(&mut self, deadline: Instant) {
        while !self.rest().await {
            self.check();
            assert!(
                Instant::now() < deadline,
                "the sessions never come to rest: {:?}",
                with(|books| phases(books))
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Whoever watches has seen it all.
    async fn settled(&mut self) {
        if with(|books| books.linked) {
            tokio::time::sleep(2 * others::SHOWN_WITHIN).await;
        }
        self.check();
    }

    /// Answers what is owed; whether nothing is open or owed any more.
    async fn rest(&mut self) -> bool {
        let mut rests = true;
        for (id, open) in subjects() {
            let owed = with(|books| books.owed(id));
            rests &= !open && owed.is_none();
            if let Some(command) = owed {
                self.ask(id, command).await;
            }
        }
        rests
    }

    async fn ask(&self, session: contract::ids::SessionId, command: Command) {
        let store = &self.processes.last().expect("one was just started").store;
        let (now, entropy) = (books::now(), books::entropy());
        let input = Input::Command(command);
        // What is refused was overtaken.
        let _ = store.submit(Scope::Any, session, input, now, entropy).await;
    }

    /// What is stored is what was decided: nothing is missing, nothing was changed.
    async fn audit(&self) {
        for (id, _) in subjects() {
            let deleted = with(|books| books.subject(id).is_none_or(|s| s.tale.is_deleted()));
            let row = self.auditor.session(Scope::Any, id).await;
            if deleted {
                assert!(row.is_err(), "a deleted session is there");
                continue;
            }
            let row = row.expect("a session is gone");
            let mut from = 0;
            loop {
                let stored = self.auditor.events_after(id, from, LOG).await.unwrap();
                let last = stored.last().and_then(|event| event.seq);
                with(|books| {
                    let tale = &books.subject(id).expect("it is there").tale;
                    let first = usize::try_from(from).unwrap();
                    for (event, placed) in stored.iter().zip(&tale.log()[first..]) {
                        assert_eq!(event.seq, Some(placed.seq));
                        let seen = (event.thread, event.on_primary);
                        assert_eq!(seen, (placed.thread, placed.on_primary));
                        let decided = serde_json::to_string(&placed.event).unwrap();
                        assert_eq!(*event.json, *decided, "an event is not what was decided");
                    }
                });
                match last {
                    Some(last) => from = last,
                    None => break,
                }
            }
            with(|books| {
                let tale = &books.subject(id).expect("it is there").tale;
                assert_eq!(from, tale.log().len() as u64, "the log has another length");
                assert_eq!(row.state, *tale.state(), "a state is not what was decided");
                assert_eq!(
                    row.profile,
                    *tale.profile(),
                    "a profile is not what was decided"
                );
            });
        }
        let due = self.auditor.due_runs(1_000, books::now()).await.unwrap();
        let open = subjects().into_iter().filter(|(_, open)| *open).count();
        assert!(due.len() <= open, "a run without an open turn");
    }
}

/// Where the threads of all sessions stand.
fn phases(books: &Books) -> Vec<Vec<&'static str>> {
    let of = |s: &books::Subject| {
        let threads = s.tale.state().threads();
        threads.map(|thread| thread.phase.name()).collect()
    };
    books.subjects.iter().map(of).collect()
}

/// All sessions, and whether a turn of them is open.
fn subjects() -> Vec<(contract::ids::SessionId, bool)> {
    with(|books| {
        let all = books.subjects.iter();
        all.map(|s| (s.id, s.tale.state().is_open() && !s.tale.is_deleted()))
            .collect()
    })
}

/// A process stands still for a while, and does not know. One that stands still already stands no shorter for
/// it: a part of it would sleep on while the rest seems well.
fn stall(number: usize) {
    let until = Instant::now() + Duration::from_millis(1_000 + below(90_000));
    with(|books| {
        books.trouble(number);
        let stalled = &mut books.processes[number].stalled;
        *stalled = (*stalled).max(Some(until));
    });
}

/// The clock of the day is set.
fn leap() {
    with(|books| {
        let by = i64::try_from(books.rng.below(600_000_000)).unwrap();
        books.skew += if books.rng.chance(50) { by } else { -by };
        for number in 0..books.processes.len() {
            books.trouble(number);
        }
        books.nothing_is_due();
    });
}

/// Every turn that the process held when it ended is due for anybody.
async fn handed_back(auditor: &Store, number: usize, asked: Instant) {
    let due = auditor.due_runs(1_000, books::now()).await.unwrap();
    with(|books| {
        let fate = &books.processes[number];
        if !fate.lives || fate.stalled.is_some() || fate.trouble >= asked {
            return;
        }
        // One whose claim was answered too late, or never, does not know that it holds it.
        let held = books.subjects.iter().filter(|s| {
            let knows = |(holder, _, since)| holder == number && fate.trouble < since;
            s.held.is_some_and(knows) && s.tale.state().is_open()
        });
        let kept = held.filter(|s| due.iter().all(|run| run.session != s.id));
        if kept.count() > 0 {
            books.blame("a process that ended in order kept a turn");
        }
    });
}
