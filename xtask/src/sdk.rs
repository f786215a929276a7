//! The official SDKs against the real server: Python in a virtual environment, TypeScript from npm, both
//! pinned and installed on first use.

use crate::run::{cargo, command, root, run};

/// Both languages.
pub(crate) fn all() -> anyhow::Result<()> {
    run(cargo(&[
        "build", "--locked", "--bin", "longhand", "--bin", "scripted",
    ]))?;
    python()?;
    typescript()
}

fn python() -> anyhow::Result<()> {
    let venv = root().join("target/sdk-python");
    let python = venv.join("bin/python");
    if !python.exists() {
        run(command("python3", &["-m", "venv", &venv.to_string_lossy()]))?;
    }
    let python = python.to_string_lossy().into_owned();
    let requirements = "sdk-tests/python/requirements.txt";
    run(command(
        &python,
        &["-m", "pip", "install", "--quiet", "-r", requirements],
    ))?;
    run(command(
        &python,
        &["-m", "pytest", "-q", "sdk-tests/python"],
    ))
}

fn typescript() -> anyhow::Result<()> {
    let home = "sdk-tests/typescript";
    if !root().join(home).join("node_modules").exists() {
        run(command(
            "npm",
            &["--prefix", home, "ci", "--no-audit", "--no-fund"],
        ))?;
    }
    run(command("npm", &["--prefix", home, "test", "--silent"]))
}
