//! Limits of the store. Each is a constant with its unit and reason.

/// Writes that may wait for the writer. A caller beyond it waits (back-pressure), it is not refused.
pub const WRITE_QUEUE: usize = 1_024;

/// Reads that may wait for a reader; beyond it callers wait.
pub const READ_QUEUE: usize = 1_024;

/// Writes in one commit: bounds how long the first of them waits.
pub const BATCH_JOBS: usize = 512;

/// Bytes of events after which a commit takes no further write.
pub const BATCH_BYTES: usize = 4 << 20;

/// Reader threads: reads are short and served from memory, so more would only contend.
pub const READERS: usize = 3;

/// How long a new connection to a PostgreSQL server may take.
pub const CONNECT: std::time::Duration = std::time::Duration::from_secs(5);

/// Connections to a PostgreSQL server that read, beside the one that writes: they wait for the server most
/// of the time, so more than there are reader threads of a file.
pub const CONNECTIONS: usize = 8;

/// How long a start waits for the connection of a server of its name, killed just before, to end.
pub const TAKE_OVER: std::time::Duration = std::time::Duration::from_secs(5);

/// How long a read waits for a free connection.
pub const CONNECTION_WAIT: std::time::Duration = std::time::Duration::from_secs(10);

/// Counts of workspaces that the writer remembers.
pub const WARM_COUNTS: usize = 1_024;

/// How near its cap a count must be for each place to be taken in its row, on a database of several servers: what all of
/// them may be about to add, as each adds at most a transaction's writes.
pub const NEAR_A_CAP: i64 = 16 * BATCH_JOBS as i64;

/// How long a statement may run on a PostgreSQL server.
pub const STATEMENT: std::time::Duration = std::time::Duration::from_secs(30);

/// How long a statement waits there for a row that another replica has locked.
pub const LOCK_WAIT: std::time::Duration = std::time::Duration::from_secs(10);

/// How long a transaction may stand idle there before the server ends it: that of a replica that is frozen
/// keeps nobody off a session for longer.
pub const IDLE_IN_TRANSACTION: std::time::Duration = std::time::Duration::from_secs(10);

/// How often a transaction is run again that met another server's in a deadlock; each takes the server a second to see.
pub const DEADLOCKS: u32 = 8;

/// How long it leaves the rows to the other before: longer than a batch takes.
pub const GIVE_WAY: std::time::Duration = std::time::Duration::from_millis(50);

/// How often a server on a database of several says that it is there, and reads what it may not have heard of.
pub const BEAT: std::time::Duration = std::time::Duration::from_secs(1);

/// How long it may be silent until the others take over its turns, unless the operator says otherwise.
pub const DEAD_AFTER: std::time::Duration = std::time::Duration::from_secs(4);

/// How long what a commit changed is kept for the other servers: far longer than a beat. One that was away for
/// longer looks at everything.
pub const CHANGES_KEPT: std::time::Duration = std::time::Duration::from_secs(300);

/// Remembered keys and definitions are not used once nothing was heard of the other servers for so long: what one
/// of them revoked stops within it.
pub const STALE: std::time::Duration = std::time::Duration::from_secs(3);

/// How far the clock of a server may be from the database's: a turn that waits for a time begins as much too early or too
/// late. Less than it may cost that a server is gone.
pub const CLOCK_SKEW: std::time::Duration = std::time::Duration::from_secs(10);

/// User events of a watched session of which the feed remembers that they were shown.
pub const ANNOUNCED: usize = 2 * session::limits::INBOX as usize;

/// Pages by which the write-ahead log grows (33 MB) between two checkpoints. It is read again at a start
/// after a crash; shorter, its pages would be copied and the disk made to sync more often.
pub const WAL_PAGES: i32 = 8_000;

/// KiB of pages that a connection keeps for itself. What it reads comes from the mapped file and is the
/// kernel's; these are the pages that it writes, or that stand in the log only.
pub const CACHE_KIB: i64 = 8_192;

/// Bytes of the database file that may be memory-mapped.
pub const MMAP_BYTES: i64 = 256 << 20;

/// Prepared statements kept by a connection: more than there are operations.
pub const STATEMENTS: usize = 192;

/// Changes of definitions that a listener may lag behind before it has to look at all of them.
pub const CHANGES: usize = 256;

/// Items a subscriber may lag behind before it is cut. More than one send can produce at once.
pub const SUBSCRIBER_LAG: usize = 4_096;

/// Active credentials in one vault (contract, behaviours.md §12), unless the operator says otherwise.
pub const VAULT_CREDENTIALS: u32 = 20;

/// Events of a deleted session removed in one commit; the rest follows in further ones.
pub const SWEEP_EVENTS: usize = 1_000;

/// API keys remembered by their hash, so that authentication needs no read.
pub const KEY_CACHE: usize = 4_096;

/// Threads of sessions whose state the writer remembers, about 2 KB each: as many turns as are at work at once.
pub const WARM_THREADS: usize = 1_024;

/// Combinations of agent, environment and vaults of which the writer remembers that sessions may be made from them.
pub const WARM_GROUNDS: usize = 1_024;

/// Bytes of definitions remembered for the sessions that are made from them.
pub const DEFINITION_CACHE: usize = 16 << 20;

const _: () = assert!(SUBSCRIBER_LAG > session::limits::SEND);
const _: () = assert!(BATCH_JOBS <= WRITE_QUEUE);
const _: () = assert!(BEAT.as_millis() * 3 < DEAD_AFTER.as_millis());
const _: () = assert!(BEAT.as_millis() < STALE.as_millis());
const _: () = assert!(DEAD_AFTER.as_millis() < IDLE_IN_TRANSACTION.as_millis());

/// Entries that the timeline of one session keeps; the oldest go first.
pub const TIMELINE: u32 = 10_000;

/// Sessions of one workspace, unless the operator says otherwise: far above honest use, far below what
/// would fill a disk.
pub const WORKSPACE_SESSIONS: u64 = 1_000_000;

/// Vaults of one workspace, unless the operator says otherwise.
pub const WORKSPACE_VAULTS: u64 = 100_000;

/// How long the answer to a request with an `Idempotency-Key` is kept.
pub const KEPT_FOR: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// Expired answers that go with each one that is kept: more than come, so that none stays for long.
pub const KEPT_SWEEP: u32 = 16;

/// Expired answers that go, in one write, before a request is refused for want of room; the next attempt removes
/// further ones.
pub const KEPT_SWEEP_FULL: u32 = 4_096;

/// What an answer that is kept takes beside its own bytes, roughly: its marks, its time and their index.
pub const KEPT_BESIDE: u64 = 256;

/// Bytes of kept answers of one workspace, unless the operator says otherwise: a request every 150 ms for a
/// whole day, if an answer has 2 KB.
pub const WORKSPACE_KEPT: u64 = 1 << 30;

/// Bytes of events after which a page of a list ends, whatever its limit says.
pub const PAGE_BYTES: usize = 8 << 20;
