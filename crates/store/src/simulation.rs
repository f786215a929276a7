//! What a simulation needs of a store: the real statements run on the caller's own thread, between a caller
//! and the database stands a [`Line`], and what is decided can be listened to. What one of several servers hears of the
//! others comes from [`Others`]; what it makes of it is what it makes of it on PostgreSQL. Nothing shipped enables it.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;

use contract::ids::SessionId;
use contract::time::Micros;
use session::{Decision, Input, Refused, State};
use tokio::sync::Notify;

use crate::error::{Cause, Error};
use crate::events::Stored;
use crate::limits;
use crate::link::{self, Bond, Log};
use crate::replica::ReplicaName;
use crate::rules::change::Change;
use crate::rules::told::Note;
use crate::runs::Holder;
use crate::store::{Store, on_back};

/// What becomes of a request or an answer on its way: it takes its time, and is lost or arrives. One that
/// never ends is a caller that is no more.
pub type Passage<'a> = Pin<Box<dyn Future<Output = Result<(), Cause>> + Send + 'a>>;

/// The way between one process and the database.
pub trait Line: Send + Sync + std::fmt::Debug {
    /// A request is on its way: what is lost here was never done.
    fn there(&self, writes: bool) -> Passage<'_>;
    /// It was done, and nobody has been told yet.
    fn done(&self);
    /// The answer is on its way: what is lost here was done.
    fn back(&self, writes: bool) -> Passage<'_>;
    /// The servers on the database, if this process is one of several that take over from one another.
    fn fleet(&self) -> Option<Arc<dyn Fleet>> {
        None
    }
}

/// Several servers on one database, as that sees them for one of them.
pub trait Fleet: Send + Sync + std::fmt::Debug {
    /// The name of that one, and as whom it holds runs.
    fn me(&self) -> (ReplicaName, Holder);
    /// Whether that holder of runs is there.
    fn holds(&self, holder: &str) -> bool;
    /// Whether a server of that name is there.
    fn has(&self, name: &str) -> bool;
}

/// What was decided in a transaction.
#[derive(Debug)]
pub enum Decided {
    /// A session was made.
    Opened(Micros, Box<Decision>),
    /// An input was decided.
    Input {
        /// The state that was loaded.
        before: Box<State>,
        /// The input.
        input: Box<Input>,
        /// The caller's time.
        now: Micros,
        /// What became of it.
        decided: Result<Box<Decision>, Refused>,
    },
    /// A commit changed something for other servers: this text of it they can read from now on.
    Changed(String),
    /// The session's workspace is with the server of that name from now on.
    Bound(SessionId, String),
}

/// What is asked on one's connection to the others. An error breaks it.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Cause>> + Send + 'a>>;

/// The others on the database, as one of several servers reaches them.
pub trait Others: Send + Sync + std::fmt::Debug {
    /// Is there from now on.
    fn enter(&self) -> Answer<'_, ()>;
    /// Ends when something was heard since the last call. Cancel safe.
    fn heard(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
    /// What others changed since a place among all changes, in any order, and the place from which on the next call
    /// reads; nothing, and the end, if no place is given.
    fn read(&self, since: Option<usize>) -> Answer<'_, (Vec<String>, usize)>;
    /// Is there still; whether somebody holds runs who is not.
    fn beat(&self) -> Answer<'_, bool>;
    /// Sessions that this server may run.
    fn held(&self) -> Answer<'_, Vec<SessionId>>;
}

/// A link of a simulated server.
struct Simulated<'s> {
    store: &'s Store,
    others: &'s dyn Others,
}

impl Bond for Simulated<'_> {
    type Reader = Option<usize>;

    async fn enter(&self) -> Result<(), Cause> {
        self.others.enter().await
    }

    async fn read(&self, reader: &mut Option<usize>) -> Result<(), Cause> {
        let (changes, next) = self.others.read(*reader).await?;
        *reader = Some(next);
        for change in changes {
            Change::hear(&change, self.store.shared());
        }
        Ok(())
    }

    async fn tell(&self) -> Result<(), Cause> {
        Ok(())
    }

    async fn beat(&self) -> Result<bool, Cause> {
        self.others.beat().await
    }

    async fn sweep(&self) -> Result<(), Cause> {
        Ok(())
    }

    async fn held(&self) -> Result<Vec<SessionId>, Cause> {
        self.others.held().await
    }
}

impl Log for Store {
    async fn after(&self, session: SessionId, seq: u64, limit: u32) -> Result<Vec<Stored>, Error> {
        self.events_after(session, seq, limit).await
    }

    async fn announced(&self, session: SessionId) -> Result<Vec<Stored>, Error> {
        on_back!(self, read, |c| events::announced(c, session))
    }
}

impl Store {
    /// Makes it the store of one of several servers: what is returned keeps up with the others for as long as it is
    /// polled, and makes its connection to them anew when that breaks.
    pub fn among(&self, others: Arc<dyn Others>) -> impl Future<Output = ()> + Send + 'static {
        self.feed().link();
        let store = self.clone();
        async move {
            let links = async {
                loop {
                    keep_up(&store, &*others).await;
                    tokio::time::sleep(limits::BEAT / 2).await;
                }
            };
            tokio::select! {
                biased;
                () = links => {}
                never = link::catch_up(&store, store.shared()) => match never {},
            }
        }
    }
}

/// On one connection to the others, until it breaks.
async fn keep_up(store: &Store, others: &dyn Others) {
    let (heard, told) = (Notify::new(), Notify::new());
    let hears = async {
        loop {
            others.heard().await;
            heard.notify_one();
        }
    };
    let link = Simulated { store, others };
    tokio::select! {
        biased;
        () = hears => {}
        _ = link::keep_up(&link, store.shared(), &heard, &told) => {}
    }
}

thread_local! {
    static HEARD: RefCell<Option<Vec<Decided>>> = const { RefCell::new(None) };
    static FLEET: RefCell<Option<Arc<dyn Fleet>>> = const { RefCell::new(None) };
}

/// Does `work` on the database for one of those servers.
pub(crate) fn for_one_of<T>(fleet: Option<Arc<dyn Fleet>>, work: impl FnOnce() -> T) -> T {
    FLEET.set(fleet);
    let done = work();
    FLEET.set(None);
    done
}

/// The servers on the database, as it sees them for whoever asks it something now.
pub(crate) fn fleet() -> Option<Arc<dyn Fleet>> {
    FLEET.with_borrow(Clone::clone)
}

/// Listens to the decisions of this thread from now on, or no more.
pub fn listen(on: bool) {
    HEARD.set(on.then(Vec::new));
}

/// What was heard since the last call.
#[must_use]
pub fn heard() -> Vec<Decided> {
    HEARD.with_borrow_mut(|heard| heard.as_mut().map(std::mem::take).unwrap_or_default())
}

pub(crate) fn tell(decided: impl FnOnce() -> Decided) {
    HEARD.with_borrow_mut(|heard| {
        if let Some(heard) = heard {
            heard.push(decided());
        }
    });
}

pub(crate) fn changed(notes: &[Note]) {
    if let Ok(Some(text)) = Change::text(notes) {
        tell(|| Decided::Changed(text));
    }
}
