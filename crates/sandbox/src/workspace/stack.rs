//! Owns the names of layers and the link that says which a sandbox has, and on which template. It touches no layer.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::template::TemplateId;

/// The link in a sandbox's directory. One without has only what it writes itself.
pub(super) const STACK: &str = "stack";
/// The one that announces what the stack is about to be.
pub(super) const NEXT: &str = "stack.next";
/// Given the name of the stack when it is whole.
const DRAFT: &str = "stack.new";
/// Before the template of a workspace that was made on one. A build that knows none takes it for the name of a layer
/// that is no name, and refuses the workspace.
const ON: &str = "on=";

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
        let text = names(layers);
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

fn names(layers: &[LayerId]) -> String {
    let names: Vec<&str> = layers.iter().map(LayerId::as_str).collect();
    names.join(":")
}

/// What a workspace is made of: its layers are changes of its template, and of no other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stack {
    /// None: the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) template: Option<TemplateId>,
    /// The lowest first.
    pub(super) layers: Vec<LayerId>,
}

impl Stack {
    /// No layers yet.
    pub(super) fn on(template: Option<TemplateId>) -> Self {
        let layers = Vec::new();
        Self { template, layers }
    }

    /// These, and that one above.
    pub(super) fn with(&self, top: LayerId) -> Self {
        let mut stack = self.clone();
        stack.layers.push(top);
        stack
    }

    /// A link has a text, be it of no layers.
    fn text(&self) -> String {
        let on = self.template.as_ref().map(|id| format!("{ON}{id}:"));
        format!("{}{}:", on.unwrap_or_default(), names(&self.layers))
    }

    fn read(text: OsString) -> io::Result<Self> {
        let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let text = String::from_utf8(text.into_vec()).map_err(|_| bad("no text".to_owned()))?;
        let mut names = text.split(':').filter(|name| !name.is_empty()).peekable();
        let on = names.next_if(|name| name.starts_with(ON));
        let on = on.map(|name| TemplateId::try_from(name[ON.len()..].to_owned()));
        let layers = names.map(|name| LayerId::try_from(name.to_owned()).map_err(bad));
        Ok(Self {
            template: on.transpose().map_err(bad)?,
            layers: layers.collect::<Result<_, _>>()?,
        })
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
        symlink(self.text(), &draft)?;
        fs::rename(&draft, dir.join(name))
    }
}
