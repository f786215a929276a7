//! What the keeper writes down of its sandboxes and tells of them: every start, rest and loss, once. It decides
//! nothing.

use std::time::Duration;

use super::place::{Held, Place};
use super::{Keeper, Terms};
use crate::diary::{Diary, Entry, Step, What, micros};
use crate::error::Error;
use crate::provider::{Ending, How, Sandbox, SandboxId};

/// What happened, before it has a time and a number.
pub(super) struct News {
    pub(super) what: What,
    pub(super) took: Duration,
    pub(super) why: Option<String>,
    pub(super) steps: Vec<Step>,
}

impl News {
    pub(super) fn of(what: What) -> Self {
        Self {
            what,
            took: Duration::ZERO,
            why: None,
            steps: Vec::new(),
        }
    }

    pub(super) fn because(what: What, why: &str) -> Self {
        Self {
            why: Some(why.to_owned()),
            ..Self::of(what)
        }
    }
}

impl Keeper {
    /// Has `hear` told of everything that happens to any sandbox from now on, whoever it belongs to. The first
    /// who asks is told; it must not wait.
    pub fn tell(&self, hear: impl Fn(&Entry) + Send + Sync + 'static) {
        // A second one is a mistake of whoever wires this, and harms nobody.
        let _ = self.0.heard_by.set(Box::new(hear));
    }

    /// What is written down of a sandbox.
    ///
    /// # Errors
    /// Those of [`Provider::recall`](crate::Provider::recall).
    pub async fn diary(&self, id: &SandboxId) -> Result<Diary, Error> {
        let written = self.0.provider.recall(id).await?;
        Ok(written.map_or_else(Diary::default, |bytes| Diary::read(&bytes)))
    }

    /// What happened to a sandbox that runs since this was asked last, oldest first. Each is given once; after a
    /// crash perhaps again.
    ///
    /// Cancel safe: yes, but what was about to be given may be lost.
    pub async fn news(&self, id: &SandboxId) -> Vec<Entry> {
        let Some(place) = self.map().get(id).cloned() else {
            return Vec::new();
        };
        let mut held = place.held.lock().await;
        let Some(diary) = held.diary.as_mut().filter(|diary| diary.has_news()) else {
            return Vec::new();
        };
        let news = diary.news();
        self.save(id, &mut held).await;
        news
    }

    /// Has a sandbox that runs here kept in another way from now on. Never waits.
    pub fn agree(&self, id: &SandboxId, terms: Terms) {
        let Some(place) = self.map().get(id).cloned() else {
            return;
        };
        place.agree(&terms);
        let (keeper, id) = (self.clone(), id.clone());
        // Whoever holds it may be waiting for room.
        self.0.tasks.spawn(async move {
            let agreed = async {
                let mut held = place.held.lock().await;
                if held.running.is_some() && keeper.open(&id, &mut held).await.agree(&terms) {
                    keeper.save(&id, &mut held).await;
                }
            };
            keeper.0.closing.run_until_cancelled(agreed).await
        });
    }

    /// Its diary, read if need be. One that cannot be read begins anew.
    pub(super) async fn open<'a>(&self, id: &SandboxId, held: &'a mut Held) -> &'a mut Diary {
        if held.diary.is_none() {
            let diary = self.diary(id).await.unwrap_or_else(|error| {
                tracing::warn!(sandbox = %id, %error, "what was written down of a sandbox cannot be read");
                Diary::default()
            });
            held.diary = Some(diary);
        }
        held.diary.get_or_insert_default()
    }

    /// Adds to its diary, says so in the log, and tells whoever counts.
    pub(super) async fn note(&self, id: &SandboxId, held: &mut Held, news: News) {
        let (now, what) = ((self.0.now)(), news.what);
        let entry = Entry {
            n: 0,
            at: now,
            what,
            took: micros(news.took),
            why: news.why,
            steps: news.steps,
        };
        let entry = self.open(id, held).await.add(entry);
        let (why, took_ms) = (entry.why.as_deref(), news.took.as_secs_f64() * 1e3);
        match what {
            What::Lost | What::Failed => {
                tracing::warn!(sandbox = %id, why, took_ms, "sandbox {}", what.name());
            }
            What::Created | What::Restored | What::Adopted | What::Paused | What::Stopped => {
                let steps = shown(&entry.steps);
                tracing::debug!(sandbox = %id, why, took_ms, steps, "sandbox {}", what.name());
            }
        }
        if let Some(hear) = self.0.heard_by.get() {
            hear(entry);
        }
    }

    /// Writes its diary down. One that cannot be written explains less after a restart, and stops nobody.
    pub(super) async fn save(&self, id: &SandboxId, held: &mut Held) {
        let Some(diary) = &mut held.diary else { return };
        let written = diary.written();
        if let Err(error) = self.0.provider.remember(id, &written).await {
            tracing::warn!(sandbox = %id, %error, "what happened to a sandbox is not written down");
        }
    }

    /// What a sandbox that has just started is to say of the one before, if that was lost.
    pub(super) fn loss(diary: &Diary) -> Option<String> {
        let why = diary.loss()?;
        Some(format!(
            "[The sandbox was lost since the last call: {why}. Files outside /tmp and /dev/shm are there; the \
             shell is a new one, in /workspace, and all that ran in the background is gone: start it again if it \
             is needed.]"
        ))
    }

    /// It ended though nobody wanted that, and is looked after no more. Waits until it is gone.
    pub(super) async fn lose(&self, id: &SandboxId, place: &Place, held: &mut Held) {
        if let Some(running) = held.running.take() {
            let why = end_of(running.as_ref()).await;
            self.note(id, held, News::because(What::Lost, why)).await;
            self.save(id, held).await;
        }
        place.rests();
        held.slot = None;
    }
}

async fn end_of(lost: &dyn Sandbox) -> &'static str {
    if lost.stop().await.is_err() {
        return "it did not answer any more";
    }
    match lost.ending() {
        Some(Ending::OutOfMemory) => "it ran out of memory, and the kernel ended it",
        Some(Ending::Killed) => "its first process was killed from outside",
        Some(Ending::Silent) | None => "it did not answer any more",
    }
}

/// Whose word on a sandbox counts after a restart, and what it was found to be.
pub(super) fn kind(how: How, begun: bool) -> What {
    match how {
        How::TakenOver => What::Adopted,
        How::Made | How::Ready if begun => What::Restored,
        How::Made | How::Ready => What::Created,
    }
}

fn shown(steps: &[Step]) -> String {
    let steps = steps
        .iter()
        .map(|step| format!("{} {} µs", step.name, step.took));
    steps.collect::<Vec<_>>().join(", ")
}

impl Diary {
    /// Takes over how the sandbox is to be kept; whether that changed anything.
    pub(super) fn agree(&mut self, terms: &Terms) -> bool {
        let lifetime = terms
            .lifetime
            .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let workspace = terms.workspace.as_deref().map(str::to_owned);
        let workspace = workspace.or_else(|| self.workspace.clone());
        let same = self.workspace == workspace
            && self.lifetime_ms == lifetime
            && self.awake == terms.awake;
        (self.workspace, self.lifetime_ms, self.awake) = (workspace, lifetime, terms.awake);
        !same
    }

    /// How the sandbox was to be kept.
    pub(super) fn terms(&self) -> Terms {
        Terms {
            workspace: self.workspace.as_deref().map(Into::into),
            lifetime: self.lifetime_ms.map(Duration::from_millis),
            awake: self.awake,
            // What it has stands beside its files.
            volumes: None,
            // Whoever has a diary has a workspace, which has what it lies on.
            provider: None,
            template: None,
        }
    }
}
