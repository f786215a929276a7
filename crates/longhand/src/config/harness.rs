//! The section `[harness]`: where programs of others come from that run agents. Its token is never shown.

use contract::secret::Secret;
use serde::Deserialize;

/// `[harness]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Harness {
    /// The npm registry that `harness install` asks; what npm is set to on this machine if absent.
    pub registry: Option<String>,
    /// What it wants to be shown, as `Authorization: Bearer`. It goes to that registry and to no other host.
    pub registry_token: Option<Secret>,
}

impl Clone for Harness {
    fn clone(&self) -> Self {
        Self {
            registry: self.registry.clone(),
            registry_token: self.registry_token.as_ref().map(Secret::copy),
        }
    }
}

impl Harness {
    /// Every setting with its value.
    pub(super) fn shown(&self) -> Vec<(&'static str, String)> {
        let registry = self.registry.as_ref();
        let token = self.registry_token.as_ref();
        let not_set = || "(not set)".to_owned();
        vec![
            (
                "harness.registry",
                registry.map_or_else(not_set, |url| format!("{url:?}")),
            ),
            (
                "harness.registry_token",
                token.map_or_else(not_set, |_| "(set)".to_owned()),
            ),
        ]
    }
}
