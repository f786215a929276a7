//! Small bodies that unpack to large ones, where bodies are unpacked to put credentials in and take them out again: what
//! the egress process holds of one does not grow with it.

use std::io::{Read as _, Write as _};
use std::sync::Barrier;

use egress::inject::CredentialsFile;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::ground::{SERVER, on_ground, python, run, unrestricted};
use crate::injected::credential;
use crate::upstreams::http;

/// Bytes of zeros, of which a thousandth is sent.
const LARGE: usize = 100 << 20;
/// The most that this process may grow by meanwhile: it is the egress process, and the server's.
const GROWTH_KB: u64 = 64 << 10;

fn bomb(_: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    let zeros = vec![0; 1 << 20];
    for _ in 0..LARGE >> 20 {
        packed.write_all(&zeros).unwrap();
    }
    let packed = packed.finish().unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        packed.len()
    );
    [head.into_bytes(), packed].concat()
}

/// The most that this process has had in memory, of which the count was begun anew (proc_pid_status(5), `VmHWM`).
fn most_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

#[test]
fn a_body_that_unpacks_to_a_thousand_times_more_is_held_in_small_pieces_in_both_directions() {
    on_ground(unrestricted(), |ground| async move {
        let server = ground.serve(SERVER, 80, bomb);
        *ground.credentials.lock().unwrap() = CredentialsFile {
            cleartext: true,
            credentials: vec![credential(
                1,
                "sk-live-and-long-enough",
                Some(&["allowed.test"]),
            )],
        };
        let sandbox = ground.sandbox("bombs").await;
        // What the server says is looked through for the secret (one of 8 bytes or more), unpacked, as it comes.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = most_kb();
        let got = "curl -sS --max-time 120 -H \"X-Key: $P1\" http://allowed.test/ | wc -c";
        assert_eq!(run(&sandbox, got).await, LARGE.to_string());
        assert!(most_kb() < before + GROWTH_KB, "{} of {before}", most_kb());
        // What a program says is read whole only as far as a body that somebody wrote.
        let sent = format!(
            "head -c {LARGE} /dev/zero | gzip -9 >/tmp/packed; curl -sS --max-time 120 -H 'Content-Encoding: gzip' \
             -H 'Content-Type: text/plain' --data-binary @/tmp/packed http://allowed.test/"
        );
        let said = run(&sandbox, &sent).await;
        assert!(said.contains("too long when it is unpacked"), "{said}");
        assert!(most_kb() < before + GROWTH_KB, "{} of {before}", most_kb());
        assert!(!server.text().contains("POST"), "nothing of it was sent");
    });
}

/// Bytes of the longest secret, which is the contract's.
const LONGEST: usize = contract::limits::SECRET_BYTES;

#[test]
fn a_small_request_full_of_placeholders_does_not_become_a_large_one_full_of_secrets() {
    on_ground(unrestricted(), |ground| async move {
        let server = ground.server(SERVER, 80, http());
        *ground.credentials.lock().unwrap() = CredentialsFile {
            cleartext: true,
            credentials: vec![
                credential(1, &"s".repeat(LONGEST), Some(&["allowed.test"])),
                // JSON writes each byte of it as six.
                credential(2, &"\u{1}".repeat(LONGEST), Some(&["allowed.test"])),
            ],
        };
        let sandbox = ground.sandbox("grows").await;
        let full =
            |number: usize, count: usize| format!("yes $P{number} | head -n {count} | tr -d '\\n'");
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = most_kb();
        let told = "curl -sS --max-time 120 -w ' %{http_code}'";
        let body = "--data-binary @- http://allowed.test/count";
        for (what, ask, reason) in [
            (
                "a body of 1 MiB",
                format!(
                    "{} | {told} -H 'Content-Type: text/plain' {body}",
                    full(1, 23_000)
                ),
                "its body longer by more than",
            ),
            (
                "a body of 8 MiB, packed",
                format!(
                    "{} | gzip -9 | {told} -H 'Content-Encoding: gzip' -H 'Content-Type: application/json' {body}",
                    full(2, 190_000)
                ),
                "its body longer by more than",
            ),
            (
                "a header of 30 KB",
                format!(
                    "{told} -H \"X-Told: $({})\" http://allowed.test/count",
                    full(1, 600)
                ),
                "its head longer by more than",
            ),
            (
                "a query of 30 KB",
                format!("{told} \"http://allowed.test/count?$({})\"", full(2, 600)),
                "its head longer by more than",
            ),
        ] {
            let said = run(&sandbox, &ask).await;
            assert!(
                said.ends_with(" 403") && said.contains(reason),
                "{what}: {said}"
            );
            assert!(
                most_kb() < before + GROWTH_KB,
                "{what}: {} of {before}",
                most_kb()
            );
        }
        assert_eq!(server.text(), "", "nothing of it was sent");
        // What streams becomes as long as it may, and is never here whole.
        let count = 6_000;
        let streamed = format!(
            "{} | gzip -9 | curl -sS --max-time 120 -H 'Content-Encoding: gzip' -H 'Content-Type: text/plain' -T - http://allowed.test/count",
            full(1, count)
        );
        let long = count * LONGEST;
        assert!(long as u64 > GROWTH_KB << 10);
        assert_eq!(run(&sandbox, &streamed).await, long.to_string());
        assert!(most_kb() < before + GROWTH_KB, "{} of {before}", most_kb());
        // As many as anybody has use for.
        let some = format!(
            "{} | {told} -H 'Content-Type: text/plain' {body}",
            full(1, 60)
        );
        assert_eq!(run(&sandbox, &some).await, format!("{} 200", 60 * LONGEST));
        let some = format!(
            "{told} -H \"X-Told: $({})\" http://allowed.test/count",
            full(1, 7)
        );
        assert!(run(&sandbox, &some).await.ends_with(" 200"));
    });
}

/// Credentials for every host, and requests that wait for their answers at one time.
const MANY: u128 = 20;
const WAITING: usize = 100;

#[test]
fn requests_that_wait_share_what_is_open_for_them_however_long_and_many_their_credentials_are() {
    on_ground(unrestricted(), |ground| async move {
        let secret = |number: u128| format!("{number:02}/+\"&").repeat(LONGEST / 6);
        let (all_here, first) = (Barrier::new(WAITING), secret(1));
        let _server = ground.server(SERVER, 80, move |mut stream, _| {
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                asked.push(byte[0]);
            }
            all_here.wait();
            let length = first.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(first.as_bytes()).unwrap();
        });
        *ground.credentials.lock().unwrap() = CredentialsFile {
            cleartext: true,
            credentials: (1..=MANY)
                .map(|number| credential(number, &secret(number), None))
                .collect(),
        };
        let sandbox = ground.sandbox("waits").await;
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = most_kb();
        let ask = format!(
            "all = [socket.create_connection(('allowed.test', 80), timeout=120) for _ in range({WAITING})]\n\
             for s in all: s.sendall(b'GET / HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: close\\r\\n\\r\\n')\n\
             print(sum(told(s).endswith('\\r\\n\\r\\n' + os.environ['P1']) for s in all))"
        );
        assert_eq!(python(&sandbox, &ask).await, WAITING.to_string());
        assert!(most_kb() < before + GROWTH_KB, "{} of {before}", most_kb());
    });
}
