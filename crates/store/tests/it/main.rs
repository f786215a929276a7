//! The store's suite. It speaks to `Store` only, so that every back end can run it; what is SQLite's own
//! (crash, plans) stands in modules named so.

mod crash;
mod definitions;
mod feed;
mod group;
mod log;
mod paging;
mod runs;
mod sessions;
mod sqlite_plans;
mod support;
mod vaults;
