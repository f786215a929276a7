//! What can be counted from outside, for Prometheus at `/metrics`. Names, units and help stand here;
//! docs/metrics.md is made from them. No label ever holds what a client chose.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric as _,
};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};

/// What every name begins with.
const PREFIX: &str = "longhand";

/// A limit that a request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Limit {
    /// Requests a second of a key.
    Rate,
    /// Streams of a key.
    Streams,
    /// Bytes of request bodies that are held at once.
    Bodies,
    /// Room on the disk.
    Disk,
    /// Time between two pieces of a body.
    BodyIdle,
    /// Connections at once.
    Connections,
    /// A reader that fell behind its stream.
    StreamLag,
    /// Bytes of answers kept for a workspace.
    Kept,
}

impl Limit {
    const ALL: [Self; 8] = [
        Self::Rate,
        Self::Streams,
        Self::Bodies,
        Self::Disk,
        Self::BodyIdle,
        Self::Connections,
        Self::StreamLag,
        Self::Kept,
    ];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLimit {
    limit: Limit,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    method: &'static str,
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: &'static str,
    status: u16,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Answered, Counter>,
    took: Family<OfRoute, Histogram, fn() -> Histogram>,
    hits: Family<OfLimit, Counter>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(…)")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        // From 1 ms to half a minute; a stream counts until its head.
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let took = Family::new_with_constructor(buckets);
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix(PREFIX)),
            requests: Family::default(),
            took,
            hits: Family::default(),
        };
        let mut registry = metrics
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        registry.register(
            "gateway_requests",
            "Requests that were answered, by route and status",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "gateway_request_duration",
            "From the head of a request to the head of its answer",
            Unit::Seconds,
            metrics.took.clone(),
        );
        registry.register(
            "gateway_limit_hits",
            "Requests or streams that met a limit, by limit",
            metrics.hits.clone(),
        );
        drop(registry);
        // From zero: a limit that is met for the first time is a rise, not a beginning.
        for limit in Limit::ALL {
            drop(metrics.hits.get_or_create(&OfLimit { limit }));
        }
        metrics
    }

    /// A limit was met.
    pub(crate) fn hit(&self, limit: Limit) {
        self.hits.get_or_create(&OfLimit { limit }).inc();
    }

    /// A request was answered. Method and route are of the table, never what a client chose.
    pub(crate) fn answered(
        &self,
        (method, route): (&'static str, &'static str),
        status: u16,
        seconds: f64,
    ) {
        self.requests
            .get_or_create(&Answered {
                method,
                route,
                status,
            })
            .inc();
        self.took
            .get_or_create(&OfRoute { method, route })
            .observe(seconds);
    }

    /// Registers a number that is read when somebody asks. `name` has no prefix and, for a count, no
    /// `_total`.
    pub fn read(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let reading = Reading {
            name,
            help,
            kind,
            read: Box::new(read),
        };
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(reading));
    }

    /// Registers a metric of the caller's own.
    pub fn register(&self, name: &'static str, help: &'static str, metric: impl Metric) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register(name, help, metric);
    }

    /// The same of one that is measured in seconds; `name` has no unit.
    pub fn register_seconds(&self, name: &'static str, help: &'static str, metric: impl Metric) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_with_unit(name, help, Unit::Seconds, metric);
    }

    /// Everything in OpenMetrics text.
    ///
    /// # Errors
    /// A metric cannot be written: a defect.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        encode(&mut out, &registry)?;
        Ok(out)
    }
}

/// How a number moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only up.
    Count,
    /// Up and down.
    Level,
}

struct Reading {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    read: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = format!("{}.", self.help);
        let value = (self.read)();
        match self.kind {
            Kind::Count => {
                let metric = ConstCounter::new(value);
                let kind = metric.metric_type();
                metric.encode(encoder.encode_descriptor(self.name, &help, None, kind)?)
            }
            Kind::Level => {
                let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
                let kind = metric.metric_type();
                metric.encode(encoder.encode_descriptor(self.name, &help, None, kind)?)
            }
        }
    }
}
