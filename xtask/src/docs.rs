//! Documents that are made from the code: asks the binary and puts its answer between two marks. Tests of the
//! crates find a document that is out of step; this only writes.

use anyhow::{Context, bail};

use crate::run::{cargo, root};

/// Writes the list of routes into `docs/compatibility.md`.
pub(crate) fn all() -> anyhow::Result<()> {
    let words = [
        "run", "--quiet", "-p", "longhand", "--", "openapi", "--routes",
    ];
    let output = cargo(&words).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!(
            "longhand openapi: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let routes = String::from_utf8(output.stdout).context("its routes are no text")?;
    between("docs/compatibility.md", "routes", routes.trim())
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
