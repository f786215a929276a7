//! What each route of the sandboxes reads and answers, by the `type` of its objects only. They are Longhand's own:
//! no part of the hosted API. It describes; the rules stand with the handlers.

use axum::http::Method;

use super::queries::Query;
use super::shapes::Reply::{Bytes, Own, OwnList};
use super::shapes::{Body, Line};

const NEW_SANDBOX: &[(&str, &str, bool)] = &[("id", "string", false)];
const EXEC: &[(&str, &str, bool)] = &[
    ("command", "array", true),
    ("env", "object", false),
    ("cwd", "string", false),
    ("stdin", "string", false),
    ("timeout_seconds", "integer", false),
    ("terminal", "object", false),
];
const DIRECTORY: &[(&str, &str, bool)] = &[("path", "string", true)];
const MOVE: &[(&str, &str, bool)] = &[("from", "string", true), ("to", "string", true)];

/// The line of a route below `/v1/x/`, which starts with `sandboxes`.
pub(super) fn of(method: &Method, path: &str) -> Option<Line> {
    let rest = path.strip_prefix("sandboxes")?;
    let Some(rest) = rest.strip_prefix("/{sandbox_id}") else {
        let new = Some(Body::Own(NEW_SANDBOX));
        return match (method.as_str(), rest) {
            ("GET", "") => Some(("List sandboxes", Query::None, None, OwnList("sandbox"))),
            ("POST", "") => Some(("Create a sandbox", Query::None, new, Own("sandbox"))),
            _ => None,
        };
    };
    whole(method, rest).or_else(|| inside(method, rest))
}

/// What is done to a sandbox.
fn whole(method: &Method, rest: &str) -> Option<Line> {
    let sandbox = Own("sandbox");
    Some(match (method.as_str(), rest) {
        ("GET", "") => ("Get a sandbox and what it uses", Query::None, None, sandbox),
        ("DELETE", "") => (
            "Delete a sandbox with its files",
            Query::None,
            None,
            Own("sandbox_deleted"),
        ),
        ("POST", "/pause") => ("Have a sandbox stand still", Query::None, None, sandbox),
        ("POST", "/resume") => ("Have a sandbox go on", Query::None, None, sandbox),
        ("POST", "/stop") => ("Stop a sandbox; its files stay", Query::None, None, sandbox),
        _ => return None,
    })
}

/// What is done in a sandbox.
fn inside(method: &Method, rest: &str) -> Option<Line> {
    let new = |fields| Some(Body::Own(fields));
    Some(match (method.as_str(), rest) {
        ("GET", "/processes") => (
            "What runs in a sandbox",
            Query::None,
            None,
            OwnList("sandbox_process"),
        ),
        ("POST", "/exec") => (
            "Run a program in a sandbox; as application/vnd.longhand.exec, input and output are streamed",
            Query::None,
            new(EXEC),
            Own("sandbox_exec"),
        ),
        ("POST", "/forward") => (
            "Connect to a port in a sandbox; the bodies are the two ways of the connection",
            Query::SandboxPort,
            Some(Body::Bytes),
            Bytes,
        ),
        ("GET", "/files") => (
            "What stands at a path in a sandbox",
            Query::SandboxLook,
            None,
            Own("sandbox_file"),
        ),
        ("DELETE", "/files") => (
            "Remove a file or directory of a sandbox",
            Query::SandboxRemove,
            None,
            Own("sandbox_file_deleted"),
        ),
        ("POST", "/directories") => (
            "Make a directory in a sandbox",
            Query::None,
            new(DIRECTORY),
            Own("sandbox_file"),
        ),
        ("POST", "/move") => (
            "Move a file or directory of a sandbox",
            Query::None,
            new(MOVE),
            Own("sandbox_file"),
        ),
        ("GET", "/content") => ("Read a file of a sandbox", Query::SandboxLook, None, Bytes),
        ("POST", "/content") => (
            "Write a file of a sandbox",
            Query::SandboxUpload,
            Some(Body::Bytes),
            Own("sandbox_file"),
        ),
        _ => return None,
    })
}
