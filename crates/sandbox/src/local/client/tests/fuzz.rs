//! The client against hands that say anything: frames that are right but for their place, cut, repeated, broken,
//! and bytes that are none. Every call ends, and nothing is held beyond the limits.

use std::time::Instant;

use hand::wire::Refusal;

use super::*;
use crate::dice::Dice;

/// How long this goes on in every run of the tests; `FUZZ_SECONDS` for a long one.
const SECONDS: u64 = 20;
/// Seeds that once found something. They run first.
const FOUND: &[u64] = &[0, 1, 0xffff_ffff_ffff_ffff];

impl Dice {
    fn message(&mut self) -> FromHand {
        // Mostly ids that are under way, some that are not.
        let id = [1, 2, 3, 4, 5, 6, 7, u64::MAX][self.roll(8) as usize];
        let stream = [Stream::Stdout, Stream::Stderr][self.roll(2) as usize];
        let why = [Refusal::Busy, Refusal::Invalid, Refusal::Missing][self.roll(3) as usize];
        match self.roll(12) {
            0 => FromHand::Hello { version: VERSION },
            1 => FromHand::Done { id },
            2 => FromHand::Cancelled { id },
            3 => FromHand::Unknown { id },
            4 => FromHand::Refused {
                id,
                why,
                problem: "x".repeat(self.roll(2_000) as usize),
            },
            5 => FromHand::Pong { id },
            6 | 7 => FromHand::Spawned { id },
            8 | 9 => FromHand::Chunk { id, stream },
            10 => FromHand::StdinAck { id },
            _ => FromHand::Exited {
                id,
                code: Some(0),
                signal: None,
                timed_out: self.roll(2) == 0,
            },
        }
    }

    fn frame(&mut self) -> Vec<u8> {
        let body = match self.roll(4) {
            0 => output("an answer"),
            1 => output("x".repeat(self.roll(200_000) as usize)),
            2 => self.bytes(CHUNK_BYTES as u64 * 2),
            _ => Vec::new(),
        };
        let mut frame = Vec::new();
        write_frame(&mut frame, &self.message(), &body).unwrap();
        match self.roll(10) {
            0 => frame.truncate(self.roll(frame.len() as u64) as usize),
            1 => {
                let at = self.roll(frame.len().min(64) as u64) as usize;
                frame[at] ^= 1 << self.roll(8);
            }
            2 => frame = self.bytes(64),
            _ => {}
        }
        frame
    }
}

/// One conversation; it returns when every call of it has ended.
async fn conversation(seed: u64) {
    let mut dice = Dice(seed);
    let (client, mut hand) = connected().await;
    let calls = async {
        let spawned = client.spawn(Command::new(["/bin/cat"]));
        tokio::join!(
            client.tool(None, bash(1_000), CancellationToken::new()),
            client.tool(None, call(Tool::Read, json!({})), CancellationToken::new()),
            client.ping(),
            async {
                if let Ok(mut process) = spawned.await {
                    let mut taken = vec![0; CHUNK_BYTES];
                    if let Some(stdout) = &mut process.stdout {
                        let _ = stdout.read(&mut taken).await;
                    }
                }
            }
        )
    };
    let noise = async {
        // They are asked first: an answer that comes before its question would end everything at once.
        for _ in 0..dice.roll(5) {
            hand.hear().await;
        }
        for _ in 0..dice.roll(40) {
            if hand.0.write_all(&dice.frame()).await.is_err() {
                break;
            }
        }
        drop(hand);
    };
    let (answers, ()) = tokio::join!(calls, noise);
    if let Ok(answer) = answers.0 {
        assert!(
            serde_json::to_vec(&answer).unwrap().len() <= 1 << 21,
            "seed {seed}: a long answer"
        );
    }
    assert!(!client.is_open(), "seed {seed}: the line is gone");
}

#[tokio::test]
async fn whatever_a_hand_says_every_call_ends() {
    let seconds = std::env::var_os("FUZZ_SECONDS").and_then(|text| text.to_str()?.parse().ok());
    let (begun, lasts) = (
        Instant::now(),
        Duration::from_secs(seconds.unwrap_or(SECONDS)),
    );
    let first = u64::from(std::process::id()) << 32;
    let mut done = 0;
    for seed in FOUND.iter().copied().chain(first..) {
        let ended = timeout(Duration::from_secs(60), conversation(seed)).await;
        assert!(ended.is_ok(), "seed {seed}: a call hangs");
        done += 1;
        if begun.elapsed() > lasts {
            break;
        }
    }
    println!("{done} conversations from seed {first}");
}
