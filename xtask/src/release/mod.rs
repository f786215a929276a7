//! `cargo xtask release`: one static binary, what it is made of, an image layout, and a sum for each; and how
//! long a first start takes to its first event. Everything lies in `target/dist/`.

mod image;
mod sbom;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::run::{cargo, command, root, run, succeeds};

/// Static glibc: SQLite and the cryptography library are C, and a musl compiler for them is on few machines.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const FLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static";

/// Builds and checks a release.
pub(crate) fn all() -> anyhow::Result<()> {
    check_unit()?;
    let mut build = cargo(&[
        "build",
        "--release",
        "--locked",
        "-p",
        "longhand",
        "--target",
        TARGET,
    ]);
    build.env("RUSTFLAGS", FLAGS);
    run(build)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    let dist = target.join("dist");
    if dist.exists() {
        std::fs::remove_dir_all(&dist).context("the last release cannot be removed")?;
    }
    std::fs::create_dir_all(&dist)?;
    let binary = dist.join("longhand");
    std::fs::copy(target.join(TARGET).join("release/longhand"), &binary)?;
    ensure!(
        is_static(&std::fs::read(&binary)?),
        "the binary is not static"
    );
    for file in ["longhand.service", "longhand.sysusers"] {
        std::fs::copy(root().join("packaging").join(file), dist.join(file))
            .with_context(|| format!("packaging/{file}"))?;
    }
    let bill = sbom::of("longhand", TARGET)?;
    std::fs::write(dist.join("longhand.cdx.json"), format!("{bill:#}\n"))?;
    image::write(&binary, &dist.join("longhand.oci"))?;
    sums(&dist)?;
    measure(&binary)?;
    println!("{}", dist.display());
    Ok(())
}

/// Has systemd read the unit; without systemd-analyze it says so.
fn check_unit() -> anyhow::Result<()> {
    if !succeeds(command("systemd-analyze", &["--version"])) {
        eprintln!("note: packaging/longhand.service was not checked, systemd-analyze is not here");
        return Ok(());
    }
    let unit = std::fs::read_to_string(root().join("packaging/longhand.service"))?;
    // The binary is not installed here, and that is no fault of the unit.
    let unit = unit.replace("ExecStart=/usr/local/bin/longhand", "ExecStart=/bin/true");
    let home = std::env::temp_dir().join(format!("longhand-unit-{}", std::process::id()));
    std::fs::create_dir_all(&home)?;
    let path = home.join("longhand.service");
    std::fs::write(&path, unit)?;
    let output = command("systemd-analyze", &["verify", &path.to_string_lossy()]).output();
    std::fs::remove_dir_all(&home)?;
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && said.trim().is_empty(),
        "packaging/longhand.service: {said}"
    );
    Ok(())
}

/// Whether an ELF file asks for no dynamic loader: no program header of type PT_INTERP (elf(5)).
fn is_static(elf: &[u8]) -> bool {
    let short = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_le_bytes(elf.get(at..at + 4)?.try_into().ok()?));
    let headers = || {
        let first = usize::try_from(word(32)?).ok()?;
        let (size, count) = (usize::from(short(54)?), usize::from(short(56)?));
        (elf.get(..5)? == b"\x7fELF\x02").then_some((first, size, count))
    };
    const PT_INTERP: u32 = 3;
    headers().is_some_and(|(first, size, count)| {
        count > 0
            && (0..count).all(|n| word(first + n * size).is_some_and(|kind| kind != PT_INTERP))
    })
}

/// The SHA-256 of a file, by coreutils.
fn sha256(path: &Path) -> anyhow::Result<String> {
    let output = command("sha256sum", &["--binary", &path.to_string_lossy()]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let sum = text.split(' ').next().unwrap_or_default();
    ensure!(
        output.status.success() && sum.len() == 64,
        "sha256sum {}",
        path.display()
    );
    Ok(sum.to_owned())
}

fn sums(dist: &Path) -> anyhow::Result<()> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dist)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    let mut text = String::new();
    for name in names {
        text += &format!("{}  {name}\n", sha256(&dist.join(&name))?);
    }
    std::fs::write(dist.join("SHA256SUMS"), text)?;
    Ok(())
}

/// From the start of the process on an empty directory to the first event of the first session.
fn measure(binary: &Path) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut demo = command(&binary.to_string_lossy(), &["demo", "--json"]);
    let mut child = demo.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("its output is piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let first = lines.next().transpose()?;
    let took = begun.elapsed();
    let rest = lines.count();
    if !child.wait()?.success() || first.is_none() {
        bail!("the demo of the release failed; sandboxes need root (`longhand doctor`)");
    }
    let size = std::fs::metadata(binary)?.len();
    println!(
        "first start to first event: {} ms; whole demo of {} events: {} ms; binary: {:.1} MiB",
        took.as_millis(),
        rest + 1,
        begun.elapsed().as_millis(),
        size as f64 / f64::from(1 << 20)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_finds_no_fault_in_the_unit() {
        check_unit().unwrap();
    }

    #[test]
    fn a_binary_with_a_loader_is_not_static() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&own), "a test binary is linked dynamically");
        assert!(!is_static(b"#!/bin/sh"), "a script is no binary");
    }
}
