//! The clock and the randomness that callers bring to the store: the one place that reads either. It
//! keeps nothing but random bits that nobody has had yet.

use std::cell::RefCell;

use contract::ids::compose;
use contract::time::Micros;

/// The time. It may go back when the host's clock does; the log's own times never do.
#[must_use]
#[allow(clippy::disallowed_methods)]
pub fn now() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let micros = since.map_or(0, |d| d.as_micros());
    Micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// Random bytes that one call to the generator makes: it costs about as much for these as for 16.
const DRAWN: usize = 512;

thread_local! {
    /// Drawn and not yet given out; this process never forks.
    static LEFT: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(DRAWN));
}

/// 128 fresh random bits.
#[must_use]
pub fn entropy() -> u128 {
    LEFT.with_borrow_mut(|left| {
        if left.is_empty() {
            left.resize(DRAWN, 0);
            // aws-lc's generator fails only if the kernel's does; there is nothing to fall back to.
            aws_lc_rs::rand::fill(left).expect("the kernel gives random bytes");
        }
        let bits = *left.last_chunk::<16>().expect("16 divides what is drawn");
        left.truncate(left.len() - 16);
        u128::from_be_bytes(bits)
    })
}

/// The bits of a fresh id: `AgentId::from_bits(clock::id_bits(now))`.
#[must_use]
pub fn id_bits(now: Micros) -> u128 {
    compose(now.millis(), entropy())
}
