//! Owns what is known of processes that outlive the server they were started by: the end of what they print, and how
//! they ended. It starts none.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Pid;

use super::reaper::Exit;
use super::tree;
use crate::limits::{COMMAND_CHARS, KEPT_EXECS, KEPT_OUTPUT_BYTES, KEY_CHARS};
use crate::wire::{Exec, Printed, Refusal, Stream};

/// All of them, by their names. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    execs: BTreeMap<String, Arc<One>>,
    next: u64,
}

/// One of them.
pub(crate) struct One {
    number: u64,
    command: String,
    stdout: Mutex<Tail>,
    stderr: Mutex<Tail>,
    life: Mutex<Life>,
}

/// The end of what it has printed on one stream.
#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
    /// Bytes that there were in all.
    all: u64,
}

enum Life {
    Begins,
    Runs(Pid),
    Ended(Exit, bool),
}

impl Kept {
    /// Room for one more under that name, which no other may have; the oldest that has ended makes room.
    pub(crate) fn add(&self, key: &str, argv: &[String]) -> Result<Arc<One>, (Refusal, String)> {
        if key.is_empty() || key.len() > KEY_CHARS {
            let problem = format!("a program's name is not of 1 to {KEY_CHARS} bytes");
            return Err((Refusal::Invalid, problem));
        }
        let mut table = self.lock();
        if table.execs.contains_key(key) {
            let problem = format!("the program {key} was started before");
            return Err((Refusal::Invalid, problem));
        }
        if table.execs.len() >= KEPT_EXECS {
            let ended = table.execs.iter().filter(|(_, one)| one.has_ended());
            let oldest = ended.min_by_key(|(_, one)| one.number);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                let problem = format!("more than {KEPT_EXECS} programs at once");
                return Err((Refusal::Busy, problem));
            };
            table.execs.remove(&oldest);
        }
        let one = Arc::new(One {
            number: table.next,
            command: argv.join(" ").chars().take(COMMAND_CHARS).collect(),
            stdout: Mutex::default(),
            stderr: Mutex::default(),
            life: Mutex::new(Life::Begins),
        });
        table.next += 1;
        table.execs.insert(key.to_owned(), Arc::clone(&one));
        Ok(one)
    }

    /// Nobody will ask for it.
    pub(crate) fn forget(&self, key: &str) {
        self.lock().execs.remove(key);
    }

    /// All of them, oldest first.
    pub(crate) fn list(&self) -> Vec<Exec> {
        let mut all: Vec<_> = {
            let table = self.lock();
            let all = table.execs.iter();
            all.map(|(key, one)| (key.clone(), Arc::clone(one)))
                .collect()
        };
        all.sort_by_key(|(_, one)| one.number);
        all.into_iter().map(|(key, one)| one.told(key)).collect()
    }

    /// What is known of one, and what it has printed from there on.
    pub(crate) fn look(&self, key: &str, stdout: u64, stderr: u64) -> Option<Printed> {
        let one = self.lock().execs.get(key).cloned()?;
        // Before the output: what has ended by then prints nothing more.
        let exec = one.told(key.to_owned());
        let (stdout_from, stdout) = one.tail(Stream::Stdout).since(stdout);
        let (stderr_from, stderr) = one.tail(Stream::Stderr).since(stderr);
        Some(Printed {
            exec,
            stdout_from,
            stdout,
            stderr_from,
            stderr,
        })
    }

    /// Ends it; whether there is such a one.
    pub(crate) fn end(&self, key: &str) -> bool {
        let Some(one) = self.lock().execs.get(key).cloned() else {
            return false;
        };
        // Held until it is killed: its number is its own as long as its end is not known.
        let life = one.life();
        if let Life::Runs(pid) = *life {
            tree::kill_group(pid);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl One {
    /// It runs, as that process.
    pub(crate) fn runs(&self, pid: Pid) {
        *self.life() = Life::Runs(pid);
    }

    /// It has ended.
    pub(crate) fn ended(&self, exit: Exit, timed_out: bool) {
        *self.life() = Life::Ended(exit, timed_out);
    }

    /// It has printed that.
    pub(crate) fn printed(&self, stream: Stream, bytes: &[u8]) {
        self.tail(stream).add(bytes);
    }

    fn has_ended(&self) -> bool {
        matches!(*self.life(), Life::Ended(..))
    }

    fn told(&self, key: String) -> Exec {
        let (exit, timed_out) = match *self.life() {
            Life::Ended(exit, timed_out) => (Some(exit), timed_out),
            Life::Begins | Life::Runs(_) => (None, false),
        };
        Exec {
            key,
            command: self.command.clone(),
            ended: exit.is_some(),
            code: exit.and_then(|exit| exit.code),
            signal: exit.and_then(|exit| exit.signal),
            timed_out,
            stdout_bytes: self.tail(Stream::Stdout).all,
            stderr_bytes: self.tail(Stream::Stderr).all,
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail(&self, stream: Stream) -> MutexGuard<'_, Tail> {
        let tail = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    fn add(&mut self, bytes: &[u8]) {
        self.all = self.all.saturating_add(bytes.len() as u64);
        let last = bytes.len().saturating_sub(KEPT_OUTPUT_BYTES);
        let over = (self.bytes.len() + bytes.len() - last).saturating_sub(KEPT_OUTPUT_BYTES);
        self.bytes.drain(..over);
        self.bytes.extend(&bytes[last..]);
    }

    /// In base64, what there is from that byte on, and which the first of them is.
    fn since(&self, from: u64) -> (u64, String) {
        let first = self.all - self.bytes.len() as u64;
        let from = from.clamp(first, self.all);
        let skipped = usize::try_from(from - first).unwrap_or(self.bytes.len());
        let bytes: Vec<u8> = self.bytes.range(skipped..).copied().collect();
        (from, STANDARD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded((from, text): (u64, String)) -> (u64, Vec<u8>) {
        (from, STANDARD.decode(text).unwrap())
    }

    #[test]
    fn of_a_long_output_the_end_is_kept_and_its_place_is_known() {
        let mut tail = Tail::default();
        tail.add(b"first ");
        assert_eq!(decoded(tail.since(0)), (0, b"first ".to_vec()));
        assert_eq!(decoded(tail.since(6)), (6, Vec::new()));
        assert_eq!(decoded(tail.since(99)), (6, Vec::new()));
        tail.add(&vec![b'x'; KEPT_OUTPUT_BYTES - 1]);
        let (from, kept) = decoded(tail.since(0));
        assert_eq!((from, kept.len(), kept[0]), (5, KEPT_OUTPUT_BYTES, b' '));
        tail.add(&vec![b'y'; 3 * KEPT_OUTPUT_BYTES]);
        let (from, kept) = decoded(tail.since(7));
        assert_eq!(from, tail.all - KEPT_OUTPUT_BYTES as u64);
        assert!(kept.len() == KEPT_OUTPUT_BYTES && kept.iter().all(|byte| *byte == b'y'));
    }

    #[test]
    fn the_oldest_that_has_ended_makes_room_and_those_that_run_do_not() {
        let kept = Kept::default();
        let argv = ["true".to_owned()];
        let all: Vec<_> = (0..KEPT_EXECS)
            .map(|n| kept.add(&format!("exec_{n}"), &argv).unwrap())
            .collect();
        let full = kept.add("more", &argv).err().unwrap();
        assert_eq!(full.0, Refusal::Busy);
        let exit = Exit {
            code: Some(3),
            signal: None,
        };
        all[2].ended(exit, false);
        all[1].ended(exit, true);
        kept.add("more", &argv).unwrap();
        assert!(kept.look("exec_1", 0, 0).is_none());
        let exec = kept.look("exec_2", 0, 0).unwrap().exec;
        assert!(exec.ended && exec.code == Some(3) && !exec.timed_out);
        let again = kept.add("exec_2", &argv).err().unwrap();
        assert_eq!(again.0, Refusal::Invalid);
        assert_eq!(kept.list().len(), KEPT_EXECS);
    }
}
