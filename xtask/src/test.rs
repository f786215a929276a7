//! What must pass before anything lands.

use anyhow::bail;

use crate::run::{cargo, run, succeeds};
use crate::{lint, sdk, sim, template};

/// Lint, Rust tests, the simulation of the session core, a template of Debian, both SDKs.
pub(crate) fn all() -> anyhow::Result<()> {
    lint::all()?;
    rust()?;
    // A template waits for packages and for one thread of dpkg: beside what computes and waits for nothing.
    std::thread::scope(|scope| {
        let base = scope.spawn(|| template::prove("base"));
        simulations()?;
        base.join()
            .unwrap_or_else(|_| bail!("the template's stage panicked"))
    })?;
    sdk::all()
}

fn simulations() -> anyhow::Result<()> {
    sim::main(&["--seeds", "30000"])?;
    sim::main(&["--orchestrator", "--seeds", "1000"])?;
    sim::main(&["--faults"])
}

/// The Rust tests: one invocation, so that features and artefacts are shared.
pub(crate) fn rust() -> anyhow::Result<()> {
    if succeeds(cargo(&["nextest", "--version"])) {
        let profile = if std::env::var_os("CI").is_some() {
            "ci"
        } else {
            "default"
        };
        let tests = [
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--profile",
            profile,
        ];
        let mut tests = cargo(&tests);
        // Servers that are killed meanwhile are loaded by both SDKs.
        tests.env(sdk::LOADERS, sdk::loaders()?);
        run(tests)?;
    } else {
        eprintln!("note: cargo-nextest is not installed; falling back to `cargo test`");
        run(cargo(&[
            "test",
            "--workspace",
            "--locked",
            "--bins",
            "--lib",
            "--tests",
        ]))?;
    }
    run(cargo(&[
        "test",
        "--workspace",
        "--locked",
        "--doc",
        "--quiet",
    ]))
}
