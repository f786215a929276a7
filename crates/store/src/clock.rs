//! The clock and the randomness that callers bring to the store: the one place that reads either. It
//! keeps no state.

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

/// 128 fresh random bits.
#[must_use]
pub fn entropy() -> u128 {
    let mut bits = [0u8; 16];
    // aws-lc's generator fails only if the kernel's does; there is nothing to fall back to.
    aws_lc_rs::rand::fill(&mut bits).expect("the kernel gives random bytes");
    u128::from_be_bytes(bits)
}

/// The bits of a fresh id: `AgentId::from_bits(clock::id_bits(now))`.
#[must_use]
pub fn id_bits(now: Micros) -> u128 {
    compose(now.millis(), entropy())
}
