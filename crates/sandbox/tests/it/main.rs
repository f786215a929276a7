//! One binary for all integration tests of the crate: each file is one subject.
mod basics;
mod support;
