//! Owns what a template of Debian is made of, and that it is made by mmdebstrap. It unpacks nothing: what comes of that is
//! one archive, which is taken like any other.

use std::io::{self, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail};

use crate::cli::{Build, Recipe};

const PROGRAM: &str = "mmdebstrap";

/// Of all recipes: HTTPS works, and so does what agents expect of a shell.
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

/// What `standard` has beside those: what the hosted sandbox is documented to have, as far as Debian 12 has it. What it has
/// in another version, and what not, stands in docs/sandbox.md.
const STANDARD: &[&str] = &[
    // languages
    "cargo-web",
    "clang",
    "cmake",
    "composer",
    "golang-go",
    "gradle",
    "maven",
    "ninja-build",
    "openjdk-17-jdk-headless",
    "php-cli",
    "php-curl",
    "php-mbstring",
    "php-xml",
    "python3-poetry",
    "ruby-full",
    "rustc-web",
    "yarnpkg",
    // libraries for Python
    "python3-docx",
    "python3-matplotlib",
    "python3-numpy",
    "python3-openpyxl",
    "python3-pandas",
    "python3-pypdf",
    // databases; they are not started
    "postgresql",
    "redis-server",
    // tools
    "ffmpeg",
    "imagemagick",
    "nano",
    "tmux",
    "vim",
    "yq",
    // documents
    "fonts-dejavu-core",
    "fonts-liberation",
    "libreoffice-calc-nogui",
    "libreoffice-impress-nogui",
    "libreoffice-writer-nogui",
    "lmodern",
    "pandoc",
    "poppler-utils",
    "qpdf",
    "tesseract-ocr",
    "tesseract-ocr-eng",
    "texlive-fonts-recommended",
    "texlive-latex-recommended",
    "texlive-plain-generic",
    "texlive-xetex",
    // a browser
    "chromium",
    "chromium-driver",
];

/// Chromium's own sandbox needs what no sandbox of ours gives; programs look for the browser where Playwright keeps it.
const BROWSER: &str = r#"mkdir -p "$1/opt/pw-browsers" && ln -s /usr/bin/chromium "$1/opt/pw-browsers/chromium" && \
    echo 'export CHROMIUM_FLAGS="$CHROMIUM_FLAGS --no-sandbox --disable-dev-shm-usage"' > "$1/etc/chromium.d/longhand""#;

/// How dpkg unpacks: without waiting for the disk, for a build that is cut is thrown away, and without what people read
/// who sit before a terminal. What each package may be used for stays.
const DPKG: [&str; 5] = [
    "force-unsafe-io",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
];

/// What it is called unless somebody says otherwise.
pub(super) fn name(recipe: Recipe) -> &'static str {
    match recipe {
        Recipe::Minimal => "minimal",
        Recipe::Base => "base",
        Recipe::Standard => "standard",
    }
}

/// The archive that is being made. It ends well only if all of it was made.
pub(super) struct Built {
    child: Child,
    archive: ChildStdout,
}

/// Begins to make it. What mmdebstrap says goes to standard error.
pub(super) fn start(build: &Build, mirror: &str) -> anyhow::Result<Built> {
    let added: &[&[&str]] = match build.recipe {
        Recipe::Minimal => &[MINIMAL],
        Recipe::Base => &[MINIMAL, BASE],
        Recipe::Standard => &[MINIMAL, BASE, STANDARD],
    };
    let packages = added.iter().copied().flatten().copied();
    let packages: Vec<&str> = packages
        .chain(build.include.iter().map(String::as_str))
        .collect();
    for word in packages.iter().chain([&build.suite.as_str(), &mirror]) {
        // None of it is an option, or several things.
        if word.is_empty() || word.starts_with('-') || word.contains([',', ' ', '\n']) {
            bail!("{word:?} is no package, no release and no mirror");
        }
    }
    let mut command = Command::new(PROGRAM);
    command.args(["--variant=minbase", "--format=tar"]);
    command.args(DPKG.map(|option| format!("--dpkgopt={option}")));
    if build.recipe == Recipe::Standard {
        command.arg(format!("--customize-hook={BROWSER}"));
    }
    let spawned = command
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
