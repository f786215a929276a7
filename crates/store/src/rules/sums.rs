//! What the writes of one transaction add to rows that many sessions share: the usage of a day, the count of a
//! workspace. Nobody waits for such a row in the middle of a transaction: what is added to it is kept beside the
//! transaction, summed, and written just before the commit, in one order everywhere. So a row is held for as long as a
//! commit takes, servers that share it never wait for one another in a circle, and a hundred writes are one.

use std::collections::BTreeMap;

use contract::ids::WorkspaceId;

use crate::error::Plenty;

/// The row of `usage_days` of an agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day {
    /// Days since 1970.
    pub(crate) day: i64,
    /// Whose.
    pub(crate) workspace: WorkspaceId,
    /// The id of its agent.
    pub(crate) agent: String,
}

/// Something that a write adds to a shared row.
#[derive(Debug)]
pub(crate) enum Sum {
    /// To a day's usage, in the order of its columns.
    Used(Day, [i64; 7]),
    /// To how much of something a workspace has.
    Counted(WorkspaceId, Plenty, i64),
    /// To how many sessions are made from what a row of a file says.
    Grounded(i64, i64),
    /// The number of a new session, on a file.
    Numbered(i64),
}

/// What is written at the end, a row each, in order.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// By workspace and thing.
    pub(crate) counted: BTreeMap<(WorkspaceId, Plenty), i64>,
    /// By day, workspace and agent.
    pub(crate) used: BTreeMap<Day, [i64; 7]>,
    /// By the row's number.
    pub(crate) grounded: BTreeMap<i64, i64>,
    /// The last number of a session.
    pub(crate) numbered: Option<i64>,
}

impl Sums {
    /// Sums up what writes add; what comes to nothing is left out.
    pub(crate) fn of(all: &[Sum]) -> Self {
        let mut sums = Self::default();
        for sum in all {
            match sum {
                Sum::Counted(workspace, what, n) => {
                    *sums.counted.entry((*workspace, *what)).or_default() += n;
                }
                Sum::Used(day, grown) => {
                    let used = sums.used.entry(day.clone()).or_default();
                    used.iter_mut()
                        .zip(grown)
                        .for_each(|(all, one)| *all += one);
                }
                Sum::Grounded(num, n) => *sums.grounded.entry(*num).or_default() += n,
                Sum::Numbered(_) => {}
            }
        }
        sums.numbered = last(all);
        sums.counted.retain(|_, n| *n != 0);
        sums.grounded.retain(|_, n| *n != 0);
        sums
    }
}

/// How much more of `what` the writes so far give `workspace`.
pub(crate) fn counted(all: &[Sum], workspace: WorkspaceId, what: Plenty) -> i64 {
    let of = |sum: &Sum| match sum {
        Sum::Counted(whose, thing, n) if (*whose, *thing) == (workspace, what) => *n,
        Sum::Counted(..) | Sum::Used(..) | Sum::Grounded(..) | Sum::Numbered(_) => 0,
    };
    all.iter().map(of).sum()
}

/// How many more sessions the writes so far make from `ground`.
pub(crate) fn grounded(all: &[Sum], ground: i64) -> i64 {
    let of = |sum: &Sum| match sum {
        Sum::Grounded(num, n) if *num == ground => *n,
        Sum::Counted(..) | Sum::Used(..) | Sum::Grounded(..) | Sum::Numbered(_) => 0,
    };
    all.iter().map(of).sum()
}

/// The last number that the writes so far gave to a session.
pub(crate) fn last(all: &[Sum]) -> Option<i64> {
    all.iter().rev().find_map(|sum| match sum {
        Sum::Numbered(num) => Some(*num),
        Sum::Counted(..) | Sum::Used(..) | Sum::Grounded(..) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_to_one_row_is_one_sum_and_what_comes_to_nothing_is_none() {
        let day = |day| Day {
            day,
            workspace: WorkspaceId::Default,
            agent: "agent_1".to_owned(),
        };
        let taken = |n| Sum::Counted(WorkspaceId::Default, Plenty::Sessions, n);
        let all = [
            Sum::Used(day(2), [1; 7]),
            taken(1),
            Sum::Used(day(1), [5; 7]),
            Sum::Used(day(2), [2; 7]),
            Sum::Counted(WorkspaceId::Default, Plenty::Vaults, 1),
            taken(1),
            Sum::Counted(WorkspaceId::Default, Plenty::Vaults, -1),
        ];
        let sums = Sums::of(&all);
        let used: Vec<_> = sums.used.into_iter().collect();
        assert_eq!(used, [(day(1), [5; 7]), (day(2), [3; 7])]);
        let left: Vec<_> = sums.counted.into_iter().collect();
        assert_eq!(left, [((WorkspaceId::Default, Plenty::Sessions), 2)]);
        assert_eq!(counted(&all, WorkspaceId::Default, Plenty::Sessions), 2);
        assert_eq!(counted(&all, WorkspaceId::Default, Plenty::Vaults), 0);
    }
}
