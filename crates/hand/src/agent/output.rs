//! Owns what the commands of one shell print: the answer of the one that runs, and the log of what goes on in the
//! background after its command has been answered. It starts nothing.
//!
//! Each command prints into a pipe of its own, which it reaches by a name: so what an earlier one left running and
//! prints later is told from what the next one prints. Where no such pipe can be made, it prints where the shell
//! does.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

use super::ansi::Stripper;
use super::notes::KEPT;
use crate::limits::{BACKGROUND_LOG_BYTES, BACKGROUND_PIPES, BASH_OUTPUT_BYTES};

/// What one drain takes at most, so that a background writer cannot keep it busy for ever.
const DRAIN_BYTES: usize = 1 << 20;
/// Stack of the thread that reads.
const STACK: usize = 64 * 1024;
/// Where the names of pipes are: memory, and gone with the sandbox.
const NAMES: &str = "/run/longhand-output";
/// In [`KEPT`].
const LOG: &str = "background.log";
/// Characters of a command that stand above what it printed.
const COMMAND_CHARS: usize = 100;

/// The output of one shell and its commands.
pub(crate) struct Outputs {
    state: Mutex<State>,
    /// Wakes who reads, because there is another pipe.
    changed: OwnedFd,
}

struct State {
    /// What the shell itself prints, and commands without a pipe of their own; none when it has ended.
    shell: Option<Arc<File>>,
    /// Of the command that runs.
    now: Option<Source>,
    /// Of those that were answered and have left something running.
    earlier: Vec<Source>,
    stripper: Stripper,
    /// The last bytes of the answer, and whether there were more.
    tail: VecDeque<u8>,
    cut: bool,
    log: Arc<Mutex<Log>>,
}

struct Source {
    pipe: Arc<File>,
    name: PathBuf,
    command: String,
    /// Whether nobody can write to it any more.
    ended: bool,
}

/// What the background has printed, of all shells of this sandbox and those before.
pub(crate) struct Log {
    dir: PathBuf,
    /// Of which pipe the last line was.
    last: Option<PathBuf>,
    grew: bool,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self::below(Path::new(KEPT))
    }

    fn below(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            last: None,
            grew: false,
        }
    }

    /// What each caller is to hear once: where the log is, if there is one.
    pub(crate) fn news(&self) -> Option<String> {
        let path = self.dir.join(LOG);
        self.grew.then(|| {
            format!(
                "[What processes in the background print after their command was answered is in {}.]",
                path.display()
            )
        })
    }

    fn add(&mut self, source: &Source, bytes: &[u8]) {
        self.grew = true;
        // A disk that is full, or something of the agent's in its place: then it is not kept.
        let _ = self.write(source, bytes);
    }

    fn write(&mut self, source: &Source, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let path = self.dir.join(LOG);
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(&path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if metadata.len() >= BACKGROUND_LOG_BYTES {
            fs::rename(&path, self.dir.join(format!("{LOG}.1")))?;
            self.last = None;
            return self.write(source, bytes);
        }
        if self.last.as_ref() != Some(&source.name) {
            writeln!(file, "--- {}", source.command)?;
            self.last = Some(source.name.clone());
        }
        file.write_all(bytes)
    }
}

