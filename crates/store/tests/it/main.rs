//! The store's suite. It speaks to `Store` only, so that every back end can run it; what is SQLite's own
//! (crash, plans) stands in modules named so.

mod sessions;
mod support;
