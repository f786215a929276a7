//! What happens to sandboxes, counted. It hears; it keeps and starts nothing.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use sandbox::{DiaryEntry, What};

use crate::metrics::Metrics;

/// The steps of making a sandbox that there are: see docs/operations.md.
const STEPS: [&str; 8] = [
    "room",
    "pool",
    "lock",
    "turn",
    "files",
    "supervisor",
    "hand",
    "network",
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Happened {
    what: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Done {
    step: &'static str,
}

/// Counts and times what happens to sandboxes.
#[derive(Debug, Clone)]
pub struct SandboxMetrics {
    happened: Family<Happened, Counter>,
    took: Family<Happened, Histogram, fn() -> Histogram>,
    steps: Family<Done, Histogram, fn() -> Histogram>,
}

impl SandboxMetrics {
    /// Nothing has happened yet.
    #[must_use]
    pub fn register(metrics: &Metrics) -> Self {
        // From 20 µs to 20 s.
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(2e-5, 2.0, 21));
        let new = Self {
            happened: Family::default(),
            took: Family::new_with_constructor(buckets),
            steps: Family::new_with_constructor(buckets),
        };
        metrics.register(
            "sandbox_events",
            "What happened to sandboxes: created, restored, adopted, paused, stopped, lost, failed",
            new.happened.clone(),
        );
        metrics.register_seconds(
            "sandbox_event_duration",
            "For how long somebody waited for that",
            new.took.clone(),
        );
        metrics.register_seconds(
            "sandbox_step_duration",
            "The steps of creating or restoring a sandbox; pool: one that waited was taken",
            new.steps.clone(),
        );
        // From zero: the first loss is a rise, not a beginning.
        for what in What::ALL {
            let what = what.name();
            drop(new.happened.get_or_create(&Happened { what }));
            drop(new.took.get_or_create(&Happened { what }));
        }
        for step in STEPS {
            drop(new.steps.get_or_create(&Done { step }));
        }
        new
    }

    /// Something happened. Never waits.
    pub fn hear(&self, entry: &DiaryEntry) {
        let what = entry.what.name();
        self.happened.get_or_create(&Happened { what }).inc();
        let took = self.took.get_or_create(&Happened { what });
        took.observe(seconds(entry.took));
        for step in &entry.steps {
            // A label is never what somebody else chose.
            if let Some(step_name) = STEPS.iter().find(|name| **name == step.name) {
                let took = self.steps.get_or_create(&Done { step: step_name });
                took.observe(seconds(step.took));
            }
        }
    }
}

fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}
