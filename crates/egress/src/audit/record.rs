//! What is recorded of a flow or a request. It must never carry a secret, a query or a header.

use std::net::IpAddr;

use contract::ids::{CredentialId, SessionId, ThreadId, WorkspaceId};
use contract::time::Micros;
use serde::{Deserialize, Serialize};

/// One flow or request, when it ended or was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // egress.md "Audit"; each name says it
pub struct Record {
    pub at: Micros,
    pub kind: Kind,
    /// Whose session's sandbox it was; absent for one that an operator made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceId>,
    pub sandbox: String,
    pub session: Option<SessionId>,
    pub thread: Option<ThreadId>,
    /// The name that was asked for.
    pub name: Option<String>,
    /// The address that was dialled, or would have been.
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    /// `tls`, `http`, `tcp`, `dns`.
    pub protocol: String,
    pub method: Option<String>,
    /// The canonical path, without its query.
    pub path: Option<String>,
    /// The rule that decided.
    pub rule: String,
    pub action: Action,
    /// One line.
    pub reason: String,
    pub credential: Option<CredentialId>,
    pub bytes_out: u64,
    pub bytes_in: u64,
    pub duration_us: u64,
    pub upstream_status: Option<u16>,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Kind {
    Flow,
    Request,
    Dns,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Let through.
    Allowed,
    /// Refused.
    Denied,
    /// Let through by a policy that only observes.
    Observed,
}
