//! `cargo xtask sim`: the simulations of the session core and of the orchestrator over many seeds. It builds
//! and runs the examples of those crates, optimised and with every check, and knows no rule itself.

use anyhow::{Context, bail};

use crate::run::{cargo, command, root, run};

/// Optimised, with the checks of a debug build, and apart from both of their artefacts.
const PROFILE: [&str; 4] = [
    "profile.sim.inherits=\"release\"",
    "profile.sim.lto=false",
    "profile.sim.debug-assertions=true",
    "profile.sim.overflow-checks=true",
];

/// `--orchestrator` runs the orchestrator's, for `--seconds N` or `--seeds N --from K`, with `--replicas` among servers that
/// hear of one another, with `--programs` while programs in sandboxes use models too; else that of the core:
/// `--seeds N --from K` runs, with `--teams` in front only histories of teams; `--record` runs on from the last recorded seed and appends the result to
/// docs/benchmarks.md; `--faults` proves that planted faults are seen; `--table` writes the state table.
pub(crate) fn main(words: &[&str]) -> anyhow::Result<()> {
    match words {
        ["--table"] => run(example(&["--table".to_owned()])),
        ["--faults"] => faults(),
        ["--teams", rest @ ..] => {
            let rest = rest.iter().map(|word| (*word).to_owned());
            let args = std::iter::once("--teams".to_owned()).chain(rest);
            run(example(&args.collect::<Vec<_>>()))
        }
        ["--orchestrator", rest @ ..] => orchestrator(rest),
        _ => seeds(words),
    }
}

/// The real orchestrator in a world that is made up; as many seeds as fit a minute, unless it is told.
fn orchestrator(words: &[&str]) -> anyhow::Result<()> {
    let words = if words.is_empty() {
        &["--seconds", "60"]
    } else {
        words
    };
    let mut sim = cargo(&["run", "--quiet", "--profile", "sim"]);
    for line in PROFILE {
        sim.args(["--config", line]);
    }
    sim.args(["-p", "orchestrator", "--example", "sim_plane", "--"]);
    run({
        sim.args(words);
        sim
    })
}

fn seeds(words: &[&str]) -> anyhow::Result<()> {
    let record = words.contains(&"--record");
    let (mut seeds, mut from) = (30_000, None);
    let mut rest = words.iter().filter(|word| **word != "--record");
    while let Some(word) = rest.next() {
        let value = rest
            .next()
            .with_context(|| format!("{word} wants a number"))?;
        let value = value
            .parse::<u64>()
            .with_context(|| format!("{word} {value}"))?;
        match *word {
            "--seeds" => seeds = value,
            "--from" => from = Some(value),
            _ => bail!("no such option of sim: {word}"),
        }
    }
    let from = match from {
        Some(from) => from,
        None if record => recorded()?,
        None => 0,
    };
    let args = ["--seeds", &seeds.to_string(), "--from", &from.to_string()].map(str::to_owned);
    if !record {
        return run(example(&args));
    }
    let output = example(&args)
        .output()
        .context("cannot start the simulation")?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let figures = text.lines().rev().find(|line| line.starts_with("seeds "));
    let figures = figures.context("the simulation did not tell its figures")?;
    append(figures, output.status.success())?;
    if !output.status.success() {
        bail!("the simulation failed; the result is recorded");
    }
    Ok(())
}

fn example(args: &[String]) -> std::process::Command {
    let mut run = cargo(&["run", "--quiet", "--profile", "sim"]);
    for line in PROFILE {
        run.args(["--config", line]);
    }
    run.args(["-p", "session", "--example", "sim", "--"])
        .args(args);
    run
}

fn faults() -> anyhow::Result<()> {
    for of in ["session", "orchestrator"] {
        let tests = [
            "test",
            "-p",
            of,
            "--features",
            "faults",
            "--test",
            "it",
            "faulty",
        ];
        run(cargo(&tests))?;
    }
    Ok(())
}

const PAGE: &str = "docs/benchmarks.md";
const HEAD: &str = "\n## Simulated histories\n\nAppended by `cargo xtask sim --seeds N --record`, which goes on behind the last seed.\n\n| commit | seeds, steps, time | result |\n|---|---|---|\n";

/// The seed behind the last recorded one that was good.
fn recorded() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(root().join(PAGE))?;
    let rows = text
        .lines()
        .filter(|line| line.contains("| seeds ") && line.ends_with("| ok |"));
    let ends = rows.filter_map(|row| {
        let range = row.split("| seeds ").nth(1)?.split(',').next()?;
        range.split("..").nth(1)?.parse::<u64>().ok()
    });
    Ok(ends.max().unwrap_or(0))
}

fn append(figures: &str, good: bool) -> anyhow::Result<()> {
    let commit = commit()?;
    let path = root().join(PAGE);
    let mut text = std::fs::read_to_string(&path)?;
    if !text.contains(HEAD) {
        text.push_str(HEAD);
    }
    let rows = text.find(HEAD).map_or(text.len(), |at| at + HEAD.len());
    // Behind the last row, wherever on the page the table stands.
    let table = text[rows..]
        .lines()
        .take_while(|line| line.starts_with('|'));
    let end = rows + table.map(|line| line.len() + 1).sum::<usize>();
    let result = if good { "ok" } else { "failed" };
    text.insert_str(
        end.min(text.len()),
        &format!("| {commit} | {figures} | {result} |\n"),
    );
    std::fs::write(&path, text)?;
    Ok(())
}

/// The commit that last changed the core, and whether it has changed since.
fn commit() -> anyhow::Result<String> {
    let git = |words: &[&str]| -> anyhow::Result<String> {
        let output = command("git", words).output().context("cannot start git")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["log", "-1", "--format=%h", "--", "crates/session"])?;
    let changed = git(&["status", "--porcelain", "--", "crates/session"])?;
    let mark = if changed.is_empty() {
        ""
    } else {
        " and changes"
    };
    Ok(format!("{commit}{mark}"))
}
