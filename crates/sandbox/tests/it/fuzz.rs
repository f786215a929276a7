//! The hand against servers that say anything. It goes on or gives the line up; it never ends, and its memory
//! is bounded by a limit that would end it.
//!
//! It runs in a root of its own that holds nothing but itself, so that what it is asked for harms nobody.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hand::wire::{FromHand, PREFIX_BYTES, ToHand, VERSION, lengths, read_frame, write_frame};

/// How long this goes on in every run of the tests; `FUZZ_SECONDS` for a long one.
const SECONDS: u64 = 20;
/// Bytes of memory that the hand may write to: two of the largest frames, and the rest of it.
const MEMORY: u64 = 256 << 20;
/// The id of the last question.
const LAST: u64 = 999_999;
/// Seeds that once found something, of either target. They run first.
const FOUND: &[u64] = &[0, 1, 0xffff_ffff_ffff_ffff];

/// Headers that end a conversation.
const WRONG: &[&str] = &[
    r#"{"type":"hello","version":2}"#,
    r#"{"type":"call","id":5,"tool":"none"}"#,
    r#"{"type":"ping","id":18446744073709551616}"#,
    r#"{"type":"ping"}"#,
];

/// Headers as a server could write them.
const HEADERS: &[&str] = &[
    r#"{"type":"call","id":1,"tool":"read"}"#,
    r#"{"type":"call","id":1,"tool":"write"}"#,
    r#"{"type":"call","id":2,"tool":"edit","key":"k"}"#,
    r#"{"type":"call","id":3,"tool":"glob"}"#,
    r#"{"type":"call","id":4,"tool":"grep"}"#,
    r#"{"type":"call","id":5,"tool":"bash"}"#,
    r#"{"type":"resume","id":6,"key":"k"}"#,
    r#"{"type":"taken","key":"k"}"#,
    r#"{"type":"ping","id":7}"#,
    r#"{"type":"cancel","id":1}"#,
    r#"{"type":"spawn","id":8}"#,
    r#"{"type":"spawn","id":11,"key":"e"}"#,
    r#"{"type":"stdin","id":8}"#,
    r#"{"type":"stdin_end","id":8}"#,
    r#"{"type":"ack","id":8,"stream":"stdout"}"#,
    r#"{"type":"kill","id":8}"#,
    r#"{"type":"open","id":9}"#,
    r#"{"type":"ask","id":10}"#,
    r#"{"type":"signal","id":8,"signal":"terminate"}"#,
    r#"{"type":"resize","id":8,"size":{"rows":1,"columns":65535}}"#,
];

/// Bodies for them.
const BODIES: &[&str] = &[
    "",
    "{}",
    r#"{"file_path":"a","content":"x","old_string":"x","new_string":"y","pattern":"(a*)*b","command":"x"}"#,
    r#"{"pattern":"**/**/**/**/*","path":"/workspace"}"#,
    r#"{"pattern":"[[[["}"#,
    r#"{"file_path":"../../a"}"#,
    r#"{"argv":["/helper"],"env":[],"cwd":"/workspace"}"#,
    r#"{"argv":["/helper"],"env":[["A","b"]],"cwd":"/workspace","terminal":{"rows":0,"columns":0},"time_limit_ms":0}"#,
    r#"{"argv":[],"env":[],"cwd":""}"#,
    r#"{"open":"read","path":"a","from":18446744073709551615}"#,
    r#"{"open":"write","path":"b","mode":4294967295}"#,
    r#"{"open":"connect","port":0}"#,
    r#"{"ask":"stat","path":"/workspace"}"#,
    r#"{"ask":"list","path":"/workspace"}"#,
    r#"{"ask":"execs"}"#,
    r#"{"ask":"exec","key":"e","stdout":1,"stderr":18446744073709551615}"#,
    r#"{"ask":"end_exec","key":"e"}"#,
];

/// Numbers from a seed (splitmix64).
struct Dice(u64);

/// What a conversation is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Frames that parse, in any order, about anything.
    Odd,
    /// Some that do not.
    Broken,
}

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 1).unwrap() % sides
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.roll(most + 1);
        (0..length)
            .map(|_| u8::try_from(self.roll(256)).unwrap())
            .collect()
    }

    fn manner(&mut self) -> Manner {
        [Manner::Odd, Manner::Broken][self.roll(2)]
    }

    fn frame(&mut self, manner: Manner) -> Vec<u8> {
        let wrong = manner == Manner::Broken && self.roll(10) == 0;
        let headers = if wrong { WRONG } else { HEADERS };
        let header = headers[self.roll(headers.len())].as_bytes().to_vec();
        let body = match self.roll(8) {
            0 => self.bytes(100_000),
            1 => vec![b'['; self.roll(100_000)],
            _ => BODIES[self.roll(BODIES.len())].as_bytes().to_vec(),
        };
        let mut frame = Vec::new();
        frame.extend_from_slice(&u32::try_from(header.len()).unwrap().to_le_bytes());
        frame.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(&body);
        if manner == Manner::Odd {
            return frame;
        }
        match self.roll(30) {
            0 => frame.truncate(self.roll(frame.len())),
            1 | 2 => {
                let at = self.roll(frame.len().min(64));
                frame[at] ^= 1 << self.roll(8);
            }
            3 => frame = self.bytes(64),
            _ => {}
        }
        frame
    }
}

