//! Sandboxes that reach servers, in a network namespace of each test alone: the egress process, the server, and both
//! are killed while one asks without end, and no byte goes where none may, nobody waits, and the network comes back;
//! changed environments are in force at once.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::api::texts;
use testkit::model::Model;
use testkit::process::Launch;
use testkit::{script, wait};

use crate::egress::{kill, process};
use crate::stage::{self, Stage};

/// A server that may be reached, and one that may not.
const ALLOWED: &str = "198.51.100.10";
const FORBIDDEN: &str = "203.0.113.10";

/// Within which the network is back.
const RECOVERY: Duration = Duration::from_secs(2);

/// Four programs ask both servers as fast as they can and write down a line a round: what each answered.
const LOAD: &str = r"cat > load.py <<'END'
import socket
def once(host):
    try:
        s = socket.create_connection((host, 80), timeout=100)
        s.sendall(b'GET / HTTP/1.1\r\nHost: %s\r\n\r\n' % host.encode())
        return s.recv(64)[9:12].decode() or 'ended'
    except socket.timeout:
        return 'waited'
    except OSError:
        return 'reset'
with open('load.log', 'a', buffering=1) as log:
    while True:
        a, b = once('198.51.100.10'), once('203.0.113.10')
        print(a, b, file=log)
END
for i in 1 2 3 4; do python3 load.py > /dev/null 2>&1 & done; echo started";

#[test]
fn kills_under_load_let_nothing_out_and_the_network_comes_back() {
    alone(kills);
}

#[test]
fn a_changed_environment_and_a_sandbox_that_waited_have_the_policy_of_their_session() {
    alone(changes);
}

/// Runs a test with two servers and no route that leads anywhere.
fn alone<F: Future<Output = ()> + 'static>(test: fn(Launch, Model, [Arc<AtomicUsize>; 2]) -> F) {
    // Whatever is started from this thread is in its namespace; nothing but a loopback is.
    let alone = std::thread::spawn(move || {
        sys::new_network().unwrap();
        sys::loopback_up().unwrap();
        for address in [ALLOWED, FORBIDDEN] {
            let ran = Command::new("ip")
                .args(["addr", "add", &format!("{address}/32"), "dev", "lo"])
                .status();
            assert!(ran.unwrap().success());
        }
        let routes = Command::new("ip").arg("route").output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&routes.stdout),
            "",
            "nothing leads out of here"
        );
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let (launch, model) = stage::launch().await;
            let launch = launch
                .environment("LONGHAND_EGRESS_ENABLED", "true")
                .environment(
                    "LONGHAND_EGRESS_ALLOW_PRIVATE",
                    "127.0.0.0/8,198.51.100.0/24",
                )
                .environment("LONGHAND_SANDBOX_ORPHAN_SECONDS", "300");
            test(launch, model, [serve(ALLOWED), serve(FORBIDDEN)]).await;
        });
    });
    alone.join().unwrap();
}

/// Every word of what the store says, and none of a look: the policy changes while the sandbox runs.
async fn changes(launch: Launch, model: Model, [allowed, forbidden]: [Arc<AtomicUsize>; 2]) {
    let launch = launch.environment("LONGHAND_SANDBOX_WARM", "1");
    let mut stage = Stage::on(launch, model, 1).await;
    let environments = stage.api().get("/v1/environments").await.unwrap();
    let path = format!(
        "/v1/environments/{}",
        environments["data"][0]["id"].as_str().unwrap()
    );
    let networking = |networking: &serde_json::Value| json!({"config": {"type": "cloud", "networking": networking}});
    let limited = networking(&json!({"type": "limited", "allowed_hosts": ["elsewhere.test"]}));
    let unrestricted = networking(&json!({"type": "unrestricted"}));
    stage.api().post(&path, &limited).await.unwrap();
    let ask = format!(
        "curl -sS -o /dev/null -o /dev/null -w '%{{http_code}}' http://{ALLOWED}/ http://{FORBIDDEN}/"
    );
    for (round, (change, wanted)) in [
        (limited.clone(), "403403"),
        (unrestricted, "200403"),
        (limited, "403403"),
    ]
    .into_iter()
    .enumerate()
    {
        stage.api().post(&path, &change).await.unwrap();
        // In force a moment after the answer: asked again until it is.
        let begun = Instant::now();
        for again in 0.. {
            let steps = json!([script::bash(&ask), {"text": "done"}]);
            stage
                .play(0, &format!("round {round} {again}"), &steps)
                .await;
            let log = stage.api().idle(&stage.subjects[0].session).await;
            let mut results = log
                .iter()
                .filter(|event| event["type"] == "agent.tool_result");
            let said = texts(results.next_back().expect("the call has a result"));
            if said.contains(wanted) {
                break;
            }
            assert!(begun.elapsed() < wait::deadline(), "round {round}: {said}");
        }
        println!("round {round}: in force after {:?}", begun.elapsed());
    }
    assert!(allowed.load(Ordering::SeqCst) >= 1);
    assert_eq!(forbidden.load(Ordering::SeqCst), 0);
    crate::egress::end(stage).await;
}

