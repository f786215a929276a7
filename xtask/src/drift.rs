//! What the newest SDKs in the registries changed for the routes that are served. It installs them into a
//! folder of their own and changes no pin.

use std::fs;

use crate::run::{command, root, run};
use crate::sdk;

/// Installs the newest SDKs, compares, and fails if the server would have to change.
pub(crate) fn check() -> anyhow::Result<()> {
    sdk::shapes()?;
    let pinned = sdk::prepare()?;
    let home = root().join("target/drift");
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    let (venv, packages) = (home.join("python"), home.join("typescript"));
    fs::create_dir_all(&packages)?;
    run(command("python3", &["-m", "venv", &venv.to_string_lossy()]))?;
    let python = venv.join("bin/python").to_string_lossy().into_owned();
    run(command(
        &python,
        &["-m", "pip", "install", "--quiet", "anthropic"],
    ))?;
    run(command(
        "npm",
        &[
            "--prefix",
            &packages.to_string_lossy(),
            "install",
            "--no-audit",
            "--no-fund",
            "--no-save",
            "@anthropic-ai/sdk@latest",
        ],
    ))?;
    let typescript = packages.join("node_modules/@anthropic-ai/sdk");
    let program = "sdk-tests/python/drift.py";
    run(command(
        &pinned,
        &[program, &typescript.to_string_lossy(), &python],
    ))
}
