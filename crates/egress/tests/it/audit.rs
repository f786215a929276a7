//! The chain tells of every change, goes on after a crash, and loses nothing that was said to be written.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use contract::time::Micros;
use egress::audit::{
    Action, Audit, Finding, Kind, Options, Record, Retention, Verified, trim, verify,
};
use rusqlite::Connection;

pub fn record(n: u64) -> Record {
    Record {
        at: Micros(i64::try_from(n).unwrap() * 1_000_000),
        kind: Kind::Request,
        workspace: None,
        sandbox: "sb_1".to_owned(),
        session: None,
        thread: None,
        name: Some("api.test".to_owned()),
        address: None,
        port: Some(443),
        protocol: "tls".to_owned(),
        method: Some("GET".to_owned()),
        path: Some(format!("/{n}")),
        rule: "allowed_hosts".to_owned(),
        action: Action::Allowed,
        reason: "listed".to_owned(),
        credential: None,
        bytes_out: n,
        bytes_in: 0,
        duration_us: 5,
        upstream_status: Some(200),
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A database with records 1 to `count`.
fn filled(path: &Path, count: u64) {
    let audit = Audit::open(path, Options::default()).unwrap();
    runtime().block_on(async {
        for n in 1..=count {
            audit.record(record(n)).await.unwrap();
        }
    });
    audit.close();
}

fn change(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn found(path: &Path) -> Finding {
    verify(path, None)
        .unwrap()
        .expect_err("the chain seems whole")
}

#[test]
fn a_chain_that_nobody_touched_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    filled(&path, 1_000);
    let first = verify(&path, None).unwrap().unwrap();
    assert_eq!(first.records, 1_000);
    filled(&path, 10);
    let second = verify(&path, Some(first.head)).unwrap().unwrap();
    assert_eq!((second.records, second.head.seq), (1_010, 1_010));
    let conn = Connection::open(&path).unwrap();
    let (text, sandbox): (String, String) = conn
        .query_row(
            "SELECT body, sandbox FROM records WHERE seq = 7",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert!(text.contains("\"path\":\"/7\"") && sandbox == "sb_1");
}

#[test]
fn each_kind_of_tampering_is_found() {
    let swap =
        "UPDATE records SET seq = -1 WHERE seq = 5; UPDATE records SET seq = 5 WHERE seq = 6;
         UPDATE records SET seq = 6 WHERE seq = -1;";
    let cases = [
        ("UPDATE records SET body = replace(body, '/5\"', '/6\"') WHERE seq = 5", Finding::Changed { seq: 5 }),
        ("UPDATE records SET hash = zeroblob(32) WHERE seq = 5", Finding::Changed { seq: 5 }),
        ("DELETE FROM records WHERE seq = 5", Finding::Missing { expected: 5, found: 6 }),
        (swap, Finding::Changed { seq: 5 }),
        ("DELETE FROM records WHERE seq = 1", Finding::Missing { expected: 1, found: 2 }),
        ("DELETE FROM records WHERE seq > 8", Finding::CutOff { from: 9, through: 10 }),
        (
            "INSERT INTO records (seq, hash, body) VALUES (11, zeroblob(32), '{}')",
            Finding::Changed { seq: 11 },
        ),
        (
            "UPDATE ends SET seq = 3, hash = (SELECT hash FROM records WHERE seq = 3) WHERE name = 'base';
             DELETE FROM records WHERE seq <= 3",
            Finding::NotRetention { through: 3 },
        ),
        ("DELETE FROM records", Finding::CutOff { from: 1, through: 10 }),
    ];
    for (sql, finding) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.db");
        filled(&path, 10);
        change(&path, sql);
        assert_eq!(found(&path), finding, "{sql}");
    }
}

/// The hash of a place, by the definition: the hash before it, its number, its text.
fn hash(before: &[u8], seq: u64, body: &str) -> Vec<u8> {
    let bytes = [before, &seq.to_be_bytes(), body.as_bytes()].concat();
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes)
        .as_ref()
        .to_vec()
}

#[test]
fn a_record_that_was_changed_with_its_own_hash_breaks_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    filled(&path, 10);
    let conn = Connection::open(&path).unwrap();
    let at = |seq: i64| -> (Vec<u8>, String) {
        let sql = "SELECT hash, body FROM records WHERE seq = ?1";
        conn.query_row(sql, [seq], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
    };
    let (before, _) = at(4);
    let (own, body) = at(5);
    assert_eq!(own, hash(&before, 5, &body));
    let forged = body.replace("allowed", "denied");
    let sql = "UPDATE records SET hash = ?1, body = ?2 WHERE seq = 5";
    conn.execute(sql, (hash(&before, 5, &forged), forged))
        .unwrap();
    assert_eq!(found(&path), Finding::Changed { seq: 6 });
}

#[test]
fn a_chain_that_was_made_anew_does_not_lead_through_a_head_that_was_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("audit.db"), dir.path().join("other.db"));
    filled(&path, 10);
    let kept = verify(&path, None).unwrap().unwrap().head;
    filled(&other, 9);
    filled(&other, 5);
    assert!(verify(&other, None).unwrap().is_ok());
    assert_eq!(
        verify(&other, Some(kept)).unwrap(),
        Err(Finding::Anchor { seq: 10 })
    );
}

