//! What is recorded of an action on keys, policies or credentials: a chain of its own, which a server writes. It
//! must never carry a key, a secret or a body.

use contract::time::Micros;
use serde::{Deserialize, Serialize};

/// One step of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// When.
    pub at: Micros,
    /// Whether it is about to be done, or how it ended.
    pub stage: Stage,
    /// What is done: method and route, as `POST /v1/x/keys`, or `start` for the rules of a server that starts.
    pub what: String,
    /// What it is done to: the path as it was sent; for `start`, the digest of the rules.
    pub target: String,
    /// The id of the request; both steps of an action have the same.
    pub request: Option<String>,
    /// The id of the key that asked; none for whoever has the control socket or the data directory.
    pub key: Option<String>,
    /// The workspace that it was asked in.
    pub workspace: Option<String>,
    /// The status of the answer, of a step that ended.
    pub status: Option<u16>,
}

/// A step of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is about to be done: one that no other step follows may have been done or not.
    Begun,
    /// It was done.
    Done,
    /// It was refused, or failed.
    Refused,
}
