//! What each served route reads and answers, in types of the contract. A served route without a line here
//! fails a test.

use axum::http::Method;
use contract::agent::{Agent, CreateAgent, UpdateAgent};
use contract::client_event::SendEvents;
use contract::credential::{CreateCredential, Credential, UpdateCredential, Validation};
use contract::environment::{CreateEnvironment, Environment, UpdateEnvironment};
use contract::event::{Event, SentEvents};
use contract::ids::{CredentialId, EnvironmentId, SessionId, VaultId};
use contract::model::ModelInfo;
use contract::page::{BidiPage, Deleted, IdPage, Page};
use contract::session::{CreateSession, Session, SessionThread, UpdateSession};
use contract::vault::{CreateVault, UpdateVault, Vault};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::operators;
use super::queries::Query;
use super::sandboxes;

/// Writes the schema of a type.
pub(super) type Write = fn(&mut SchemaGenerator) -> Schema;

/// What comes back with 200.
#[derive(Clone, Copy)]
pub(super) enum Reply {
    /// A type of the contract.
    Typed(Write),
    /// Bytes as they are.
    Bytes,
    /// Server-sent events.
    Stream,
}

/// What a route reads and answers.
pub(super) struct Shape {
    /// In a few words.
    pub(super) what: &'static str,
    pub(super) query: Query,
    /// `None`: it takes no body, or an empty object.
    pub(super) body: Option<Body>,
    pub(super) reply: Reply,
}

/// What a route reads.
#[derive(Clone, Copy)]
pub(super) enum Body {
    /// A type of the contract.
    Typed(Write),
    /// Bytes as they are.
    Bytes,
}

fn write<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

pub(super) const fn typed<T: JsonSchema>() -> Reply {
    Reply::Typed(write::<T>)
}

pub(super) const fn takes<T: JsonSchema>() -> Option<Body> {
    Some(Body::Typed(write::<T>))
}

/// Whether a route below `/v1/x/` is about sandboxes.
fn of_sandboxes(rest: &str) -> bool {
    let of = ["sandboxes", "snapshots", "templates", "volumes"];
    of.iter().any(|of| rest.starts_with(of))
}

/// The shape of a served route; `None` if nobody wrote one.
pub(super) fn of(method: &Method, path: &str) -> Option<Shape> {
    let (kind, rest) = match path.strip_prefix("/v1/x/") {
        Some(rest) if of_sandboxes(rest) => (sandboxes::of(method, rest), rest),
        Some(rest) => (operators::of(method, rest), rest),
        None => {
            let rest = path.strip_prefix("/v1/")?;
            let kind = match rest.split('/').next()? {
                "agents" => agents(method, rest),
                "environments" => environments(method, rest),
                "sessions" if rest.contains("/threads") => threads(method, rest),
                "sessions" => sessions(method, rest),
                "vaults" if rest.contains("/credentials") => credentials(method, rest),
                "vaults" => vaults(method, rest),
                "models" => models(rest),
                _ => None,
            };
            (kind, rest)
        }
    };
    debug_assert!(!rest.is_empty(), "a route names something");
    let (what, query, body, reply) = kind?;
    Some(Shape {
        what,
        query,
        body,
        reply,
    })
}

