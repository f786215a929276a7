//! Owns what the metadata of sessions and environments says about sandboxes. It limits nothing else of metadata.

use std::time::Duration;

use super::lifetime::sandbox_ttl;
use super::volumes::{VolumeWish, volumes};
use crate::metadata::Metadata;
use crate::parse::Invalid;

/// When the sandbox of a session is made: `eager`, with the session, or `lazy`, at its first use.
pub const SANDBOX_START: &str = "longhand.sandbox";

/// Whether a session's sandbox is left alone when nobody uses it: `true` or `false`.
pub const SANDBOX_KEEP_AWAKE: &str = "longhand.sandbox_keep_awake";

/// What a session's sandbox is made on: a template's name, its digest as `sha256:…`, or `host`.
pub const SANDBOX_TEMPLATE: &str = "longhand.template";

/// Who makes a session's sandbox, and so whose kernel serves what runs in it: `local` or `gvisor`.
pub const SANDBOX_PROVIDER: &str = "longhand.sandbox_provider";

/// Whether programs in a session's sandbox may ask the session's model, with a stand-in for its key: `true` or `false`.
pub const SANDBOX_MODEL: &str = "longhand.sandbox_model";

/// Characters of a template's name or digest.
const TEMPLATE_CHARS: usize = 71;

/// What is wished for a session's sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxWishes {
    /// How long it may run.
    pub ttl: Option<Duration>,
    /// Whether it is made with the session; none: as the operator set it.
    pub eager: Option<bool>,
    /// Whether it is neither paused nor stopped for idleness.
    pub keep_awake: bool,
    /// The volumes that it has.
    pub volumes: Vec<VolumeWish>,
    /// What it is made on; none: as the operator set it.
    pub template: Option<String>,
    /// Who makes it; none: as the operator set it.
    pub provider: Option<SandboxProvider>,
    /// Whether programs in it may ask the session's model.
    pub model: bool,
}

/// Whose kernel serves what runs in a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxProvider {
    /// The host's.
    Local,
    /// One of its own, gVisor's.
    Gvisor,
}

impl SandboxWishes {
    /// By the metadata of a session, and where that is silent by its environment's. A time to live is the
    /// session's alone.
    ///
    /// # Errors
    /// A value of the session's that is none, by its path.
    pub fn of(session: &Metadata, environment: &Metadata) -> Result<Self, Invalid> {
        let own = (eager(session)?, keep_awake(session)?, volumes(session)?);
        let own_model = model(session)?;
        // They were checked when they were set; what is older than the check counts as none.
        let general = (
            eager(environment).unwrap_or_default(),
            keep_awake(environment).unwrap_or_default(),
            volumes(environment).unwrap_or_default(),
        );
        Ok(Self {
            ttl: sandbox_ttl(session)?,
            eager: own.0.or(general.0),
            keep_awake: own.1.or(general.1).unwrap_or_default(),
            volumes: own.2.or(general.2).unwrap_or_default(),
            template: match template(session)? {
                None => template(environment).unwrap_or_default(),
                own => own,
            },
            provider: match provider(session)? {
                None => provider(environment).unwrap_or_default(),
                own => own,
            },
            model: own_model
                .or(model(environment).unwrap_or_default())
                .unwrap_or_default(),
        })
    }

    /// Looks whether an environment's metadata says something that cannot be.
    ///
    /// # Errors
    /// A value that is none, by its path.
    pub fn check(environment: &Metadata) -> Result<(), Invalid> {
        eager(environment)?;
        keep_awake(environment)?;
        volumes(environment)?;
        model(environment)?;
        template(environment)?;
        provider(environment).map(drop)
    }
}

fn eager(metadata: &Metadata) -> Result<Option<bool>, Invalid> {
    one_of(metadata, SANDBOX_START, [("eager", true), ("lazy", false)])
}

fn keep_awake(metadata: &Metadata) -> Result<Option<bool>, Invalid> {
    one_of(
        metadata,
        SANDBOX_KEEP_AWAKE,
        [("true", true), ("false", false)],
    )
}

fn provider(metadata: &Metadata) -> Result<Option<SandboxProvider>, Invalid> {
    let words = [("gvisor", true), ("local", false)];
    let gvisor = one_of(metadata, SANDBOX_PROVIDER, words)?;
    Ok(gvisor.map(|gvisor| match gvisor {
        true => SandboxProvider::Gvisor,
        false => SandboxProvider::Local,
    }))
}

fn model(metadata: &Metadata) -> Result<Option<bool>, Invalid> {
    one_of(metadata, SANDBOX_MODEL, [("true", true), ("false", false)])
}

