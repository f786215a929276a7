//! What each route of the operators reads and answers, in the types of the routes themselves. It describes; the
//! rules of `/v1/x` stand with its handlers.

use axum::http::Method;
use contract::page::Page;

use super::queries::Query;
use super::shapes::{Line, Reply, takes, typed};
use crate::routes::egress::Shown as EgressRecord;
use crate::routes::master_key::MasterKey;
use crate::routes::operate::{CreateKey, CreateWorkspace, Key, Status, Workspace};
use crate::routes::place::{Bound, Copied, Spent, Used};
use crate::routes::replicas::Replica;
use crate::routes::why::Why;

/// The line of a route below `/v1/x/`.
pub(super) fn of(method: &Method, path: &str) -> Option<Line> {
    let (workspace, key) = (typed::<Workspace>(), typed::<Key>());
    Some(match (method.as_str(), path) {
        ("GET", "status") => ("The server's state", Query::None, None, typed::<Status>()),
        ("GET", "replicas") => {
            let page = typed::<Page<Replica>>();
            ("The servers on the database", Query::None, None, page)
        }
        ("POST", "backup") => ("Copy the database", Query::None, None, typed::<Copied>()),
        ("GET", "master_key") => {
            let key = typed::<MasterKey>();
            ("Which master key is in force", Query::None, None, key)
        }
        ("POST", "master_key/rotate") => {
            let key = typed::<MasterKey>();
            ("Rotate the master key", Query::None, None, key)
        }
        ("GET", "usage") => {
            let page = typed::<Page<Used>>();
            ("What was used by day", Query::None, None, page)
        }
        ("GET", "sessions/{session_id}/binding") => {
            ("Where a session runs", Query::None, None, typed::<Bound>())
        }
        ("GET", "sessions/{session_id}/timeline") => {
            let page = typed::<Page<Spent>>();
            (
                "Where a session's time went",
                Query::ThreadEvents,
                None,
                page,
            )
        }
        ("GET", "sessions/{session_id}/why") => (
            "What a session waits for",
            Query::None,
            None,
            typed::<Why>(),
        ),
        ("GET", "egress_audit") => (
            "What sandboxes reached and what was refused",
            Query::EgressAudit,
            None,
            typed::<Page<EgressRecord>>(),
        ),
        ("GET", "egress_audit/stream") => (
            "Stream what sandboxes reach and what is refused",
            Query::EgressStream,
            None,
            Reply::Stream,
        ),
        ("GET", "workspaces") => {
            let page = typed::<Page<Workspace>>();
            ("List workspaces", Query::None, None, page)
        }
        ("POST", "workspaces") => {
            let new = takes::<CreateWorkspace>();
            ("Create a workspace", Query::None, new, workspace)
        }
        ("POST", "workspaces/{workspace_id}/archive") => {
            ("Archive a workspace", Query::None, None, workspace)
        }
        ("GET", "keys") => ("List API keys", Query::None, None, typed::<Page<Key>>()),
        ("POST", "keys") => ("Create an API key", Query::None, takes::<CreateKey>(), key),
        ("POST", "keys/{key_id}/revoke") => ("Revoke an API key", Query::None, None, key),
        _ => return None,
    })
}
