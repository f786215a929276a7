//! The handle everyone holds: which back end there is, the feed and the wake-ups beside it. Opening and
//! closing; every other operation stands with its aggregate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::caps::Caps;
use crate::error::{Error, OpenError};
use crate::feed::Feed;
use crate::kept::Keep;
use crate::keys::{ApiKeyRow, KeyHash};
use crate::known::Known;
use crate::limits;
use crate::postgres::{self, Postgres};
use crate::replica::{Freshness, Own, Replica};
use crate::runs::Signals;
use crate::sessions::{Ground, Resolved};
use crate::sqlite::{self, Sqlite};
use crate::stats::{Counters, Stats};

/// When a commit counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// When the disk has it.
    #[default]
    Full,
    /// When the kernel has it: a power cut loses acknowledged events. Only for the test that shows it.
    Off,
}

/// How a database is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// When a commit counts as durable.
    pub synchronous: Synchronous,
    /// Reader threads, or connections that read; at least 1.
    pub readers: usize,
    /// What one workspace may have.
    pub caps: Caps,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            synchronous: Synchronous::Full,
            readers: limits::READERS,
            caps: Caps::default(),
        }
    }
}

/// The back ends there are.
#[derive(Debug)]
enum Base {
    /// Embedded SQLite.
    Sqlite(Sqlite),
    /// A PostgreSQL server.
    Postgres(Postgres),
}

/// The same as one request uses them.
#[derive(Debug)]
pub(crate) enum Back<'s> {
    /// Embedded SQLite.
    Sqlite(sqlite::Held<'s>),
    /// A PostgreSQL server.
    Postgres(postgres::Held<'s>),
}

/// Runs an operation, named and called alike on both back ends, on the one that there is: `read` on a
/// snapshot, `write` in the writer's transaction.
macro_rules! on_back {
    ($store:expr, $how:ident, |$cx:ident| $file:ident::$name:ident($($value:expr),* $(,)?)) => {
        match $store.back() {
            $crate::store::Back::Sqlite(db) => {
                db.$how(move |$cx| $crate::sqlite::$file::$name($($value),*))
                    .await
            }
            $crate::store::Back::Postgres(db) => {
                db.$how(move |$cx| {
                    Box::pin(async move { $crate::postgres::$file::$name($($value),*).await })
                })
                .await
            }
        }
    };
}
pub(crate) use on_back;

/// What the back end shares with the handle: where it announces what it committed, and what it has
/// forgotten there.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) feed: Feed,
    pub(crate) signals: Signals,
    pub(crate) counters: Counters,
    /// API keys by their hash.
    pub(crate) keys: Known<KeyHash, ApiKeyRow>,
    /// What sessions are made from.
    pub(crate) grounds: Known<Ground, Arc<Resolved>>,
    /// When the changes of other servers were read last.
    pub(crate) fresh: Freshness,
    /// What this server says of itself.
    pub(crate) own: Own,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            feed: Feed::default(),
            signals: Signals::default(),
            counters: Counters::default(),
            keys: Known::new(limits::KEY_CACHE),
            grounds: Known::new(limits::DEFINITION_CACHE),
            fresh: Freshness::default(),
            own: Own::default(),
        }
    }
}

#[derive(Debug)]
struct Inner {
    back: Base,
    shared: Arc<Shared>,
    caps: Caps,
}

/// The store. Cloning it clones a handle.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>, Option<Arc<Keep>>);

impl Store {
    /// Opens the database at `path`, made and migrated if need be. Blocks until that is done. That no
    /// other process has it open is the caller's business (the data directory's lock).
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn open(path: &Path, options: Options) -> Result<Self, OpenError> {
        let shared = Arc::<Shared>::default();
        let back = Base::Sqlite(Sqlite::open(path, options, Arc::clone(&shared))?);
        Ok(Self(
            Arc::new(Inner {
                back,
                shared,
                caps: options.caps,
            }),
            None,
        ))
    }

    /// Opens the database that `url` names: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, made ready and
    /// migrated if need be, or `sqlite://PATH`, as [`Store::open`] does. Of a PostgreSQL database several
    /// processes may have it open; this one hears nothing of what the others commit.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do and shows no password.
    pub async fn connect(url: &str, options: Options) -> Result<Self, OpenError> {
        Self::open_url(url, options, None).await
    }

    /// As [`Store::connect`], as one of several servers on a PostgreSQL database: it is seen there, hears what the
    /// others commit, and takes over from those that are not seen any more.
    ///
    /// # Errors
    /// [`OpenError`]; also when a server of that name is there, or the clocks differ.
    pub async fn join(url: &str, options: Options, replica: Replica) -> Result<Self, OpenError> {
        Self::open_url(url, options, Some(replica)).await
    }

