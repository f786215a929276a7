//! Searching finds what is asked for, page by page, and never looks at more than it may; retention by size; the
//! chain of actions.

use std::path::Path;

use contract::time::Micros;
use egress::audit::{
    Action, Audit, Control, Found, Options, Record, Retention, Search, Stage, read_control, search,
    trim, verify,
};

use crate::audit::{record, runtime};

fn filled(path: &Path, records: impl Iterator<Item = Record>) {
    let audit = Audit::open(path, Options::default()).unwrap();
    runtime().block_on(async {
        for record in records {
            audit.record(record).await.unwrap();
        }
    });
    audit.close();
}

/// The places of all pages, and how many there were.
fn pages(path: &Path, mut asked: Search) -> (Vec<u64>, usize) {
    let (mut places, mut pages) = (Vec::new(), 0);
    loop {
        let Found {
            records,
            last,
            more,
        } = search(path, &asked).unwrap();
        assert!(records.len() <= asked.limit as usize);
        places.extend(records.iter().map(|one| one.seq));
        pages += 1;
        if !more {
            return (places, pages);
        }
        asked.from = last;
    }
}

#[test]
fn every_filter_finds_its_records_in_both_orders_and_no_page_repeats_or_misses_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    let session = |n: u64| contract::ids::SessionId::from_bits(u128::from(n));
    let of = |n: u64| Record {
        sandbox: format!("sb_{}", n % 3),
        session: Some(session(n % 4)),
        workspace: n
            .is_multiple_of(5)
            .then_some(contract::ids::WorkspaceId::Default),
        name: n.is_multiple_of(2).then(|| "api.test".to_owned()),
        address: Some("192.0.2.7".parse().unwrap()),
        action: if n.is_multiple_of(7) {
            Action::Denied
        } else {
            Action::Allowed
        },
        ..record(n)
    };
    filled(&path, (1..=200).map(of));
    let base = Search {
        limit: 7,
        ..Search::default()
    };
    type Is = Box<dyn Fn(u64) -> bool>;
    let mut cases: Vec<(Search, Is)> = Vec::new();
    let mut case = |asked: Search, is: Is| cases.push((asked, is));
    case(base.clone(), Box::new(|_| true));
    case(
        Search {
            sandbox: Some("sb_1".to_owned()),
            ..base.clone()
        },
        Box::new(|n| n % 3 == 1),
    );
    case(
        Search {
            session: Some(session(2)),
            ..base.clone()
        },
        Box::new(|n| n % 4 == 2),
    );
    case(
        Search {
            workspace: Some(contract::ids::WorkspaceId::Default),
            ..base.clone()
        },
        Box::new(|n| n % 5 == 0),
    );
    case(
        Search {
            host: Some("api.test".to_owned()),
            ..base.clone()
        },
        Box::new(|n| n % 2 == 0),
    );
    case(
        Search {
            host: Some("192.0.2.7".to_owned()),
            ..base.clone()
        },
        Box::new(|_| true),
    );
    case(
        Search {
            host: Some("192.0.2.70".to_owned()),
            ..base.clone()
        },
        Box::new(|_| false),
    );
    case(
        Search {
            action: Some(Action::Denied),
            ..base.clone()
        },
        Box::new(|n| n % 7 == 0),
    );
    case(
        Search {
            since: Some(Micros(50_000_000)),
            until: Some(Micros(60_000_000)),
            ..base.clone()
        },
        Box::new(|n| (50..60).contains(&n)),
    );
    case(
        Search {
            after: 190,
            ..base.clone()
        },
        Box::new(|n| n > 190),
    );
    case(
        Search {
            sandbox: Some("sb_0".to_owned()),
            action: Some(Action::Denied),
            ..base
        },
        Box::new(|n| n % 21 == 0),
    );
    for (asked, is) in cases {
        let wanted: Vec<u64> = (1..=200).filter(|n| is(*n)).collect();
        assert_eq!(pages(&path, asked.clone()).0, wanted, "{asked:?}");
        let newest = Search {
            newest_first: true,
            ..asked
        };
        let backwards: Vec<u64> = wanted.into_iter().rev().collect();
        assert_eq!(pages(&path, newest.clone()).0, backwards, "{newest:?}");
    }
}

#[test]
fn a_search_looks_at_a_bounded_number_and_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    let scan = egress::limits::AUDIT_SCAN as u64;
    let of = |n: u64| Record {
        action: if n == 1 {
            Action::Denied
        } else {
            Action::Allowed
        },
        ..record(n)
    };
    filled(&path, (1..=scan + 10).map(of));
    let asked = Search {
        action: Some(Action::Denied),
        newest_first: true,
        limit: 10,
        ..Search::default()
    };
    let first = search(&path, &asked).unwrap();
    assert_eq!(
        (first.records.len(), first.last, first.more),
        (0, Some(11), true)
    );
    assert_eq!(pages(&path, asked), (vec![1], 2));
}

#[test]
fn retention_by_size_removes_the_oldest_until_it_fits_and_the_chain_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    let of = |n: u64| Record {
        reason: "r".repeat(1_500),
        ..record(n)
    };
    filled(&path, (1..=8_000).map(of));
    let most = 4 << 20;
    let by_size = Retention {
        since: Micros(0),
        records: u64::MAX,
        bytes: most,
    };
    let removed = trim(&path, by_size).unwrap();
    assert!((4_000..8_000).contains(&removed), "{removed}");
    assert_eq!(trim(&path, by_size).unwrap(), 0);
    let conn = rusqlite::Connection::open(&path).unwrap();
    let number = |name: &str| {
        conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .unwrap()
            .cast_unsigned()
    };
    let used = (number("page_count") - number("freelist_count")) * number("page_size");
    assert!(used <= most, "{used}");
    let whole = verify(&path, None).unwrap().unwrap();
    assert!(whole.records > 1_000, "{whole:?}");
}

#[test]
fn whoever_waits_is_told_of_the_next_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    filled(&path, (1..=3).map(record));
    let audit = Audit::open(&path, Options::default()).unwrap();
    let mut head = audit.head();
    assert_eq!(*head.borrow_and_update(), 3);
    runtime().block_on(async {
        audit.record(record(4)).await.unwrap();
        head.changed().await.unwrap();
    });
    assert_eq!(*head.borrow(), 4);
    audit.close();
}

#[test]
fn actions_have_a_chain_that_is_read_and_verified_like_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.db");
    let begun = Control {
        at: Micros(1),
        stage: Stage::Begun,
        what: "POST /v1/x/keys".to_owned(),
        target: "/v1/x/keys".to_owned(),
        request: Some("req_1".to_owned()),
        key: None,
        workspace: Some("wrkspc_default".to_owned()),
        status: None,
    };
    let done = Control {
        stage: Stage::Done,
        status: Some(200),
        ..begun.clone()
    };
    let audit = Audit::open(&path, Options::default()).unwrap();
    runtime().block_on(async {
        audit.note(begun.clone()).await.unwrap();
        audit.note(done.clone()).await.unwrap();
    });
    audit.close();
    let (found, last) = read_control(&path, 0, 10).unwrap();
    assert_eq!((found, last), (vec![(1, begun), (2, done)], 2));
    assert_eq!(verify(&path, None).unwrap().unwrap().records, 2);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch("UPDATE records SET body = replace(body, 'keys', 'keyz') WHERE seq = 1")
        .unwrap();
    assert!(verify(&path, None).unwrap().is_err());
}
