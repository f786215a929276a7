//! Fixtures for tests: never shipped, never linked into the binary.
