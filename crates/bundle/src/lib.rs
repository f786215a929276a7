//! The static helper as bytes, built and embedded. It owns nothing else.
//!
//! `build.rs` says how it is built; `LONGHAND_HAND_BIN` names a ready one for packagers.
#![forbid(unsafe_code)]

/// The helper: a static ELF executable with the roles `supervisor` and `hand`.
pub const HELPER: &[u8] = include_bytes!(env!("HAND_BIN"));

/// FNV-1a of [`HELPER`], 64 bits in hex: tells builds apart, proves nothing against an attacker.
pub const HELPER_DIGEST: &str = env!("HAND_DIGEST");

/// For which target it was built, e.g. `x86_64-unknown-linux-musl`; `external` when it was given.
pub const HELPER_TARGET: &str = env!("HAND_TARGET");
