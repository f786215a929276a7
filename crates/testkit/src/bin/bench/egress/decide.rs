//! How long one decision takes, by how many hosts a policy names.

use std::hint::black_box;
use std::time::{Duration, Instant};

use egress::Target;
use egress::policy::{Attempt, Base, Policy, RuleSet, Seen};
use serde_json::{Value, json};

use crate::Wrong;
use crate::numbers::{millis, rounded};

const ROUNDS: u32 = 1_000_000;
/// Nanoseconds that are wanted at most with 10,000 hosts; few are the floor.
const TARGET: u64 = 1_000;

/// Measures it.
pub(super) fn run() -> Result<Value, Wrong> {
    let (floor, _) = slowest(10)?;
    let (figure, compiled) = slowest(10_000)?;
    let nanoseconds = |time: Duration| rounded(time.as_secs_f64() * 1e9);
    Ok(json!({
        "hosts": 10_000, "figure_ns": nanoseconds(figure), "floor_ns": nanoseconds(floor), "floor": "10 hosts",
        "ratio": rounded(figure.as_secs_f64() / floor.as_secs_f64().max(1e-12)),
        "target_ns": TARGET, "compiled_ms": millis(compiled),
    }))
}

/// The slowest kind of decision with so many hosts, and how long compiling took.
fn slowest(hosts: usize) -> Result<(Duration, Duration), Wrong> {
    let begun = Instant::now();
    let policy = policy(hosts)?;
    let (compiled, mut slowest) = (begun.elapsed(), Duration::ZERO);
    for text in [
        "h7.example.com",
        "a.b.c.w8.example.com",
        "a.b.c.d.e.f.g.nowhere.test",
        "93.184.216.34",
    ] {
        let target = Target::parse(text)?;
        let attempt = Attempt {
            target: &target,
            port: 443,
            seen: Seen::Nothing,
        };
        let begun = Instant::now();
        for _ in 0..ROUNDS {
            black_box(policy.decide(black_box(&attempt)));
        }
        slowest = slowest.max(begun.elapsed() / ROUNDS);
    }
    Ok((slowest, compiled))
}

/// Half of the hosts exact, half wildcards.
fn policy(hosts: usize) -> Result<Policy, Wrong> {
    let host = |i: usize| match i % 2 {
        0 => format!("*.w{i}.example.com"),
        _ => format!("h{i}.example.com"),
    };
    let set = RuleSet {
        base: Base::Limited {
            allowed_hosts: (0..hosts).map(host).collect(),
            package_managers: true,
            mcp_servers: Vec::new(),
            repositories: Vec::new(),
        },
        ..RuleSet::default()
    };
    Ok(Policy::compile(set)?)
}