    async fn open_url(
        url: &str,
        options: Options,
        replica: Option<Replica>,
    ) -> Result<Self, OpenError> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            let path = PathBuf::from(path);
            let opened = tokio::task::spawn_blocking(move || Self::open(&path, options)).await;
            return opened.unwrap_or_else(|panic| {
                Err(OpenError::Url {
                    why: panic.to_string(),
                })
            });
        }
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(OpenError::Url {
                why: "it begins with neither sqlite:// nor postgres://".to_owned(),
            });
        }
        let shared = Arc::<Shared>::default();
        let back =
            Base::Postgres(Postgres::open(url, options, Arc::clone(&shared), replica).await?);
        let caps = options.caps;
        Ok(Self(Arc::new(Inner { back, shared, caps }), None))
    }

    /// Whether the PostgreSQL server that `url` names will do, and what it is. Changes nothing there.
    ///
    /// # Errors
    /// [`OpenError`], as [`Store::connect`].
    pub async fn probe(url: &str, options: Options) -> Result<String, OpenError> {
        Postgres::probe(url, options).await
    }

    /// Opens the database at `path` for one simulated process behind `line`: statements run on the thread
    /// that asks, and a commit is as durable as the kernel makes it.
    ///
    /// # Errors
    /// [`OpenError`].
    #[cfg(feature = "simulation")]
    pub fn simulated(
        path: &Path,
        line: Arc<dyn crate::simulation::Line>,
    ) -> Result<Self, OpenError> {
        let options = Options {
            synchronous: Synchronous::Off,
            readers: 1,
            ..Options::default()
        };
        let caps = options.caps;
        let shared = Arc::<Shared>::default();
        let back = Base::Sqlite(Sqlite::simulated(path, options, Arc::clone(&shared), line)?);
        let inner = Inner { back, shared, caps };
        Ok(Self(Arc::new(inner), None))
    }

    /// Ends subscriptions, finishes what is queued, checkpoints and closes. Later operations answer
    /// `Unavailable`. Closing again does nothing.
    pub async fn close(&self) {
        self.0.shared.feed.close();
        match &self.0.back {
            Base::Sqlite(db) => db.close().await,
            Base::Postgres(db) => db.close().await,
        }
    }

    /// Writes a consistent copy of the database to the new file `to`, readable by its owner only, while
    /// everything else goes on. It holds what was committed before it began, and it is durable when this
    /// returns. Sealed secrets stay sealed in it: without the master key, which is never part of a copy,
    /// they cannot be opened. Not cancel safe: a copy that nobody waits for is finished all the same.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the file exists, or cannot be written.
    pub async fn backup(&self, to: PathBuf) -> Result<(), Error> {
        match &self.0.back {
            Base::Sqlite(db) => Ok(db.copy(to).await?),
            Base::Postgres(_) => Err(Error::Unavailable(
                "a PostgreSQL database is copied with pg_dump".into(),
            )),
        }
    }

    /// Counters since the store was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let depth = match &self.0.back {
            Base::Sqlite(db) => [db.queue_depth(), db.read_queue_depth()],
            Base::Postgres(db) => [db.queue_depth(), db.read_queue_depth()],
        };
        self.0.shared.counters.read(depth)
    }

    pub(crate) fn back(&self) -> Back<'_> {
        match &self.0.back {
            Base::Sqlite(db) => Back::Sqlite(db.held(self.1.as_ref())),
            Base::Postgres(db) => Back::Postgres(db.held(self.1.as_ref())),
        }
    }

    /// The same store for one request.
    pub(crate) fn with_keep(&self, keep: Keep) -> Self {
        Self(Arc::clone(&self.0), Some(Arc::new(keep)))
    }

    pub(crate) fn caps(&self) -> Caps {
        self.0.caps
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    pub(crate) fn own(&self) -> &Own {
        &self.0.shared.own
    }

    pub(crate) fn feed(&self) -> &Feed {
        &self.0.shared.feed
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.0.shared.signals
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.shared.counters
    }

    /// Whether what is remembered may be older than what another server has changed since.
    pub(crate) fn is_stale(&self) -> bool {
        self.0.shared.fresh.is_stale()
    }

    pub(crate) fn known_keys(&self) -> &Known<KeyHash, ApiKeyRow> {
        &self.0.shared.keys
    }

    pub(crate) fn known_grounds(&self) -> &Known<Ground, Arc<Resolved>> {
        &self.0.shared.grounds
    }
}
