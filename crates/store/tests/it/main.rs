//! The store's suite. It speaks to `Store` only, and runs once on each back end.

// clippy.toml allows it in test functions; the helpers beside them are tests as well
#![allow(clippy::panic)]
#![allow(clippy::duplicate_mod, reason = "one suite, once on each back end")]

#[allow(dead_code)]
#[path = "../../../testkit/src/cluster.rs"]
mod cluster;
mod support;

/// The suite, on the back end that `$place` makes; with the modules that are its alone.
macro_rules! suite {
    ($place:ident, $($own:ident),+) => {
        use crate::support::{Fixture, Place};

        fn place() -> Place {
            Place::$place()
        }

        async fn fixture() -> Fixture {
            Fixture::at(place()).await
        }

        #[path = "../beside.rs"]
        mod beside;
        #[path = "../crash.rs"]
        mod crash;
        #[path = "../definitions.rs"]
        mod definitions;
        #[path = "../feed.rs"]
        mod feed;
        #[path = "../group.rs"]
        mod group;
        #[path = "../kept.rs"]
        mod kept;
        #[path = "../known.rs"]
        mod known;
        #[path = "../log.rs"]
        mod log;
        #[path = "../paging.rs"]
        mod paging;
        #[path = "../refreshes.rs"]
        mod refreshes;
        #[path = "../runs.rs"]
        mod runs;
        #[path = "../sandbox_rules.rs"]
        mod sandbox_rules;
        #[path = "../secrets.rs"]
        mod secrets;
        #[path = "../sessions.rs"]
        mod sessions;
        #[path = "../vaults.rs"]
        mod vaults;
        $(mod $own;)+
    };
}

mod sqlite {
    suite!(sqlite, files, grounds);
}

mod postgres {
    suite!(postgres, deadlocks, moving, refreshing, replicas, server);
}
