//! Several servers on one PostgreSQL database: their names, and who of them is there. It decides nothing about
//! sessions, and never speaks to another server: all they know of one another stands in the database.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use contract::ids::SessionId;
use contract::time::Micros;

use crate::error::Error;
use crate::limits;
use crate::postgres::changes;
use crate::runs::Holder;
use crate::store::{Back, Store};

/// The name of a server: it stays the same when the server is started again, because the workspaces that are on
/// its disk do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaName(String);

impl ReplicaName {
    /// Reads a name.
    ///
    /// # Errors
    /// What a name must be.
    pub fn new(name: &str) -> Result<Self, &'static str> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
            return Err("1 to 63 letters of ASCII, digits, `-`, `.` and `_`");
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One start of one server.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Its name.
    pub name: ReplicaName,
    /// Its build, for people.
    pub version: &'static str,
    /// How long it may be silent until the others take over its turns.
    pub dead_after: Duration,
}

/// A server, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Its build.
    pub version: String,
    /// Whether it is there.
    pub is_live: bool,
    /// Sessions whose turns it runs, as it said last.
    pub turns: u64,
    /// Sandboxes that run on it, as it said last.
    pub sandboxes: u64,
    /// Where it listens; none until it does.
    pub address: Option<String>,
    /// Since when its link to the database stands, by the database's clock.
    pub linked_at: Micros,
    /// When it was seen last, by the database's clock; none once it has left.
    pub seen_at: Option<Micros>,
    /// The newest master key under which it can open secrets, as it said last; none of one that has not said so yet, or
    /// whose build cannot.
    pub key_version: Option<u32>,
}

/// What a server says of itself with each beat.
#[derive(Debug, Default)]
pub(crate) struct Own {
    address: OnceLock<String>,
    sandboxes: AtomicU64,
    /// 0 until it is known.
    key_version: AtomicU32,
}

impl Own {
    pub(crate) fn address(&self) -> Option<&str> {
        self.address.get().map(String::as_str)
    }

    pub(crate) fn sandboxes(&self) -> i64 {
        i64::try_from(self.sandboxes.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }

    pub(crate) fn key_version(&self) -> Option<i64> {
        let version = self.key_version.load(Ordering::Relaxed);
        (version > 0).then_some(i64::from(version))
    }
}

/// When the changes of other servers were read last.
#[derive(Debug)]
pub(crate) struct Freshness {
    since: Instant,
    /// Milliseconds after `since`; 0 if there are no others.
    read: AtomicU64,
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            read: AtomicU64::new(0),
        }
    }
}

impl Freshness {
    fn millis(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// They were read.
    pub(crate) fn read_now(&self) {
        self.read.store(self.millis() + 1, Ordering::Release);
    }

    /// Whether what is remembered may be older than what another server has changed since. A process that was
    /// frozen knows that it was.
    pub(crate) fn is_stale(&self) -> bool {
        let read = self.read.load(Ordering::Acquire);
        let most = u64::try_from(limits::STALE.as_millis()).unwrap_or(u64::MAX);
        read > 0 && self.millis().saturating_sub(read) > most
    }
}

impl Store {
    /// The name under which this server holds runs, if others use the database beside it: it holds them for as long
    /// as it is seen there, not for the time of a lease.
    #[must_use]
    pub fn replica(&self) -> Option<(ReplicaName, Holder)> {
        match self.back() {
            Back::Sqlite(db) => db.replica(),
            Back::Postgres(db) => db.replica(),
        }
    }

    /// Tells the others where this server listens. Only the first call counts.
    pub fn reached_at(&self, address: &str) {
        let _ = self.own().address.set(address.to_owned());
    }

    /// Tells the others how many sandboxes run on this server.
    pub fn runs_sandboxes(&self, sandboxes: usize) {
        let running = u64::try_from(sandboxes).unwrap_or(u64::MAX);
        self.own().sandboxes.store(running, Ordering::Relaxed);
    }

    /// Tells the others, with the next beat, that this server can open what is sealed under that master key.
    pub fn opens_under(&self, key_version: u32) {
        self.own().key_version.store(key_version, Ordering::Relaxed);
    }

    /// Binds the session's workspace to this server, if there are several and none has it: turns go where it is.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the session; [`Error::Unavailable`].
    pub async fn bind_here(&self, session: SessionId, now: Micros) -> Result<(), Error> {
        let Some((name, _)) = self.replica() else {
            return Ok(());
        };
        match self.back() {
            Back::Sqlite(_) => Ok(()),
            Back::Postgres(db) => {
                db.write(move |cx| {
                    Box::pin(async move { changes::bind(cx, session, name.as_str(), now).await })
                })
                .await
            }
        }
    }

    /// The servers that use the database; none on a file.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn replicas(&self) -> Result<Vec<Seen>, Error> {
        match self.back() {
            Back::Sqlite(_) => Ok(Vec::new()),
            Back::Postgres(db) => db.read(|c| Box::pin(changes::replicas(c))).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        assert!(ReplicaName::new("host-1.rack_2").is_ok());
        for bad in ["", "a b", "a'b", "ä", &"x".repeat(64)] {
            assert!(ReplicaName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn without_others_nothing_is_stale() {
        let fresh = Freshness::default();
        assert!(!fresh.is_stale());
        fresh.read_now();
        assert!(!fresh.is_stale());
    }
}
