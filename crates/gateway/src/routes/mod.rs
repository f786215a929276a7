//! The handlers, one module a resource: read the request, ask the store or the core, write the object.
//! No rule stands here that `contract`, `session` or `store` could hold.

pub(crate) mod agents;
pub(crate) mod archives;
pub(crate) mod credentials;
pub(crate) mod egress;
pub(crate) mod environments;
pub(crate) mod events;
mod llm;
pub(crate) mod master_key;
pub(crate) mod models;
pub(crate) mod operate;
pub(crate) mod place;
pub(crate) mod replicas;
pub(crate) mod sandbox_exec;
pub(crate) mod sandbox_execs;
pub(crate) mod sandbox_files;
pub(crate) mod sandbox_forward;
pub(crate) mod sandbox_logs;
pub(crate) mod sandbox_rules;
mod sandbox_terms;
pub(crate) mod sandboxes;
pub(crate) mod sessions;
pub(crate) mod snapshots;
mod stored;
pub(crate) mod templates;
pub(crate) mod threads;
pub(crate) mod vaults;
pub(crate) mod volumes;
pub(crate) mod why;

/// How often a change is made again because another one came between reading and writing, when the
/// client named no version of its own. Each try means that somebody else got further.
const REDO: usize = 16;
