//! Percentiles and rounding of what was measured. Pure.

use std::time::Duration;

use serde_json::{Value, json};

/// Latencies of one slice, and how long it took.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sample {
    pub(crate) latencies: Vec<Duration>,
    pub(crate) took: Duration,
}

impl Sample {
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64().max(1e-9)
    }

    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        percentile(&self.latencies, percent)
    }

    /// Several slices as one.
    pub(crate) fn joined(slices: &[Self]) -> Self {
        Self {
            latencies: slices
                .iter()
                .flat_map(|slice| slice.latencies.iter().copied())
                .collect(),
            took: slices.iter().map(|slice| slice.took).sum(),
        }
    }

    pub(crate) fn shown(&self) -> Value {
        json!({
            "per_second": self.rate().round(),
            "p50_ms": millis(self.percentile(50)),
            "p99_ms": millis(self.percentile(99)),
            "requests": self.latencies.len(),
        })
    }
}

/// The value below which `percent` of 100 of them lie; zero for none.
pub(crate) fn percentile(values: &[Duration], percent: usize) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

/// The median of numbers; 0 for none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted = values.into_iter().collect::<Vec<_>>();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Milliseconds with three digits.
pub(crate) fn millis(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e3)
}

/// Three digits.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
