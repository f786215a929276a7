//! Owns every limit of the hand, with unit and reason. It contains no code.

use std::time::Duration;

/// Bytes of a frame's JSON header; all that is long travels in the body.
pub const HEADER_BYTES: usize = 16 * 1024;
/// Bytes of a frame's body: a PDF of the largest size in base64, and room for its JSON.
pub const BODY_BYTES: usize = 32 * 1024 * 1024;
/// Tool calls and pings that run at once; one more is refused.
pub const CALLS: usize = 32;
/// Bytes of a call's key, and of a caller's name.
pub const KEY_CHARS: usize = 64;
/// Callers at once, each with a shell that lasts: the primary thread of a session and 25 others. One shell takes
/// some 2 MiB of the sandbox's memory.
pub const CALLERS: usize = 26;
/// What one caller has not heard yet of what became of the sandbox; beyond it the oldest is dropped.
pub const NOTES: usize = 8;
/// Directories of callers that are gone that are looked for at once.
pub const LEFT_CALLERS: usize = 1_000;
/// Results that are kept until a server has taken them; beyond it the oldest is dropped.
pub const KEPT_RESULTS: usize = 32;
/// Bytes of all results that are kept; beyond it the oldest is dropped, but never the latest.
pub const KEPT_BYTES: usize = 64 << 20;
/// Bytes of what a process that is kept has said, and as many of what it was told, that are held for a later server;
/// beyond it the process goes on, but no later server can take it up before the next mark.
pub const KEPT_STREAM_BYTES: usize = 16 << 20;
/// Bytes of the note that stands beside a process that is kept.
pub const KEPT_NOTE_BYTES: usize = 64 * 1024;
/// Processes started by `spawn` that run at once; one more is refused.
pub const PROCESSES: usize = 32;
/// Programs of one sandbox that outlive their server, those that have ended and were not asked for included.
pub const KEPT_EXECS: usize = 32;
/// Bytes of each of a program's two outputs that are kept for who asks later: the last ones.
pub const KEPT_OUTPUT_BYTES: usize = 256 * 1024;
/// Processes and threads that the hand may have beyond what its children may: enough for one more
/// round of calls.
pub const PROCESS_RESERVE: u64 = 64;
/// Threads that wait for something to do, whatever runs in the sandbox: what needs no process of its own (the
/// file tools, questions) is done also where no thread can be made any more. One may take long, and others are asked
/// meanwhile; more cost the host something whenever it makes a sandbox, and are made where they can be.
pub const WORKERS_RESERVED: usize = 2;
/// Commands that were answered and left something running, and whose further output is told from that of others.
pub const BACKGROUND_PIPES: usize = 64;
/// Bytes of the log of what runs in the background; then it begins anew, and the one before is kept.
pub const BACKGROUND_LOG_BYTES: u64 = 1 << 20;
/// Threads that wait for something to do; one more ends when it has done its work.
pub const WORKERS_WAITING: usize = 8;
/// Questions that are answered at once; one more is refused.
pub const ASKS: usize = 16;
/// Directories that one watch looks at; what is in further ones is not told.
pub const WATCHED_DIRECTORIES: usize = 4_096;
/// Names that one word about changes holds; it says when there were more.
pub const CHANGES: usize = 1_000;
/// Bytes of all their paths.
pub const CHANGES_BYTES: usize = 256 * 1024;
/// How long changes are gathered before they are told together.
pub const CHANGES_TIME: Duration = Duration::from_millis(50);
/// Entries of one directory that are listed.
pub const LIST_ENTRIES: usize = 10_000;
/// Processes that are listed.
pub const LISTED_PROCESSES: usize = 4_096;
/// Characters of a process's command that are shown.
pub const COMMAND_CHARS: usize = 200;
/// Processes that the model is told of by name when they were frozen or ended.
pub const NAMED_PROCESSES: usize = 5;
/// Bytes of what one sandbox leaves to the next one of its name for the model to read.
pub const NOTE_BYTES: u64 = 8 * 1024;
/// How long keeping the shell's state, and bringing it back, may take.
pub const KEEP_TIME: Duration = Duration::from_secs(5);
/// How long a connection inside the sandbox may take to be made.
pub const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Bytes of one chunk of a process's stream.
pub const CHUNK_BYTES: usize = 128 * 1024;
/// Chunks of one stream that may be on their way unacknowledged: 2 MiB a stream.
pub const WINDOW_CHUNKS: usize = 16;
/// How long a bash command may run when the call says nothing.
pub const BASH_DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest timeout a call may ask for, in milliseconds: one day.
pub const BASH_MAX_TIMEOUT_MS: u64 = 86_400_000;
/// Bytes of bash output that are kept: the last ones.
pub const BASH_OUTPUT_BYTES: usize = 102_400;
/// Bytes of a bash command.
pub const BASH_COMMAND_BYTES: usize = 1024 * 1024;
/// Bytes of a text file that read returns and edit changes.
pub const TEXT_BYTES: u64 = 262_144;
/// Bytes of an image in base64.
pub const IMAGE_BASE64_BYTES: u64 = 5 * 1024 * 1024;
/// Bytes of a PDF on disk.
pub const PDF_BYTES: u64 = 20 * 1024 * 1024;
/// Bytes of content that write accepts.
pub const WRITE_BYTES: usize = 16 * 1024 * 1024;
/// Paths that glob returns (recorded hosted behaviour).
pub const GLOB_RESULTS: usize = 100;
/// Directory entries that glob and grep look at.
pub const WALK_ENTRIES: usize = 50_000;
/// Characters that grep returns.
pub const GREP_CHARS: usize = 102_400;
/// Bytes of a file that grep searches; larger ones are passed over.
pub const GREP_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// How long glob and grep may take.
pub const SEARCH_TIME: Duration = Duration::from_secs(30);
/// How long read, write and edit may take: each moves at most some 20 MiB, on a disk that may be busy.
pub const FILE_TIME: Duration = Duration::from_secs(60);
/// Bytes of a file of rules, such as `.gitignore`, that grep obeys; the rest is passed over.
pub const RULES_BYTES: u64 = 256 * 1024;
/// Characters of tool output from which on it is written to a file and the model gets a preview.
pub const SPILL_CHARS: usize = 100_000;
/// Characters at each end of a spilled output that the model gets.
pub const PREVIEW_CHARS: usize = 2_000;

const _: () = assert!(PDF_BYTES as usize * 4 / 3 + 64 * 1024 < BODY_BYTES);
const _: () = assert!(WRITE_BYTES < BODY_BYTES && BASH_COMMAND_BYTES < BODY_BYTES);
const _: () = assert!(PROCESS_RESERVE as usize > CALLS && CALLS >= CALLERS);
const _: () = assert!(2 * PREVIEW_CHARS < SPILL_CHARS);
// As JSON a byte may take two, seldom more: what does not fit is refused.
const _: () = assert!(KEPT_STREAM_BYTES + KEPT_NOTE_BYTES < BODY_BYTES);
const _: () = assert!(BASH_OUTPUT_BYTES < BODY_BYTES && CHUNK_BYTES < BODY_BYTES);
/// How ready the kernel is to end a command when memory is short, as `oom_score_adj` has it; above the
/// hand's own, which is the jail's 500.
pub const OOM_SCORE: i32 = 700;
