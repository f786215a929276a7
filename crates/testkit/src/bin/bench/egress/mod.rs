//! What it costs that traffic goes through the egress process, judged and recorded: the real one, from inside real
//! sandboxes, beside the server without anything between, plain pairs of sockets, HAProxy and mitmproxy on the
//! same work. All of it stands in a network namespace that leads nowhere.
//!
//! `TESTKIT_BENCH_ONLY` names the parts to run (`decide,vaults,ways,cpu,inject,set_up,memory`), each of which takes less than a
//! minute.

pub(crate) mod client;
mod contenders;
mod cpu;
mod crowd;
mod decide;
pub(crate) mod inject;
mod relays;
mod server;
mod share;
mod vaults;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use egress::host::{Carrier, Program};
use egress::policy::PolicyFile;
use sandbox::{Command, Ends, Error, Network, Sandbox, SandboxId};
use serde_json::{Value, json};
use testkit::setting;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::server::{HAPROXY, KERNEL, LOOP, MITMPROXY, PAIR, PLAIN, SERVER, TLS};
use crate::Wrong;
use crate::numbers::{median, rounded};
use crate::sandbox::Ground;

/// Rounds, unless `TESTKIT_BENCH_ROUNDS` says otherwise; in each every way is measured once.
const ROUNDS: u64 = 7;
/// Rounds of a contender that is much slower.
const OF_THE_SLOW: u64 = 3;
/// The most that one measurement may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the measuring program and the root lie in a sandbox.
const INSIDE: &str = "/workspace/bench";
const ROOT_INSIDE: &str = "/workspace/root.pem";

