//! What it costs that credentials are put into what is looked into: in a header of a small request, and in a long body
//! that streams. Each beside the same without any.
//!
//! The client sends the same bytes in each way; only the sandbox with the credential has it replaced. Both ways have a
//! rule by which every request is judged.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::ids::{CredentialId, SessionId, WorkspaceId};
use contract::secret::Secret;
use egress::host::Orders;
use egress::inject::{CredentialFile, CredentialsFile};
use sandbox::Sandbox;
use serde_json::{Value, json};
use testkit::setting;
use tokio::time::{interval, timeout};
use vault::Vault;
use vault::master::MasterKey;
use vault::secret::CredentialSecret;

use super::client::{Tls, answered, config, connect, megabytes, micros, timed};
use super::server::{SERVER, TLS};
use super::{Egress, PATIENCE, ROUNDS, inside_of, policy, rules, said_inside};
use crate::Wrong;
use crate::memory::Held;
use crate::numbers::{median, rounded};

/// What is put in.
pub(super) const SECRET: &str = "bench/secret+6f1d0a7c94e2";
/// Bytes of a long body, and of what is written at once, a placeholder in each.
const LONG: usize = 64 << 20;
const PIECE: usize = 64 << 10;
/// Small requests of one run.
const WARM: usize = 1_000;
/// Bodies that stream at one time while memory is looked at.
const FLOWS: usize = 16;
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// What is wanted: at most so much more for a small request, at least such a share of the throughput, and at most so
/// much memory for each flow.
const TARGET_ADDED_US: f64 = 100.0;
const TARGET_SHARE: f64 = 0.5;
const TARGET_KIB: u64 = 1_024;

/// Each way in turn, for some rounds; then the memory of bodies that stream side by side.
pub(super) async fn run(egress: &Egress, root: &Path) -> Result<Value, Wrong> {
    let rounds = setting::number("TESTKIT_BENCH_ROUNDS", ROUNDS);
    let vault = Vault::with(&MasterKey::from_bytes([7; 32]));
    let mut ways = Vec::new();
    for (name, header, body) in [
        ("without", false, false),
        ("header", true, false),
        ("body", true, true),
    ] {
        let sandbox = inside_of(egress, name, root).await?;
        let credentials = if header {
            credentials(&vault, body)?
        } else {
            CredentialsFile::default()
        };
        let policy = policy(&rules())?;
        let orders = Orders {
            policy: &policy,
            credentials: &credentials,
        };
        egress.carrier.set_policy(name, orders).await?;
        ways.push((name, sandbox));
    }
    let placeholder = placeholder(&vault);
    let mut all: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for round in 0..=rounds {
        for (name, sandbox) in &ways {
            let measured = measured(sandbox, &placeholder, wanted(name), 1).await?;
            // The first one makes certificates and fills caches.
            if round > 0 {
                all.entry(name).or_default().push(measured);
            }
        }
    }
    let process = egress.process()?;
    // What an allocator has kept of one way is there in the next: all are held against the same.
    let before = Held::by(process)?.own;
    let mut memory = json!({"flows": FLOWS, "target_kib_a_flow": TARGET_KIB});
    for (name, sandbox) in &ways {
        let asked = measured(sandbox, &placeholder, wanted(name), FLOWS);
        memory[name] =
            json!({"kib_a_flow": grown(process, before, asked).await? / 1_024 / FLOWS as u64});
    }
    Ok(compared(&all, memory))
}

/// What a server finds of the secret in a request: none, in its header, in its body too.
fn wanted(way: &str) -> &'static str {
    match way {
        "without" => "none",
        "header" => "header",
        _ => "both",
    }
}

fn id() -> CredentialId {
    CredentialId::from_bits(1)
}

fn placeholder(vault: &Vault) -> String {
    let placeholder = vault.placeholder(SessionId::from_bits(1), id());
    placeholder.text().to_owned()
}

fn credentials(vault: &Vault, body: bool) -> Result<CredentialsFile, Wrong> {
    let (workspace, secret) = (WorkspaceId::Default, Secret::new(SECRET.to_owned()));
    let sealed = vault.seal_credential(workspace, id(), &CredentialSecret::token(secret));
    let one = CredentialFile {
        id: id(),
        placeholder: placeholder(vault),
        hosts: Some(vec![SERVER.to_owned()]),
        header: true,
        body,
        template: None,
        renewable: false,
        lent: Some(vault.lend_credential(workspace, id(), &sealed)?),
    };
    Ok(CredentialsFile {
        cleartext: false,
        credentials: vec![one],
    })
}

