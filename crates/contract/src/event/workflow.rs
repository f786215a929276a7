//! What events of workflow runs are made of (api.md §9.9). It runs none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::WorkflowPhaseId;

/// A phase that a run announces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Phase {
    /// Unique in its run.
    pub id: WorkflowPhaseId,
    /// Its name.
    pub name: String,
    /// What happens in it.
    pub description: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WorkflowResult {
    /// It came to its end, which does not say that it succeeded.
    Completed {},
    /// It was stopped.
    Stopped {},
    /// It failed.
    Error {
        /// How.
        error: WorkflowError,
    },
}

/// Why a run failed. The message never holds what the run worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)] // for people
pub enum WorkflowError {
    /// It took too long.
    TimeoutError { message: String },
    /// Its program failed.
    ProgramError { message: String },
    /// It wanted more threads than there may be.
    ThreadLimitError { message: String },
    /// There are too many runs; only on `workflow_run.error`.
    MaxWorkflowRunsError { message: String },
    /// None of the others.
    UnknownError { message: String },
}
