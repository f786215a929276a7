//! House rules as code: the arrows of the house, module docs, lengths, and where `unsafe` may stand.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::run::root;

/// The floors of the house, top first: a crate may use what stands below it, never what stands on its
/// own floor or above. Leaves may be used from anywhere above.
const FLOORS: [&[&str]; 12] = [
    &["longhand"],
    &["testkit"],
    &["gateway", "orchestrator"],
    &["harness"],
    &["model", "sandbox", "egress"],
    &["bundle"],
    &["helper"],
    &["jail", "hand"],
    &["vault"],
    &["store"],
    &["session"],
    &["contract", "control", "sys", "dial", "scripted"],
];

const MAX_LINES: usize = 500;
const MAX_FUNCTION: usize = 70;

/// Checks everything and lists all that is wrong.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    let crates = root().join("crates");
    for entry in std::fs::read_dir(&crates).context("crates/")? {
        let home = entry?.path();
        arrows(&home, &mut wrong)?;
        unsafe_stays_home(&home, &mut wrong)?;
        listed_tests(&home, &mut wrong)?;
        for file in sources(&home)? {
            source(&file, &mut wrong)?;
        }
    }
    for file in sources(&root().join("xtask"))? {
        source(&file, &mut wrong)?;
    }
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.sort();
    bail!(
        "tidy: {} things are wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    )
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&name))
}

fn arrows(home: &Path, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let name = home
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let Some(own) = floor(&name) else {
        wrong.push(format!("crates/{name}: has no floor in xtask/src/tidy.rs"));
        return Ok(());
    };
    let manifest = std::fs::read_to_string(home.join("Cargo.toml"))?;
    let mut shipped = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            shipped = line == "[dependencies]";
        }
        let used = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if let Some(other) = floor(used).filter(|_| shipped)
            && other <= own
        {
            wrong.push(format!(
                "crates/{name}: the arrow to `{used}` goes up or sideways"
            ));
        }
    }
    Ok(())
}

fn unsafe_stays_home(home: &Path, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    if home.ends_with("sys") {
        return Ok(());
    }
    for root in ["src/lib.rs", "src/main.rs"] {
        let path = home.join(root);
        if path.exists() && !std::fs::read_to_string(&path)?.contains("#![forbid(unsafe_code)]") {
            wrong.push(format!("{}: lacks #![forbid(unsafe_code)]", shown(&path)));
        }
    }
    Ok(())
}

/// A test file that its `main.rs` does not name is never run.
fn listed_tests(home: &Path, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let folder = home.join("tests/it");
    if !folder.exists() {
        return Ok(());
    }
    let main = std::fs::read_to_string(folder.join("main.rs"))
        .with_context(|| format!("{} has no main.rs", shown(&folder)))?;
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.extension().is_some_and(|e| e == "rs")
            && stem != "main"
            && !main.contains(&format!("mod {stem};"))
        {
            wrong.push(format!("{}: is not listed in main.rs", shown(&path)));
        }
    }
    Ok(())
}

fn sources(home: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![home.join("src"), home.join("tests")];
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    Ok(files)
}

fn source(path: &Path, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path)?;
    if !text.starts_with("//!") {
        wrong.push(format!("{}: begins without a module doc", shown(path)));
    }
    let lines = text.lines().collect::<Vec<_>>();
    if lines.len() > MAX_LINES {
        wrong.push(format!(
            "{}: {} lines, at most {MAX_LINES}",
            shown(path),
            lines.len()
        ));
    }
    // A table of cases may be as long as there are cases.
    if !text.contains("#[test]")
        && !text.contains("#[tokio::test")
        && !shown(path).contains("/tests/")
    {
        long_functions(path, &lines, wrong);
    }
    if shown(path).starts_with("crates/session/src") && text.contains("HashMap") {
        wrong.push(format!(
            "{}: HashMap in the core: its order breaks replay",
            shown(path)
        ));
    }
    Ok(())
}

/// Relies on rustfmt: a function ends with a brace at its own indentation.
fn long_functions(path: &Path, lines: &[&str], wrong: &mut Vec<String>) {
    let starts = [
        "fn ",
        "pub fn ",
        "pub(crate) fn ",
        "async fn ",
        "pub async fn ",
        "pub(crate) async fn ",
    ];
    for (at, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        if !starts.iter().any(|s| body.starts_with(s)) {
            continue;
        }
        let end = format!("{}}}", " ".repeat(line.len() - body.len()));
        let length = lines
            .iter()
            .skip(at)
            .position(|l| *l == end)
            .map_or(1, |n| n + 1);
        if length > MAX_FUNCTION && !line.trim_end().ends_with(';') {
            let line = at + 1;
            wrong.push(format!(
                "{}:{line}: {length} lines, at most {MAX_FUNCTION}",
                shown(path)
            ));
        }
    }
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}
