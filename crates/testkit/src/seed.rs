//! Seeded numbers for tests: the same seed gives the same choices, so that a failure can be run again. Not
//! for anything that must be unguessable.

/// A stream of numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Seed {
    /// The stream of that seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0. The bias is below 2⁻³² for the small bounds of tests.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A time below `bound`, in steps of 10 µs.
    pub fn moment(&mut self, bound: std::time::Duration) -> std::time::Duration {
        let steps = u64::try_from(bound.as_micros() / 10)
            .unwrap_or(u64::MAX)
            .max(1);
        std::time::Duration::from_micros(self.below(steps) * 10)
    }
}

#[cfg(test)]
mod tests {
    use super::Seed;

    #[test]
    fn a_seed_gives_the_same_numbers_again() {
        let draw = |seed| {
            let mut s = Seed::new(seed);
            [
                s.below(1_000),
                s.below(1_000),
                s.below(1_000),
                s.below(1_000),
            ]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
