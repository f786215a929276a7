//! Owns who calls: to each caller a shell of its own, and what it has not heard yet of what became of the sandbox.
//! It runs no tool.
//!
//! The one without a name is always there. The others come with their first call, and stay until the server says
//! who there is. What is kept of each for the next sandbox of this name has a directory of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::clock::Clock;
use super::notes::{KEPT, Note, Notes};
use super::output::Log;
use super::reaper::Reaper;
use super::tools::Bash;
use super::variables::Variables;
use super::workers;
use crate::limits::{CALLERS, KEY_CHARS, LEFT_CALLERS};

/// In [`KEPT`]: a directory for each caller that has a name.
const NAMED: &str = "callers";

/// One who calls.
pub(crate) struct Caller {
    pub(crate) bash: Bash,
    dir: PathBuf,
    /// Read by its first call, so that nobody who only wants to know who there is waits for a disk.
    notes: OnceLock<Notes>,
}

impl Caller {
    pub(crate) fn notes(&self) -> &Notes {
        self.notes.get_or_init(|| Notes::open(&self.dir))
    }
}

#[derive(Clone)]
pub(crate) struct Callers(Arc<Shared>);

struct Shared {
    reaper: Reaper,
    clock: Clock,
    variables: Variables,
    log: Arc<Mutex<Log>>,
    /// By name; `None` is the first.
    table: Mutex<BTreeMap<Option<String>, Arc<Caller>>>,
}

impl Callers {
    pub(crate) fn new(reaper: Reaper, clock: &Clock, variables: Variables) -> Self {
        let callers = Self(Arc::new(Shared {
            reaper,
            clock: clock.clone(),
            variables,
            log: Arc::new(Mutex::new(Log::new())),
            table: Mutex::default(),
        }));
        callers.get(None);
        callers
    }

    /// The caller of that name; `None` if there is no room for another. Never waits.
    pub(crate) fn get(&self, name: Option<&str>) -> Option<Arc<Caller>> {
        let mut table = self.lock();
        let name = name.map(str::to_owned);
        if let Some(caller) = table.get(&name) {
            return Some(Arc::clone(caller));
        }
        if table.len() >= CALLERS {
            return None;
        }
        let caller = Arc::new(self.0.caller(name.as_deref()));
        table.insert(name, Arc::clone(&caller));
        Some(caller)
    }

    /// The numbers of the shells that were started.
    pub(crate) fn shells(&self) -> Vec<i32> {
        let table = self.lock();
        table.values().filter_map(|it| it.bash.pid()).collect()
    }

    /// Each one hears it with its next result, which waits until it is written.
    pub(crate) fn tell(&self, note: &Note) {
        for caller in self.all() {
            caller.notes().add(Note::clone(note));
        }
    }

    /// Keeps what the shells of the next sandbox go on from, and for each caller what `note` makes of the directory
    /// its shell was in.
    ///
    /// # Errors
    /// The first note that could not be kept; all were tried.
    pub(crate) fn rest(&self, note: impl Fn(Option<String>) -> String) -> io::Result<()> {
        let callers = self.all();
        let (done, kept) = sync_channel(callers.len());
        for caller in callers {
            let done = done.clone();
            let keep = move || {
                let cwd = caller.bash.keep();
                // There is room for each.
                let _ = done.send((caller, cwd));
            };
            // Side by side: one that does not answer holds up no other.
            beside(keep);
        }
        drop(done);
        let mut failed = Ok(());
        for (caller, cwd) in kept {
            let told = caller.notes().keep(note(cwd));
            failed = failed.and(told);
        }
        failed
    }

    /// Ends the shells of all but those and the first, and what was kept for them.
    pub(crate) fn keep(&self, names: &[String]) {
        let gone: Vec<Arc<Caller>> = {
            let mut table = self.lock();
            let is_kept = |name: &Option<String>| name.as_ref().is_none_or(|it| names.contains(it));
            let all = std::mem::take(&mut *table);
            let (kept, gone) = all.into_iter().partition(|(name, _)| is_kept(name));
            *table = kept;
            let gone: BTreeMap<_, _> = gone;
            gone.into_values().collect()
        };
        let names = names.to_vec();
        let end = move || {
            for caller in &gone {
                caller.bash.end();
            }
            forget(&Path::new(KEPT).join(NAMED), &names);
        };
        // Killing waits.
        beside(end);
    }

    fn all(&self) -> Vec<Arc<Caller>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Option<String>, Arc<Caller>>> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn caller(&self, name: Option<&str>) -> Caller {
        let dir = match name {
            None => PathBuf::from(KEPT),
            Some(name) => Path::new(KEPT).join(NAMED).join(name),
        };
        let (reaper, clock) = (self.reaper.clone(), self.clock.clone());
        let (variables, log) = (self.variables.clone(), Arc::clone(&self.log));
        Caller {
            bash: Bash::new(reaper, clock, variables, log, dir.clone()),
            dir,
            notes: OnceLock::new(),
        }
    }
}

/// Whether a caller may be called so: it is the name of a directory, and part of a command.
pub(crate) fn may_be_named(name: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    (1..=KEY_CHARS).contains(&name.len()) && name.bytes().all(fits)
}

/// Removes what was kept for others than `names`.
fn forget(dir: &Path, names: &[String]) {
    let Ok(kept) = fs::read_dir(dir) else { return };
    for entry in kept.take(LEFT_CALLERS).flatten() {
        let name = entry.file_name();
        if !names.iter().any(|it| name.to_str() == Some(it)) {
            // It is the agent's own file system: what cannot be removed is in nobody's way.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Does it on a thread of its own; where there is none to be had, at once.
pub(crate) fn beside(job: impl FnOnce() + Send + 'static) {
    let job = Arc::new(Mutex::new(Some(job)));
    let same = Arc::clone(&job);
    if workers::run(move || take(&same)).is_err() {
        take(&job);
    }
}

/// Does it, if nobody has.
fn take(job: &Mutex<Option<impl FnOnce()>>) {
    let job = job.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(job) = job {
        job();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_name_is_no_path_and_no_command() {
        for name in ["sthr_011CZkZ", "a", "A-1", &"x".repeat(KEY_CHARS)] {
            assert!(may_be_named(name), "{name}");
        }
        let long = "x".repeat(KEY_CHARS + 1);
        for name in ["", "..", "a/b", "a b", "$(x)", "é", "a\n", &long] {
            assert!(!may_be_named(name), "{name}");
        }
    }

    #[test]
    fn what_was_kept_for_those_who_are_gone_is_removed() {
        let dir = std::env::temp_dir().join(format!("hand-callers-{}", std::process::id()));
        for name in ["gone", "there"] {
            fs::create_dir_all(dir.join(name)).unwrap();
            fs::write(dir.join(name).join("note"), "x").unwrap();
        }
        forget(&dir, &["there".to_owned()]);
        assert!(dir.join("there/note").exists());
        assert!(!dir.join("gone").exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