#[test]
fn retention_removes_the_oldest_and_the_chain_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    filled(&path, 100);
    let kept = verify(&path, None).unwrap().unwrap().head;
    let by_age = Retention {
        since: Micros(31_000_000),
        records: u64::MAX,
        bytes: u64::MAX,
    };
    assert_eq!(trim(&path, by_age).unwrap(), 30);
    assert_eq!(trim(&path, by_age).unwrap(), 0);
    let Verified { records, head } = verify(&path, Some(kept)).unwrap().unwrap();
    assert_eq!(
        (records, head.seq),
        (71, 101),
        "70 are left, and the record of the removal"
    );
    let by_count = Retention {
        since: Micros(0),
        records: 10,
        bytes: u64::MAX,
    };
    assert_eq!(trim(&path, by_count).unwrap(), 61);
    assert!(verify(&path, None).unwrap().is_ok());
    filled(&path, 5);
    assert_eq!(verify(&path, None).unwrap().unwrap().head.seq, 107);
    change(
        &path,
        "DELETE FROM records WHERE seq = (SELECT min(seq) FROM records)",
    );
    assert!(matches!(found(&path), Finding::Missing { .. }));
}

#[test]
fn retention_goes_on_while_records_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    let audit = Audit::open(&path, Options::default()).unwrap();
    runtime().block_on(async {
        for n in 1..=500 {
            audit.record(record(n)).await.unwrap();
            if n % 100 == 0 {
                let by_count = Retention {
                    since: Micros(0),
                    records: 50,
                    bytes: u64::MAX,
                };
                trim(&path, by_count).unwrap();
            }
        }
    });
    audit.close();
    let whole = verify(&path, None).unwrap().unwrap();
    assert!(whole.head.seq > 500, "{whole:?}");
}

#[test]
fn a_full_queue_makes_traffic_wait_and_drops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    let options = Options {
        queue: 4,
        retry: Duration::from_millis(1),
    };
    let audit = Audit::open(&path, options).unwrap();
    let runtime = runtime();
    // Somebody else holds the database, so nothing can be written.
    let blocker = Connection::open(&path).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let queued = runtime.block_on(async {
        let mut queued = 0;
        // The thread holds at most one batch, so a bounded number of records finds room.
        while queued < 600 {
            let next = audit.record(record(queued + 1));
            match tokio::time::timeout(Duration::from_millis(200), next).await {
                Ok(done) => done.unwrap(),
                Err(_) => break,
            }
            queued += 1;
        }
        queued
    });
    assert!(queued < 600, "the queue is not bounded");
    blocker.execute_batch("ROLLBACK").unwrap();
    runtime
        .block_on(audit.record_durably(record(queued + 1)))
        .unwrap();
    audit.close();
    assert_eq!(verify(&path, None).unwrap().unwrap().records, queued + 1);
}

#[test]
fn texts_that_a_client_makes_long_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    let audit = Audit::open(&path, Options::default()).unwrap();
    let long = Record {
        path: Some("\"ü".repeat(100_000)),
        name: Some("\0".repeat(100_000)),
        reason: "\u{1}".repeat(100_000),
        ..record(1)
    };
    runtime().block_on(audit.record_durably(long)).unwrap();
    audit.close();
    assert_eq!(verify(&path, None).unwrap().unwrap().records, 1);
}

const CHILD: &str = "EGRESS_AUDIT_CRASH";

/// Not a test of its own: the process that [`what_was_said_to_be_written_survives_a_kill`] kills.
#[test]
fn crash_child() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let audit = Audit::open(Path::new(&path), Options::default()).unwrap();
    runtime().block_on(async {
        for n in 1_u64.. {
            for _ in 0..20 {
                audit.record(record(n)).await.unwrap();
            }
            audit.record_durably(record(n)).await.unwrap();
            let mut out = std::io::stdout().lock();
            if writeln!(out, "written {}", n * 21)
                .and_then(|()| out.flush())
                .is_err()
            {
                return;
            }
        }
    });
}

#[test]
fn what_was_said_to_be_written_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    let mut before = 0;
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "audit::crash_child", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let said = out
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.rsplit_once("written ")?.1.parse::<u64>().ok())
            .nth(4 + round)
            .expect("the child wrote");
        child.kill().unwrap();
        child.wait().unwrap();
        let whole = verify(&path, None).unwrap().unwrap();
        assert!(
            whole.records >= before + said,
            "{} < {before} + {said}",
            whole.records
        );
        before = whole.records;
    }
}
