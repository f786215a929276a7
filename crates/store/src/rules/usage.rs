//! What a session used between two states, in the order of the columns of `usage_days`.

use contract::ids::WorkspaceId;
use contract::time::Micros;
use session::Totals;

use super::int;
use super::sums::{Day, Sum};

/// What a session used between two states, for its day; nothing if nothing was used.
pub(crate) fn used(
    (workspace, agent): (WorkspaceId, &str),
    before: &Totals,
    after: &Totals,
    now: Micros,
) -> Option<Sum> {
    let grown = grown(before, after)?;
    let day = Day {
        day: day(now),
        workspace,
        agent: agent.to_owned(),
    };
    Some(Sum::Used(day, grown))
}

/// Which day it is.
fn day(now: Micros) -> i64 {
    now.0.div_euclid(86_400_000_000)
}

/// Input, output, read from the cache, cached for 5 minutes, cached for an hour, cost, time; nothing if nothing was
/// used.
fn grown(before: &Totals, after: &Totals) -> Option<[i64; 7]> {
    let grown = [
        int(after.input - before.input),
        int(after.output - before.output),
        int(after.cache_read - before.cache_read),
        int(after.cache_5m - before.cache_5m),
        int(after.cache_1h - before.cache_1h),
        int(after.cost.0 - before.cost.0),
        after.active - before.active,
    ];
    (grown != [0; 7]).then_some(grown)
}
