//! A process to start, what it can be told, and what is known of one that was kept. Owns their shape on the wire; it starts nothing.

use serde::{Deserialize, Serialize};

/// A process to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    /// The program (searched in PATH) and its arguments; at least one.
    pub argv: Vec<String>,
    /// Added to the sandbox's environment.
    pub env: Vec<(String, String)>,
    /// Absolute, in the sandbox.
    pub cwd: String,
    /// The size of the terminal that it gets; without one it gets three pipes. With one all it prints is on
    /// standard output.
    #[serde(default)]
    pub terminal: Option<Size>,
    /// How long it may run, in milliseconds; a pause does not count.
    #[serde(default)]
    pub time_limit_ms: Option<u64>,
}

/// What is known of a process that was kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What the last `Mark` said; empty if there was none.
    pub note: String,
    /// What it has been told since then, on its standard input.
    pub said: String,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// What a process can be told without words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Leave off, as by Ctrl-C.
    Interrupt,
    /// Leave off and say where it was, as by Ctrl-\\.
    Quit,
    /// Its terminal is gone; servers read their settings again.
    HangUp,
    /// End in order.
    Terminate,
    /// End now.
    Kill,
}
