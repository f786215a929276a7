//! `[limits]`: what connections, keys and workspaces may use. Numbers only; 0 means off where it says so.

use std::time::Duration;

use gateway::Rate;
use serde::Deserialize;
use store::caps::Caps;

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel.
    pub connections: usize,
    /// Bytes of the head of a request.
    pub head_bytes: usize,
    /// Seconds for a head, and for a TLS handshake.
    pub head_seconds: u64,
    /// Seconds between two pieces of a request body.
    pub body_idle_seconds: u64,
    /// Seconds that a client may leave an answer untaken.
    pub write_stall_seconds: u64,
    /// Bytes of request bodies that are held at once.
    pub body_bytes: usize,
    /// Streams that one API key may have open.
    pub streams_per_key: usize,
    /// Requests a second of one API key; 0: as many as it likes.
    pub requests_per_second: u32,
    /// Requests at once after a pause; 0: as many as in two seconds.
    pub request_burst: u32,
    /// Sessions of one workspace.
    pub workspace_sessions: u64,
    /// Vaults of one workspace.
    pub workspace_vaults: u64,
    /// Active credentials of one vault.
    pub vault_credentials: u32,
    /// Bytes of answers kept under `Idempotency-Key`s of one workspace.
    pub workspace_kept_bytes: u64,
    /// Turns of one workspace that run at once; 0: all that there are.
    pub workspace_turns: u32,
    /// Sandboxes of one workspace that run at once; 0: all that may.
    pub workspace_sandboxes: u32,
    /// Bytes of the data directory's disk that stay free: below it nothing new is taken. 0: nobody looks.
    pub disk_free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let (edge, caps) = (gateway::Limits::default(), Caps::default());
        Self {
            connections: edge.connections,
            head_bytes: edge.head_bytes,
            head_seconds: edge.head.as_secs(),
            body_idle_seconds: edge.body_idle.as_secs(),
            write_stall_seconds: edge.write_stall.as_secs(),
            body_bytes: edge.bodies,
            streams_per_key: edge.streams_per_key,
            requests_per_second: 0,
            request_burst: 0,
            workspace_sessions: caps.sessions,
            workspace_vaults: caps.vaults,
            vault_credentials: caps.vault_credentials,
            workspace_kept_bytes: caps.kept,
            workspace_turns: 0,
            workspace_sandboxes: 0,
            disk_free_bytes: 256 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// What a listener may use.
    #[must_use]
    pub fn edge(&self) -> gateway::Limits {
        let per_second = self.requests_per_second;
        let burst = match self.request_burst {
            0 => per_second.saturating_mul(2),
            burst => burst,
        };
        gateway::Limits {
            connections: self.connections.max(1),
            // hyper takes no less.
            head_bytes: self.head_bytes.max(8_192),
            head: Duration::from_secs(self.head_seconds.max(1)),
            body_idle: Duration::from_secs(self.body_idle_seconds.max(1)),
            write_stall: Duration::from_secs(self.write_stall_seconds.max(1)),
            bodies: self.body_bytes,
            streams_per_key: self.streams_per_key,
            rate: (per_second > 0).then_some(Rate { per_second, burst }),
            ..gateway::Limits::default()
        }
    }

    /// What a workspace may have.
    #[must_use]
    pub fn caps(&self) -> Caps {
        Caps {
            sessions: self.workspace_sessions,
            vaults: self.workspace_vaults,
            vault_credentials: self.vault_credentials,
            kept: self.workspace_kept_bytes,
            turns: (self.workspace_turns > 0).then_some(self.workspace_turns),
        }
    }

    /// How many sandboxes of a workspace run; none: all that may.
    #[must_use]
    pub fn sandboxes(&self) -> Option<usize> {
        let most = usize::try_from(self.workspace_sandboxes).unwrap_or(usize::MAX);
        (most > 0).then_some(most)
    }

    /// Every setting with its value.
    pub(super) fn shown(&self) -> Vec<(&'static str, String)> {
        vec![
            ("limits.connections", self.connections.to_string()),
            ("limits.head_bytes", self.head_bytes.to_string()),
            ("limits.head_seconds", self.head_seconds.to_string()),
            (
                "limits.body_idle_seconds",
                self.body_idle_seconds.to_string(),
            ),
            (
                "limits.write_stall_seconds",
                self.write_stall_seconds.to_string(),
            ),
            ("limits.body_bytes", self.body_bytes.to_string()),
            ("limits.streams_per_key", self.streams_per_key.to_string()),
            (
                "limits.requests_per_second",
                self.requests_per_second.to_string(),
            ),
            ("limits.request_burst", self.request_burst.to_string()),
            (
                "limits.workspace_sessions",
                self.workspace_sessions.to_string(),
            ),
            ("limits.workspace_vaults", self.workspace_vaults.to_string()),
            (
                "limits.vault_credentials",
                self.vault_credentials.to_string(),
            ),
            (
                "limits.workspace_kept_bytes",
                self.workspace_kept_bytes.to_string(),
            ),
            ("limits.workspace_turns", self.workspace_turns.to_string()),
            (
                "limits.workspace_sandboxes",
                self.workspace_sandboxes.to_string(),
            ),
            ("limits.disk_free_bytes", self.disk_free_bytes.to_string()),
        ]
    }
}
