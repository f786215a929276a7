//! The egress process as a role of this binary, and what a server's configuration makes of it. Who is carried
//! for, and by what policy, is decided elsewhere.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use egress::audit::{Audit, Control, Options, Stage};
use egress::host::{Carrier, Keep, Program, Settings};
use egress::intercept::Trust;
use egress::policy::{Policy, PolicyFile};
use model::Dialect;
use orchestrator::network::{Networks, Operator};
use serde_json::Value;
use store::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vault::Vault;
use vault::refresh::Refresher;

use crate::client::Client;
use crate::data_dir::DataDir;
use crate::signals::Signals;
use crate::{cli, config, egress_credentials, view};

/// Where it stands in the data directory.
const DIRECTORY: &str = "egress";
/// Records that are read at once.
const PAGE: u32 = 1_000;
/// How long to wait before a stream that broke is taken up again.
const COME_AGAIN: Duration = Duration::from_millis(200);
/// Where actions are recorded, in the data directory, and in which file.
const CONTROL_DIRECTORY: &str = "audit";
const CONTROL: &str = "control.db";

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
/// one that runs is taken over. The rules that are in force from now on are recorded.
///
/// # Errors
/// A rule of the configuration is wrong; the text names it. They cannot be recorded.
pub async fn networks(
    settings: &config::Egress,
    data_dir: &DataDir,
    (store, vault, refresher, audit): (&Store, &Arc<Vault>, &Refresher, &Audit),
    model: Option<Dialect>,
    (tasks, stop): (&TaskTracker, CancellationToken),
) -> anyhow::Result<Option<Arc<Networks>>> {
    let operator = operator(settings)?;
    let credentials = egress_credentials::read(&settings.credentials)?;
    if !settings.enabled {
        return Ok(None);
    }
    // A file that is wrong is told here, where somebody reads it.
    trust(settings.ca_file.as_deref(), settings.crl_file.as_deref())
        .context("`egress.ca_file` and `egress.crl_file`")?;
    let rules = Control {
        at: store::clock::now(),
        stage: Stage::Done,
        what: "start".to_owned(),
        target: format!("egress rules sha256:{}", operator.digest()),
        request: None,
        key: None,
        workspace: None,
        status: None,
    };
    audit.note(rules).await.context("the audit of actions")?;
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
    let (carrier, refused) = Carrier::start(program, tasks, stop.clone());
    let (keeper, keep) = (carrier.clone(), keep(&settings.audit));
    tasks.spawn(async move {
        // Without an answer it holds as soon as there is a process.
        let _ = keeper.keep(keep).await;
    });
    let operator = Operator {
        policy: operator,
        cleartext_credentials: settings.cleartext_credentials,
        credentials,
        model,
    };
    let networks = Networks::new(
        carrier,
        store.clone(),
        (Arc::clone(vault), refresher.clone()),
        operator,
    );
    let networks = Arc::new(networks);
    let kept = Arc::clone(&networks);
    tasks.spawn(async move { kept.keep(refused, stop).await });
    Ok(Some(networks))
}

fn keep(settings: &config::EgressAudit) -> Keep {
    Keep {
        days: Some(settings.days).filter(|days| *days > 0),
        bytes: Some(settings.max_mib)
            .filter(|mib| *mib > 0)
            .map(|mib| mib.saturating_mul(1 << 20)),
    }
}

/// The audit of actions on keys, policies and credentials.
///
/// # Errors
/// It cannot be opened: nothing of that may be done then.
pub fn control_audit(data_dir: &DataDir) -> anyhow::Result<Audit> {
    let path = data_dir.directory(CONTROL_DIRECTORY)?.join(CONTROL);
    Audit::open(&path, Options::default())
        .with_context(|| format!("cannot open the audit {}", path.display()))
}

