//! Owns what is written down of a sandbox beside its files: whose it is, how it is to be kept, and what became of
//! it. It is the truth about nothing but its time to live; whoever loses it loses explanations.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::limits::{DIARY_BYTES, DIARY_ENTRIES, WHY_CHARS};

/// What is known of a sandbox, from its first start on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Diary {
    /// Whose it is, once that was said.
    pub workspace: Option<String>,
    /// How long it may run from [`Diary::since`] on, in milliseconds.
    pub lifetime_ms: Option<u64>,
    /// When its time began to count, in microseconds since 1970: at its first start, and at the first after its
    /// time was over.
    pub since: Option<i64>,
    /// Whether it is neither paused nor put to sleep for idleness.
    pub awake: bool,
    /// What happened to it last, oldest first.
    entries: VecDeque<Entry>,
    /// The number of the next entry.
    next: u64,
    /// The first number that its session has not heard of.
    told: u64,
}

/// One thing that happened to a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place among all of this sandbox, from 0.
    pub n: u64,
    /// When it was over, in microseconds since 1970.
    pub at: i64,
    /// What.
    pub what: What,
    /// For how long somebody waited for it, in microseconds.
    pub took: u64,
    /// Why, in words for people and models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What the time was spent on, one after another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// A part of the work of making a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// One of a few plain words.
    pub name: String,
    /// In microseconds.
    pub took: u64,
}

impl Step {
    /// A step that took so long.
    #[must_use]
    pub fn new(name: &str, took: Duration) -> Self {
        Self {
            name: name.to_owned(),
            took: micros(took),
        }
    }
}

/// The steps of the start of a sandbox, one after another; each is a span of the trace, too.
pub(crate) struct Steps {
    start: tracing::Span,
    now: (&'static str, Instant, tracing::Span),
    done: Vec<Step>,
}

impl Steps {
    /// The first one begins.
    pub(crate) fn begin(first: &'static str) -> Self {
        let start = tracing::debug_span!("sandbox_start");
        Self {
            now: Self::step(&start, first),
            start,
            done: Vec::new(),
        }
    }

    /// That one is done, and the next begins.
    pub(crate) fn then(&mut self, next: &'static str) {
        let next = Self::step(&self.start, next);
        let (name, since, _) = std::mem::replace(&mut self.now, next);
        self.done.push(Step::new(name, since.elapsed()));
    }

    /// The last one is done: all of them.
    pub(crate) fn end(mut self) -> Vec<Step> {
        let (name, since, _) = &self.now;
        self.done.push(Step::new(name, since.elapsed()));
        self.done
    }

    fn step(start: &tracing::Span, name: &'static str) -> (&'static str, Instant, tracing::Span) {
        let span = tracing::debug_span!(parent: start, "sandbox_step", name);
        (name, Instant::now(), span)
    }
}

/// What can happen to a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Started for the first time.
    Created,
    /// Started again, with the files it had.
    Restored,
    /// Found running, as an earlier server left it.
    Adopted,
    /// It stands still because nobody uses it.
    Paused,
    /// Ended in order; its files, and where its shell was, are kept.
    Stopped,
    /// Ended without anybody wanting that; its files are kept.
    Lost,
    /// It could not be started.
    Failed,
}

impl What {
    /// Everything that can happen.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Restored,
        Self::Adopted,
        Self::Paused,
        Self::Stopped,
        Self::Lost,
        Self::Failed,
    ];

    /// The name it is stored and served under.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Restored => "restored",
            Self::Adopted => "adopted",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }

    /// Whether it ran when that was over.
    const fn runs(self) -> bool {
        match self {
            Self::Created | Self::Restored | Self::Adopted | Self::Paused => true,
            Self::Stopped | Self::Lost | Self::Failed => false,
        }
    }
}

impl Diary {
    /// From what was written down; what nobody can read any more is as good as nothing.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// To be written down. The oldest entries give way to what one diary may hold.
    pub(crate) fn written(&mut self) -> Vec<u8> {
        loop {
            // Plain data: it cannot fail to be written.
            let bytes = serde_json::to_vec(self).unwrap_or_default();
            if bytes.len() <= DIARY_BYTES || self.entries.pop_front().is_none() {
                return bytes;
            }
        }
    }

