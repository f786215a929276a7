//! Queries of deployments, their runs, and dreams (api.md §15, §16, §18).

use super::{Paging, Pairs, Range};
use crate::deployment::{DeploymentStatus, TriggerKind};
use crate::dream::DreamStatus;
use crate::ids::{AgentId, DeploymentId};
use crate::limits::{PAGE, QUERY_VALUES, RUNS_PAGE};
use crate::parse::Invalid;

/// `GET /v1/deployments`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListDeployments {
    pub paging: Paging,
    pub agent_id: Option<AgentId>,
    /// Only without `include_archived`.
    pub status: Option<DeploymentStatus>,
    pub include_archived: bool,
    /// Only `gte` and `lte`.
    pub created_at: Range,
}

/// `GET /v1/deployment_runs`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListDeploymentRuns {
    pub paging: Paging,
    pub deployment_id: Option<DeploymentId>,
    pub has_error: Option<bool>,
    pub trigger_type: Option<TriggerKind>,
    pub created_at: Range,
}

/// `GET /v1/dreams`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListDreams {
    pub paging: Paging,
    /// Without repetitions, in the order of the query; empty: all.
    pub statuses: Vec<DreamStatus>,
    pub include_archived: bool,
    /// Only `gt` and `lt`.
    pub created_at: Range,
}

const DREAMS: [(&str, DreamStatus); 5] = [
    ("pending", DreamStatus::Pending),
    ("running", DreamStatus::Running),
    ("completed", DreamStatus::Completed),
    ("failed", DreamStatus::Failed),
    ("canceled", DreamStatus::Canceled),
];

query!(ListDeployments, pairs => {
    let statuses = [("active", DeploymentStatus::Active), ("paused", DeploymentStatus::Paused)];
    let status = pairs.choice("status", &statuses)?;
    let include_archived = pairs.boolean("include_archived")?;
    if status.is_some() && include_archived.is_some() {
        return Err(Invalid::at("status", "cannot stand together with `include_archived`"));
    }
    Self {
        paging: pairs.paging(PAGE)?,
        agent_id: pairs.id("agent_id")?,
        status,
        include_archived: include_archived.unwrap_or(false),
        created_at: Range {
            gte: pairs.instant("created_at[gte]")?,
            lte: pairs.instant("created_at[lte]")?,
            ..Range::default()
        },
    }
});
query!(ListDeploymentRuns, pairs => {
    let triggers = [("schedule", TriggerKind::Schedule), ("manual", TriggerKind::Manual)];
    Self {
        paging: pairs.paging(RUNS_PAGE)?,
        deployment_id: pairs.id("deployment_id")?,
        has_error: pairs.boolean("has_error")?,
        trigger_type: pairs.choice("trigger_type", &triggers)?,
        created_at: pairs.range()?,
    }
});
query!(ListDreams, pairs => Self {
    paging: pairs.paging(PAGE)?,
    statuses: pairs.choices("statuses", &DREAMS, QUERY_VALUES)?,
    include_archived: pairs.boolean("include_archived")?.unwrap_or(false),
    created_at: Range {
        gt: pairs.instant("created_at[gt]")?,
        lt: pairs.instant("created_at[lt]")?,
        ..Range::default()
    },
});
