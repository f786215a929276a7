//! What a run of the tests may be told through the environment. The one place of the test code that reads it.

use std::path::PathBuf;

#[expect(
    clippy::disallowed_methods,
    reason = "tests have no configuration file"
)]
fn read(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The number in the variable `name`, or `default`.
///
/// # Panics
/// It is set and no number: a run with another number than was asked for would be worse.
#[must_use]
pub fn number(name: &str, default: u64) -> u64 {
    read(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}"))
    })
}

/// Whether that part of a benchmark is to run: `TESTKIT_BENCH_ONLY` names them, `,` between them; all do without it.
#[must_use]
pub fn is_asked_for(part: &str) -> bool {
    read("TESTKIT_BENCH_ONLY").is_none_or(|parts| parts.split(',').any(|one| one.trim() == part))
}

/// The server to test, if `LONGHAND_BIN` names one.
#[must_use]
pub fn binary() -> Option<PathBuf> {
    read("LONGHAND_BIN").map(PathBuf::from)
}

/// Programs that load servers beside a test, as `TESTKIT_LOADERS` names them: each a command line, `;` between them.
#[must_use]
pub fn loaders() -> Vec<Vec<String>> {
    let lines = read("TESTKIT_LOADERS").unwrap_or_default();
    let words = |line: &str| line.split_whitespace().map(ToOwned::to_owned).collect();
    lines
        .split(';')
        .map(words)
        .filter(|words: &Vec<_>| !words.is_empty())
        .collect()
}

/// By how much deadlines are stretched: 4 under CI, else 1. A deadline only bounds how long a broken build
/// hangs, so it is generous everywhere.
#[must_use]
pub fn patience() -> u32 {
    if read("CI").is_some() { 4 } else { 1 }
}

/// Settings of a server that happen to be in this environment: a server under test must not see them.
#[must_use]
pub fn of_servers() -> Vec<std::ffi::OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names
        .filter(|name| {
            let name = name.to_string_lossy();
            // Where the static helper lies is a property of the build, not a setting.
            name.starts_with("LONGHAND_") && name != "LONGHAND_HAND_BIN"
        })
        .collect()
}