/// What a route is for, its query, its body and its answer.
pub(super) type Line = (&'static str, Query, Option<Body>, Reply);

fn agents(method: &Method, path: &str) -> Option<Line> {
    let agent = typed::<Agent>();
    let page = typed::<Page<Agent>>();
    Some(match (method.as_str(), path) {
        ("POST", "agents") => (
            "Create an agent",
            Query::None,
            takes::<CreateAgent>(),
            agent,
        ),
        ("GET", "agents") => ("List agents", Query::Agents, None, page),
        ("GET", "agents/{agent_id}") => ("Get an agent", Query::Agent, None, agent),
        ("POST", "agents/{agent_id}") => (
            "Update an agent",
            Query::None,
            takes::<UpdateAgent>(),
            agent,
        ),
        ("POST", "agents/{agent_id}/archive") => ("Archive an agent", Query::None, None, agent),
        ("GET", "agents/{agent_id}/versions") => {
            ("List an agent's versions", Query::Versions, None, page)
        }
        _ => return None,
    })
}

fn environments(method: &Method, path: &str) -> Option<Line> {
    let one = typed::<Environment>();
    let (create, update) = (takes::<CreateEnvironment>(), takes::<UpdateEnvironment>());
    Some(match (method.as_str(), path) {
        ("POST", "environments") => ("Create an environment", Query::None, create, one),
        ("GET", "environments") => {
            let page = typed::<Page<Environment>>();
            ("List environments", Query::Archivable, None, page)
        }
        ("GET", "environments/{environment_id}") => ("Get an environment", Query::None, None, one),
        ("POST", "environments/{environment_id}") => {
            ("Update an environment", Query::None, update, one)
        }
        ("DELETE", "environments/{environment_id}") => {
            let reply = typed::<Deleted<EnvironmentId>>();
            ("Delete an environment", Query::None, None, reply)
        }
        ("POST", "environments/{environment_id}/archive") => {
            ("Archive an environment", Query::None, None, one)
        }
        _ => return None,
    })
}

fn sessions(method: &Method, path: &str) -> Option<Line> {
    let one = typed::<Session>();
    let (create, update) = (takes::<CreateSession>(), takes::<UpdateSession>());
    Some(match (method.as_str(), path) {
        ("POST", "sessions") => ("Create a session", Query::None, create, one),
        ("GET", "sessions") => {
            let page = typed::<BidiPage<Session>>();
            ("List sessions", Query::Sessions, None, page)
        }
        ("GET", "sessions/{session_id}") => ("Get a session", Query::None, None, one),
        ("POST", "sessions/{session_id}") => ("Update a session", Query::None, update, one),
        ("DELETE", "sessions/{session_id}") => {
            let reply = typed::<Deleted<SessionId>>();
            ("Delete a session", Query::None, None, reply)
        }
        ("POST", "sessions/{session_id}/archive") => ("Archive a session", Query::None, None, one),
        ("GET", "sessions/{session_id}/events") => {
            let page = typed::<Page<Event>>();
            ("List a session's events", Query::Events, None, page)
        }
        ("POST", "sessions/{session_id}/events") => {
            let (body, reply) = (takes::<SendEvents>(), typed::<SentEvents<'_>>());
            ("Send events to a session", Query::None, body, reply)
        }
        ("GET", "sessions/{session_id}/events/stream") => (
            "Stream a session's events",
            Query::Stream,
            None,
            Reply::Stream,
        ),
        _ => return None,
    })
}

fn threads(method: &Method, path: &str) -> Option<Line> {
    let one = typed::<SessionThread>();
    let rest = path.strip_prefix("sessions/{session_id}/threads")?;
    Some(match (method.as_str(), rest) {
        ("GET", "") => {
            let page = typed::<Page<SessionThread>>();
            ("List a session's threads", Query::Threads, None, page)
        }
        ("GET", "/{thread_id}") => ("Get a thread", Query::None, None, one),
        ("POST", "/{thread_id}/archive") => ("Archive a thread", Query::None, None, one),
        ("GET", "/{thread_id}/events") => {
            let page = typed::<Page<Event>>();
            ("List a thread's events", Query::ThreadEvents, None, page)
        }
        ("GET", "/{thread_id}/stream") => (
            "Stream a thread's events",
            Query::Stream,
            None,
            Reply::Stream,
        ),
        _ => return None,
    })
}

fn vaults(method: &Method, path: &str) -> Option<Line> {
    let one = typed::<Vault>();
    Some(match (method.as_str(), path) {
        ("POST", "vaults") => ("Create a vault", Query::None, takes::<CreateVault>(), one),
        ("GET", "vaults") => {
            let page = typed::<Page<Vault>>();
            ("List vaults", Query::Archivable, None, page)
        }
        ("GET", "vaults/{vault_id}") => ("Get a vault", Query::None, None, one),
        ("POST", "vaults/{vault_id}") => {
            ("Update a vault", Query::None, takes::<UpdateVault>(), one)
        }
        ("DELETE", "vaults/{vault_id}") => {
            let reply = typed::<Deleted<VaultId>>();
            ("Delete a vault", Query::None, None, reply)
        }
        ("POST", "vaults/{vault_id}/archive") => ("Archive a vault", Query::None, None, one),
        _ => return None,
    })
}

fn credentials(method: &Method, path: &str) -> Option<Line> {
    let one = typed::<Credential>();
    let (create, update) = (takes::<CreateCredential>(), takes::<UpdateCredential>());
    let rest = path.strip_prefix("vaults/{vault_id}/credentials")?;
    Some(match (method.as_str(), rest) {
        ("POST", "") => ("Create a credential", Query::None, create, one),
        ("GET", "") => {
            let page = typed::<Page<Credential>>();
            ("List a vault's credentials", Query::Archivable, None, page)
        }
        ("GET", "/{credential_id}") => ("Get a credential", Query::None, None, one),
        ("POST", "/{credential_id}") => ("Update a credential", Query::None, update, one),
        ("DELETE", "/{credential_id}") => {
            let reply = typed::<Deleted<CredentialId>>();
            ("Delete a credential", Query::None, None, reply)
        }
        ("POST", "/{credential_id}/archive") => ("Archive a credential", Query::None, None, one),
        ("POST", "/{credential_id}/mcp_oauth_validate") => {
            let found = typed::<Validation>();
            ("Try an OAuth credential", Query::None, None, found)
        }
        _ => return None,
    })
}

fn models(path: &str) -> Option<Line> {
    Some(match path {
        "models" => {
            let page = typed::<IdPage<ModelInfo>>();
            ("List models", Query::Models, None, page)
        }
        "models/{model_id}" => ("Get a model", Query::None, None, typed::<ModelInfo>()),
        _ => return None,
    })
}
