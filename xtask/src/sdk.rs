//! The official SDKs against the real server: Python in virtual environments, TypeScript from npm, all
//! pinned and installed on first use. The newest versions run every test; older ones run what is said of
//! their generation.

use std::path::Path;

use anyhow::Context as _;

use crate::run::{cargo, command, root, run};

/// Versions of the Python SDK that stand for older clients: the first that knows sessions, and the last that
/// sends `anthropic-version: 2023-06-01`.
const OLDER_PYTHON: [&str; 2] = ["0.96.0", "1.17.0"];

/// The same for TypeScript, by the names that `package.json` gives them.
const OLDER_TYPESCRIPT: [&str; 2] = ["sdk-0.96", "sdk-0.137"];

/// What the newest Python SDK also runs with the database on a PostgreSQL server: sessions, streams, and what is there
/// after a kill.
const ON_POSTGRES: [&str; 3] = [
    "sdk-tests/python/test_sessions.py",
    "sdk-tests/python/test_streams.py",
    "sdk-tests/python/test_durability.py",
];

/// Where the tests in TypeScript and their packages are.
const TYPESCRIPT: &str = "sdk-tests/typescript";

/// Both languages, every generation; then whatever else may be sent.
pub(crate) fn all() -> anyhow::Result<()> {
    build()?;
    python()?;
    typescript()?;
    crate::fuzz::all()
}

/// Three servers on one database, loaded by both SDKs for so many seconds while they are killed, frozen and cut off.
pub(crate) fn replicas(seconds: u64) -> anyhow::Result<()> {
    let loaders = loaders()?;
    let mut test = cargo(&["test", "--locked", "-p", "longhand", "--test", "it"]);
    test.args(["--", "--exact", "--nocapture", TORMENTED])
        .env("TESTKIT_REPLICA_SECONDS", seconds.to_string())
        .env(LOADERS, loaders);
    run(test)
}

/// What [`TORMENTED`] and whatever runs it beside others takes the programs from that load the servers as well.
pub(crate) const LOADERS: &str = "TESTKIT_LOADERS";

/// A program of each SDK that loads servers, and what it needs installed.
pub(crate) fn loaders() -> anyhow::Result<String> {
    let python = prepare()?;
    // Paths are taken from where the tests run: their crate.
    let root = root();
    let programs = root.join("sdk-tests");
    Ok(format!(
        "{python} {}/python/load.py;node {}/load.mjs",
        programs.display(),
        root.join(TYPESCRIPT).display()
    ))
}

const TORMENTED: &str = "replicas::nothing_is_lost_while_servers_are_killed_frozen_and_cut_off_and_the_database_restarts";

/// What the tests start.
fn build() -> anyhow::Result<()> {
    run(cargo(&[
        "build", "--locked", "-p", "longhand", "-p", "scripted", "--bins",
    ]))?;
    shapes()
}

/// The program that prints what the server reads and writes.
pub(crate) fn shapes() -> anyhow::Result<()> {
    run(cargo(&[
        "build",
        "--locked",
        "-p",
        "contract",
        "--example",
        "shapes",
    ]))
}

/// Installs the pinned SDKs of both languages and gives the Python that has one.
pub(crate) fn prepare() -> anyhow::Result<String> {
    packages()?;
    environment("target/sdk-python", "requirements.txt")
}

fn python() -> anyhow::Result<()> {
    let newest = prepare()?;
    sources(&newest)?;
    run(command(
        &newest,
        &["-m", "pytest", "-q", "sdk-tests/python"],
    ))?;
    let mut on_a_server = command(&newest, &["-m", "pytest", "-q"]);
    on_a_server
        .args(ON_POSTGRES)
        .env("SDK_TESTS_DATABASE", "postgres");
    run(on_a_server)?;
    for version in OLDER_PYTHON {
        let folder = format!("target/sdk/python-{version}");
        let older = environment(&folder, &format!("generations/{version}.txt"))?;
        let tests = "sdk-tests/python/test_generations.py";
        run(command(&older, &["-m", "pytest", "-q", tests]))?;
    }
    Ok(())
}

/// What names the newest SDK's source distribution, by version and hash, and where it is kept.
const SOURCES: &str = "sdk-tests/python/sources.txt";
const KEPT: &str = "target/sdk/sources";

/// Fetches the source distribution, which has the SDK's examples, unless it is there.
fn sources(python: &str) -> anyhow::Result<()> {
    let named = std::fs::read_to_string(root().join(SOURCES))?;
    let version = named
        .lines()
        .find_map(|line| line.strip_prefix("anthropic==")?.split(' ').next());
    let version = version.with_context(|| format!("{SOURCES} names no version"))?;
    if root()
        .join(format!("{KEPT}/anthropic-{version}.tar.gz"))
        .exists()
    {
        return Ok(());
    }
    let fetch = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary=:all:",
    ];
    let (from, to) = (format!("--requirement={SOURCES}"), format!("--dest={KEPT}"));
    run(command(python, &[&fetch[..], &[&from, &to]].concat()))
}

/// The Python of a virtual environment that has what a file of requirements asks for.
fn environment(folder: &str, requirements: &str) -> anyhow::Result<String> {
    let venv = root().join(folder);
    let python = venv.join("bin/python");
    if !python.exists() {
        run(command("python3", &["-m", "venv", &venv.to_string_lossy()]))?;
    }
    let python = python.to_string_lossy().into_owned();
    let requirements = format!("sdk-tests/python/{requirements}");
    run(command(
        &python,
        &["-m", "pip", "install", "--quiet", "-r", &requirements],
    ))?;
    Ok(python)
}

fn typescript() -> anyhow::Result<()> {
    run(command(
        "npm",
        &["--prefix", TYPESCRIPT, "test", "--silent"],
    ))?;
    for name in OLDER_TYPESCRIPT {
        let tests = "sdk-tests/typescript/tests/generations.test.mjs";
        let mut older = command("node", &["--test", "--test-timeout=180000", tests]);
        older.env("LONGHAND_TYPESCRIPT_SDK", name);
        run(older)?;
    }
    Ok(())
}

/// Installs what the tests in TypeScript need, and the compiler that reads the SDK's declarations.
fn packages() -> anyhow::Result<()> {
    if installed(&root().join(TYPESCRIPT)) {
        return Ok(());
    }
    run(command(
        "npm",
        &["--prefix", TYPESCRIPT, "ci", "--no-audit", "--no-fund"],
    ))
}

/// Whether npm's record of what it installed is younger than what the lock file asks for.
fn installed(home: &Path) -> bool {
    let modified = |path: &str| home.join(path).metadata().and_then(|it| it.modified()).ok();
    match (
        modified("node_modules/.package-lock.json"),
        modified("package-lock.json"),
    ) {
        (Some(done), Some(asked)) => done >= asked,
        _ => false,
    }
}
