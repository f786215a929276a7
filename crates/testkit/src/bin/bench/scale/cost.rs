//! What a stretch of work cost: processor time of the servers and of the database, commits, and bytes written, by the
//! words of the kernel, of the servers and of the database.

use std::path::Path;

use serde_json::{Value, json};
use testkit::cluster::Cluster;
use testkit::process::Server;

use crate::Wrong;
use crate::numbers::rounded;

/// Clock ticks in a second of what the kernel counts for programs (sysconf(3); the same on every Linux).
const TICKS: f64 = 100.0;

/// What was counted so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    events: u64,
    commits: u64,
    bytes: u64,
    servers_seconds: f64,
    database_seconds: f64,
}

impl Counted {
    pub(super) async fn now(servers: &[Server], cluster: Option<&Cluster>) -> Result<Self, Wrong> {
        let mut counted = Self::default();
        for server in servers {
            let status = server.status().await?;
            let number = |name: &str| status["store"][name].as_u64().ok_or("a count is missing");
            counted.events += number("events")?;
            counted.commits += number("commits")?;
            counted.servers_seconds += own_seconds(server.pid())?;
            if cluster.is_none() {
                counted.bytes += written(server.pid())?;
            }
        }
        if let Some(cluster) = cluster {
            let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";
            counted.bytes = cluster.sql(sql).trim().parse()?;
            counted.database_seconds = with_children(cluster.home())?;
        }
        Ok(counted)
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            events: self.events - before.events,
            commits: self.commits - before.commits,
            bytes: self.bytes.saturating_sub(before.bytes),
            servers_seconds: self.servers_seconds - before.servers_seconds,
            database_seconds: self.database_seconds - before.database_seconds,
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            commits: self.commits + other.commits,
            bytes: self.bytes + other.bytes,
            servers_seconds: self.servers_seconds + other.servers_seconds,
            database_seconds: self.database_seconds + other.database_seconds,
        }
    }

    pub(super) fn events(self) -> u64 {
        self.events
    }

    /// Processors that were busy with it on average.
    pub(super) fn busy(self, seconds: f64) -> f64 {
        rounded((self.servers_seconds + self.database_seconds) / seconds.max(1e-9))
    }

    pub(super) fn an_event(self) -> Value {
        let events = self.events.max(1) as f64;
        json!({
            "commits": rounded(self.commits as f64 / events),
            "bytes_logged": (self.bytes as f64 / events).round(),
            "servers_cpu_us": (self.servers_seconds * 1e6 / events).round(),
            "database_cpu_us": (self.database_seconds * 1e6 / events).round(),
        })
    }
}

/// The numbers of /proc/PID/stat (proc(5)) behind the name, from `state` on.
fn numbers(pid: i32) -> Result<Vec<f64>, Wrong> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, behind) = stat.rsplit_once(')').ok_or("no name in /proc")?;
    let numbers = behind
        .split_whitespace()
        .map(|word| word.parse().unwrap_or(0.0));
    Ok(numbers.collect())
}

/// Places there of: the parent, the own time (user, system), and that of children that have ended.
const PARENT: usize = 1;
const OWN: [usize; 2] = [11, 12];
const ENDED: [usize; 2] = [13, 14];

fn seconds(numbers: &[f64], places: [usize; 2]) -> f64 {
    let ticks = places.into_iter().filter_map(|at| numbers.get(at));
    ticks.sum::<f64>() / TICKS
}

fn own_seconds(pid: i32) -> Result<f64, Wrong> {
    Ok(seconds(&numbers(pid)?, OWN))
}

/// Of the database server in `home`: of its first process, and of all that this one has started.
fn with_children(home: &Path) -> Result<f64, Wrong> {
    let first = std::fs::read_to_string(home.join("data/postmaster.pid"))?;
    let first = first
        .lines()
        .next()
        .ok_or("no process id")?
        .trim()
        .parse::<i32>()?;
    let own = numbers(first)?;
    let mut all = seconds(&own, OWN) + seconds(&own, ENDED);
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended meanwhile, and then counts among the ended.
        let Ok(child) = numbers(pid) else { continue };
        if child
            .get(PARENT)
            .is_some_and(|parent| *parent == f64::from(first))
        {
            all += seconds(&child, OWN);
        }
    }
    Ok(all)
}

/// Bytes that the process had written to disks.
fn written(pid: i32) -> Result<u64, Wrong> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("no count of bytes in /proc")?.trim().parse()?)
}
