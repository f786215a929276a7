//! What one client may take of what all clients share: bytes of request bodies, streams, requests a second.
//! It counts; what a refusal says stands here too, and nothing is decided on who the client is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use contract::error::{ApiError, ErrorKind};
use contract::ids::ApiKeyId;
use tokio::time::Instant;

use crate::limits::{RATES_KEPT, Rate};
use crate::metrics::{Limit, Metrics};

/// What is taken now.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    bodies: AtomicUsize,
    streams: Mutex<HashMap<ApiKeyId, usize>>,
    rates: Mutex<HashMap<ApiKeyId, Bucket>>,
}

/// What a key may still ask.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    requests: f64,
    at: Instant,
}

impl Bucket {
    fn filled(self, rate: Rate, now: Instant) -> Self {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let requests = self.requests + passed * f64::from(rate.per_second);
        Self {
            requests: requests.min(f64::from(rate.burst)),
            at: now,
        }
    }
}

impl Shares {
    /// Bytes of request bodies that are held now.
    pub(crate) fn bodies(&self) -> usize {
        self.bodies.load(Ordering::Relaxed)
    }

    /// Streams that are open now, but those of the control socket.
    pub(crate) fn streams(&self) -> usize {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.values().sum()
    }

    /// Takes one request of the key's rate.
    ///
    /// # Errors
    /// 429, with the seconds to wait.
    pub(crate) fn request(
        &self,
        key: ApiKeyId,
        rate: Rate,
        now: Instant,
        metrics: &Metrics,
    ) -> Result<(), ApiError> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.len() >= RATES_KEPT && !rates.contains_key(&key) {
            // A bucket that is full says nothing that a new one would not.
            rates.retain(|_, bucket| bucket.filled(rate, now).requests < f64::from(rate.burst));
        }
        let full = Bucket {
            requests: f64::from(rate.burst),
            at: now,
        };
        let bucket = rates.entry(key).or_insert(full);
        *bucket = bucket.filled(rate, now);
        if bucket.requests >= 1.0 {
            bucket.requests -= 1.0;
            return Ok(());
        }
        // At most a second, as a rate is at least one request a second.
        let wait = 1;
        metrics.hit(Limit::Rate);
        Err(ApiError::new(
            ErrorKind::RateLimit,
            format!(
                "this API key may make {} requests a second; wait as `retry-after` says",
                rate.per_second
            ),
        )
        .retry_after(wait))
    }

    /// Takes one stream of those a key may have open. No key, no bound: the operator on the control socket.
    ///
    /// # Errors
    /// 429.
    pub(crate) fn stream(
        self: &Arc<Self>,
        key: Option<ApiKeyId>,
        most: usize,
        metrics: &Metrics,
    ) -> Result<Seat, ApiError> {
        if let Some(key) = key {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            let open = streams.entry(key).or_default();
            if *open >= most {
                metrics.hit(Limit::Streams);
                return Err(ApiError::new(
                    ErrorKind::RateLimit,
                    format!(
                        "this API key has {most} streams open, the most it may have; close some"
                    ),
                )
                .retry_after(5));
            }
            *open += 1;
        }
        Ok(Seat {
            shares: Arc::clone(self),
            key,
        })
    }

    /// Begins to hold a request body.
    pub(crate) fn hold(self: &Arc<Self>, most: usize, metrics: &Arc<Metrics>) -> Hold {
        Hold {
            shares: Arc::clone(self),
            metrics: Arc::clone(metrics),
            most,
            bytes: 0,
        }
    }
}

/// One open stream of a key.
#[derive(Debug)]
pub(crate) struct Seat {
    shares: Arc<Shares>,
    key: Option<ApiKeyId>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut streams = self
            .shares
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = streams.get_mut(&key) {
            *open -= 1;
            if *open == 0 {
                streams.remove(&key);
            }
        }
    }
}

/// The bytes of one request body, until the request is answered.
#[derive(Debug)]
pub(crate) struct Hold {
    shares: Arc<Shares>,
    metrics: Arc<Metrics>,
    most: usize,
    bytes: usize,
}

impl Hold {
    /// Takes room for `more` bytes; false if there is none.
    pub(crate) fn take(&mut self, more: usize) -> bool {
        let before = self.shares.bodies.fetch_add(more, Ordering::Relaxed);
        if before + more > self.most {
            self.shares.bodies.fetch_sub(more, Ordering::Relaxed);
            self.metrics.hit(Limit::Bodies);
            return false;
        }
        self.bytes += more;
        true
    }

    /// The body stopped coming.
    pub(crate) fn stalled(&self) {
        self.metrics.hit(Limit::BodyIdle);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shares.bodies.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(n: u128) -> ApiKeyId {
        ApiKeyId::from_bits(n)
    }

    #[test]
    fn a_key_gets_its_burst_and_then_its_rate_and_others_are_not_touched() {
        let (shares, metrics) = (Shares::default(), Metrics::new());
        let rate = Rate {
            per_second: 2,
            burst: 3,
        };
        let begin = Instant::now();
        let ask = |n, ms| {
            let now = begin + Duration::from_millis(ms);
            shares.request(key(n), rate, now, &metrics)
        };
        for _ in 0..3 {
            ask(1, 0).unwrap();
        }
        let refused = ask(1, 0).unwrap_err();
        assert_eq!((refused.status, refused.retry_after), (429, Some(1)));
        ask(2, 0).unwrap();
        ask(1, 500).unwrap();
        ask(1, 500).unwrap_err();
    }

    #[test]
    fn a_stream_that_ends_makes_room_for_another() {
        let (shares, metrics) = (Arc::new(Shares::default()), Metrics::new());
        let first = shares.stream(Some(key(1)), 1, &metrics).unwrap();
        assert_eq!(
            shares.stream(Some(key(1)), 1, &metrics).unwrap_err().status,
            429
        );
        shares.stream(Some(key(2)), 1, &metrics).unwrap();
        drop(first);
        shares.stream(Some(key(1)), 1, &metrics).unwrap();
        assert_eq!(shares.streams(), 0, "nothing is left of those that ended");
    }

    #[test]
    fn bytes_come_back_when_the_request_is_answered() {
        let shares = Arc::new(Shares::default());
        let metrics = Arc::new(Metrics::new());
        let mut first = shares.hold(10, &metrics);
        assert!(first.take(6) && first.take(4) && !first.take(1));
        let mut second = shares.hold(10, &metrics);
        assert!(!second.take(1));
        drop(first);
        assert!(second.take(10));
        drop(second);
        assert_eq!(shares.bodies(), 0);
    }
}
