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
mod test;
mod tidy;

use anyhow::bail;

const HELP: &str = "\
cargo xtask <chore>

  test            everything that must pass: lint, Rust tests, both SDKs against the real server
  test --quick    Rust tests only
  lint            fmt, clippy, deny, tidy
  tidy            house rules: arrows, module docs, lengths
  sdk             the official SDKs against the real server
  drift           what the newest SDKs in the registries changed for the served routes
  sim             random histories of a session: --seeds N, --from K, --record, --faults, --table
  fuzz            malformed requests for every served route, from the OpenAPI document
  docs            the parts of documents that are made from the code
  release         static binary, sums, bill of materials and image layout in target/dist
  bench NAME      api | edge | fanout | idle | session | turn: figure, floor and ratio as JSON
";

fn main() -> anyhow::Result<()> {
    let args = std::env::args().skip(1).collect::<Vec<_>>();
    let words = args.iter().map(String::as_str).collect::<Vec<_>>();
    match words.as_slice() {
        ["test"] => test::all(),
        ["test", "--quick"] => test::rust(),
        ["lint"] => lint::all(),
        ["tidy"] => tidy::check(),
        ["sdk"] => sdk::all(),
        ["drift"] => drift::check(),
        ["fuzz"] => fuzz::all(),
        ["docs"] => docs::all(),
        ["release"] => release::all(),
        ["bench", name] => bench::run(name),
        ["sim", options @ ..] => sim::main(options),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("no such chore: {}\n\n{HELP}", args.join(" ")),
    }
}
