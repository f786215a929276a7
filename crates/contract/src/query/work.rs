//! Queries of a self-hosted environment's work queue (api.md §6).

use super::Pairs;
use crate::limits::{HEARTBEAT, POLL_BLOCK_MS, POLL_RECLAIM_MS, WORK_TTL_SECONDS};
use crate::parse::Invalid;

/// `GET /v1/environments/{id}/work/poll`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollWork {
    /// How long to wait for work, in milliseconds; `None`: not at all.
    pub block_ms: Option<u32>,
    /// Hand out again what was not acknowledged for so long, in milliseconds. Default: 5,000.
    pub reclaim_older_than_ms: u32,
}

/// `POST /v1/environments/{id}/work/{work_id}/heartbeat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatWork {
    /// How long the lease is to last; `None`: as long as the server likes.
    pub desired_ttl_seconds: Option<u32>,
    /// What the worker takes for the last heartbeat; `None`: it does not care.
    pub expected: Option<ExpectedHeartbeat>,
}

/// The heartbeat that a worker expects to be the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedHeartbeat {
    /// There was none: `NO_HEARTBEAT`.
    None,
    /// This one, byte by byte.
    Last(String),
}

query!(PollWork, pairs => Self {
    block_ms: pairs.number("block_ms", (1, POLL_BLOCK_MS))?,
    reclaim_older_than_ms: pairs
        .number("reclaim_older_than_ms", (0, POLL_RECLAIM_MS))?
        .unwrap_or(5_000),
});
query!(HeartbeatWork, pairs => {
    let expected = pairs.text("expected_last_heartbeat")?;
    if expected.as_ref().is_some_and(|text| text.len() > HEARTBEAT) {
        let problem = "is not what a heartbeat answered";
        return Err(Invalid::at("expected_last_heartbeat", problem));
    }
    Self {
        desired_ttl_seconds: pairs.number("desired_ttl_seconds", (1, WORK_TTL_SECONDS))?,
        expected: expected.map(|text| match text.as_str() {
            "NO_HEARTBEAT" => ExpectedHeartbeat::None,
            _ => ExpectedHeartbeat::Last(text),
        }),
    }
});