fn template(metadata: &Metadata) -> Result<Option<String>, Invalid> {
    let Some(value) = metadata.get(SANDBOX_TEMPLATE) else {
        return Ok(None);
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let known = |byte: u8| plain(byte) || b"._-:".contains(&byte);
    if value.bytes().next().is_some_and(plain)
        && value.bytes().all(known)
        && value.len() <= TEMPLATE_CHARS
    {
        return Ok(Some(value.clone()));
    }
    Err(Invalid::at(
        format!("metadata.{SANDBOX_TEMPLATE}"),
        format!("must be the name or the digest of a template, or \"host\", not {value:?}"),
    ))
}

fn one_of(
    metadata: &Metadata,
    name: &str,
    words: [(&str, bool); 2],
) -> Result<Option<bool>, Invalid> {
    let Some(value) = metadata.get(name) else {
        return Ok(None);
    };
    let meant = words.iter().find(|(word, _)| word == value);
    let meant = meant.ok_or_else(|| {
        let [(yes, _), (no, _)] = words;
        Invalid::at(
            format!("metadata.{name}"),
            format!("must be \"{yes}\" or \"{no}\", not {value:?}"),
        )
    })?;
    Ok(Some(meant.1))
}

#[cfg(test)]
mod tests {
    use super::super::volumes::SANDBOX_VOLUMES;
    use super::*;

    fn metadata(entries: &[(&str, &str)]) -> Metadata {
        let entries = entries.iter();
        entries
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_session_says_it_before_its_environment() {
        let environment = metadata(&[(SANDBOX_START, "eager"), (SANDBOX_KEEP_AWAKE, "true")]);
        let silent = SandboxWishes::of(&metadata(&[]), &environment).unwrap();
        assert_eq!((silent.eager, silent.keep_awake), (Some(true), true));
        let own = metadata(&[(SANDBOX_START, "lazy"), (SANDBOX_KEEP_AWAKE, "false")]);
        let own = SandboxWishes::of(&own, &environment).unwrap();
        assert_eq!((own.eager, own.keep_awake), (Some(false), false));
        // An empty list of volumes is a list.
        let environment = metadata(&[(SANDBOX_VOLUMES, "cache,data:ro")]);
        let wished = |session: &[(&str, &str)]| {
            let wishes = SandboxWishes::of(&metadata(session), &environment).unwrap();
            wishes.volumes.len()
        };
        assert_eq!(wished(&[]), 2);
        assert_eq!(wished(&[(SANDBOX_VOLUMES, "other")]), 1);
        assert_eq!(wished(&[(SANDBOX_VOLUMES, "")]), 0);
        let environment = metadata(&[(SANDBOX_TEMPLATE, "base")]);
        let own = metadata(&[(SANDBOX_TEMPLATE, "host")]);
        let template =
            |session: &Metadata| SandboxWishes::of(session, &environment).unwrap().template;
        assert_eq!(template(&metadata(&[])).as_deref(), Some("base"));
        assert_eq!(template(&own).as_deref(), Some("host"));
        let environment = metadata(&[(SANDBOX_PROVIDER, "gvisor")]);
        let own = metadata(&[(SANDBOX_PROVIDER, "local")]);
        let provider =
            |session: &Metadata| SandboxWishes::of(session, &environment).unwrap().provider;
        assert_eq!(provider(&metadata(&[])), Some(SandboxProvider::Gvisor));
        assert_eq!(provider(&own), Some(SandboxProvider::Local));
        let environment = metadata(&[(SANDBOX_MODEL, "true")]);
        let model = |session: &Metadata| SandboxWishes::of(session, &environment).unwrap().model;
        assert!(model(&metadata(&[])));
        assert!(!model(&metadata(&[(SANDBOX_MODEL, "false")])));
        let none = SandboxWishes::of(&metadata(&[]), &metadata(&[])).unwrap();
        assert_eq!(none, SandboxWishes::default());
    }

    #[test]
    fn a_value_that_is_none_is_named() {
        for (name, bad) in [
            (SANDBOX_START, "always"),
            (SANDBOX_START, ""),
            (SANDBOX_KEEP_AWAKE, "yes"),
            (SANDBOX_KEEP_AWAKE, "True"),
            (SANDBOX_MODEL, "yes"),
            (SANDBOX_VOLUMES, "/etc"),
            (SANDBOX_TEMPLATE, ""),
            (SANDBOX_TEMPLATE, "../base"),
            (SANDBOX_PROVIDER, "runsc"),
            (SANDBOX_PROVIDER, ""),
        ] {
            let bad = metadata(&[(name, bad)]);
            let refused = SandboxWishes::of(&bad, &metadata(&[])).unwrap_err();
            assert!(refused.to_string().contains(&format!("metadata.{name}")));
            assert!(SandboxWishes::check(&bad).is_err());
            // What an environment said before anybody checked harms no session.
            assert!(SandboxWishes::of(&metadata(&[]), &bad).is_ok());
        }
    }
}
