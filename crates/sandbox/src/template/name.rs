//! Owns what templates are called: by their digest for good, by a name for as long as an operator leaves it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::limits::TEMPLATE_NAME_CHARS;

/// Before a digest where people write one.
const SHA256: &str = "sha256:";
/// The template that every host has: its own `/usr`.
const HOST: &str = "host";

/// What is in a template, as SHA-256 in 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TemplateId(String);

impl TemplateId {
    pub(crate) fn of(digest: &[u8]) -> Self {
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TemplateId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match text.len() == 64 && text.bytes().all(digit) {
            true => Ok(Self(text)),
            false => Err(format!("{text:?} is no digest of a template")),
        }
    }
}

impl From<TemplateId> for String {
    fn from(id: TemplateId) -> Self {
        id.0
    }
}

/// A name that an operator has given a template: 1 to 64 of `a-z 0-9 . _ -`, a letter or digit first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateName(String);

impl TemplateName {
    /// # Errors
    /// [`Error::Invalid`] for what is no such name, or is kept: `host`, and digests.
    pub fn new(text: &str) -> Result<Self, Error> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let first = text.bytes().next().is_some_and(plain);
        let all = text
            .bytes()
            .all(|byte| plain(byte) || b"._-".contains(&byte));
        let digest = TemplateId::try_from(text.to_owned()).is_ok();
        if first && all && text.len() <= TEMPLATE_NAME_CHARS && !digest && text != HOST {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid(format!(
            "{text:?} is no name of a template: 1 to {TEMPLATE_NAME_CHARS} of a-z, 0-9, `.`, `_` and `-`, a letter or \
             digit first, and neither `{HOST}` nor a digest"
        )))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TemplateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which template somebody means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateRef {
    /// `host`: the host's `/usr`.
    Host,
    /// The one that has this name then.
    Name(TemplateName),
    /// `sha256:…`, or the digits alone.
    Id(TemplateId),
}

impl FromStr for TemplateRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == HOST {
            return Ok(Self::Host);
        }
        let digits = text.strip_prefix(SHA256).unwrap_or(text);
        match TemplateId::try_from(digits.to_owned()) {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => TemplateName::new(text).map(Self::Name),
        }
    }
}

impl fmt::Display for TemplateRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str(HOST),
            Self::Name(name) => name.fmt(f),
            Self::Id(id) => write!(f, "{SHA256}{id}"),
        }
    }
}