/// Seeds for as long as this may take.
fn seeds() -> impl Iterator<Item = u64> {
    let seconds = std::env::var_os("FUZZ_SECONDS").and_then(|text| text.to_str()?.parse().ok());
    let (begun, lasts) = (
        Instant::now(),
        Duration::from_secs(seconds.unwrap_or(SECONDS)),
    );
    let first = u64::from(std::process::id()) << 32;
    let seeds = FOUND.iter().copied().chain(first..);
    seeds.take_while(move |_| begun.elapsed() < lasts)
}

#[test]
fn frames_are_read_or_refused_and_what_is_read_is_written_the_same() {
    for seed in seeds() {
        let mut dice = Dice(seed);
        let manner = dice.manner();
        let wire: Vec<u8> = (0..dice.roll(20))
            .flat_map(|_| dice.frame(manner))
            .collect();
        let mut from = wire.as_slice();
        while let Ok(Some((message, body))) = read_frame::<ToHand>(&mut from) {
            let mut again = Vec::new();
            write_frame(&mut again, &message, &body).unwrap();
            let read = read_frame::<ToHand>(&mut again.as_slice()).unwrap();
            assert_eq!(read, Some((message, body)), "seed {seed}");
        }
        let mut from = wire.as_slice();
        while let Ok(Some(_)) = read_frame::<FromHand>(&mut from) {}
    }
}

/// A hand alone in a root with nothing in it.
struct Hand {
    child: Child,
    line: UnixStream,
    /// Kept: a hand whose supervisor is gone ends.
    _handover: UnixStream,
}

impl Hand {
    fn start(root: &Path) -> Self {
        let (line, theirs) = UnixStream::pair().unwrap();
        let (handover, handover_theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new("prlimit");
        command
            .arg(format!("--data={MEMORY}"))
            .args([
                "unshare",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount",
                "--net",
                "chroot",
            ])
            .arg(root)
            .args(["/helper", "hand"])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(handover_theirs)))
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        // It ends by itself only if something hangs.
        line.set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        line.set_write_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Self {
            child,
            line,
            _handover: handover,
        }
    }

    /// Whether it answers the last question; false when it gave the line up.
    fn answers(&mut self) -> bool {
        loop {
            let mut prefix = [0; PREFIX_BYTES];
            match self.line.read_exact(&mut prefix) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it hangs"),
                Err(_) => return false,
                Ok(()) => {}
            }
            let (header, body) = lengths(prefix).expect("it keeps to the limits");
            let mut rest = vec![0; header + body];
            if self.line.read_exact(&mut rest).is_err() {
                return false;
            }
            let said: FromHand =
                serde_json::from_slice(&rest[..header]).expect("it speaks its language");
            if said == (FromHand::Pong { id: LAST }) {
                return true;
            }
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn whatever_a_server_says_the_hand_lives() {
    let root = tempfile::tempdir().unwrap();
    for name in ["workspace", "tmp", "root", "var/lib"] {
        std::fs::create_dir_all(root.path().join(name)).unwrap();
    }
    let program = root.path().join("helper");
    std::fs::write(&program, bundle::HELPER).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (mut answered, mut given_up) = (0, 0);
    for seed in seeds() {
        let mut dice = Dice(seed);
        let mut hand = Hand::start(root.path());
        let mut frames = Vec::new();
        write_frame(&mut frames, &ToHand::Hello { version: VERSION }, b"").unwrap();
        let manner = dice.manner();
        frames.extend((0..dice.roll(30)).flat_map(|_| dice.frame(manner)));
        write_frame(&mut frames, &ToHand::Ping { id: LAST }, b"").unwrap();
        // Refused in the middle when it has given the line up.
        let mut writer = hand.line.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            let _ = writer.write_all(&frames);
            // What was cut would wait for its rest.
            let _ = writer.shutdown(std::net::Shutdown::Write);
        });
        if hand.answers() {
            answered += 1;
        } else {
            given_up += 1;
        }
        writing.join().unwrap();
        assert!(
            hand.child.try_wait().unwrap().is_none(),
            "seed {seed}: the hand has ended"
        );
    }
    println!("{answered} answered to the end, {given_up} gave the line up");
    assert!(answered > 0 && given_up > 0);
}