async fn measured(
    sandbox: &Arc<dyn Sandbox>,
    placeholder: &str,
    wanted: &str,
    flows: usize,
) -> Result<Value, Wrong> {
    let (to, flows) = (format!("{SERVER}:{TLS}"), flows.to_string());
    let bundle = egress::intercept::BUNDLE;
    let words = ["inject-client", &to, bundle, placeholder, wanted, &flows];
    let asked = said_inside(sandbox, words.map(str::to_owned));
    let late = |_| format!("{wanted}: nothing within {} s", PATIENCE.as_secs());
    timeout(PATIENCE, asked).await.map_err(late)?
}

/// The most bytes by which the process is larger than `before` while that is done.
async fn grown(
    process: i32,
    before: u64,
    doing: impl Future<Output = Result<Value, Wrong>>,
) -> Result<u64, Wrong> {
    let (mut most, mut looks) = (before, interval(LOOK));
    let mut doing = std::pin::pin!(doing);
    loop {
        tokio::select! {
            done = &mut doing => return done.map(|_| most.saturating_sub(before)),
            _ = looks.tick() => most = most.max(Held::by(process)?.own),
        }
    }
}

/// Medians of each way, and of what pairs of one round say of it.
fn compared(all: &BTreeMap<&str, Vec<Value>>, memory: Value) -> Value {
    let of = |way: &str, what: &str| -> Vec<f64> {
        let rounds = all.get(way).into_iter().flatten();
        rounds.filter_map(|round| round[what].as_f64()).collect()
    };
    let pairs = |way: &str, what: &str, by: fn(f64, f64) -> f64| {
        let (ours, theirs) = (of(way, what), of("without", what));
        let both = ours.iter().zip(&theirs).map(|(a, b)| by(*a, *b));
        rounded(median(both))
    };
    let mut medians = json!({});
    for way in all.keys() {
        for what in ["warm_us", "up_mb_per_s"] {
            medians[way][what] = json!(median(of(way, what)));
        }
    }
    json!({
        "medians": medians,
        "header": {"added_us": pairs("header", "warm_us", |a, b| a - b), "target_us": TARGET_ADDED_US},
        "body": {
            "of_without": pairs("body", "up_mb_per_s", |a, b| a / b), "target": TARGET_SHARE,
            "watched_of_without": pairs("header", "up_mb_per_s", |a, b| a / b),
        },
        "memory": memory,
    })
}

/// What the client inside says: with one flow small requests and one long body, with more only as many long bodies
/// at one time. Each is checked once for what the server finds in it.
pub(crate) fn client(words: &[String]) -> Result<Value, Wrong> {
    let [to, root, placeholder, wanted, flows] = words else {
        return Err("inject-client ADDRESS ROOT PLACEHOLDER none|header|both FLOWS".into());
    };
    let (to, config) = (to.parse()?, config(Path::new(root))?);
    let flows: usize = flows.parse()?;
    let mut kept = connect(&config, to)?;
    post(&mut kept, &format!("/told/{wanted}"), placeholder, PIECE)?;
    if flows > 1 {
        let up = |config: Arc<_>, placeholder: String| {
            std::thread::spawn(move || {
                let mut tls = connect(&config, to)?;
                post(&mut tls, "/up", &placeholder, LONG)
            })
        };
        let all: Vec<_> = (0..flows)
            .map(|_| up(Arc::clone(&config), placeholder.clone()))
            .collect();
        for one in all {
            one.join().map_err(|_| "a flow panicked")??;
        }
        return Ok(json!({}));
    }
    let warm = timed(WARM, || {
        let head = format!("GET /x HTTP/1.1\r\nHost: {SERVER}\r\nX-Key: {placeholder}\r\n\r\n");
        kept.write_all(head.as_bytes())?;
        answered(&mut kept)
    })?;
    let begun = Instant::now();
    post(&mut kept, "/up", placeholder, LONG)?;
    Ok(json!({"warm_us": micros(&warm), "up_mb_per_s": megabytes(LONG, begun)}))
}

/// Sends a body of so many bytes, with a placeholder at the beginning of each piece and one in the head.
fn post(tls: &mut Tls, path: &str, placeholder: &str, length: usize) -> Result<usize, Wrong> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {SERVER}\r\nX-Key: {placeholder}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
    );
    tls.write_all(head.as_bytes())?;
    let mut piece = vec![b'x'; PIECE];
    if let Some(place) = piece.get_mut(..placeholder.len()) {
        place.copy_from_slice(placeholder.as_bytes());
    }
    let mut left = length;
    while left > 0 {
        let now = left.min(PIECE);
        tls.write_all(piece.get(..now).unwrap_or_default())?;
        left -= now;
    }
    tls.flush()?;
    answered(tls)
}