/// What an egress process has written, if there ever was one.
#[must_use]
pub fn left(data_dir: &DataDir) -> Option<gateway::Egress> {
    let path = data_dir.join(DIRECTORY).join(egress::host::AUDIT);
    path.exists().then_some(gateway::Egress::Left(path))
}

/// Whether sandboxes of this host can have a network. Where they cannot, they have none, and agents are told so.
pub async fn can_be_had(provider: &sandbox::Local) -> bool {
    match provider.try_network().await {
        Ok(steering) => {
            tracing::info!(?steering, "sandboxes have a network");
            true
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "sandboxes have no network on this host; `egress.enabled = false` says that it is meant so"
            );
            false
        }
    }
}

/// What the operator says of every sandbox, checked: rules that do not compile would deny everything later.
fn operator(settings: &config::Egress) -> anyhow::Result<PolicyFile> {
    let allow_private = nets(&settings.allow_private)?;
    let policy = PolicyFile {
        mode: settings.mode,
        networking: egress::policy::NetworkingFile::Nothing,
        attached: egress::policy::AttachedFile::default(),
        contract_ports: egress::policy::Ports::default(),
        allow_private,
        dns_deny: settings.dns_deny,
        rules: settings.rules.clone(),
        sandbox_rules: Vec::new(),
    };
    Policy::compile(policy.clone().into()).context("`egress`")?;
    Ok(policy)
}

/// `longhand egress log`, `explain` and `rules`.
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn ask(command: cli::Egress, client: &Client) -> anyhow::Result<()> {
    match command {
        cli::Egress::Log(log) => self::log(&log, client).await,
        cli::Egress::Explain {
            sandbox,
            target,
            method,
            output,
        } => {
            let id = sandbox::SandboxId::new(sandbox)?;
            let query = form([("url", Some(&target)), ("method", Some(&method))]);
            let path = format!("/v1/x/sandboxes/{id}/egress/explain?{query}");
            Ok(view::object(&client.get(&path).await?, output.json)?)
        }
        cli::Egress::Rules {
            sandbox,
            set,
            output,
        } => {
            let id = sandbox::SandboxId::new(sandbox)?;
            let path = format!("/v1/x/sandboxes/{id}/egress/rules");
            let rules = match set {
                None => client.get(&path).await?,
                Some(file) => client.post(&path, Some(&rules(&file)?)).await?,
            };
            Ok(view::object(&rules, output.json)?)
        }
        cli::Egress::Test { .. } => Ok(()),
    }
}

/// The rules of a file, as the server takes them. It says what is wrong with them.
fn rules(file: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let mut table: toml::Table =
        toml::from_str(&text).with_context(|| format!("{} is no TOML", file.display()))?;
    let rules = table.remove("rules");
    if let Some(other) = table.keys().next() {
        bail!(
            "{} has {other:?}; it may have only `[[rules]]`",
            file.display()
        );
    }
    let rules = rules.unwrap_or_else(|| toml::Value::Array(Vec::new()));
    Ok(serde_json::json!({"rules": rules}))
}

/// `longhand egress test`
///
/// # Errors
/// The files cannot be read, or a case is not as expected.
pub fn test(policy: &Path, cases: &Path) -> anyhow::Result<()> {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path);
        text.with_context(|| format!("cannot read {}", path.display()))
    };
    let report = egress::policy::test_policy(&read(policy)?, &read(cases)?)?;
    writeln!(std::io::stdout(), "{report}")?;
    if report.passed() {
        return Ok(());
    }
    bail!("the policy is not what the cases expect")
}

