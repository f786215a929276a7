//! Templates of Debian as the product builds them, and that what they promise runs in sandboxes that lie on them, without a
//! network. One that was built is taken again as long as its recipe is the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::run::{cargo, root, run};

/// Where the recipes stand: a template is built anew when a letter of it changes.
const RECIPES: &str = "crates/longhand/src/templates/debian.rs";
/// Templates lie on each other's probes: what `standard` has runs in it as well.
const BASE: &str = include_str!("template/base.sh");
const STANDARD: &str = include_str!("template/standard.sh");
/// What stands before each probe in these files: `#: what it shows`.
const PROBE: &str = "#: ";

/// Builds the template of that name, unless it is there, and tries it.
pub(crate) fn prove(name: &str) -> anyhow::Result<()> {
    let probes = match name {
        "base" => vec![BASE],
        "standard" => vec![BASE, STANDARD],
        _ => bail!("no such template: {name}; there are: base, standard"),
    };
    let probes: Vec<(&str, &str)> = probes.into_iter().flat_map(split).collect();
    let target = root().join("target");
    let home = target.join("tmp/templates");
    fs::create_dir_all(&home).context("target/tmp/templates")?;
    let longhand = binary(&target)?;
    built(&longhand, &home, name)?;
    let mut failed = Vec::new();
    for (what, script) in probes {
        let begun = Instant::now();
        let ran = Command::new(&longhand)
            .arg("--data-dir")
            .arg(&home)
            .args([
                "sandbox",
                "run",
                "--template",
                name,
                "--",
                "/bin/bash",
                "-euc",
                script,
            ])
            .output()
            .context("longhand")?;
        let seconds = begun.elapsed().as_secs_f32();
        let well = if ran.status.success() {
            "runs"
        } else {
            "FAILS"
        };
        println!("{well:<6} {seconds:>6.1} s  {what}");
        if !ran.status.success() {
            let said = [ran.stdout, ran.stderr].concat();
            failed.push(format!("{what}:\n{}", String::from_utf8_lossy(&said)));
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!(
        "in a sandbox on {name} this does not run:\n{}",
        failed.join("\n")
    )
}

/// The server's binary as the tests build it.
fn binary(target: &Path) -> anyhow::Result<PathBuf> {
    let built = target.join("debug/longhand");
    if !built.exists() {
        run(cargo(&["build", "--workspace", "--locked", "--bins"]))?;
    }
    Ok(built)
}

/// Has the template in `home`.
fn built(longhand: &Path, home: &Path, name: &str) -> anyhow::Result<()> {
    let recipe = fs::read(root().join(RECIPES)).context(RECIPES)?;
    let kept = home.join(format!("{name}.recipe"));
    if fs::read(&kept).is_ok_and(|former| former == recipe) {
        println!("the template {name} is there; its recipe is the same");
        return Ok(());
    }
    let begun = Instant::now();
    let mut build = Command::new(longhand);
    build
        .arg("--data-dir")
        .arg(home)
        .args(["template", "build", name]);
    // Nothing of it is kept when the machine stops: memory is faster, where there is much.
    let memory = Path::new("/dev/shm");
    if name == "base" && free_mib(memory) > 8 << 10 {
        build.env("TMPDIR", memory);
    }
    run(build)?;
    println!(
        "the template {name} was built in {:.0} s",
        begun.elapsed().as_secs_f32()
    );
    fs::write(kept, recipe).context("the recipe")
}

/// MiB that are free on a file system; 0 if nobody knows.
fn free_mib(dir: &Path) -> u64 {
    let said = Command::new("df")
        .args(["-m", "--output=avail"])
        .arg(dir)
        .output();
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    let line = said
        .ok()
        .and_then(|said| said.lines().nth(1)?.trim().parse().ok());
    line.unwrap_or(0)
}

/// The probes of a file: what each shows, and its script.
fn split(text: &'static str) -> Vec<(&'static str, &'static str)> {
    let probes = text.split(PROBE).skip(1);
    probes.filter_map(|probe| probe.split_once('\n')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_says_what_it_shows_and_has_a_script() {
        for file in [BASE, STANDARD] {
            let probes = split(file);
            assert!(probes.len() > 4);
            for (what, script) in probes {
                assert!(
                    !what.is_empty() && !script.trim().is_empty(),
                    "{what}: {script}"
                );
            }
        }
    }
}
