//! What a failed model request is to the session: which error, and what may help. It retries nothing; the
//! session core decides whether and when.

use contract::event::SessionErrorKind;
use contract::ids::EventId;
use model::{Class, Error, Failure};
use session::{Fact, Remedy};

use crate::bill::Bill;
use crate::causes::chain;
use crate::plane::{Plane, PlaneError};

/// What was in flight ended because we ended it: for an interrupt that is a fact, for a shutdown nothing.
pub(crate) fn gave_up(plane: &dyn Plane, bill: &Bill) -> Result<Fact, PlaneError> {
    if plane.interrupted() {
        Ok(Fact::Interrupted { used: bill.used() })
    } else {
        Err(PlaneError::Stopping)
    }
}

/// The fact that a failure of the request `span` makes.
pub(crate) fn failed(span: EventId, failure: &Failure, bill: &Bill) -> Fact {
    let kind = match &failure.error {
        Error::RateLimited { .. } => SessionErrorKind::ModelRateLimitedError,
        Error::Overloaded { .. } => SessionErrorKind::ModelOverloadedError,
        Error::Billing { .. } => SessionErrorKind::BillingError,
        _ => SessionErrorKind::ModelRequestFailedError,
    };
    Fact::RequestFailed {
        span,
        kind,
        message: chain(&failure.error),
        used: bill.used(),
        remedy: remedy(&failure.error),
    }
}

fn remedy(error: &Error) -> Remedy {
    match error.class() {
        Class::Retry => Remedy::Wait {
            at_least: error
                .retry_after()
                .map(|wait| i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)),
        },
        Class::TooLong => Remedy::Compact,
        Class::Fatal | Class::Cancelled => Remedy::None,
    }
}
