//! A workspace that was lost with its host: what the model is told of it, once, and what keeps that from being forgotten
//! by a run that does not come to tell. It brings no file back: `exports` does.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use contract::content::Block;
use contract::time::Micros;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::Mutex;

use crate::exports::Kept;

/// The loss of one workspace.
pub(crate) struct Loss {
    host: String,
    /// As of when its files are here again; empty if there were none to bring.
    regained: OnceLock<Option<Micros>>,
    /// Held by whoever brings them.
    regaining: Mutex<()>,
    told: AtomicBool,
}

/// What a binding says of one that the model was not told of.
#[derive(Deserialize)]
struct Untold {
    lost_host: String,
    restored_from: Option<String>,
}

impl Loss {
    /// With that host, and nobody has looked yet for what is left.
    pub(crate) fn of(host: String) -> Self {
        Self {
            host,
            regained: OnceLock::new(),
            regaining: Mutex::default(),
            told: AtomicBool::new(false),
        }
    }

    /// One that an earlier run of the server `me` found, and of which it did not come to tell.
    pub(crate) fn untold(binding: &RawValue, me: &str) -> Option<Self> {
        let Untold {
            lost_host,
            restored_from,
        } = serde_json::from_str(binding.get()).ok()?;
        let at = restored_from.and_then(|at| Micros::parse(&at));
        (lost_host != me).then(|| Self {
            regained: OnceLock::from(at),
            ..Self::of(lost_host)
        })
    }

    /// Has `restored` bring the files, once. Says as of when they are, if it has.
    pub(crate) async fn regain(
        &self,
        restored: impl Future<Output = Result<Option<Kept>, sandbox::Error>>,
    ) -> Result<Option<Micros>, sandbox::Error> {
        let _one = self.regaining.lock().await;
        if self.regained.get().is_some() {
            return Ok(None);
        }
        let at = restored.await?.map(|kept| kept.at);
        Ok(*self.regained.get_or_init(|| at))
    }

    /// What the model is to be told with its next result, unless it was.
    pub(crate) fn to_tell(&self) -> Option<Block> {
        if self.told.load(Ordering::Relaxed) {
            return None;
        }
        let gone = format!(
            "Note from the platform: the host {} that held this session's workspace is gone",
            self.host
        );
        Some(Block::text(match self.regained.get() {
            Some(Some(at)) => format!(
                "{gone}, and with it all processes that ran there. The files are back as they were after the turn that \
                 ended at {at}; what was changed later is lost."
            ),
            Some(None) | None => format!(
                "{gone}, and with it all files and processes that were there. The workspace is new and empty."
            ),
        }))
    }

    /// It was told, and that is in the log.
    pub(crate) fn is_told(&self) {
        self.told.store(true, Ordering::Relaxed);
    }

    /// Adds to what a binding says what is still to be told, once there is a workspace here, as in one that is `used`.
    pub(crate) fn note(&self, binding: &mut serde_json::Value, used: bool) {
        let is_here = used || self.regained.get().is_some();
        if is_here && !self.told.load(Ordering::Relaxed) {
            binding["lost_host"] = json!(self.host);
            binding["restored_from"] = json!(self.regained.get().copied().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;

    fn says(loss: &Loss) -> String {
        serde_json::to_string(&loss.to_tell().unwrap()).unwrap()
    }

    #[test]
    fn what_was_not_told_is_told_by_a_later_run_in_the_same_words() {
        for at in [None, Some(Micros(1_700_000_000_000_000))] {
            let loss = Loss::of("r1".to_owned());
            loss.regained.get_or_init(|| at);
            let mut binding = json!({"sandbox": "s"});
            loss.note(&mut binding, true);
            let binding = to_raw_value(&binding).unwrap();
            let later = Loss::untold(&binding, "r2").unwrap();
            assert_eq!(says(&loss), says(&later));
            assert!(says(&loss).contains("the host r1"), "{}", says(&loss));
            assert_eq!(says(&loss).contains("are back"), at.is_some());
            later.is_told();
            assert!(later.to_tell().is_none());
            // The one that was gone is back, and has its own workspace.
            assert!(Loss::untold(&binding, "r1").is_none());
            let mut binding = json!({"sandbox": "s"});
            later.note(&mut binding, true);
            let binding = to_raw_value(&binding).unwrap();
            assert!(Loss::untold(&binding, "r2").is_none());
        }
    }
}
