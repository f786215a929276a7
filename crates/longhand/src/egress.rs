//! The egress process as a role of this binary, and what a server's configuration makes of it. Who is carried
//! for, and by what policy, is decided elsewhere.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use egress::host::{Carrier, Program, Settings};
use egress::intercept::Trust;
use egress::policy::{Policy, PolicyFile};
use orchestrator::network::Networks;
use store::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli;
use crate::config;
use crate::data_dir::DataDir;
use crate::signals::Signals;

/// Where it stands in the data directory.
const DIRECTORY: &str = "egress";
/// Records that are read at once.
const PAGE: u32 = 1_000;
/// How often to look for what was recorded meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The role: carries for the sandboxes of `dir` until it is told to end. It must be called before this process
/// has a second thread.
///
/// # Errors
/// It cannot run: sandboxes have no network then.
pub fn host(dir: PathBuf, ca_file: Option<&Path>, crl_file: Option<&Path>) -> anyhow::Result<()> {
    crate::serve::guard_memory()?;
    egress::host::renounce().context("the egress process cannot give up its privileges")?;
    let trust = trust(ca_file, crl_file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut signals = Signals::take()?;
        let settings = Settings {
            dir,
            clock: store::clock::now,
            resolver: dial::Resolver::new(dial::Mode::Exempt),
            trust,
            stop: stop.clone(),
        };
        let serving = egress::host::serve(settings);
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            served = &mut serving => return Ok(served?),
            () = signals.next() => stop.cancel(),
        }
        Ok(serving.await?)
    })
}

/// What servers are trusted by: the system's roots, and what the operator's files say.
fn trust(ca_file: Option<&Path>, crl_file: Option<&Path>) -> anyhow::Result<Trust> {
    let read = |path: Option<&Path>| {
        let read = path.map(|path| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        });
        read.transpose()
    };
    let (roots, revoked) = (read(ca_file)?, read(crl_file)?);
    Ok(Trust::system(roots.as_deref(), revoked.as_deref())?)
}

/// The networks of a server's sandboxes, if the configuration wants any: the egress process is started, or the
/// one that runs is taken over.
///
/// # Errors
/// A rule of the configuration is wrong; the text names it.
pub fn networks(
    settings: &config::Egress,
    data_dir: &DataDir,
    store: &Store,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> anyhow::Result<Option<Arc<Networks>>> {
    let operator = operator(settings)?;
    if !settings.enabled {
        return Ok(None);
    }
    // A file that is wrong is told here, where somebody reads it.
    trust(settings.ca_file.as_deref(), settings.crl_file.as_deref())
        .context("`egress.ca_file` and `egress.crl_file`")?;
    let dir = data_dir.directory(DIRECTORY)?;
    let path = std::env::current_exe().context("where this program is")?;
    let mut arguments = vec!["egress-host".into(), dir.clone().into()];
    for (option, file) in [
        ("--ca-file", &settings.ca_file),
        ("--crl-file", &settings.crl_file),
    ] {
        if let Some(file) = file {
            arguments.extend([option.into(), file.clone().into()]);
        }
    }
    let program = Program {
        arguments,
        dir,
        path,
    };
    let carrier = Carrier::start(program, tasks, stop.clone());
    let networks = Arc::new(Networks::new(carrier, store.clone(), operator));
    let kept = Arc::clone(&networks);
    tasks.spawn(async move { kept.keep(stop).await });
    Ok(Some(networks))
}

/// What the operator says of every sandbox, checked: rules that do not compile would deny everything later.
fn operator(settings: &config::Egress) -> anyhow::Result<PolicyFile> {
    let allow_private = crate::serve::nets(&settings.allow_private)?;
    let policy = PolicyFile {
        mode: settings.mode,
        networking: egress::policy::NetworkingFile::Nothing,
        attached: egress::policy::AttachedFile::default(),
        contract_ports: egress::policy::Ports::default(),
        allow_private,
        rules: settings.rules.clone(),
        sandbox_rules: Vec::new(),
    };
    Policy::compile(policy.clone().into()).context("`egress`")?;
    Ok(policy)
}

/// `longhand egress …`
///
/// # Errors
/// The files cannot be read, or a case is not as expected.
pub fn command(command: cli::Egress, data_dir: Option<&Path>) -> anyhow::Result<()> {
    match command {
        cli::Egress::Log { follow, after } => log(&audit(data_dir)?, after, follow),
        cli::Egress::Test { policy, cases } => {
            let read = |path: &Path| {
                let text = std::fs::read_to_string(path);
                text.with_context(|| format!("cannot read {}", path.display()))
            };
            let report = egress::policy::test_policy(&read(&policy)?, &read(&cases)?)?;
            writeln!(std::io::stdout(), "{report}")?;
            if report.passed() {
                Ok(())
            } else {
                bail!("the policy is not what the cases expect")
            }
        }
    }
}

/// `longhand audit verify`
///
/// # Errors
/// The chain is broken; the text says where.
pub fn verify(data_dir: Option<&Path>) -> anyhow::Result<()> {
    let path = audit(data_dir)?;
    let whole = egress::audit::verify(&path, None)?
        .with_context(|| format!("the audit {} is not whole", path.display()))?;
    let (records, head) = (whole.records, whole.head);
    writeln!(
        std::io::stdout(),
        "{records} records, the chain is whole; its head is {head}"
    )?;
    Ok(())
}

/// Prints what is behind `after`, and what comes if it is to go on.
fn log(path: &Path, mut after: u64, follow: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    loop {
        let (records, last) = egress::audit::read(path, after, PAGE)?;
        for (seq, record) in records {
            let mut line = serde_json::to_value(record)?;
            line["seq"] = seq.into();
            writeln!(out, "{line}")?;
        }
        match (last == after, follow) {
            (true, false) => return Ok(()),
            (true, true) => std::thread::sleep(LOOK_AGAIN),
            (false, _) => after = last,
        }
    }
}

/// Where the audit is.
fn audit(data_dir: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = DataDir::open(data_dir)?
        .join(DIRECTORY)
        .join(egress::host::AUDIT);
    if path.exists() {
        return Ok(path);
    }
    bail!(
        "there is no audit at {}: it begins when a server with `egress.enabled = true` has started",
        path.display()
    )
}