/// Prints what is behind `after`, and what comes if it is to go on.
async fn log(asked: &cli::EgressLog, client: &Client) -> anyhow::Result<()> {
    let filter = form([
        ("sandbox_id", asked.sandbox.as_ref()),
        ("session_id", asked.session.as_ref()),
        ("host", asked.host.as_ref()),
        ("action", asked.action.as_ref()),
        ("since", asked.since.as_ref()),
        ("until", asked.until.as_ref()),
    ]);
    let as_json = asked.output.json || !view::is_terminal();
    if asked.follow {
        return follow(asked.after, &filter, as_json, client).await;
    }
    let path = format!(
        "/v1/x/egress_audit?order=asc&limit={PAGE}&after={}&{filter}",
        asked.after
    );
    let mut page = client.get(&path).await?;
    loop {
        for record in page["data"].as_array().into_iter().flatten() {
            print(record, as_json)?;
        }
        let Some(next) = page["next_page"].as_str() else {
            return Ok(());
        };
        page = client.get(&format!("{path}&page={next}")).await?;
    }
}

/// Prints what comes behind a place until somebody ends it. When the egress process is another one, the stream
/// breaks and is taken up again where it was.
async fn follow(after: u64, filter: &str, as_json: bool, client: &Client) -> anyhow::Result<()> {
    let path = format!("/v1/x/egress_audit/stream?after={after}&{filter}");
    let mut last: Option<String> = None;
    loop {
        let mut stream = client.stream_of(&path, last.as_deref()).await?;
        while let Ok(Some(record)) = stream.next().await {
            print(&record, as_json)?;
            last = record["seq"].as_u64().map(|seq| seq.to_string());
        }
        tokio::time::sleep(COME_AGAIN).await;
    }
}

fn print(record: &Value, as_json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{record}")?;
    } else {
        let text = |field: &str| record[field].as_str().unwrap_or("-");
        writeln!(
            out,
            "{}  {:<8}  {:<4}  {}  {}",
            text("at"),
            text("action"),
            text("protocol"),
            text("sandbox_id"),
            text("reason")
        )?;
    }
    Ok(out.flush()?)
}

/// A query string of what is there.
fn form<const N: usize>(pairs: [(&str, Option<&String>); N]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    query.finish()
}

/// `longhand audit verify`
///
/// # Errors
/// A chain is broken; the text says where.
pub fn verify(data_dir: &DataDir) -> anyhow::Result<()> {
    let chains = [
        (
            "what sandboxes reached",
            data_dir.join(DIRECTORY).join(egress::host::AUDIT),
        ),
        (
            "actions on keys, policies and credentials",
            data_dir.join(CONTROL_DIRECTORY).join(CONTROL),
        ),
    ];
    let mut out = std::io::stdout().lock();
    for (what, path) in chains {
        if !path.exists() {
            writeln!(out, "{what}: nothing was recorded yet")?;
            continue;
        }
        let whole = egress::audit::verify(&path, None)?
            .with_context(|| format!("the audit {} is not whole", path.display()))?;
        let (records, head) = (whole.records, whole.head);
        writeln!(
            out,
            "{what}: {records} records, the chain is whole; its head is {head}"
        )?;
    }
    Ok(())
}

/// `longhand audit log`
///
/// # Errors
/// The audit cannot be read.
pub fn actions(data_dir: &DataDir, mut after: u64) -> anyhow::Result<()> {
    let path = data_dir.join(CONTROL_DIRECTORY).join(CONTROL);
    if !path.exists() {
        bail!(
            "there is no audit at {}: it begins with the first start",
            path.display()
        );
    }
    let mut out = std::io::stdout().lock();
    loop {
        let (found, last) = egress::audit::read_control(&path, after, PAGE)?;
        for (seq, one) in found {
            let mut line = serde_json::to_value(one)?;
            line["seq"] = seq.into();
            writeln!(out, "{line}")?;
        }
        if last == after {
            return Ok(());
        }
        after = last;
    }
}

/// Ranges of `egress.allow_private`.
///
/// # Errors
/// One that is no range.
pub fn nets(lifted: &[String]) -> anyhow::Result<Vec<dial::Net>> {
    let nets = lifted.iter().map(|net| net.parse::<dial::Net>());
    nets.collect::<Result<_, _>>()
        .context("`egress.allow_private`")
}
