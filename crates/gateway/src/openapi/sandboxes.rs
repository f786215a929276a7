//! What each route of the sandboxes reads and answers, in the types of the routes themselves. They are Longhand's own:
//! no part of the hosted API. It describes; the rules stand with the handlers.

use axum::http::Method;
use contract::page::Page;

use super::queries::Query;
use super::shapes::{Body, Line, Reply, takes, typed};
use crate::routes::egress::Explanation;
use crate::routes::sandbox_exec::{Ended, Exec};
use crate::routes::sandbox_execs::{Forgotten, Known};
use crate::routes::sandbox_files::{Done, MakeDirectory, Move, Shown as File};
use crate::routes::sandbox_logs::Log;
use crate::routes::sandbox_rules::{Set as SetRules, Shown as Rules};
use crate::routes::sandboxes::{Create, Deleted, Running, Shown};
use crate::routes::snapshots::{Create as Keep, Deleted as Removed, Fork, Kept, Restore};
use crate::routes::templates::{Deleted as TemplateGone, Shown as Template};
use crate::routes::volumes::{Create as CreateVolume, Deleted as VolumeDeleted, Shown as Volume};

/// The line of a route below `/v1/x/`, which starts with `sandboxes`, `snapshots`, `volumes` or `templates`.
pub(super) fn of(method: &Method, path: &str) -> Option<Line> {
    if let Some(rest) = path.strip_prefix("snapshots") {
        return snapshots(method, rest);
    }
    if let Some(rest) = path.strip_prefix("volumes") {
        return volumes(method, rest);
    }
    if let Some(rest) = path.strip_prefix("templates") {
        return templates(method, rest);
    }
    let rest = path.strip_prefix("sandboxes")?;
    let Some(rest) = rest.strip_prefix("/{sandbox_id}") else {
        return match (method.as_str(), rest) {
            ("GET", "") => {
                let page = typed::<Page<Shown>>();
                Some(("List sandboxes", Query::None, None, page))
            }
            ("POST", "") => {
                let (new, one) = (takes::<Create>(), typed::<Shown>());
                Some(("Create a sandbox", Query::None, new, one))
            }
            _ => None,
        };
    };
    whole(method, rest)
        .or_else(|| kept(method, rest))
        .or_else(|| inside(method, rest))
}

/// What is done with templates.
fn templates(method: &Method, rest: &str) -> Option<Line> {
    let (all, one) = (typed::<Page<Template>>(), typed::<Template>());
    Some(match (method.as_str(), rest) {
        ("GET", "") => ("List the templates of sandboxes", Query::None, None, all),
        ("GET", "/{template_id}") => ("Get a template by name or digest", Query::None, None, one),
        ("DELETE", "/{template_id}") => (
            "Delete a template that no sandbox and no snapshot lies on",
            Query::None,
            None,
            typed::<TemplateGone>(),
        ),
        _ => return None,
    })
}

/// What is done with snapshots.
fn snapshots(method: &Method, rest: &str) -> Option<Line> {
    Some(match (method.as_str(), rest) {
        ("GET", "") => (
            "List the snapshots of all sandboxes, the newest first",
            Query::None,
            None,
            typed::<Page<Kept>>(),
        ),
        ("GET", "/{snapshot_id}") => ("Get a snapshot", Query::None, None, typed::<Kept>()),
        ("DELETE", "/{snapshot_id}") => (
            "Delete a snapshot; what was made from it stays",
            Query::None,
            None,
            typed::<Removed>(),
        ),
        ("GET", "/{snapshot_id}/export") => (
            "The files of a snapshot as an archive (tar, zstd)",
            Query::None,
            None,
            Reply::Bytes,
        ),
        _ => return None,
    })
}

/// What is done with volumes.
fn volumes(method: &Method, rest: &str) -> Option<Line> {
    let (page, one) = (typed::<Page<Volume>>(), typed::<Volume>());
    Some(match (method.as_str(), rest) {
        ("GET", "") => ("List volumes, the newest first", Query::None, None, page),
        ("POST", "") => ("Create a volume", Query::None, takes::<CreateVolume>(), one),
        ("GET", "/{volume_id}") => (
            "Get a volume, by its id or name, and what lies in it",
            Query::None,
            None,
            one,
        ),
        ("DELETE", "/{volume_id}") => (
            "Delete a volume that no sandbox has; with `force`, also one that only stopped sandboxes have",
            Query::RemoveVolume,
            None,
            typed::<VolumeDeleted>(),
        ),
        _ => return None,
    })
}

