//! The static helper as bytes, built and embedded. It owns nothing else.
