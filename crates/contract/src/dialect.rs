//! Which generation of the API a client speaks, told by `anthropic-version`. It decides spellings,
//! never behaviour.

/// A generation of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Generation {
    /// `2023-06-01`: SDKs 0.x and 1.x.
    V2023,
    /// `2026-10-21`: SDKs 2.x.
    V2026,
}

impl Generation {
    /// Every value of the header that this server understands, newest first.
    pub const VERSIONS: [&'static str; 2] = ["2026-10-21", "2023-06-01"];

    /// Reads the value of `anthropic-version`; `None` if it is not one of [`Self::VERSIONS`].
    #[must_use]
    pub fn from_version(header: &str) -> Option<Self> {
        match header.trim() {
            "2026-10-21" => Some(Self::V2026),
            "2023-06-01" => Some(Self::V2023),
            _ => None,
        }
    }
}
