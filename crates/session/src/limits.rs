//! Limits of a session. Each is a constant with its unit and reason.

/// User events that may wait in one session's inbox; beyond it a send is refused with 429.
pub const INBOX: u32 = 1_000;

/// Interrupts that may wait beyond [`INBOX`]: one is enough to stop a turn, the rest are impatience.
pub const INTERRUPTS: u32 = 100;

/// Events in one send. The contract states none; the list page has the same size.
pub const SEND: usize = 1_000;

/// Rounds of tool calls in one turn before it ends with `tool_use_limit_reached_error`, so that a
/// model that loops cannot run for ever.
pub const TOOL_ROUNDS: u32 = 500;

/// Times a turn may be taken up again after its runner was lost without the turn getting any further.
pub const RECOVERIES: u32 = 5;

/// Metadata pairs of a session after an update (api.md §1.5).
pub const METADATA_PAIRS: usize = 16;

const _: () = assert!(SEND <= INBOX as usize);
