//! The protocol between the server and a hand: frames over any byte stream. It opens no stream.
//!
//! A frame is two little-endian u32 (length of header, length of body), a JSON header and a raw
//! body. Each side first sends a hello with [`VERSION`]. Ids are chosen by the server and never
//! reused in one sandbox, by no later server either. A process's streams are flow-controlled: a sender may have
//! [`limits::WINDOW_CHUNKS`](crate::limits::WINDOW_CHUNKS) chunks unacknowledged, so nobody buffers
//! more than that and one slow reader holds up no other stream.

mod answer;
mod changes;
mod composed;
mod frame;
mod open;
mod running;
mod spawn;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{BASH_DEFAULT_TIMEOUT, BASH_MAX_TIMEOUT_MS, FILE_TIME, SEARCH_TIME};

pub use answer::{Content, Output};
pub use changes::{Change, Changed, Changes};
pub use composed::{Composed, Part};
pub use frame::{head, lengths, read_frame, write_frame};
pub use open::Open;
pub use running::{Exec, Printed, Running};
pub use spawn::{Kept, Signal, Size, Spawn};

/// The version of this protocol.
pub const VERSION: u32 = 7;
/// The first version that knows `Keep`.
pub const KEEPS: u32 = 6;
/// The first version that knows [`Part::Packed`].
pub const PACKS: u32 = 7;
/// The oldest version of a hand that a server still speaks with: it knows one caller, whoever calls, and no
/// `Callers`. A hand outlives its server, and the server may be a newer build when it comes back.
pub const OLDEST: u32 = 4;

/// Bytes before the header.
pub const PREFIX_BYTES: usize = 8;

/// Names one request, and the process that a spawn request started.
pub type Id = u64;

/// The tools that the hand runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tool {
    /// One persistent shell a caller.
    Bash,
    /// Reads a file.
    Read,
    /// Writes a whole file.
    Write,
    /// Replaces text in a file.
    Edit,
    /// Finds files by name.
    Glob,
    /// Finds files by content.
    Grep,
}

