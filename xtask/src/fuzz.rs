//! Malformed requests from the OpenAPI document against the real server, by schemathesis in a virtual environment
//! of its own, pinned and installed on first use.

use crate::run::{command, root, run};

/// How long requests are made up, in seconds; starting and reporting come on top.
const SECONDS: &str = "60";

/// The server that was built last.
pub(crate) fn all() -> anyhow::Result<()> {
    let venv = root().join("target/fuzz-python");
    let python = venv.join("bin/python");
    if !python.exists() {
        run(command("python3", &["-m", "venv", &venv.to_string_lossy()]))?;
    }
    let python = python.to_string_lossy().into_owned();
    let requirements = "sdk-tests/fuzz/requirements.txt";
    run(command(
        &python,
        &["-m", "pip", "install", "--quiet", "-r", requirements],
    ))?;
    let script = "sdk-tests/fuzz/fuzz.py";
    run(command(
        &python,
        &[script, "target/debug/longhand", SECONDS],
    ))
}
