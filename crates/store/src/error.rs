//! Why an operation failed, named for what its caller can do. It never holds a driver's type.

use contract::ids::{CredentialId, EnvironmentId, SessionId, VaultId};
use session::Refused;

/// A cause whose type is nobody's business but the log's.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A workspace.
    Workspace,
    /// An API key.
    ApiKey,
    /// An agent.
    Agent,
    /// A version of an agent that exists.
    AgentVersion(u32),
    /// An environment.
    Environment(EnvironmentId),
    /// A vault.
    Vault(VaultId),
    /// A credential.
    Credential(CredentialId),
    /// A session.
    Session(SessionId),
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Workspace => f.write_str("workspace"),
            Self::ApiKey => f.write_str("API key"),
            Self::Agent => f.write_str("agent"),
            Self::AgentVersion(version) => write!(f, "agent version {version}"),
            Self::Environment(id) => id.fmt(f),
            Self::Vault(id) => id.fmt(f),
            Self::Credential(id) => id.fmt(f),
            Self::Session(id) => id.fmt(f),
        }
    }
}

/// What a workspace may have only so much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plenty {
    /// Sessions.
    Sessions,
    /// Vaults.
    Vaults,
    /// Bytes of kept answers.
    Kept,
}

impl std::fmt::Display for Plenty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sessions => "sessions",
            Self::Vaults => "vaults",
            Self::Kept => "bytes of kept answers",
        })
    }
}

/// What a write collided with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The agent moved on from the version the change was made on.
    #[error("the current version is {current}")]
    Version {
        /// The version it has now.
        current: u32,
    },
    /// The row moved on from the revision the change was made on: read it again and redo the change.
    #[error("the current revision is {current}")]
    Revision {
        /// The revision it has now.
        current: u32,
    },
    /// An active environment of the workspace has this name.
    #[error("an active environment has this name")]
    EnvironmentName,
    /// An active credential of the vault serves this MCP server.
    #[error("an active credential serves this MCP server URL")]
    McpServerUrl,
    /// An active credential of the vault has this variable name.
    #[error("an active credential has this secret name")]
    SecretName,
    /// Sessions still refer to the environment.
    #[error("sessions still use it")]
    InUse,
    /// A row with this id or hash exists.
    #[error("it exists already")]
    Exists,
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none, or none in this workspace.
    #[error("{0} not found")]
    NotFound(Thing),
    /// It is archived: read-only, and not for new sessions.
    #[error("{0} is archived")]
    Archived(Thing),
    /// It collides with what is there.
    #[error("conflict: {0}")]
    Conflict(Conflict),
    /// A bound is reached.
    #[error("at most {limit} active credentials in a vault")]
    TooManyCredentials {
        /// The bound.
        limit: u32,
    },
    /// The workspace has all it may have of something: [`crate::caps::Caps`].
    #[error("the workspace has {limit} {what}, the most it may have")]
    Full {
        /// Of what.
        what: Plenty,
        /// The cap.
        limit: u64,
    },
    /// The database cannot be read or written now: disk full, closed, I/O error. Nothing was stored.
    #[error("the store is unavailable")]
    Unavailable(#[source] Cause),
    /// What is stored, or what was to be stored, contradicts itself. Nothing was stored.
    #[error("the store holds a contradiction")]
    Bug(#[source] Cause),
}

/// Why an input to a session was not stored. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// There is no such session, or none in this workspace.
    #[error("session not found")]
    NotFound,
    /// The core refused it. For a fact: its runner must stop.
    #[error(transparent)]
    Refused(Refused),
    /// Somebody else holds the run, and the lease has not expired (claims only).
    #[error("the run is held by {holder}")]
    Held {
        /// Who.
        holder: String,
    },
    /// The workspace has all it may have of something that is stored beside the input.
    #[error("the workspace has {limit} {what}, the most it may have")]
    Full {
        /// Of what.
        what: Plenty,
        /// The cap.
        limit: u64,
    },
    /// The database cannot be written now.
    #[error("the store is unavailable")]
    Unavailable(#[source] Cause),
    /// A broken invariant: the session needs an operator.
    #[error("the session contradicts itself")]
    Bug(#[source] Cause),
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened or set up.
    #[error("open database {path}")]
    Database {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The URL of the database cannot be understood.
    #[error("the database URL: {why}")]
    Url {
        /// What is wrong with it; never its text.
        why: String,
    },
    /// The server is not one that will do.
    #[error("database {path}: {why}")]
    Server {
        /// Which database, without its password.
        path: std::path::PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The database was written by a newer build.
    #[error(
        "database {path} has schema {found}, this build knows up to {known}: start the newer build, or restore a backup made before it ran"
    )]
    Newer {
        /// Which file.
        path: std::path::PathBuf,
        /// The schema it has.
        found: u32,
        /// The newest this build knows.
        known: u32,
    },
    /// A migration that was applied is not the one this build has.
    #[error(
        "database {path}: migration {version} was applied with other contents than this build's"
    )]
    Altered {
        /// Which file.
        path: std::path::PathBuf,
        /// Which migration.
        version: u32,
    },
    /// The copy that is made before a migration could not be made; nothing was migrated.
    #[error("keep a copy of the database before migrating it, at {path}")]
    Backup {
        /// Where it should be.
        path: std::path::PathBuf,
        /// Why it is not.
        #[source]
        source: Cause,
    },
    /// A migration failed and was rolled back.
    #[error("database {path}: migration {version} failed")]
    Migration {
        /// Which file.
        path: std::path::PathBuf,
        /// Which migration.
        version: u32,
        /// Why.
        #[source]
        source: Cause,
    },
}
