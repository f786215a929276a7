//! Documents that are made from the code: asks the binary and puts its answer between two marks. Tests of the
//! crates find a document that is out of step; this only writes.

use anyhow::{Context, bail};

use crate::run::{cargo, root};

/// Writes the list of routes into `docs/compatibility.md` and the attacks on sandboxes into
/// `docs/security.md`.
pub(crate) fn all() -> anyhow::Result<()> {
    let routes = printed(&[
        "run", "--quiet", "-p", "longhand", "--", "openapi", "--routes",
    ])?;
    between("docs/compatibility.md", "routes", routes.trim())?;
    for (package, mark) in [("sandbox", "cases"), ("egress", "network cases")] {
        between("docs/security.md", mark, &corpus(package, mark)?)?;
    }
    Ok(())
}

/// The table of a crate's attacks.
fn corpus(package: &str, mark: &str) -> anyhow::Result<String> {
    let said = printed(&[
        "test",
        "--quiet",
        "-p",
        package,
        "--test",
        "it",
        "--",
        "--exact",
        "corpus::table::printed",
        "--ignored",
        "--nocapture",
    ])?;
    // The test runner has words of its own before and after.
    let cases = said
        .split_once(&format!("<!-- {mark} -->\n"))
        .and_then(|(_, rest)| rest.split_once(&format!("<!-- /{mark} -->")));
    let (cases, _) = cases.with_context(|| format!("the corpus of {package} prints no table"))?;
    Ok(cases.trim().to_owned())
}

fn printed(words: &[&str]) -> anyhow::Result<String> {
    let output = cargo(words).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!(
            "cargo {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).context("what it printed is no text")
}

fn between(document: &str, mark: &str, text: &str) -> anyhow::Result<()> {
    let path = root().join(document);
    let old = std::fs::read_to_string(&path).with_context(|| document.to_owned())?;
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- /{mark} -->"));
    let parts = old.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        bail!("{document}: the marks of `{mark}` are not there");
    };
    let new = format!("{before}{begin}{text}\n\n{end}{after}");
    if new != old {
        std::fs::write(&path, new)?;
        eprintln!("{document} is written anew");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::root;

    /// Every function and every case of a corpus below a directory.
    fn tests_below(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                tests_below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for line in text.lines().map(str::trim) {
                    let line = line.strip_prefix("pub ").unwrap_or(line);
                    let line = line.strip_prefix("async ").unwrap_or(line);
                    let function = line
                        .strip_prefix("fn ")
                        .and_then(|rest| rest.split('(').next());
                    let case = line.strip_suffix(" {").filter(|name| !name.contains(' '));
                    found.extend(function.or(case).map(str::to_owned));
                }
            }
        }
    }

    #[test]
    fn the_threat_model_names_tests_that_there_are() {
        let mut known = BTreeSet::new();
        for member in std::fs::read_dir(root().join("crates")).unwrap().flatten() {
            for below in ["tests", "src"] {
                let directory = member.path().join(below);
                if directory.is_dir() {
                    tests_below(&directory, &mut known);
                }
            }
        }
        let document = std::fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
        let (_, rest) = document.split_once("## What shows it").unwrap();
        let (table, _) = rest.split_once("\n## ").unwrap();
        let named: Vec<_> = table.split('`').skip(1).step_by(2).collect();
        assert!(named.len() > 25, "{named:?}");
        let missing: Vec<_> = named
            .iter()
            .filter(|name| !known.contains(**name))
            .collect();
        assert!(missing.is_empty(), "no such test: {missing:?}");
    }
}
