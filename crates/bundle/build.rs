//! Builds the static helper in a target directory of its own and names the file for `include_bytes!`.
//!
//! Its own directory, because a nested cargo that shares its parent's waits for it for ever; not
//! OUT_DIR, because clippy has another one and would build everything twice.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type Result<T> = std::result::Result<T, String>;

/// What must not leak from the outer cargo into the inner one.
const STRIPPED: [&str; 8] = [
    "CARGO_",
    "RUSTC",
    "RUSTDOC",
    "RUSTFLAGS",
    "DEP_",
    "TARGET",
    "OUT_DIR",
    "CLIPPY",
];
/// What the inner cargo needs all the same: its registry and the job server.
const KEPT: [&str; 2] = ["CARGO_HOME", "CARGO_MAKEFLAGS"];

fn main() {
    if let Err(problem) = embed() {
        println!("cargo::error={problem}");
    }
}

fn embed() -> Result<()> {
    println!("cargo::rerun-if-env-changed=LONGHAND_HAND_BIN");
    println!("cargo::rerun-if-changed=build.rs");
    let (binary, target) = match env::var_os("LONGHAND_HAND_BIN") {
        Some(given) => (PathBuf::from(given), "external".to_owned()),
        None => build()?,
    };
    println!("cargo::rerun-if-changed={}", binary.display());
    let bytes = fs::read(&binary).map_err(|error| format!("read {}: {error}", binary.display()))?;
    // A copy of our own: the original may be rebuilt between this script and the compiler's look.
    let copy = PathBuf::from(variable("OUT_DIR")?).join("helper");
    fs::write(&copy, &bytes).map_err(|error| format!("write {}: {error}", copy.display()))?;
    println!("cargo::rustc-env=HAND_BIN={}", copy.display());
    println!("cargo::rustc-env=HAND_DIGEST={:016x}", fnv(&bytes));
    println!("cargo::rustc-env=HAND_TARGET={target}");
    Ok(())
}

fn build() -> Result<(PathBuf, String)> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../..");
    let root = root
        .canonicalize()
        .map_err(|error| format!("find the workspace: {error}"))?;
    for source in ["sys", "jail", "hand", "helper"] {
        println!(
            "cargo::rerun-if-changed={}",
            root.join("crates").join(source).display()
        );
    }
    println!(
        "cargo::rerun-if-changed={}",
        root.join("Cargo.lock").display()
    );
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let musl = format!("{arch}-unknown-linux-musl");
    let (target, flags) = if has_std(&musl)? {
        (musl, "-C target-feature=+crt-static")
    } else {
        let gnu = format!("{arch}-unknown-linux-gnu");
        println!("cargo::warning=no std for {musl}; the helper is built with static glibc");
        (
            gnu,
            "-C target-feature=+crt-static -C relocation-model=static",
        )
    };
    let directory = target_directory(&root)?.join("hand");
    cargo(&root, &directory, &target, flags)?;
    Ok((directory.join(&target).join("hand/helper"), target))
}

/// The outer target directory: where OUT_DIR lies, whatever set it.
fn target_directory(root: &Path) -> Result<PathBuf> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let tagged = out
        .ancestors()
        .find(|path| path.join("CACHEDIR.TAG").exists());
    Ok(tagged.map_or_else(|| root.join("target"), Path::to_owned))
}

fn has_std(target: &str) -> Result<bool> {
    let rustc = variable("RUSTC")?;
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .output();
    let output = output.map_err(|error| format!("ask rustc for its directories: {error}"))?;
    let directory = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(false);
    };
    Ok(entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
}

fn cargo(root: &Path, directory: &Path, target: &str, flags: &str) -> Result<()> {
    let mut command = Command::new(variable("CARGO")?);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let stripped = STRIPPED.iter().any(|prefix| text.starts_with(prefix));
        if stripped && !KEPT.contains(&&*text) {
            command.env_remove(&name);
        }
    }
    command
        .current_dir(root)
        .env("RUSTFLAGS", flags)
        .env("CARGO_BUILD_BUILD_DIR", directory)
        .args([
            "build",
            "--package",
            "helper",
            "--profile",
            "hand",
            "--locked",
            "--target",
            target,
        ])
        .args([
            OsString::from("--target-dir"),
            directory.as_os_str().to_owned(),
        ]);
    let output = command
        .output()
        .map_err(|error| format!("start the inner cargo: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    let last = lines[lines.len().saturating_sub(40)..].join(" | ");
    Err(format!("building the helper failed: {last}"))
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn variable(name: &str) -> Result<String> {
    let value = env::var_os(name).ok_or_else(|| format!("{name} is not set"))?;
    value
        .into_string()
        .map_err(|_| format!("{name} is not UTF-8"))
}
