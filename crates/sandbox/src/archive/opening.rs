//! Owns the first file of an archive of a workspace: what it is, and on what it was made. It reads no stream.

use serde::{Deserialize, Serialize};

use crate::template::TemplateId;

/// The first file of an archive of a workspace.
pub(crate) const OPENING: &str = "longhand.json";
const TYPE: &str = "longhand_workspace";
const FORMAT: u32 = 1;

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Opening {
    #[serde(rename = "type")]
    kind: String,
    format: u32,
    /// None: the host's `/usr`, as every host has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) template: Option<TemplateId>,
}

impl Opening {
    pub(crate) fn new(template: Option<TemplateId>) -> Self {
        Self {
            kind: TYPE.to_owned(),
            format: FORMAT,
            template,
        }
    }

    /// As it is written; one without a template as builds before there were any wrote it.
    pub(crate) fn text(&self) -> String {
        // Two strings and a number: serialising them does not fail.
        let text = serde_json::to_string(self).unwrap_or_default();
        format!("{text}\n")
    }

    /// None for anything but the words of [`Self::text`].
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let said: Self = serde_json::from_slice(text).ok()?;
        let known = Self::new(said.template);
        (known.text().as_bytes() == text).then_some(known)
    }
}
