//! Owns the ignore files that a search obeys: `.ignore`, and `.gitignore` below a git repository, as
//! ripgrep has them. It opens no file that is not a regular one.
//!
//! The `ignore` crate would read them itself, but it opens them without a look: whatever looks first, a
//! file can become a FIFO before it is opened, and hold the search for ever.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::paths::open_found;
use crate::limits::RULES_BYTES;

/// The rules of the directories that a walk has come through, each read once.
#[derive(Default)]
pub(super) struct Rules(Mutex<HashMap<PathBuf, Arc<Level>>>);

/// The rules of one directory.
struct Level {
    ignore: Option<Gitignore>,
    gitignore: Option<Gitignore>,
    /// Whether it is the top of a repository.
    git: bool,
}

impl Rules {
    /// Whether the nearest rule that names `path` says to leave it out. A `.ignore` counts more than
    /// any `.gitignore`.
    pub(super) fn leave_out(&self, path: &Path, is_directory: bool) -> bool {
        let levels: Vec<_> = path
            .ancestors()
            .skip(1)
            .map(|above| self.level(above))
            .collect();
        let by = |rules: &Option<Gitignore>| match rules.as_ref()?.matched(path, is_directory) {
            Match::None => None,
            Match::Ignore(_) => Some(true),
            Match::Whitelist(_) => Some(false),
        };
        let own = levels.iter().find_map(|level| by(&level.ignore));
        let top = levels.iter().position(|level| level.git);
        let git = || {
            let repository = &levels[..=top?];
            repository.iter().find_map(|level| by(&level.gitignore))
        };
        own.or_else(git).unwrap_or(false)
    }

    fn level(&self, directory: &Path) -> Arc<Level> {
        let mut levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(level) = levels.get(directory) {
            return Arc::clone(level);
        }
        let level = Arc::new(Level {
            ignore: read(directory, ".ignore"),
            gitignore: read(directory, ".gitignore"),
            git: directory.join(".git").symlink_metadata().is_ok(),
        });
        levels.insert(directory.to_owned(), Arc::clone(&level));
        level
    }
}

/// The rules in a file; `None` if it is not there, not a regular file, or says nothing.
fn read(directory: &Path, name: &str) -> Option<Gitignore> {
    let file = open_found(&directory.join(name)).ok()?;
    let mut bytes = Vec::new();
    file.take(RULES_BYTES).read_to_end(&mut bytes).ok()?;
    let mut rules = GitignoreBuilder::new(directory);
    for line in String::from_utf8_lossy(&bytes).lines() {
        // A line that is no rule is passed over, as git does.
        let _ = rules.add_line(None, line);
    }
    rules.build().ok().filter(|rules| !rules.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(name: &str) -> PathBuf {
        let top = std::env::temp_dir().join(format!("rules-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&top);
        fs::create_dir_all(top.join("a/b")).unwrap();
        top.canonicalize().unwrap()
    }

    #[test]
    fn the_nearest_rule_counts_and_gitignore_only_in_a_repository() {
        let top = tree("nearest");
        fs::write(top.join(".gitignore"), "*.log\n/a/only\nbuild/\n").unwrap();
        fs::write(top.join("a/.gitignore"), "!kept.log\n").unwrap();
        let out = |name: &str| Rules::default().leave_out(&top.join(name), false);
        assert!(!out("x.log"), "no repository");
        fs::create_dir(top.join(".git")).unwrap();
        assert!(out("x.log") && out("a/b/x.log") && out("a/only"));
        assert!(!out("a/kept.log") && !out("a/b/kept.log") && !out("only") && !out("build"));
        assert!(Rules::default().leave_out(&top.join("a/build"), true));
        fs::write(top.join("a/.ignore"), "kept.log\n!x.log\n").unwrap();
        assert!(out("a/kept.log") && !out("a/b/x.log") && out("x.log"));
        fs::create_dir(top.join("a/b/.git")).unwrap();
        assert!(out("a/b/kept.log"), ".ignore knows no repositories");
        assert!(!out("a/b/only.log"), "a repository in a repository");
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn what_is_not_a_file_is_no_rule_and_holds_nothing_up() {
        let top = tree("fifo");
        fs::create_dir(top.join(".git")).unwrap();
        let mode = rustix::fs::Mode::RWXU;
        for name in [".ignore", "a/.gitignore"] {
            let at = top.join(name);
            rustix::fs::mknodat(rustix::fs::CWD, &at, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }
        std::os::unix::fs::symlink("/proc/kmsg", top.join(".gitignore")).unwrap();
        assert!(!Rules::default().leave_out(&top.join("a/b/x"), false));
        fs::remove_dir_all(top).unwrap();
    }
}
