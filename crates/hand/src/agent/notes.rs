//! Owns what one caller is to hear with its next tool result: what was frozen, and what an earlier sandbox
//! of this name left. It decides nothing of what is said.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{Mode, OFlags, open};

use crate::limits::{NOTE_BYTES, NOTES};
use crate::wire::Output;

/// Where a sandbox leaves what the next one of its name goes on from. It is the agent's own file system:
/// what it writes there it says and does to itself.
pub(crate) const KEPT: &str = "/var/lib/longhand";

/// One thing to be said, which somebody may still be writing: whoever says it waits for that. Empty, it is nothing.
pub(crate) type Note = Arc<OnceLock<String>>;

/// What is yet to be said.
pub(crate) struct Notes {
    pending: Mutex<Vec<Note>>,
    file: PathBuf,
}

impl Notes {
    /// With what an earlier sandbox left in `dir`.
    pub(crate) fn open(dir: &Path) -> Self {
        let file = dir.join("note");
        let left = read(&file).ok();
        // Said once, by this one.
        let _ = fs::remove_file(&file);
        let left = left.map(|bytes| written(String::from_utf8_lossy(&bytes).into_owned()));
        Self {
            pending: Mutex::new(left.into_iter().collect()),
            file,
        }
    }

    /// For the next result.
    pub(crate) fn add(&self, note: Note) {
        let mut pending = self.lock();
        if pending.len() >= NOTES {
            pending.remove(0);
        }
        pending.push(note);
    }

    /// For the first result of the next sandbox, after what nobody has heard of this one.
    pub(crate) fn keep(&self, note: String) -> io::Result<()> {
        let mut pending = self.lock();
        pending.push(written(note));
        let most = usize::try_from(NOTE_BYTES).unwrap_or(usize::MAX);
        let mut text = joined(&pending);
        text.truncate(text.floor_char_boundary(most));
        if let Some(dir) = self.file.parent() {
            fs::create_dir_all(dir)?;
        }
        // A link in its place is replaced, not followed.
        let _ = fs::remove_file(&self.file);
        fs::write(&self.file, text)
    }

    /// The result with what is to be said under it.
    pub(crate) fn told(&self, mut output: Output) -> Output {
        let pending = std::mem::take(&mut *self.lock());
        let notes = joined(&pending);
        if notes.is_empty() {
            return output;
        }
        output.add(&notes);
        output
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Note>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A note that nobody writes on any more.
pub(crate) fn written(text: String) -> Note {
    Arc::new(OnceLock::from(text))
}

/// All that they say, once all of them are written.
fn joined(notes: &[Note]) -> String {
    let texts = notes.iter().map(|note| note.wait().as_str());
    let said: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
    said.join("\n")
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(file, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(NOTE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Content;

    fn text(output: &Output) -> &str {
        match output.content.as_slice() {
            [Content::Text { text }] => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_one_sandbox_keeps_the_next_one_says_once() {
        let dir = std::env::temp_dir().join(format!("hand-notes-{}", std::process::id()));
        let notes = Notes::open(&dir);
        assert_eq!(text(&notes.told(Output::text("plain"))), "plain");
        notes.add(written("[frozen]".to_owned()));
        notes.keep("[ended]".to_owned()).unwrap();
        let next = Notes::open(&dir);
        assert_eq!(
            text(&next.told(Output::text("out"))),
            "out\n[frozen]\n[ended]"
        );
        assert_eq!(text(&next.told(Output::text(""))), "");
        assert_eq!(text(&Notes::open(&dir).told(Output::text("out"))), "out");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn who_hears_nothing_for_long_is_told_the_latest() {
        let notes = Notes::open(Path::new("/nowhere"));
        for n in 0..=NOTES {
            notes.add(written(format!("[{n}]")));
        }
        let told = notes.told(Output::text("out"));
        assert!(text(&told).starts_with("out\n[1]\n[2]"), "{told:?}");
        assert!(text(&told).ends_with(&format!("[{NOTES}]")), "{told:?}");
    }

    #[test]
    fn a_result_waits_for_a_note_that_somebody_still_writes() {
        let notes = Notes::open(Path::new("/nowhere"));
        let (nothing, late) = (written(String::new()), Note::default());
        notes.add(nothing);
        notes.add(Arc::clone(&late));
        let said = std::thread::spawn(move || notes.told(Output::text("out")));
        // Whichever of the two comes first.
        std::thread::spawn(move || late.set("[late]".to_owned()));
        assert_eq!(text(&said.join().unwrap()), "out\n[late]");
    }

    #[test]
    fn a_note_that_is_a_pipe_holds_up_nobody() {
        let dir = std::env::temp_dir().join(format!("hand-pipe-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.join("note"),
            rustix::fs::FileType::Fifo,
            Mode::RWXU,
            0,
        );
        made.unwrap();
        assert_eq!(text(&Notes::open(&dir).told(Output::text("out"))), "out");
        fs::remove_dir_all(&dir).unwrap();
    }
}
