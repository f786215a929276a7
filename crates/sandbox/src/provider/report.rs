//! Owns the words for what a host can and cannot do. It tries nothing.

/// What a host can do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// One line for each thing that was tried.
    pub findings: Vec<Finding>,
}

/// One thing that was tried on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was tried, e.g. `make the user namespace`.
    pub what: String,
    /// Whether it works.
    pub ok: bool,
    /// Whether a sandbox cannot run without it.
    pub required: bool,
    /// What was found, or why it failed.
    pub detail: String,
    /// What mends it; empty when nothing is to be mended.
    pub mend: String,
}

impl Report {
    /// Whether sandboxes can run here.
    #[must_use]
    pub fn can_run(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.ok || !finding.required)
    }
}
