//! What an orchestrator takes for the time and for chance. Beside this it reads no clock of the host but the
//! runtime's, which a test may hold still, and draws nothing.

use contract::ids::compose;
use contract::time::Micros;

/// The time and chance of one server.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// The time of day; it may go back.
    pub now: fn() -> Micros,
    /// 128 fresh random bits.
    pub entropy: fn() -> u128,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            now: store::clock::now,
            entropy: store::clock::entropy,
        }
    }
}

impl Clock {
    pub(crate) fn now(&self) -> Micros {
        (self.now)()
    }

    pub(crate) fn entropy(&self) -> u128 {
        (self.entropy)()
    }

    /// The bits of a fresh id.
    pub(crate) fn id_bits(&self) -> u128 {
        compose(self.now().millis(), self.entropy())
    }
}
