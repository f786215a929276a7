//! What a session has cost at list prices, exactly: integers only, rounded once, when it is shown. It
//! must never meet a floating-point number.

use contract::session::{Currency, Money};
use serde::{Deserialize, Serialize};

/// An amount in picodollars (10⁻¹² USD): the price of one token at any list price with six decimals a
/// million tokens is a whole number of them. Saturates at 18 million dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cost(pub u64);

impl Cost {
    /// The sum, or the largest amount there is.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Picodollars of one hour of running time (behaviours §22).
const HOUR: u128 = 80_000_000_000;
const MICROS_PER_HOUR: u128 = 3_600_000_000;
const CENT: u128 = 10_000_000_000;

/// Requests and running time together, as a fraction that nothing has rounded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListCost {
    /// In picodollars × microseconds an hour.
    scaled: u128,
}

impl ListCost {
    /// The cost of model requests and of `active` microseconds of running.
    #[must_use]
    pub fn of(requests: Cost, active: i64) -> Self {
        let active = u128::from(active.max(0).unsigned_abs());
        Self {
            scaled: u128::from(requests.0) * MICROS_PER_HOUR + active * HOUR,
        }
    }

    /// True once it has come to `cents`.
    #[must_use]
    pub fn reaches(self, cents: u64) -> bool {
        self.scaled >= u128::from(cents) * CENT * MICROS_PER_HOUR
    }

    /// As the contract shows it: whole cents, half a cent rounded up.
    #[must_use]
    pub fn shown(self) -> Money {
        let cent = CENT * MICROS_PER_HOUR;
        Money {
            amount: ((self.scaled + cent / 2) / cent).to_string(),
            currency: Currency::Usd,
        }
    }
}

/// The cap on a session's list cost. It can be set only at creation, then raised or removed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Budget {
    /// There never was one.
    #[default]
    None,
    /// There is one.
    Limit {
        /// The cap, in cents.
        cents: u64,
        /// This cap was announced as reached.
        announced: bool,
    },
    /// There was one; it cannot come back.
    Removed,
}

impl Budget {
    /// As the contract shows it.
    #[must_use]
    pub fn shown(self) -> Option<contract::session::Budget> {
        match self {
            Self::Limit { cents, .. } => Some(limit(cents)),
            Self::None | Self::Removed => None,
        }
    }
}

/// A cap in the contract's words.
#[must_use]
pub fn limit(cents: u64) -> contract::session::Budget {
    contract::session::Budget::Limit(contract::session::BudgetLimit {
        max_list_cost: Money {
            amount: cents.to_string(),
            currency: Currency::Usd,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_running_costs_eight_cents_to_the_microsecond() {
        let hour = 3_600_000_000;
        assert!(ListCost::of(Cost(0), hour).reaches(8));
        assert!(!ListCost::of(Cost(0), hour - 1).reaches(8));
        assert_eq!(ListCost::of(Cost(0), hour).shown().amount, "8");
    }

    #[test]
    fn half_a_cent_is_shown_as_one_and_less_as_none() {
        assert_eq!(ListCost::of(Cost(5_000_000_000), 0).shown().amount, "1");
        assert_eq!(ListCost::of(Cost(4_999_999_999), 0).shown().amount, "0");
    }

    #[test]
    fn requests_and_running_time_reach_a_cap_together() {
        let cent = 10_000_000_000;
        assert!(ListCost::of(Cost(92 * cent), 3_600_000_000).reaches(100));
        assert!(!ListCost::of(Cost(92 * cent - 1), 3_600_000_000).reaches(100));
    }
}