async fn kills(launch: Launch, model: Model, [allowed, forbidden]: [Arc<AtomicUsize>; 2]) {
    let mut stage = Stage::on(launch, model, 1).await;
    let steps = json!([script::bash(LOAD), {"text": "done"}]);
    stage.play(0, "load", &steps).await;
    stage.api().idle(&stage.subjects[0].session).await;
    let below = stage.launch.data_dir().join("sandboxes");
    let log = Log(wait::until("the first words", || async { find(&below, "load.log") }).await);
    log.more("200", 20).await;
    log.more("403", 20).await;

    let first = process(&stage).expect("it runs");
    let killed = Instant::now();
    kill(first);
    wait::until("another egress process", || async {
        process(&stage).filter(|pid| *pid != first)
    })
    .await;
    log.more("200", 1).await;
    recovered("the egress process was killed", killed);

    stage.kill().await;
    // Its policies stand without the server.
    log.more("200", 100).await;
    log.more("403", 100).await;

    kill(process(&stage).expect("it outlives its server"));
    wait::until("it is gone", || async {
        process(&stage).is_none().then_some(())
    })
    .await;
    // Nobody waits, and nothing is carried.
    log.more("reset", 100).await;
    let carried = log.count("200");
    log.more("reset", 100).await;
    assert_eq!(
        log.count("200"),
        carried,
        "without anybody who carries nothing is"
    );

    for round in 0..2 {
        let started = Instant::now();
        stage.restart().await;
        log.more("200", 1).await;
        recovered("both were killed, and the server started again", started);
        log.more("200", 20).await;
        if round == 0 {
            let pid = process(&stage).expect("it runs");
            kill(pid);
            stage.kill().await;
            log.more("reset", 20).await;
        }
    }

    assert_eq!(
        log.count("waited"),
        0,
        "nobody waits for what does not come"
    );
    assert_eq!(
        forbidden.load(Ordering::SeqCst),
        0,
        "not a connection to where none may go"
    );
    assert!(allowed.load(Ordering::SeqCst) > 200);
    crate::egress::end(stage).await;
}

/// What is wanted after a kill, stretched where machines are shared.
fn recovered(what: &str, since: Instant) {
    let (took, wanted) = (since.elapsed(), RECOVERY * testkit::setting::patience());
    assert!(took < wanted, "{what}: carried again after {took:?}");
    println!("{what}: carried again after {took:?}");
}

/// What the programs wrote down.
struct Log(PathBuf);

impl Log {
    fn count(&self, what: &str) -> usize {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        text.split_ascii_whitespace()
            .filter(|word| *word == what)
            .count()
    }

    /// Waits for so many more of those answers.
    async fn more(&self, what: &str, number: usize) {
        let wanted = self.count(what) + number;
        wait::until(&format!("{number} more of {what}"), || async {
            (self.count(what) >= wanted).then_some(())
        })
        .await;
    }
}

/// A server of HTTP; how often it was connected to.
fn serve(ip: &str) -> Arc<AtomicUsize> {
    let (count, listener) = (
        Arc::<AtomicUsize>::default(),
        TcpListener::bind((ip, 80)).unwrap(),
    );
    let counted = Arc::clone(&count);
    // Ends with the process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut buffer = [0; 1024];
            // One that was cut off has nothing to say.
            if stream.read(&mut buffer).is_ok_and(|length| length > 0) {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(answer);
            }
        }
    });
    count
}

/// The file of that name anywhere below.
fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        if entry.file_name() == name {
            return Some(entry.path());
        }
        // Links of a root lead out of here.
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        is_dir.then(|| find(&entry.path(), name)).flatten()
    })
}
