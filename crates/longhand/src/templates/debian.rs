//! Owns what a template of Debian is made of, and that it is made by mmdebstrap. It unpacks nothing: what comes of that is
//! one archive, which is taken like any other.

use std::io::{self, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail};

use crate::cli::{Build, Recipe};

const PROGRAM: &str = "mmdebstrap";

/// Of both recipes: HTTPS works, and so does what agents expect of a shell.
const MINIMAL: &[&str] = &["ca-certificates", "procps", "less", "file"];

/// What `base` promises, by Debian's names.
const BASE: &[&str] = &[
    "build-essential",
    "curl",
    "git",
    "jq",
    "nodejs",
    "npm",
    "openssh-client",
    "patch",
    "pkg-config",
    "python3",
    "python3-dev",
    "python3-pip",
    "python3-venv",
    "ripgrep",
    "sqlite3",
    "unzip",
    "wget",
    "xz-utils",
    "zip",
    "zstd",
];

/// What it is called unless somebody says otherwise.
pub(super) fn name(recipe: Recipe) -> &'static str {
    match recipe {
        Recipe::Minimal => "minimal",
        Recipe::Base => "base",
    }
}

/// The archive that is being made. It ends well only if all of it was made.
pub(super) struct Built {
    child: Child,
    archive: ChildStdout,
}

/// Begins to make it. What mmdebstrap says goes to standard error.
pub(super) fn start(build: &Build, mirror: &str) -> anyhow::Result<Built> {
    let added = match build.recipe {
        Recipe::Minimal => &[][..],
        Recipe::Base => BASE,
    };
    let packages = MINIMAL.iter().chain(added).copied();
    let packages: Vec<&str> = packages
        .chain(build.include.iter().map(String::as_str))
        .collect();
    for word in packages.iter().chain([&build.suite.as_str(), &mirror]) {
        // None of it is an option, or several things.
        if word.is_empty() || word.starts_with('-') || word.contains([',', ' ', '\n']) {
            bail!("{word:?} is no package, no release and no mirror");
        }
    }
    let spawned = Command::new(PROGRAM)
        .arg("--variant=minbase")
        .arg("--format=tar")
        .arg(format!("--include={}", packages.join(",")))
        .args([build.suite.as_str(), "-", mirror])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("{PROGRAM} is not there; on Debian and Ubuntu: apt-get install {PROGRAM}")
        }
        other => other.with_context(|| format!("cannot start {PROGRAM}"))?,
    };
    let archive = child.stdout.take().context("mmdebstrap has no output")?;
    Ok(Built { child, archive })
}

impl Read for Built {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.archive.read(into)?;
        if length == 0 && !into.is_empty() {
            let status = self.child.wait()?;
            if !status.success() {
                return Err(io::Error::other(format!("{PROGRAM} failed ({status})")));
            }
        }
        Ok(length)
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        // It may have ended; one that has not is of no use any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
