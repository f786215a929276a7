//! Typed identifiers: a prefix and 22 base58 characters of 128 bits (48 of milliseconds, 80 random).
//! Ids are opaque to clients, sortable by creation time, and not secrets. This module never draws
//! randomness: whoever mints an id brings the bits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const DIGITS: usize = 22;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind} id (expected `{prefix}` and 22 characters)")]
pub struct BadId {
    /// The kind of id that was wanted, in words.
    pub kind: &'static str,
    /// The prefix that was wanted.
    pub prefix: &'static str,
}

/// Composes the 128 bits of an id: the low 48 bits of `millis`, then the low 80 bits of `random`.
#[must_use]
pub const fn compose(millis: u64, random: u128) -> u128 {
    ((millis as u128 & 0xffff_ffff_ffff) << 80) | (random & ((1 << 80) - 1))
}

/// Digits that fit into 64 bits together: dividing those is cheap, dividing 128 bits is not.
const LIMB: usize = 10;
const LIMB_SIZE: u128 = 58u128.pow(LIMB as u32);

/// The digit that a byte stands for; 255 if none.
const DIGIT_OF: [u8; 256] = {
    let mut digits = [255; 256];
    let mut at = 0;
    while at < ALPHABET.len() {
        digits[ALPHABET[at] as usize] = at as u8;
        at += 1;
    }
    digits
};

fn encode(bits: u128, out: &mut [u8; DIGITS]) {
    let mut rest = bits;
    for digits in out.rchunks_mut(LIMB) {
        let mut limb = (rest % LIMB_SIZE) as u64;
        rest /= LIMB_SIZE;
        for slot in digits.iter_mut().rev() {
            // The remainder is below 58, the length of the alphabet.
            *slot = ALPHABET[(limb % 58) as usize];
            limb /= 58;
        }
    }
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != DIGITS {
        return None;
    }
    let (first, rest) = text.as_bytes().split_at(DIGITS % LIMB);
    let mut bits = limb(first)?;
    for digits in rest.chunks(LIMB) {
        bits = bits.checked_mul(LIMB_SIZE)?.checked_add(limb(digits)?)?;
    }
    Some(bits)
}

/// The value of at most [`LIMB`] digits.
fn limb(digits: &[u8]) -> Option<u128> {
    let mut value = 0u64;
    for byte in digits {
        let digit = DIGIT_OF[usize::from(*byte)];
        if digit == 255 {
            return None;
        }
        value = value * 58 + u64::from(digit);
    }
    Some(u128::from(value))
}

/// An id's text without the heap: no prefix is longer than the room for it.
struct Text {
    bytes: [u8; PREFIX_MOST + DIGITS],
    length: usize,
}

const PREFIX_MOST: usize = 10;

impl Text {
    fn of(prefix: &str, bits: u128) -> Self {
        let length = prefix.len() + DIGITS;
        let mut bytes = [0; PREFIX_MOST + DIGITS];
        bytes[..prefix.len()].copy_from_slice(prefix.as_bytes());
        let mut digits = [0; DIGITS];
        encode(bits, &mut digits);
        bytes[prefix.len()..length].copy_from_slice(&digits);
        Self { bytes, length }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("prefix and alphabet are ASCII")
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal, $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// What every id of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id of its 128 bits (see [`compose`]).
            #[must_use]
            pub const fn from_bits(bits: u128) -> Self {
                Self(bits)
            }

            /// The 128 bits of the id.
            #[must_use]
            pub const fn bits(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                const { assert!(Self::PREFIX.len() <= PREFIX_MOST) };
                f.write_str(Text::of(Self::PREFIX, self.0).as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                text.strip_prefix(Self::PREFIX)
                    .and_then(decode)
                    .map(Self)
                    .ok_or(BadId { kind: $kind, prefix: Self::PREFIX })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(Text::of(Self::PREFIX, self.0).as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                crate::schema::id(Self::PREFIX)
            }
        }
    )*};
}