impl Tool {
    /// How long a call with this input may take once it has its turn. A shell runs one call after another.
    #[must_use]
    pub fn time_limit(self, input: &serde_json::Value) -> Duration {
        match self {
            Self::Bash => match input.get("timeout_ms").and_then(serde_json::Value::as_u64) {
                None | Some(0) => BASH_DEFAULT_TIMEOUT,
                // More is refused.
                Some(ms) => Duration::from_millis(ms.min(BASH_MAX_TIMEOUT_MS)),
            },
            Self::Glob | Self::Grep => SEARCH_TIME,
            Self::Read | Self::Write | Self::Edit => FILE_TIME,
        }
    }
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToHand {
    /// First frame.
    Hello {
        /// [`VERSION`].
        version: u32,
    },
    /// Run a tool; the body is its input as JSON. Answered by `Done`, `Cancelled` or `Refused`.
    Call {
        /// Of this call.
        id: Id,
        /// Which tool.
        tool: Tool,
        /// A name that no other call of this sandbox ever has. With one, the call outlives the server, and
        /// its result is kept until `Taken`; without, it ends with the line that it came over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// Whose call it is: an opaque name of at most [`KEY_CHARS`](crate::limits::KEY_CHARS) letters, digits, `_`
        /// and `-`. Each caller has a shell of its own, and hears for itself what became of the sandbox; without
        /// a name it is the first one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller: Option<String>,
    },
    /// These are the callers that there are, beside the one without a name: the shells of all others end,
    /// with what runs in them, once a call that is under way has ended.
    Callers {
        /// At most [`CALLERS`](crate::limits::CALLERS).
        keep: Vec<String>,
    },
    /// Say how the call with that key ends or ended, as if it had been asked for under this id. Answered as
    /// `Call` is, or by `Unknown`.
    Resume {
        /// Of the call from now on.
        id: Id,
        /// What it was asked for under.
        key: String,
    },
    /// The result of the call or process with that key is safe; an unknown key is ignored.
    Taken {
        /// Of the call.
        key: String,
    },
    /// Answered by `Pong`.
    Ping {
        /// Of this ping.
        id: Id,
    },
    /// End a call early. The call itself is answered; an unknown id is ignored.
    Cancel {
        /// Of the call.
        id: Id,
    },
    /// Start a process; the body is a [`Spawn`] as JSON. Answered by `Spawned` or `Refused`.
    Spawn {
        /// Of the process from now on.
        id: Id,
        /// A name that no other process of this sandbox ever has. With one, it outlives the server: how it ended, and
        /// the last [`KEPT_OUTPUT_BYTES`](crate::limits::KEPT_OUTPUT_BYTES) of what it printed, are there for
        /// [`Ask::Exec`] until `Taken`, or until it is killed; its input ends with the line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// Start a process as `Spawn` does, in place of the one that is kept, and keep it: it outlives the line. It
    /// has no terminal, no time limit, and what it complains goes nowhere. Answered as `Spawn` is.
    Keep {
        /// Of the process from now on.
        id: Id,
        /// What a later server asks for it by.
        key: String,
    },
    /// Drive the process that was kept under that key: what it has said since the last `Mark` comes again, and then
    /// what it says. Answered by `Spawned`, whose body is a [`Kept`] as JSON, or by `Refused`.
    Attach {
        /// Of the process from now on.
        id: Id,
        /// What it was kept under.
        key: String,
    },
    /// What a process that is kept was told until now, and what it has said, need not be kept any more; the body
    /// is what [`Kept::note`] says from now on.
    Mark {
        /// Of the process.
        id: Id,
        /// How many bytes of its standard output that is, since it was attached or started under this id.
        heard: u64,
    },
    /// The body goes to the process's standard input. Acknowledged by `StdinAck`.
    Stdin {
        /// Of the process.
        id: Id,
    },
    /// Closes the process's standard input.
    StdinEnd {
        /// Of the process.
        id: Id,
    },
    /// One more chunk of this stream was taken.
    Ack {
        /// Of the process.
        id: Id,
        /// Which stream.
        stream: Stream,
    },
    /// SIGKILL to the process and all that descends from it. Ends a stream of `Open` unfinished.
    Kill {
        /// Of the process.
        id: Id,
    },
    /// Open a stream that is no process; the body is an [`Open`] as JSON. Answered by `Spawned` or
    /// `Refused`; from then on it is like a process whose output or input is the stream.
    Open {
        /// Of the stream from now on.
        id: Id,
    },
    /// Do one thing; the body is an [`Ask`] as JSON. Answered by `Done`, whose body is a [`Said`] as
    /// JSON, or by `Refused`.
    Ask {
        /// Of this question.
        id: Id,
    },
    /// A signal to the process and its group.
    Signal {
        /// Of the process.
        id: Id,
        /// Which.
        signal: Signal,
    },
    /// The process's terminal has another size.
    Resize {
        /// Of the process.
        id: Id,
        /// The new one.
        size: Size,
    },
}

/// What the hand says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromHand {
    /// First frame: the hand runs.
    Hello {
        /// [`VERSION`].
        version: u32,
    },
    /// A call ended; the body is an [`Output`] as JSON.
    Done {
        /// Of the call.
        id: Id,
    },
    /// A call was ended by `Cancel`; what it had done stays done.
    Cancelled {
        /// Of the call.
        id: Id,
    },
    /// No call with that key is known: it was never begun here, or its result was taken or dropped.
    Unknown {
        /// Of the request.
        id: Id,
    },
    /// A call or spawn could not be started and had no effect.
    Refused {
        /// Of the request.
        id: Id,
        /// What the caller can do.
        why: Refusal,
        /// Why, for a person.
        problem: String,
    },
    /// Answer to `Ping`.
    Pong {
        /// Of the ping.
        id: Id,
    },
    /// A process runs, or a stream is open; the body of one that reads is the file's [`Entry`] as JSON, of one that
    /// was kept a [`Kept`].
    Spawned {
        /// Of the process.
        id: Id,
    },
    /// The body is the next part of a stream.
    Chunk {
        /// Of the process.
        id: Id,
        /// Which stream.
        stream: Stream,
    },
    /// A stream ended.
    End {
        /// Of the process.
        id: Id,
        /// Which stream.
        stream: Stream,
    },
    /// One chunk of standard input was written, or dropped because the process closed it.
    StdinAck {
        /// Of the process.
        id: Id,
    },
    /// The process ended. Its streams may go on: a descendant can hold them.
    Exited {
        /// Of the process.
        id: Id,
        /// Its exit code, when it ended by itself.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// Whether it was ended because it ran too long.
        #[serde(default)]
        timed_out: bool,
    },
}

/// Why something was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Too much runs: later it may work.
    Busy,
    /// It cannot work as asked.
    Invalid,
    /// There is nothing of that name.
    Missing,
}

