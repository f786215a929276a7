//! Owns the time by which commands are limited: it stands still while the sandbox is paused. It pauses nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two looks at a clock that stands still.
const PATIENCE: Duration = Duration::from_millis(200);

/// Cheap to clone; all clones are one clock.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    paused: Option<Instant>,
    /// The pauses that are over.
    lost: Duration,
}

impl Clock {
    /// The time, pauses left out.
    pub(crate) fn now(&self) -> Instant {
        let state = self.lock();
        let at = state.paused.unwrap_or_else(Instant::now);
        at.checked_sub(state.lost).unwrap_or(at)
    }

    /// How long to wait at most before looking at `deadline` again; `None` when it has passed.
    pub(crate) fn left(&self, deadline: Instant) -> Option<Duration> {
        let left = deadline.checked_duration_since(self.now())?;
        let stands = self.lock().paused.is_some();
        Some(if stands { left.max(PATIENCE) } else { left })
    }

    /// Stands still from now on, if it does not already.
    pub(crate) fn pause(&self) {
        self.lock().paused.get_or_insert_with(Instant::now);
    }

    /// Goes on; how long it stood still.
    pub(crate) fn resume(&self) -> Option<Duration> {
        let mut state = self.lock();
        let stood = state.paused.take()?.elapsed();
        state.lost += stood;
        Some(stood)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_takes_nothing_of_the_time_that_is_left() {
        let clock = Clock::default();
        let deadline = clock.now() + Duration::from_millis(40);
        clock.pause();
        let stands = clock.now();
        let until = Instant::now() + Duration::from_millis(60);
        while Instant::now() < until {
            std::thread::yield_now();
        }
        assert_eq!(clock.now(), stands);
        assert!(clock.left(deadline).unwrap() >= PATIENCE);
        assert!(clock.resume().unwrap() >= Duration::from_millis(60));
        assert!(clock.resume().is_none());
        assert!(clock.left(deadline).unwrap() <= Duration::from_millis(40));
    }
}
