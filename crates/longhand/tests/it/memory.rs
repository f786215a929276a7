//! What stands in the memory of each process while a credential is spent, looked at from outside: each has the secrets
//! that are its own and no others. That the search finds what is there, the owner of each shows.

use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use serde_json::json;
use testkit::canary::Canary;
use testkit::{script, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::injected::{SECRET, own_address, session};
use crate::stage::{self, Stage};

/// The key of the model, which the server alone spends.
const KEY: &str = "model/key+4b1c7f20d9e6";

/// What the program in the sandbox has of its own.
const PLANTED: &str = "planted/in+the-sandbox-93b1";

/// Bytes of a page, which is what `pagemap` counts in.
const PAGE: u64 = 4_096;

/// Whether the memory that the process may write to has that, in whatever form.
pub fn holds(pid: i32, secret: &Canary) -> bool {
    let mut found = false;
    each_part(pid, |bytes| found |= !secret.found(bytes).is_empty());
    found
}

/// All that the process may write to, one part behind the other.
pub fn memory(pid: i32) -> Vec<u8> {
    let mut all = Vec::new();
    each_part(pid, |bytes| all.extend_from_slice(bytes));
    all
}

/// Reads the memory that the process may write to, in parts.
fn each_part(pid: i32, mut look: impl FnMut(&[u8])) {
    let file = |name: &str| File::open(format!("/proc/{pid}/{name}")).expect(name);
    let (memory, pages) = (file("mem"), file("pagemap"));
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("its mappings");
    let mut read = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').expect(line);
        let (from, to) = range.split_once('-').expect(line);
        let number = |text| u64::from_str_radix(text, 16).expect(line);
        for (at, length) in filled(&pages, number(from), number(to)) {
            let mut bytes = vec![0; length];
            // One that is gone since, or that belongs to a device, cannot be read.
            if memory.read_exact_at(&mut bytes, at).is_ok() {
                read += length;
                look(&bytes);
            }
        }
    }
    assert!(read > 0, "nothing of process {pid} could be read");
}

/// The parts of a mapping that have something in them, in memory or swapped out.
fn filled(pages: &File, from: u64, to: u64) -> Vec<(u64, usize)> {
    let count = usize::try_from((to - from) / PAGE).expect("it fits");
    let mut entries = vec![0; 8 * count];
    // Of one that is gone since nothing is read.
    let known = pages.read_at(&mut entries, from / PAGE * 8).unwrap_or(0);
    let is_filled = |entry: &[u8]| entry.last().is_some_and(|high| high & 0b1100_0000 != 0);
    let mut parts: Vec<(u64, usize)> = Vec::new();
    for (at, entry) in (from..to)
        .step_by(4_096)
        .zip(entries[..known].chunks_exact(8))
    {
        match parts.last_mut() {
            _ if !is_filled(entry) => {}
            Some((start, length)) if *start + *length as u64 == at => *length += 4_096,
            _ => parts.push((at, 4_096)),
        }
    }
    parts
}

/// The process whose arguments have `what`, and all that live in its sandbox.
pub fn inside(what: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let all: Vec<i32> = all
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let namespace = |pid: &i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace(&std::process::id().cast_signed());
    let there = |pid: &&i32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        arguments.contains(what) && namespace(pid) != own
    };
    let of = all.iter().find(there).and_then(namespace);
    let of: PathBuf = of.expect("it runs in a sandbox");
    let same = all
        .iter()
        .filter(|pid| namespace(pid).as_ref() == Some(&of));
    same.copied().collect()
}

/// A request that waits for its answer.
async fn asked(listener: &TcpListener) -> (TcpStream, String) {
    let (mut conn, _) = listener.accept().await.expect("a connection");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(conn.read_u8().await.expect("a head"));
    }
    (conn, String::from_utf8(head).expect("a text"))
}

