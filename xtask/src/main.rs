//! Developer chores: `cargo xtask <chore>`. Plain and quick to compile: it runs other programs and reads
//! files, and never links a crate of the product.
#![forbid(unsafe_code)]

mod bench;
mod docs;
mod drift;
mod fuzz;
mod lint;
mod release;
mod run;
mod sdk;
mod sim;
mod template;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::{Context as _, bail};

/// Each chore and what it does, as `cargo xtask --help` lists them; further lines are for its own `--help`.
const CHORES: [(&str, &str); 13] = [
    (
        "test",
        "everything that must pass: lint, Rust tests, a template, both SDKs against the real server\n\
         --quick    the Rust tests only",
    ),
    ("lint", "fmt, clippy, deny, tidy"),
    ("tidy", "house rules: arrows, module docs, lengths"),
    ("sdk", "the official SDKs against the real server"),
    (
        "replicas",
        "three servers on one PostgreSQL database under load from both SDKs, killed, frozen and cut off\n\
         SECONDS    for so long (600)",
    ),
    (
        "drift",
        "what the newest SDKs in the registries changed for the served routes",
    ),
    (
        "sim",
        "random histories of a session\n\
         --seeds N --from K    so many, from that one on\n\
         --record              go on behind the last recorded seed and write the result to docs/benchmarks.md\n\
         --faults              planted faults must be seen\n\
         --table               write the state table of docs/session.md\n\
         --orchestrator        the orchestrator's instead: --seconds N, or --seeds N --from K\n\
         --orchestrator --replicas ...    the same among servers that hear of one another",
    ),
    (
        "fuzz",
        "malformed requests for every served route, from the OpenAPI document",
    ),
    ("docs", "the parts of documents that are made from the code"),
    (
        "release",
        "static binary, sums, bill of materials and image layout in target/dist",
    ),
    (
        "bench",
        "NAME: figure, floor and ratio as JSON\n\
         api        creates and sends a second\n\
         edge       half-open connections, and memory after a load\n\
         egress     what judged and recorded traffic costs, beside others that stand between\n\
         fanout     many subscribers, many streams\n\
         harness    claude in a sandbox, beside the program by itself\n\
         idle       many sessions that do nothing\n\
         scale      PostgreSQL with one, two and three servers beside a file, and a million idle sessions\n\
         sandbox    creating, using and removing sandboxes, beside others that isolate\n\
         session    long sessions, many at once, interrupts, a restart\n\
         turn       what a turn costs beyond its model and tools",
    ),
    (
        "template",
        "NAME: builds that template of Debian, unless it is there, and runs in sandboxes on it what it promises\n\
         base       compilers, Python, Node and tools: a part of `test`\n\
         standard   what the hosted sandbox has, as far as Debian has it: gigabytes, and many minutes",
    ),
    ("help", "this"),
];

fn main() -> ExitCode {
    let args = std::env::args().skip(1).collect::<Vec<_>>();
    let words = args.iter().map(String::as_str).collect::<Vec<_>>();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        // For a person who mistyped or whose test failed: where in here it was noticed helps nobody.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> anyhow::Result<()> {
    match words {
        [] | ["help" | "--help" | "-h"] => {
            print!("{}", help());
            Ok(())
        }
        [chore, .., "--help" | "-h"] | ["help", chore] => {
            print!("{}", usage(chore)?);
            Ok(())
        }
        ["test"] => test::all(),
        ["test", "--quick"] => test::rust(),
        ["lint"] => lint::all(),
        ["tidy"] => tidy::check(),
        ["sdk"] => sdk::all(),
        ["replicas"] => sdk::replicas(600),
        ["replicas", seconds] => sdk::replicas(seconds.parse().context("SECONDS is a number")?),
        ["drift"] => drift::check(),
        ["fuzz"] => fuzz::all(),
        ["docs"] => docs::all(),
        ["release"] => release::all(),
        ["bench", name] => bench::run(name),
        ["template", name] => template::prove(name),
        ["sim", options @ ..] => sim::main(options),
        [chore, ..] => {
            usage(chore)?;
            bail!("`{}`: see `cargo xtask {chore} --help`", words.join(" "))
        }
    }
}

/// All chores, a line each.
fn help() -> String {
    let lines = CHORES.map(|(chore, what)| {
        let first = what.lines().next().unwrap_or_default();
        format!("  {chore:<10}{first}\n")
    });
    format!(
        "cargo xtask CHORE; cargo xtask CHORE --help\n\n{}",
        lines.concat()
    )
}

/// One chore and what it takes.
fn usage(chore: &str) -> anyhow::Result<String> {
    let Some((_, what)) = CHORES.iter().find(|(name, _)| *name == chore) else {
        let names = CHORES.map(|(name, _)| name).join(", ");
        bail!("no such chore: {chore}; there are: {names}");
    };
    let what = what.replace('\n', "\n  ");
    Ok(format!("cargo xtask {chore}: {what}\n"))
}

#[cfg(test)]
mod tests {
    use super::{CHORES, run, usage};

    #[test]
    fn every_chore_tells_its_usage_and_an_unknown_one_is_refused_in_one_line() {
        for (chore, _) in CHORES {
            run(&[chore, "--help"]).unwrap();
        }
        for words in [
            &["bemch"][..],
            &["bemch", "--help"],
            &["bench"],
            &["bench", "a", "b"],
        ] {
            let refused = run(words).unwrap_err().to_string();
            assert_eq!(refused.lines().count(), 1, "{refused}");
        }
        assert!(usage("bench").unwrap().contains("fanout"));
    }
}
