//! Benchmarks: each prints figure, floor and ratio as JSON, the floor measured in the same run.

use anyhow::bail;

use crate::run::cargo;

/// Runs one benchmark in a release build.
pub(crate) fn run_named(binary: &str, args: &[&str]) -> anyhow::Result<()> {
    crate::run::run(cargo(&[
        "build",
        "--release",
        "--locked",
        "--bin",
        "longhand",
    ]))?;
    let mut words = vec![
        "run",
        "--release",
        "--locked",
        "--quiet",
        "--package",
        "testkit",
        "--bin",
    ];
    words.extend([binary, "--"]);
    words.extend(args);
    crate::run::run(cargo(&words))
}

/// Runs the benchmark of that name.
pub(crate) fn run(name: &str) -> anyhow::Result<()> {
    match name {
        "api" | "turn" => run_named("bench", &[name]),
        _ => bail!("no such benchmark: {name}; there are: api, turn"),
    }
}
