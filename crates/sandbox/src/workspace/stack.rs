//! Owns the names of layers and the link that says which a sandbox has. It touches no layer.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The link in a sandbox's directory. One without has only what it writes itself.
pub(super) const STACK: &str = "stack";
/// The one that announces what the stack is about to be.
pub(super) const NEXT: &str = "stack.next";
/// Given the name of the stack when it is whole.
const DRAFT: &str = "stack.new";

/// The name of a layer: 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct LayerId(String);

impl LayerId {
    /// One that there never was.
    pub(super) fn fresh() -> io::Result<Self> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
        Ok(Self::from_bytes(bytes))
    }

    /// The one that stands for these, merged: whoever merges them again finds it.
    pub(super) fn merged(layers: &[Self]) -> Self {
        let text = Stack(layers.to_vec()).text();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_ref()[..16]);
        Self::from_bytes(bytes)
    }

    fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for LayerId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 32 && text.bytes().all(digit) {
            return Ok(Self(text));
        }
        Err(format!("{text:?} is no layer"))
    }
}

impl From<LayerId> for String {
    fn from(id: LayerId) -> Self {
        id.0
    }
}

/// The layers of a workspace, the lowest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Stack(pub(super) Vec<LayerId>);

impl Stack {
    /// These, and that one above.
    pub(super) fn with(&self, top: LayerId) -> Self {
        let mut layers = self.0.clone();
        layers.push(top);
        Self(layers)
    }

    fn text(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(LayerId::as_str).collect();
        names.join(":")
    }

    fn read(text: OsString) -> io::Result<Self> {
        let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let text = String::from_utf8(text.into_vec()).map_err(|_| bad("no text".to_owned()))?;
        let layers = text.split(':').filter(|name| !name.is_empty());
        let layers = layers.map(|name| LayerId::try_from(name.to_owned()).map_err(bad));
        Ok(Self(layers.collect::<Result<_, _>>()?))
    }

    /// The one that the link of that name in `dir` says; none if there is no such link.
    pub(super) fn at(dir: &Path, name: &str) -> io::Result<Option<Self>> {
        match fs::read_link(dir.join(name)) {
            Ok(text) => Self::read(text.into_os_string()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The one of the sandbox in `dir`.
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        Self::at(dir, STACK).map(Option::unwrap_or_default)
    }

    /// Writes it down as the link of that name, whatever was there.
    pub(super) fn put(&self, dir: &Path, name: &str) -> io::Result<()> {
        let draft = dir.join(DRAFT);
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // A link has a text, be it of no layers.
        let text = format!("{}:", self.text());
        symlink(text, &draft)?;
        fs::rename(&draft, dir.join(name))
    }
}
