//! Benchmarks: each prints figure, floor and ratio as JSON, the floor measured in the same run.

use std::path::PathBuf;

use anyhow::bail;

use crate::run::{cargo, command, root, run as ran};

/// Builds the server and the benchmarks together, so that nothing is built twice, and runs one.
fn run_named(name: &str) -> anyhow::Result<()> {
    let build = [
        "build",
        "--release",
        "--locked",
        "--package",
        "longhand",
        "--package",
        "testkit",
        "--bins",
    ];
    ran(cargo(&build))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let release = target.join("release");
    let mut bench = command(&release.join("bench").to_string_lossy(), &[name]);
    bench.env("LONGHAND_BIN", release.join("longhand"));
    ran(bench)
}

/// Runs the benchmark of that name.
pub(crate) fn run(name: &str) -> anyhow::Result<()> {
    match name {
        "api" | "edge" | "egress" | "fanout" | "harness" | "idle" | "sandbox" | "scale"
        | "session" | "threads" | "turn" | "workspace" => run_named(name),
        _ => bail!(
            "no such benchmark: {name}; there are: api, edge, egress, fanout, harness, idle, sandbox, scale, session, threads, turn, workspace"
        ),
    }
}