    /// What happened last, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Adds what happened and gives it its number.
    pub(crate) fn add(&mut self, mut entry: Entry) -> &Entry {
        entry.n = self.next;
        self.next += 1;
        if let Some(why) = &mut entry.why {
            why.truncate(why.floor_char_boundary(WHY_CHARS));
        }
        if self.entries.len() >= DIARY_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        self.entries.back().expect("it was just added")
    }

    /// Whether it ever ran.
    pub(crate) fn has_begun(&self) -> bool {
        self.since.is_some() || self.entries.iter().any(|entry| entry.what.runs())
    }

    /// Whether it ran when the last entry was made.
    pub(crate) fn says_it_runs(&self) -> bool {
        self.last().is_some_and(|entry| entry.what.runs())
    }

    /// Why it was lost, if that is the last that is known of it.
    pub(crate) fn loss(&self) -> Option<&str> {
        // It may have been tried in vain since.
        let mut settled = self.entries.iter().rev();
        let last = settled.find(|entry| entry.what != What::Failed)?;
        (last.what == What::Lost).then_some(last.why.as_deref().unwrap_or("nobody knows why"))
    }

    fn last(&self) -> Option<&Entry> {
        self.entries.back()
    }

    /// When its time is over, in microseconds since 1970.
    pub(crate) fn ends(&self) -> Option<i64> {
        let lifetime = i64::try_from(self.lifetime_ms?.saturating_mul(1_000)).unwrap_or(i64::MAX);
        Some(self.since?.saturating_add(lifetime))
    }

    /// It starts at that time: its time counts on, or anew if it was over.
    pub(crate) fn begin(&mut self, now: i64) {
        if self.since.is_none() || self.ends().is_some_and(|ends| now >= ends) {
            self.since = Some(now);
        }
    }

    /// Whether there is something that its session has not heard of.
    pub(crate) fn has_news(&self) -> bool {
        self.told < self.next
    }

    /// What its session has not heard of. From now on it has.
    pub(crate) fn news(&mut self) -> Vec<Entry> {
        let told = std::mem::replace(&mut self.told, self.next);
        let new = self.entries.iter().filter(|entry| entry.n >= told);
        new.cloned().collect()
    }
}

/// A time in whole microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(what: What, why: Option<&str>) -> Entry {
        Entry {
            n: 0,
            at: 1,
            what,
            took: 0,
            why: why.map(str::to_owned),
            steps: Vec::new(),
        }
    }

    #[test]
    fn its_time_counts_from_the_first_start_and_anew_when_it_was_over() {
        let mut diary = Diary {
            lifetime_ms: Some(1),
            ..Diary::default()
        };
        diary.begin(5_000);
        assert_eq!(diary.ends(), Some(6_000));
        diary.begin(5_999);
        assert_eq!(
            diary.ends(),
            Some(6_000),
            "a second start gives no more time"
        );
        diary.begin(6_000);
        assert_eq!(diary.ends(), Some(7_000));
    }

    #[test]
    fn it_keeps_the_latest_and_tells_each_once_also_after_it_was_written_down() {
        let mut diary = Diary::default();
        for _ in 0..DIARY_ENTRIES {
            diary.add(entry(What::Paused, None));
        }
        assert_eq!(diary.news().len(), DIARY_ENTRIES);
        diary.add(entry(What::Lost, Some(&"é".repeat(WHY_CHARS))));
        let mut again = Diary::read(&diary.written());
        assert_eq!(again, diary);
        assert_eq!(again.entries().count(), DIARY_ENTRIES);
        let news = again.news();
        assert_eq!(news.len(), 1);
        assert_eq!(news[0].n, DIARY_ENTRIES as u64);
        assert!(again.loss().is_some_and(|why| why.len() <= WHY_CHARS));
        assert!(!again.has_news());
        assert_eq!(Diary::read(b"{\"entries\": 7"), Diary::default());
    }

    #[test]
    fn a_start_that_failed_hides_no_loss() {
        let mut diary = Diary::default();
        diary.add(entry(What::Created, None));
        assert!(diary.says_it_runs() && diary.loss().is_none());
        diary.add(entry(What::Lost, Some("why")));
        diary.add(entry(What::Failed, None));
        assert_eq!(diary.loss(), Some("why"));
        diary.add(entry(What::Restored, None));
        assert_eq!(diary.loss(), None);
    }
}
