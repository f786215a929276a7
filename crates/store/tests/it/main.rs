//! The store's suite. It speaks to `Store` only, so that every back end can run it.

mod beside;
mod crash;
mod definitions;
mod feed;
mod group;
mod kept;
mod known;
mod log;
mod paging;
mod refreshes;
mod runs;
mod secrets;
mod sessions;
mod support;
mod vaults;