ids! {
    /// An agent definition.
    AgentId = "agent_", "agent";
    /// An environment definition.
    EnvironmentId = "env_", "environment";
    /// A session.
    SessionId = "sesn_", "session";
    /// An event of a session.
    EventId = "sevt_", "event";
    /// A thread of a session.
    ThreadId = "sthr_", "thread";
    /// A vault.
    VaultId = "vlt_", "vault";
    /// A credential in a vault.
    CredentialId = "vcrd_", "credential";
    /// An API key (not its secret).
    ApiKeyId = "apikey_", "API key";
    /// A file of the Files API.
    FileId = "file_", "file";
    /// A skill that was uploaded.
    SkillId = "skill_", "skill";
    /// A version of an uploaded skill.
    SkillVersionId = "skver_", "skill version";
    /// A memory store.
    MemoryStoreId = "memstore_", "memory store";
    /// A memory in a store.
    MemoryId = "mem_", "memory";
    /// A version of a memory.
    MemoryVersionId = "memver_", "memory version";
    /// A deployment.
    DeploymentId = "depl_", "deployment";
    /// A run of a deployment.
    DeploymentRunId = "drun_", "deployment run";
    /// A work item of a self-hosted environment.
    WorkId = "work_", "work item";
    /// A file or repository that is mounted in a session.
    ResourceId = "sesrsc_", "session resource";
    /// A dream.
    DreamId = "drm_", "dream";
    /// What an agent has to reach.
    OutcomeId = "outc_", "outcome";
    /// A run of a workflow.
    WorkflowRunId = "wfrun_", "workflow run";
    /// A phase of a workflow run.
    WorkflowPhaseId = "wfphase_", "workflow phase";
    /// A request, as echoed in `request-id`.
    RequestId = "req_", "request";
    /// A workspace other than the default one; see [`WorkspaceId`].
    MintedWorkspaceId = "wrkspc_", "workspace";
}

/// A workspace, the tenant. The first one has the fixed name `wrkspc_default`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkspaceId {
    /// `wrkspc_default`, which exists from the first start.
    Default,
    /// A workspace made later.
    Minted(MintedWorkspaceId),
}

impl fmt::Display for WorkspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("wrkspc_default"),
            Self::Minted(id) => id.fmt(f),
        }
    }
}

impl fmt::Debug for WorkspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for WorkspaceId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        if text == "wrkspc_default" {
            Ok(Self::Default)
        } else {
            text.parse().map(Self::Minted)
        }
    }
}

impl Serialize for WorkspaceId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkspaceId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for WorkspaceId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WorkspaceId".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let minted = MintedWorkspaceId::json_schema(generator);
        schemars::json_schema!({"anyOf": [{"type": "string", "const": "wrkspc_default"}, minted]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_itself() {
        let powers = (0..22).flat_map(|n| [58u128.pow(n) - 1, 58u128.pow(n), 58u128.pow(n) + 1]);
        let ids = [0, 1, u128::MAX, compose(1_700_000_000_000, 42)];
        for bits in powers.chain(ids) {
            let id = SessionId::from_bits(bits);
            assert_eq!(id.to_string().len(), "sesn_".len() + DIGITS);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn digits_are_those_of_base_58_most_significant_first() {
        for (bits, digits) in [
            (0, "1111111111111111111111"),
            (57, "111111111111111111111z"),
            (58, "1111111111111111111121"),
            (58u128.pow(10), "1111111111121111111111"),
            (58u128.pow(21), "2111111111111111111111"),
            (u128::MAX, "YcVfxkQb6JRzqk5kF2tNLv"),
        ] {
            assert_eq!(SessionId::from_bits(bits).to_string()[5..], *digits);
        }
    }

    #[test]
    fn ids_sort_as_text_in_the_order_they_were_made() {
        let early = SessionId::from_bits(compose(1_000, u128::MAX));
        let late = SessionId::from_bits(compose(1_001, 0));
        assert!(early.to_string() < late.to_string());
    }

    #[test]
    fn foreign_prefixes_lengths_letters_and_overflow_are_refused() {
        let good = SessionId::from_bits(7).to_string();
        for bad in [
            good.replace("sesn_", "agent_"),
            good[..good.len() - 1].to_owned(),
            format!("{good}1"),
            good.replace('1', "0"),
            format!("sesn_{}", "z".repeat(DIGITS)),
            String::new(),
        ] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_default_workspace_has_its_fixed_name() {
        assert_eq!("wrkspc_default".parse(), Ok(WorkspaceId::Default));
        assert_eq!(WorkspaceId::Default.to_string(), "wrkspc_default");
        assert!("wrkspc_other".parse::<WorkspaceId>().is_err());
    }
}