/// What is done with the files of a sandbox as a whole.
fn kept(method: &Method, rest: &str) -> Option<Line> {
    Some(match (method.as_str(), rest) {
        ("GET", "/snapshots") => (
            "List the snapshots of a sandbox, the newest first",
            Query::None,
            None,
            typed::<Page<Kept>>(),
        ),
        ("POST", "/snapshots") => (
            "Keep the files of a sandbox as they are now",
            Query::None,
            takes::<Keep>(),
            typed::<Kept>(),
        ),
        ("POST", "/fork") => (
            "Make another sandbox with the files that this one has",
            Query::None,
            takes::<Fork>(),
            typed::<Shown>(),
        ),
        ("POST", "/restore") => (
            "Give a sandbox the files of a snapshot instead of its own",
            Query::None,
            takes::<Restore>(),
            typed::<Shown>(),
        ),
        ("GET", "/export") => (
            "The files of a sandbox as an archive (tar, zstd)",
            Query::None,
            None,
            Reply::Bytes,
        ),
        ("POST", "/import") => (
            "Give a sandbox that has no files yet those of an archive",
            Query::None,
            Some(Body::Bytes),
            typed::<Shown>(),
        ),
        _ => return None,
    })
}

/// What is done to a sandbox.
fn whole(method: &Method, rest: &str) -> Option<Line> {
    let sandbox = typed::<Shown>();
    Some(match (method.as_str(), rest) {
        ("GET", "") => ("Get a sandbox and what it uses", Query::None, None, sandbox),
        ("DELETE", "") => (
            "Delete a sandbox with its files",
            Query::None,
            None,
            typed::<Deleted>(),
        ),
        ("POST", "/pause") => ("Have a sandbox stand still", Query::None, None, sandbox),
        ("POST", "/resume") => ("Have a sandbox go on", Query::None, None, sandbox),
        ("POST", "/stop") => ("Stop a sandbox; its files stay", Query::None, None, sandbox),
        ("GET", "/logs") => (
            "What became of a sandbox",
            Query::None,
            None,
            typed::<Page<Log>>(),
        ),
        _ => return None,
    })
}

/// What is done in a sandbox.
fn inside(method: &Method, rest: &str) -> Option<Line> {
    Some(match (method.as_str(), rest) {
        ("GET", "/processes") => (
            "What runs in a sandbox",
            Query::None,
            None,
            typed::<Page<Running>>(),
        ),
        ("GET", "/exec") => (
            "Which programs of a sandbox are known",
            Query::None,
            None,
            typed::<Page<Known>>(),
        ),
        ("GET", "/exec/{exec_id}") => (
            "How a program in a sandbox stands, and the end of what it printed",
            Query::SandboxOutput,
            None,
            typed::<Known>(),
        ),
        ("DELETE", "/exec/{exec_id}") => (
            "End a program in a sandbox and forget it",
            Query::None,
            None,
            typed::<Forgotten>(),
        ),
        ("POST", "/exec") => (
            "Run a program in a sandbox; as application/vnd.longhand.exec, input and output are streamed",
            Query::None,
            takes::<Exec>(),
            typed::<Ended>(),
        ),
        ("POST", "/forward") => (
            "Connect to a port in a sandbox; the bodies are the two ways of the connection",
            Query::SandboxPort,
            Some(Body::Bytes),
            Reply::Bytes,
        ),
        ("POST", "/directories") => (
            "Make a directory in a sandbox",
            Query::None,
            takes::<MakeDirectory>(),
            typed::<Done>(),
        ),
        ("POST", "/move") => (
            "Move a file or directory of a sandbox",
            Query::None,
            takes::<Move>(),
            typed::<Done>(),
        ),
        _ => return reached(method, rest).or_else(|| files(method, rest)),
    })
}

/// What it may reach.
fn reached(method: &Method, rest: &str) -> Option<Line> {
    Some(match (method.as_str(), rest) {
        ("GET", "/egress/explain") => (
            "What a sandbox would get for a URL, and why",
            Query::EgressExplain,
            None,
            typed::<Explanation>(),
        ),
        ("GET", "/egress/rules") => (
            "What a sandbox may reach by rules of its own",
            Query::None,
            None,
            typed::<Rules>(),
        ),
        ("POST", "/egress/rules") => (
            "Replace the rules of a sandbox",
            Query::None,
            takes::<SetRules>(),
            typed::<Rules>(),
        ),
        _ => return None,
    })
}

/// What is done to files.
fn files(method: &Method, rest: &str) -> Option<Line> {
    Some(match (method.as_str(), rest) {
        ("GET", "/files") => (
            "What stands at a path in a sandbox",
            Query::SandboxLook,
            None,
            typed::<File>(),
        ),
        ("DELETE", "/files") => (
            "Remove a file or directory of a sandbox",
            Query::SandboxRemove,
            None,
            typed::<Done>(),
        ),
        ("GET", "/files/watch") => (
            "Stream what changes at a path in a sandbox",
            Query::SandboxWatch,
            None,
            Reply::Stream,
        ),
        ("GET", "/content") => (
            "Read a file of a sandbox",
            Query::SandboxLook,
            None,
            Reply::Bytes,
        ),
        ("POST", "/content") => (
            "Write a file of a sandbox",
            Query::SandboxUpload,
            Some(Body::Bytes),
            typed::<Done>(),
        ),
        _ => return None,
    })
}