/// Moves this process into a network of its own that leads nowhere. It must have one thread.
pub(crate) fn alone() -> Result<(), Wrong> {
    sys::new_network()?;
    sys::loopback_up()?;
    for address in [SERVER, PAIR, LOOP, KERNEL, HAPROXY, MITMPROXY] {
        ip(&["addr", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    for routes in [&["route"][..], &["-6", "route", "show", "default"]] {
        let routes = ip(routes)?;
        if !routes.is_empty() {
            return Err(format!("something leads out of here: {routes}").into());
        }
    }
    Ok(())
}

fn ip(words: &[&str]) -> Result<String, Wrong> {
    let ran = std::process::Command::new("ip").args(words).output()?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        return Err(format!("ip {}: {said}", words.join(" ")).into());
    }
    Ok(String::from_utf8(ran.stdout)?)
}

/// Sandboxes, and an egress process that carries for them.
struct Egress {
    ground: Ground,
    carrier: Carrier,
    dir: tempfile::TempDir,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Egress {
    fn new(root: &Path) -> Result<Self, Wrong> {
        let dir = tempfile::tempdir()?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let program = Program {
            dir: dir.path().to_owned(),
            path: setting::binary().ok_or("LONGHAND_BIN names no server")?,
            arguments: vec![
                "egress-host".into(),
                dir.path().into(),
                "--ca-file".into(),
                root.into(),
            ],
        };
        let (carrier, _) = Carrier::start(program, &tasks, stop.clone());
        let network = Arc::new(Carried {
            carrier: carrier.clone(),
            policy: policy(&json!([]))?,
            trusted: true,
        });
        let ground = Ground::with(|config| config.network = Some(network))?;
        Ok(Self {
            ground,
            carrier,
            dir,
            stop,
            tasks,
        })
    }

    /// The egress process.
    fn process(&self) -> Result<i32, Wrong> {
        let dir = self.dir.path().to_string_lossy();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            if line.contains("egress-host") && line.contains(&*dir) {
                return Ok(pid);
            }
        }
        Err("there is no egress process".into())
    }

    async fn end(self) {
        self.ground.local.shutdown().await;
        self.carrier.end().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Has an egress process carry, with its certificates trusted from the start if that is wanted.
#[derive(Debug)]
struct Carried {
    carrier: Carrier,
    policy: PolicyFile,
    trusted: bool,
}

#[async_trait]
impl Network for Carried {
    async fn attach(&self, id: &SandboxId, ends: Ends) -> Result<(), Error> {
        let trusting = ends.trusting;
        let ends = [ends.pid_one, ends.tcp, ends.dns, ends.line];
        let attached = self.carrier.attach(id.as_str(), None, ends, &self.policy);
        // Without a network or a certificate the first request fails, and the benchmark with it.
        if attached.await.is_ok()
            && self.trusted
            && let Ok(certificate) = self.carrier.certificate(id.as_str()).await
        {
            trusting.trust(&certificate).await?;
        }
        Ok(())
    }

    fn gone(&self, id: &SandboxId) {
        self.carrier.gone(id.as_str());
    }
}

/// All is allowed, the server too, by those rules.
fn policy(rules: &Value) -> Result<PolicyFile, Wrong> {
    let file = json!({
        "networking": {"type": "unrestricted"}, "allow_private": ["198.51.100.0/24"], "rules": rules,
    });
    Ok(serde_json::from_value(file)?)
}

/// Runs the benchmark.
pub(crate) async fn run() -> Result<Value, Wrong> {
    let mut figures = json!({"bench": "egress"});
    let mut measured = |part: &str, figure: Value| {
        eprintln!("{part}: {figure:#}");
        figures[part] = figure;
    };
    if setting::is_asked_for("decide") {
        measured("decide", decide::run()?);
    }
    if setting::is_asked_for("vaults") {
        measured("vaults", vaults::run().await?);
    }
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("root.pem");
    server::start(&root)?;
    let egress = Egress::new(&root)?;
    if setting::is_asked_for("ways") {
        measured("ways", ways(&egress, dir.path(), &root).await?);
    }
    if setting::is_asked_for("cpu") {
        let cpu = cpu::per_gib(&egress, dir.path(), &root).await?;
        measured("proxy_cpu_seconds_per_gib", cpu);
    }
    if setting::is_asked_for("inject") {
        measured("inject", inject::run(&egress, &root).await?);
    }
    if setting::is_asked_for("set_up") {
        measured("set_up", share::share(&egress).await?);
    }
    if setting::is_asked_for("memory") {
        measured("memory", crowd::memory(&egress).await?);
    }
    egress.end().await;
    Ok(figures)
}

/// One way to the server: who measures it, and where.
enum Way {
    /// A process outside, at that address, with that root.
    Outside(&'static str, PathBuf, bool),
    /// A process inside that sandbox, with that root.
    Inside(Arc<dyn Sandbox>, &'static str),
}

impl Way {
    /// What a client says of it; with `bulk`, after so many long answers on one connection and nothing else.
    async fn measured(&self, bulk: Option<usize>) -> Result<Value, Wrong> {
        let (ip, root, has_plain) = match self {
            Self::Outside(ip, root, has_plain) => (*ip, root.to_string_lossy(), *has_plain),
            Self::Inside(_, root) => (SERVER, (*root).into(), true),
        };
        let at = |port: u16| format!("{ip}:{port}");
        let plain = if has_plain { at(PLAIN) } else { "-".into() };
        let mut words = vec![
            "egress-client".to_owned(),
            at(TLS),
            plain,
            root.into_owned(),
        ];
        words.extend(bulk.map(|times| times.to_string()));
        match self {
            Self::Outside(..) => {
                let mut client = tokio::process::Command::new(std::env::current_exe()?);
                let ran = client.args(words).output().await?;
                let text = String::from_utf8;
                printed(&text(ran.stdout)?, &text(ran.stderr)?)
            }
            Self::Inside(sandbox, _) => said_inside(sandbox, words).await,
        }
    }
}

/// What the client with these words says in that sandbox ([`inside_of`]).
async fn said_inside(
    sandbox: &Arc<dyn Sandbox>,
    words: impl IntoIterator<Item = String>,
) -> Result<Value, Wrong> {
    let words = std::iter::once(INSIDE.to_owned()).chain(words);
    let mut process = sandbox.spawn(Command::new(words)).await?;
    let (mut said, mut wrong) = (String::new(), String::new());
    if let Some(mut stdout) = process.stdout.take() {
        stdout.read_to_string(&mut said).await?;
    }
    if let Some(mut stderr) = process.stderr.take() {
        stderr.read_to_string(&mut wrong).await?;
    }
    process.wait().await?;
    printed(&said, &wrong)
}

/// The figures that a client has printed, or what is wrong.
fn printed(said: &str, wrong: &str) -> Result<Value, Wrong> {
    serde_json::from_str(said).map_err(|_| format!("a client says {said:?} {wrong:?}").into())
}

/// A policy that looks into the TLS of the server.
fn looking() -> Result<PolicyFile, Wrong> {
    policy(&rules())
}

/// Each way in turn, for some rounds, and what they say side by side.
async fn ways(egress: &Egress, dir: &Path, root: &Path) -> Result<Value, Wrong> {
    let rounds = setting::number("TESTKIT_BENCH_ROUNDS", ROUNDS);
    let haproxy = contenders::haproxy(dir).await?;
    let mitmproxy = contenders::mitmproxy(dir, root).await?;
    let mut ways = vec![
        ("direct", Way::Outside(SERVER, root.to_owned(), true)),
        ("pair", Way::Outside(PAIR, root.to_owned(), true)),
        ("loop", Way::Outside(LOOP, root.to_owned(), true)),
        ("kernel", Way::Outside(KERNEL, root.to_owned(), true)),
        ("spliced", inside(egress, "spliced", root, None).await?),
        (
            "intercepted",
            inside(egress, "intercepted", root, Some(looking()?)).await?,
        ),
    ];
    if haproxy.is_some() {
        ways.push(("haproxy", Way::Outside(HAPROXY, root.to_owned(), true)));
    }
    if let Some((_, certificate)) = &mitmproxy {
        ways.push((
            "mitmproxy",
            Way::Outside(MITMPROXY, certificate.clone(), false),
        ));
    }
    let mut all: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for round in 0..=rounds {
        for (name, way) in &ways {
            // A hundred times slower than the rest, it would be most of the run.
            if *name == "mitmproxy" && round > OF_THE_SLOW {
                continue;
            }
            let measured = timeout(PATIENCE, way.measured(None))
                .await
                .map_err(|_| format!("{name}: nothing within {} s", PATIENCE.as_secs()))?
                .map_err(|error| format!("{name}: {error}"))?;
            // The first one makes certificates and fills caches.
            if round > 0 {
                all.entry(name).or_default().push(measured);
            }
        }
    }
    drop((haproxy, mitmproxy));
    Ok(compared(&all))
}

/// By which requests to the server are looked into.
fn rules() -> Value {
    json!([{
        "name": "no secrets", "action": "deny", "to": [SERVER], "ports": [TLS], "paths": ["/secret"],
    }])
}

/// A sandbox that has this program and the server's root.
async fn inside_of(egress: &Egress, name: &str, root: &Path) -> Result<Arc<dyn Sandbox>, Wrong> {
    let sandbox = egress.ground.attach(name).await?;
    let workspace = egress.ground.path(&format!("sandboxes/{name}/workspace"));
    std::fs::copy(std::env::current_exe()?, workspace.join("bench"))?;
    std::fs::copy(root, workspace.join("root.pem"))?;
    Ok(sandbox)
}

async fn inside(
    egress: &Egress,
    name: &str,
    root: &Path,
    policy: Option<PolicyFile>,
) -> Result<Way, Wrong> {
    let sandbox = inside_of(egress, name, root).await?;
    let is_looked_into = policy.is_some();
    if let Some(policy) = policy {
        egress.carrier.set_policy(name, &policy).await?;
    }
    let trusted = if is_looked_into {
        egress::intercept::BUNDLE
    } else {
        ROOT_INSIDE
    };
    Ok(Way::Inside(sandbox, trusted))
}

/// Medians of each way, and of what pairs of one round say of it.
fn compared(all: &BTreeMap<&str, Vec<Value>>) -> Value {
    let of = |way: &str, what: &str| -> Vec<f64> {
        let rounds = all.get(way).into_iter().flatten();
        rounds.filter_map(|round| round[what].as_f64()).collect()
    };
    let pairs = |way: &str, what: &str, other: &str, by: fn(f64, f64) -> f64| {
        let (ours, theirs) = (of(way, what), of(other, what));
        let both = ours.iter().zip(&theirs).map(|(a, b)| by(*a, *b));
        rounded(median(both))
    };
    let mut seen = json!({});
    for (way, rounds) in all {
        for what in rounds
            .first()
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            seen[way][what.0] = json!(median(of(way, what.0)));
        }
    }
    let added = |way: &str, what: &str, target: f64| json!({"added_us": pairs(way, what, "direct", |a, b| a - b), "target_us": target});
    let share = |way: &str, what: &str, target: f64| {
        let mut figures =
            json!({"of_direct": pairs(way, what, "direct", |a, b| a / b), "target": target});
        for other in ["pair", "loop", "kernel", "haproxy", "mitmproxy"] {
            if !of(other, what).is_empty() {
                figures[format!("of_{other}")] = json!(pairs(way, what, other, |a, b| a / b));
            }
        }
        figures
    };
    json!({
        "medians": seen,
        "small_request_warm": {
            "spliced": added("spliced", "warm_us", 100.0), "intercepted": added("intercepted", "warm_us", 400.0),
            "pair": added("pair", "warm_us", 0.0), "loop": added("loop", "warm_us", 0.0),
        },
        "connect_to_first_byte": {
            "spliced": added("spliced", "first_byte_us", 250.0), "pair": added("pair", "first_byte_us", 0.0),
        },
        "new_tls_connection": {"intercepted": added("intercepted", "fresh_us", 2_000.0)},
        "throughput": {
            "spliced_tls": share("spliced", "tls_mb_per_s", 0.75), "spliced_plain": share("spliced", "plain_mb_per_s", 0.75),
            "intercepted": share("intercepted", "tls_mb_per_s", 0.35),
            "kernel_plain": share("kernel", "plain_mb_per_s", 1.0), "pair_plain": share("pair", "plain_mb_per_s", 1.0),
        },
    })
}
