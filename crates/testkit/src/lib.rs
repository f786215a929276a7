//! Fixtures for tests and benchmarks that run the real `longhand` binary: start, kill and restart it, speak
//! its API over loopback, and judge what it kept. Never shipped, and never linked into the product.
#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "a fixture fails the test that uses it")]

pub mod api;
pub mod cable;
pub mod cache;
pub mod canary;
pub mod cluster;
pub mod database;
pub mod disk;
pub mod http;
pub mod inside;
pub mod ledger;
pub mod model;
pub mod process;
pub mod script;
pub mod seed;
pub mod setting;
pub mod skew;
pub mod stream;
pub mod wait;
