//! The section `[vault]`: where the master key comes from, if not from its file. The keys themselves are never
//! settings: they would be shown.

use anyhow::bail;
use serde::Deserialize;

/// `[vault]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vault {
    /// A program and its arguments that print the master key: 64 hexadecimal digits or 44 base64 characters. No
    /// shell reads it.
    pub key_command: Vec<String>,
    /// The same for the key that a rotation goes to.
    pub next_key_command: Vec<String>,
}

impl Vault {
    /// Refuses half of what is needed.
    ///
    /// # Errors
    /// A next key without a current one.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.key_command.is_empty() && !self.next_key_command.is_empty() {
            bail!("`vault.next_key_command` is set and `vault.key_command` is not; set both");
        }
        Ok(())
    }

    /// Every setting with its value.
    pub(super) fn shown(&self) -> Vec<(&'static str, String)> {
        // Arguments may be secrets.
        let program = |command: &[String]| match command {
            [] => "(not set)".to_owned(),
            [program, rest @ ..] => format!("{program:?} and {} arguments (set)", rest.len()),
        };
        vec![
            ("vault.key_command", program(&self.key_command)),
            ("vault.next_key_command", program(&self.next_key_command)),
        ]
    }
}