async fn carried(address: IpAddr) -> Stage {
    let (launch, model) = stage::carried(address).await;
    let launch = launch.environment("ANTHROPIC_API_KEY", KEY);
    Stage::on(launch, model, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_process_holds_the_secrets_that_are_its_own_and_no_others() {
    let address = own_address();
    let listener = TcpListener::bind((address, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let stage = carried(address).await;
    // This server is told the secret, in a request.
    let (session, _) = session(&stage).await;
    let (secret, key) = (Canary::new("secret", SECRET), Canary::new("key", KEY));

    let to = format!("http://{address}:{port}/");
    let ask = format!(
        "PLANTED={PLANTED} curl -sS --max-time 60 -H \"Authorization: Bearer $TOKEN\" {to}"
    );
    let steps = json!([script::bash(&ask), {"text": "heard"}]);
    let api = stage.api();
    let message = script::message("spends", &steps);
    api.send(&session, &[message]).await.expect("sent");
    let (mut conn, head) = wait::within("a request", asked(&listener)).await;
    assert!(head.contains(&format!("Bearer {SECRET}\r\n")), "{head}");

    // While it waits for its answer.
    let server = stage.server().pid();
    let egress = crate::egress::process(&stage).expect("it runs");
    assert!(
        holds(egress, &secret),
        "the egress process spends the credential"
    );
    assert!(
        !holds(egress, &key),
        "the egress process has no model's key"
    );
    assert!(holds(server, &key), "the server spends the model's key");
    assert!(
        !holds(server, &secret),
        "the server has wiped what it was told, and opens no credential"
    );
    let there = inside(&to);
    assert!(there.len() >= 2, "the hand and the program: {there:?}");
    let planted = Canary::new("planted", PLANTED);
    let found = there.iter().filter(|pid| holds(**pid, &planted));
    assert!(found.count() >= 1, "what a program there has is found");
    for pid in there {
        assert!(
            !holds(pid, &secret),
            "process {pid} of the sandbox has the secret"
        );
        assert!(
            !holds(pid, &key),
            "process {pid} of the sandbox has the model's key"
        );
    }
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    conn.write_all(answer.as_bytes()).await.expect("an answer");
    api.idle(&session).await;
    crate::egress::end(stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_the_model_from_inside_has_nothing_of_its_key_and_nor_has_the_egress_process() {
    let stage = carried(own_address()).await;
    let api = stage.api();
    let session = stage.session(&[crate::model_inside::asks()]).await;
    // Not the script of the session itself.
    let asked = json!({"model": "claude-sonnet-5-5", "max_tokens": 100, "stream": true, "messages": [
        {"role": "user", "content": "SCRIPT: [{\"text\": \"one and two\", \"chunks\": 2, \"wait_mid\": \"inside\"}]"}]});
    let asked = asked.to_string().replace("SCRIPT", "SCR''IPT");
    let ask = format!(
        "PLANTED={PLANTED} curl -sSN --max-time 60 -H \"x-api-key: $ANTHROPIC_API_KEY\" -H 'content-type: application/json' \"$ANTHROPIC_BASE_URL/v1/messages\" -d '{asked}'"
    );
    let steps = json!([script::bash(&ask), {"text": "heard"}]);
    api.send(&session, &[script::message("asks", &steps)])
        .await
        .expect("sent");
    stage.model.reached(&["inside".to_owned()]).await;

    // While it waits for the rest of its answer.
    let (key, planted) = (Canary::new("key", KEY), Canary::new("planted", PLANTED));
    let egress = crate::egress::process(&stage).expect("it runs");
    assert!(holds(stage.server().pid(), &key), "the server spends it");
    assert!(!holds(egress, &key), "the egress process has no part in it");
    let there = inside("wait_mid");
    let found = there.iter().filter(|pid| holds(**pid, &planted));
    assert!(found.count() >= 1, "what a program there has is found");
    for pid in there {
        assert!(!holds(pid, &key), "process {pid} of the sandbox has it");
    }
    stage.model.release("inside");
    let (said, _) = stage.heard(&session).await;
    assert!(said.contains("message_stop"), "{said}");
    crate::egress::end(stage).await;
}
