//! What the model requests behind one fact have used together. Prices are the plane's.

use contract::event::ModelUsage;
use model::Usage;
use session::{Cost, Used};

use crate::plane::Plane;

/// A sum of usages, each priced on its own: a price may depend on the length of one request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bill {
    usage: Usage,
    cost: Option<Cost>,
}

impl Bill {
    pub(crate) fn add(&mut self, plane: &dyn Plane, usage: &Usage) {
        self.merge(Self {
            usage: *usage,
            cost: plane.price(usage),
        });
    }

    /// Of a model beside the session's own.
    pub(crate) fn add_of(&mut self, plane: &dyn Plane, model: &str, usage: &Usage) {
        self.merge(Self {
            usage: *usage,
            cost: plane.price_of(model, usage),
        });
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.usage = self.usage.plus(&other.usage);
        self.cost = match (self.cost, other.cost) {
            (Some(a), Some(b)) => Some(a.plus(b)),
            (a, b) => a.or(b),
        };
    }

    /// In the words of the session core.
    pub(crate) fn used(&self) -> Used {
        used(&self.usage, self.cost)
    }
}

/// A usage and its price in the words of the session core.
#[must_use]
pub fn used(usage: &Usage, cost: Option<Cost>) -> Used {
    Used {
        usage: ModelUsage {
            input_tokens: usage.input,
            output_tokens: usage.output,
            cache_creation_input_tokens: usage
                .cache_creation_5m
                .saturating_add(usage.cache_creation_1h),
            cache_read_input_tokens: usage.cache_read,
            speed: None,
        },
        cache_1h: usage.cache_creation_1h,
        cost,
    }
}
