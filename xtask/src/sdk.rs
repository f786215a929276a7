//! The official SDKs against the real server: Python in a virtual environment, TypeScript from npm, both
//! pinned and installed on first use.

use std::path::Path;

use crate::run::{cargo, command, root, run};

/// Both languages.
pub(crate) fn all() -> anyhow::Result<()> {
    run(cargo(&[
        "build", "--locked", "-p", "longhand", "-p", "scripted", "--bins",
    ]))?;
    run(cargo(&[
        "build",
        "--locked",
        "-p",
        "contract",
        "--example",
        "shapes",
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
    if !installed(&root().join(home)) {
        run(command(
            "npm",
            &["--prefix", home, "ci", "--no-audit", "--no-fund"],
        ))?;
    }
    run(command("npm", &["--prefix", home, "test", "--silent"]))
}

/// Whether npm's record of what it installed is younger than what the lock file asks for.
fn installed(home: &Path) -> bool {
    let modified = |path: &str| home.join(path).metadata().and_then(|it| it.modified()).ok();
    match (
        modified("node_modules/.package-lock.json"),
        modified("package-lock.json"),
    ) {
        (Some(done), Some(asked)) => done >= asked,
        _ => false,
    }
}
