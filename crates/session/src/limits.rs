//! Limits of a session. Each is a constant with its unit and reason.

/// User events that may wait in one session's inbox; beyond it a send is refused with 429.
pub const INBOX: u32 = 1_000;

/// Interrupts that may wait beyond [`INBOX`]: one is enough to stop a turn, the rest are impatience.
pub const INTERRUPTS: u32 = 100;

/// Bytes of content that may wait in one session's inbox; beyond it a send is refused with 429. Two
/// requests of the largest size fit.
pub const INBOX_BYTES: u64 = 64 << 20;

/// Events in one send. The contract states none; the list page has the same size.
pub const SEND: usize = 1_000;

/// Rounds of tool calls in one turn before it ends with `tool_use_limit_reached_error`, so that a
/// model that loops cannot run for ever.
pub const TOOL_ROUNDS: u32 = 500;

/// Times a turn may be taken up again after its runner was lost without the turn getting any further.
pub const RECOVERIES: u32 = 5;

/// Tries of one model request, the first included (design.md §6).
pub const TRIES: u32 = 8;

/// Microseconds from the first failure after which nothing is tried again.
pub const TRYING: i64 = 600_000_000;

/// Microseconds: the bound of the first pause between two tries. It doubles with each failure; the pause
/// itself is drawn from zero to the bound (full jitter).
pub const PAUSE: i64 = 1_000_000;

/// Microseconds: the bound never grows beyond this.
pub const LONGEST_PAUSE: i64 = 30_000_000;

/// Microseconds: a provider's `retry-after` is honoured up to this.
pub const LONGEST_RETRY_AFTER: i64 = 300_000_000;

/// Compactions in a row without a word from the model before the turn ends with
/// `compaction_limit_reached_error`.
pub const COMPACTIONS: u32 = 3;

/// Evaluations of an outcome that does not say how many (api.md §8.1).
pub const ITERATIONS: u32 = 3;

/// Outcomes of one session: its object lists all of them, with their descriptions.
pub const OUTCOMES: u32 = 100;

/// Threads of one session beside its primary that have not ended (behaviours §19); an advisor is none of them.
pub const THREADS: usize = 25;

/// Metadata pairs of a session after an update (api.md §1.5).
pub const METADATA_PAIRS: usize = 16;

const _: () = assert!(SEND <= INBOX as usize);
