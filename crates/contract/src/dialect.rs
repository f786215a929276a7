//! Which generation of the API a client speaks, told by `anthropic-version`, and how it speaks of files and
//! skills. It decides spellings, never behaviour.

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

/// How a client speaks of files and skills. It is told by an `anthropic-beta` value, not by the generation: SDK 0.96
/// and SDK 1.17 are of one generation and differ here (api.md §1.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vintage {
    /// As in their beta: files page by ids, skills have titles and numbered versions.
    Beta,
    /// As ever since.
    General,
}

impl Vintage {
    /// For files, by the values of `anthropic-beta`.
    #[must_use]
    pub fn of_files(betas: &str) -> Self {
        Self::told_by("files-api-2025-04-14", betas)
    }

    /// For skills, by the values of `anthropic-beta`.
    #[must_use]
    pub fn of_skills(betas: &str) -> Self {
        Self::told_by("skills-2025-10-02", betas)
    }

    fn told_by(value: &str, betas: &str) -> Self {
        if betas.split(',').any(|beta| beta.trim() == value) {
            Self::Beta
        } else {
            Self::General
        }
    }
}
