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
