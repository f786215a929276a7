//! Event streams.
pub(crate) mod frame;
pub(crate) mod preview;
