//! Waiting for a condition with a deadline: the one place of the test code that sleeps.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::setting;

/// How long a test waits for something that should come soon.
#[must_use]
pub fn deadline() -> Duration {
    Duration::from_secs(30) * setting::patience()
}

/// Asks `probe` until it gives something.
///
/// # Panics
/// Nothing came before [`deadline`]; `what` says what was waited for.
pub async fn until<T, F, P>(what: &str, mut probe: P) -> T
where
    F: Future<Output = Option<T>>,
    P: FnMut() -> F,
{
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(
            begun.elapsed() < deadline(),
            "waited {:?} in vain for {what}",
            deadline()
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// `future` within [`deadline`].
///
/// # Panics
/// It took longer; `what` says what was waited for.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(deadline(), future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {:?} in vain for {what}", deadline()),
    }
}

/// Lets time pass: for moments that a seed chose, never as a guess of how long something takes.
pub async fn pass(time: Duration) {
    let begun = Instant::now();
    // The timer's wheel is coarse (1 ms); the rest is spun, because windows are shorter than that.
    if let Some(coarse) = time.checked_sub(Duration::from_millis(2)) {
        tokio::time::sleep(coarse).await;
    }
    while begun.elapsed() < time {
        tokio::task::yield_now().await;
    }
}