/// An output stream of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One thing to be done or said. Paths are absolute or start in the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// What is there; a symlink is not followed.
    Stat {
        /// Of what.
        path: String,
    },
    /// What is in a directory.
    List {
        /// Of the directory.
        path: String,
    },
    /// Make a directory, and those above it that are missing.
    MakeDirectory {
        /// Of the directory.
        path: String,
    },
    /// Give a file or directory another name.
    Rename {
        /// The old one.
        from: String,
        /// The new one; a file there is replaced.
        to: String,
    },
    /// Remove a file, a symlink, or an empty directory.
    Remove {
        /// Of what.
        path: String,
        /// A directory with all that is in it.
        all: bool,
    },
    /// What runs.
    Processes,
    /// Which processes outlive their server.
    Execs,
    /// How one of them stands, and what it printed.
    Exec {
        /// Its key.
        key: String,
        /// The first byte of its standard output that is wanted.
        stdout: u64,
        /// And of its standard error.
        stderr: u64,
    },
    /// End one of them with its group.
    EndExec {
        /// Its key.
        key: String,
    },
    /// Time limits stand still from now on.
    Pause {
        /// Whether the hand is to stop the processes, because nobody else can.
        stop: bool,
    },
    /// Time limits, and what the hand has stopped, go on.
    Resume,
    /// Everything that runs ends at once, the hand left out, and what is on its way in: the disk is full.
    End,
    /// Everything that is started from now on has these variables too, and so has the shell from its next command.
    Environment {
        /// In the place of those that were given before.
        env: Vec<(String, String)>,
    },
    /// Write files, one after the other, each whole or not at all.
    Compose {
        /// Which.
        files: Vec<Composed>,
    },
    /// The sandbox is about to be stopped: keep what the next one needs to go on from here.
    Rest {
        /// Why, for the model, as in `it was idle for 10 minutes`.
        reason: String,
    },
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// To `Stat`.
    Entry {
        /// What is there.
        entry: Entry,
    },
    /// To `List`, by name.
    Entries {
        /// What is there.
        entries: Vec<Entry>,
        /// Whether there is more than is listed.
        more: bool,
    },
    /// To `Processes`, by number.
    Processes {
        /// What runs, the hand left out.
        processes: Vec<Running>,
    },
    /// To `Execs`, oldest first.
    Execs {
        /// Those that are known.
        execs: Vec<Exec>,
    },
    /// To `Exec`.
    Printed {
        /// What is known of it.
        printed: Printed,
    },
    /// To all others: it is done.
    Done,
}

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The last part of its path; what is no Unicode in it is replaced.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// How long it is.
    pub bytes: u64,
    /// Who may do what with it, as in chmod.
    pub mode: u32,
    /// When it was changed last, in seconds since 1970.
    pub modified: i64,
    /// Where a symlink leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What something in a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink.
    Symlink,
    /// A pipe, a socket or a device.
    Other,
}