impl Outputs {
    /// Reads `shell` and every pipe of a command until nobody can write to any of them.
    ///
    /// # Errors
    /// The errno of eventfd, or that there is no thread.
    pub(crate) fn collect(shell: File, log: &Arc<Mutex<Log>>) -> io::Result<Arc<Self>> {
        let state = State {
            shell: Some(Arc::new(shell)),
            now: None,
            earlier: Vec::new(),
            stripper: Stripper::default(),
            tail: VecDeque::new(),
            cut: false,
            log: Arc::clone(log),
        };
        let outputs = Arc::new(Self {
            state: Mutex::new(state),
            changed: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let read = Arc::clone(&outputs);
        let thread = thread::Builder::new().name("output".into());
        thread.stack_size(STACK).spawn(move || read.read())?;
        Ok(outputs)
    }

    /// The name of the pipe that the next command is to print into, if it gets one.
    pub(crate) fn begin(&self, command: &str) -> Option<String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut state = self.lock();
        if state.earlier.len() >= BACKGROUND_PIPES {
            return None;
        }
        let name = format!("{NAMES}.{}", NEXT.fetch_add(1, Ordering::Relaxed));
        mknodat(CWD, &name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).ok()?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let pipe = open(name.as_str(), flags, Mode::empty()).ok()?;
        let command = command
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c });
        state.now = Some(Source {
            pipe: Arc::new(File::from(pipe)),
            name: PathBuf::from(&name),
            command: command.take(COMMAND_CHARS).collect(),
            ended: false,
        });
        drop(state);
        self.wake();
        Some(name)
    }

    /// What was printed since the last call, the command that ran included. What it left running prints to the log
    /// from now on.
    pub(crate) fn take(&self) -> String {
        let mut state = self.lock();
        state.drain();
        if let Some(now) = state.now.take() {
            // It is open where it is needed.
            let _ = fs::remove_file(&now.name);
            if !now.ended {
                state.earlier.push(now);
            }
        }
        let cut = std::mem::take(&mut state.cut);
        let tail = Vec::from(std::mem::take(&mut state.tail));
        drop(state);
        self.wake();
        // A cut may have hit the middle of a character.
        let start = tail
            .iter()
            .position(|byte| byte & 0xc0 != 0x80)
            .unwrap_or(tail.len());
        let tail = if cut { &tail[start..] } else { &tail[..] };
        let text = String::from_utf8_lossy(tail);
        let text = text.trim_end_matches(['\n', '\r']);
        if cut {
            format!("[output truncated]\n{text}")
        } else {
            text.to_owned()
        }
    }

    /// Empties the pipes also between calls, so that a background writer never blocks.
    fn read(&self) {
        loop {
            let Some(pipes) = self.lock().pipes() else {
                return;
            };
            let changed = PollFd::new(&self.changed, PollFlags::IN);
            let mut fds = vec![changed];
            let pipes = pipes.iter();
            fds.extend(pipes.map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
            // Interrupted, or none can be waited for: the look below tells.
            let _ = poll(&mut fds, None);
            let _ = rustix::io::read(&self.changed, &mut [0; 8]);
            self.lock().drain();
        }
    }

    fn wake(&self) {
        // The counter can only be full when it is readable already.
        let _ = rustix::io::write(&self.changed, &1u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Those that somebody can write to; `None` when there are none and will be none.
    fn pipes(&self) -> Option<Vec<Arc<File>>> {
        let sources = self.now.iter().chain(&self.earlier);
        if self.shell.is_none() && self.now.is_none() && self.earlier.is_empty() {
            return None;
        }
        let open = sources.filter(|source| !source.ended);
        let pipes = self.shell.iter().chain(open.map(|source| &source.pipe));
        Some(pipes.cloned().collect())
    }

    /// Takes what is in the pipes now.
    fn drain(&mut self) {
        let Self {
            shell,
            now,
            earlier,
            stripper,
            tail,
            cut,
            log,
        } = self;
        let mut answer = |piece: &[u8]| {
            stripper.strip(piece, |byte| tail.push_back(byte));
            if tail.len() > BASH_OUTPUT_BYTES {
                tail.drain(..tail.len() - BASH_OUTPUT_BYTES);
                *cut = true;
            }
        };
        if shell
            .as_ref()
            .is_some_and(|pipe| !emptied(pipe, &mut answer))
        {
            *shell = None;
        }
        if let Some(now) = now {
            now.ended = now.ended || !emptied(&now.pipe, &mut answer);
        }
        earlier.retain(|source| {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            emptied(&source.pipe, |piece| log.add(source, piece))
        });
    }
}

/// Takes what is in a pipe now; false when nobody can write to it any more.
fn emptied(pipe: &File, take: impl FnMut(&[u8])) -> bool {
    emptied_until(pipe, take, is_over)
}

fn emptied_until(
    mut pipe: &File,
    mut take: impl FnMut(&[u8]),
    is_over: impl Fn(&File) -> bool,
) -> bool {
    let mut piece = [0; 16 * 1024];
    let (mut taken, mut over) = (0, false);
    while taken < DRAIN_BYTES {
        match pipe.read(&mut piece) {
            Ok(0) if over => return false,
            // Whoever writes little may have come, written and gone since that read: it is over when nothing is read
            // after that was seen.
            Ok(0) if is_over(pipe) => over = true,
            Ok(0) => return true,
            Ok(n) => {
                taken += n;
                take(&piece[..n]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
    true
}

/// Whether all who wrote to it have gone: one that nobody has opened yet reads the same.
fn is_over(pipe: &File) -> bool {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    poll(&mut fds, Some(&now)).is_err() || fds[0].revents().contains(PollFlags::HUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_while_nobody_looks_is_not_lost_with_who_wrote_it() {
        let name = std::env::temp_dir().join(format!("hand-fifo-{}", std::process::id()));
        let _ = fs::remove_file(&name);
        mknodat(CWD, &name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipe = File::from(open(&name, flags, Mode::empty()).unwrap());
        let mut heard = Vec::new();
        let is_open = emptied_until(
            &pipe,
            |piece| heard.extend_from_slice(piece),
            |pipe| {
                // Between the read and the look, a whole command.
                if !is_over(pipe) {
                    fs::write(&name, "yes").unwrap();
                }
                is_over(pipe)
            },
        );
        assert!(!is_open);
        assert_eq!(heard, b"yes");
        fs::remove_file(name).unwrap();
    }

    #[test]
    fn a_log_that_is_full_begins_anew_and_the_one_before_is_kept() {
        let dir = std::env::temp_dir().join(format!("hand-log-{}", std::process::id()));
        let mut log = Log::below(&dir);
        assert_eq!(log.news(), None);
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        let source = Source {
            pipe: Arc::new(File::from(pipe)),
            name: PathBuf::from("/one"),
            command: "serve".to_owned(),
            ended: false,
        };
        log.add(&source, b"first\n");
        assert!(log.news().unwrap().contains("background.log"));
        let line = vec![b'x'; usize::try_from(BACKGROUND_LOG_BYTES).unwrap()];
        log.add(&source, &line);
        log.add(&source, b"last\n");
        let now = fs::read_to_string(dir.join(LOG)).unwrap();
        assert_eq!(now, "--- serve\nlast\n");
        let before = fs::read_to_string(dir.join("background.log.1")).unwrap();
        assert!(before.starts_with("--- serve\nfirst\nxxx"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
