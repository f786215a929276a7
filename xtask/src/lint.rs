//! Formatting, clippy, licences and house rules.

use crate::run::{cargo, run, succeeds};
use crate::tidy;

/// Everything that looks at code without running it.
pub(crate) fn all() -> anyhow::Result<()> {
    tidy::check()?;
    run(cargo(&["fmt", "--all", "--check"]))?;
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    run(cargo(&clippy))?;
    deny()
}

/// Licences, bans and sources. Advisories need a clone of a database that may be out of reach: they are
/// checked against a clone that is already here, and said to be skipped when there is none.
fn deny() -> anyhow::Result<()> {
    if !succeeds(cargo(&["deny", "--version"])) {
        run(cargo(&[
            "install",
            "--locked",
            "cargo-deny",
            "--version",
            "^0.20",
        ]))?;
    }
    run(cargo(&["deny", "check", "licenses", "bans", "sources"]))?;
    if !succeeds(cargo(&["deny", "--offline", "check", "advisories"])) {
        eprintln!(
            "note: advisories were not checked (no database here), or some apply: run `cargo deny check advisories`"
        );
    }
    Ok(())
}
