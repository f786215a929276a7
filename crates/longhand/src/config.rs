//! Settings: file, then environment, then flags; each remembers where it came from. Only the binary
//! reads files and the environment; every crate below gets a struct that is already valid.

mod harness;
mod limits;
mod log;
mod sandbox;
mod vault;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;
use toml::{Table, Value};

pub use harness::Harness;
pub use limits::Limits;
pub use log::{Log, LogFormat};
pub use sandbox::Sandbox;
pub use vault::Vault;

/// Environment variables that are not settings of a section.
const SPECIAL: [&str; 6] = [
    "LONGHAND_API_KEY",
    "LONGHAND_MASTER_KEY",
    "LONGHAND_MASTER_KEY_NEXT",
    "LONGHAND_DATA_DIR",
    "LONGHAND_CONFIG",
    "LONGHAND_HAND_BIN",
];

/// Settings that are lists.
const LISTS: [&str; 5] = [
    "allow_private",
    "cors_origins",
    "key_command",
    "next_key_command",
    "trusted_proxies",
];

/// Tables within sections: `LONGHAND_EGRESS_AUDIT_DAYS` is `days` of `[egress.audit]`.
const TABLES: [&str; 1] = ["audit"];

/// Every setting, with its default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP edge and the process.
    pub server: Server,
    /// What connections, keys and workspaces may use.
    pub limits: Limits,
    /// What each sandbox may use.
    pub sandbox: Sandbox,
    /// What sandboxes and tenants may reach.
    pub egress: Egress,
    /// Where the master key comes from.
    pub vault: Vault,
    /// Model providers.
    pub model: Model,
    /// What every agent is told.
    pub prompt: Prompt,
    /// Where programs of others come from that run agents.
    pub harness: Harness,
    /// Logs.
    pub log: Log,
}

/// `[server]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address and port to listen on; port 0 picks one.
    pub listen: SocketAddr,
    /// `sqlite://` and a path, or `postgres://` and a server; the data directory's `longhand.db` if absent.
    pub database_url: Option<String>,
    /// The name of this server among several on one PostgreSQL database; made of the host's name and the data
    /// directory if absent. It must stay the same: workspaces on this host are found by it.
    pub replica: Option<String>,
    /// Seconds that a server may be silent until the others take over its turns.
    pub replica_dead_after_seconds: u64,
    /// Accept requests without the beta and version headers.
    pub lenient_headers: bool,
    /// Seconds that running turns get at shutdown to reach a commit.
    pub drain_seconds: u64,
    /// The certificate chain as PEM; with `tls_key` the listener speaks TLS only.
    pub tls_cert: Option<PathBuf>,
    /// Its private key as PEM.
    pub tls_key: Option<PathBuf>,
    /// Listen beyond the loopback without TLS.
    pub plain_http: bool,
    /// Origins whose pages may ask, as `https://tools.example`.
    pub cors_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed, as `10.0.0.0/8`.
    pub trusted_proxies: Vec<String>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8787)),
            database_url: None,
            replica: None,
            replica_dead_after_seconds: store::limits::DEAD_AFTER.as_secs(),
            lenient_headers: false,
            drain_seconds: 30,
            tls_cert: None,
            tls_key: None,
            plain_http: false,
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

/// `[egress]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    /// Whether sandboxes have a network, carried by the egress process, where this host can make one. Without it
    /// they have only their own loopback.
    pub enabled: bool,
    /// Networks lifted out of the always-denied set, as `10.0.0.0/8`.
    pub allow_private: Vec<String>,
    /// What a denied name is answered: `virtual`, an address whose connections are told why they are refused, or
    /// `refuse`.
    pub dns_deny: egress::dns::OnDenied,
    /// How long the audit is kept.
    pub audit: EgressAudit,
    /// Roots as PEM, beside the system's, by which servers are trusted where requests inside TLS are judged.
    pub ca_file: Option<PathBuf>,
    /// Lists of revoked certificates (CRLs) as PEM, for the same.
    pub crl_file: Option<PathBuf>,
    /// Whether credentials that sandboxes use as placeholders may go over connections in clear text.
    pub cleartext_credentials: bool,
    /// `observe` lets through what rules and environments deny, and records it; the always-denied set stays.
    pub mode: egress::policy::Mode,
    /// Rules for every sandbox, before those of its environment; the first that matches decides.
    pub rules: Vec<egress::policy::Rule>,
    /// Credentials that every sandbox's requests to their hosts have.
    pub credentials: Vec<crate::egress_credentials::EgressCredential>,
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            enabled: true,
            allow_private: Vec::new(),
            dns_deny: egress::dns::OnDenied::default(),
            audit: EgressAudit::default(),
            ca_file: None,
            crl_file: None,
            cleartext_credentials: false,
            mode: egress::policy::Mode::default(),
            rules: Vec::new(),
            credentials: Vec::new(),
        }
    }
}

/// `[egress.audit]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressAudit {
    /// Days; 0: forever.
    pub days: u32,
    /// Mebibytes of records; 0: as many as there are.
    pub max_mib: u64,
}

impl Default for EgressAudit {
    fn default() -> Self {
        Self {
            days: 90,
            max_mib: 1_024,
        }
    }
}

/// `[model]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// A `models.toml` laid over the embedded one.
    pub catalog: Option<PathBuf>,
    /// The operator's default: which API it speaks, as `longhand.llm_api` of an LLM vault. By the key that is
    /// set if absent.
    pub api: Option<String>,
    /// Certificates as PEM that model endpoints may be signed by, beside the system's roots.
    pub ca_file: Option<PathBuf>,
    /// The operator's default: agent's model id → provider's.
    pub map: BTreeMap<String, String>,
    /// The operator's default: further headers.
    pub headers: BTreeMap<String, String>,
}

/// `[prompt]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prompt {
    /// Added to every session's system prompt, between the platform's part and the agent's.
    pub extra: Option<String>,
}

impl Config {
    /// Every setting with its value, as `config show` prints them.
    #[must_use]
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let quoted = |text: &Option<String>| {
            text.as_ref()
                .map_or("(not set)".to_owned(), |t| format!("{t:?}"))
        };
        let path =
            |path: &Option<PathBuf>| quoted(&path.as_ref().map(|path| path.display().to_string()));
        let list = |all: &[String]| format!("{all:?}");
        let set = |count: usize| format!("{count} (set)");
        let mut shown = vec![
            (
                "server.listen",
                format!("{:?}", self.server.listen.to_string()),
            ),
            (
                "server.database_url",
                quoted(&self.server.database_url.as_deref().map(without_password)),
            ),
            ("server.replica", quoted(&self.server.replica)),
            (
                "server.replica_dead_after_seconds",
                self.server.replica_dead_after_seconds.to_string(),
            ),
            (
                "server.lenient_headers",
                self.server.lenient_headers.to_string(),
            ),
            (
                "server.drain_seconds",
                self.server.drain_seconds.to_string(),
            ),
            ("server.tls_cert", path(&self.server.tls_cert)),
            ("server.tls_key", path(&self.server.tls_key)),
            ("server.plain_http", self.server.plain_http.to_string()),
            ("server.cors_origins", list(&self.server.cors_origins)),
            ("server.trusted_proxies", list(&self.server.trusted_proxies)),
            ("egress.enabled", self.egress.enabled.to_string()),
            (
                "egress.mode",
                format!("{:?}", self.egress.mode).to_lowercase(),
            ),
            (
                "egress.dns_deny",
                format!("{:?}", self.egress.dns_deny).to_lowercase(),
            ),
            ("egress.audit.days", self.egress.audit.days.to_string()),
            (
                "egress.audit.max_mib",
                self.egress.audit.max_mib.to_string(),
            ),
            ("egress.rules", set(self.egress.rules.len())),
            ("egress.credentials", set(self.egress.credentials.len())),
            ("egress.allow_private", list(&self.egress.allow_private)),
            ("egress.ca_file", path(&self.egress.ca_file)),
            ("egress.crl_file", path(&self.egress.crl_file)),
            (
                "egress.cleartext_credentials",
                self.egress.cleartext_credentials.to_string(),
            ),
            ("model.catalog", path(&self.model.catalog)),
            ("model.api", quoted(&self.model.api)),
            ("model.ca_file", path(&self.model.ca_file)),
            ("model.map", format!("{:?}", self.model.map)),
            // Values of headers may be secrets.
            (
                "model.headers",
                format!("{:?} (set)", self.model.headers.keys().collect::<Vec<_>>()),
            ),
            ("prompt.extra", quoted(&self.prompt.extra)),
            ("log.level", format!("{:?}", self.log.level)),
            (
                "log.format",
                format!("{:?}", self.log.format).to_lowercase(),
            ),
        ];
        shown.extend(self.limits.shown());
        shown.extend(self.sandbox.shown());
        shown.extend(self.vault.shown());
        shown.extend(self.harness.shown());
        shown
    }
}

/// Settings with their origins.
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// `section.key` → where its value came from; absent means the default.
    pub origins: BTreeMap<String, String>,
}

/// Reads settings from `file` (if any), `environment` and `flags` (`section.key`, value).
///
/// # Errors
/// An unreadable file, an unknown key or variable, or a value of the wrong type; the text names the
/// setting and where it was set.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[(&str, String)],
) -> anyhow::Result<Loaded> {
    let mut table = Table::new();
    let mut origins = BTreeMap::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
        table = text
            .parse::<Table>()
            .with_context(|| format!("in {}", path.display()))?;
        for (section, keys) in &table {
            for key in keys.as_table().into_iter().flat_map(Table::keys) {
                origins.insert(
                    format!("{section}.{key}"),
                    format!("file {}", path.display()),
                );
            }
        }
    }
    for (name, value) in environment {
        let Some(setting) = name.strip_prefix("LONGHAND_") else {
            continue;
        };
        if SPECIAL.contains(&name.as_str()) {
            continue;
        }
        let Some((section, key)) = setting.to_lowercase().split_once('_').map(own) else {
            bail!("{name} is not a setting; they are named LONGHAND_<SECTION>_<KEY>");
        };
        set(&mut table, &section, &key, &value);
        origins.insert(format!("{section}.{key}"), format!("environment {name}"));
    }
    for (setting, value) in flags {
        let Some((section, key)) = setting.split_once('.').map(own) else {
            continue;
        };
        set(&mut table, &section, &key, value);
        origins.insert((*setting).to_owned(), "command line".to_owned());
    }
    let config = Config::deserialize(table).map_err(|error| explain(&error, &origins))?;
    Ok(Loaded { config, origins })
}

fn own((section, key): (&str, &str)) -> (String, String) {
    (section.to_owned(), key.to_owned())
}

/// Sets one key from a text. Lists are comma-separated, maps are TOML inline tables.
fn set(table: &mut Table, section: &str, key: &str, text: &str) {
    let section = table
        .entry(section)
        .or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = section {
        if let Some((inner, key)) = key
            .split_once('_')
            .filter(|(inner, _)| TABLES.contains(inner))
        {
            return set(section, inner, key, text);
        }
        section.insert(key.to_owned(), value(key, text));
    }
}

fn value(key: &str, text: &str) -> Value {
    if LISTS.contains(&key) {
        let items = text
            .trim_matches(['[', ']'])
            .split(',')
            .map(|s| s.trim().trim_matches('"'));
        return Value::Array(items.filter(|s| !s.is_empty()).map(Value::from).collect());
    }
    if let Ok(flag) = text.parse::<bool>() {
        return Value::Boolean(flag);
    }
    if let Ok(number) = text.parse::<i64>() {
        return Value::Integer(number);
    }
    if text.starts_with('{')
        && let Ok(parsed) = format!("v = {text}").parse::<Table>()
        && let Some(Value::Table(map)) = parsed.get("v")
    {
        return Value::Table(map.clone());
    }
    Value::String(text.to_owned())
}

fn explain(error: &toml::de::Error, origins: &BTreeMap<String, String>) -> anyhow::Error {
    let named = origins
        .iter()
        .find(|(setting, _)| {
            let key = setting.rsplit('.').next().unwrap_or_default();
            error.message().contains(&format!("`{key}`"))
        })
        .map_or_else(String::new, |(setting, origin)| {
            format!(" (`{setting}` from {origin})")
        });
    anyhow::anyhow!("configuration: {}{named}", error.message())
}

/// A URL as it may be shown.
fn without_password(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut url) if url.password().is_some() => {
            // It has a host, so it can have a password.
            let _ = url.set_password(Some("…"));
            url.into()
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        pairs
            .iter()
            .map(|(k, v)| own((k, v)))
            .collect::<Vec<_>>()
            .into_iter()
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("longhand.toml");
        std::fs::write(
            &file,
            "[server]\nlisten = \"127.0.0.1:1\"\nlenient_headers = true\n",
        )
        .unwrap();
        let env = environment(&[
            ("LONGHAND_SERVER_LISTEN", "127.0.0.1:2"),
            ("LONGHAND_EGRESS_ALLOW_PRIVATE", "127.0.0.0/8, 10.0.0.0/8"),
            ("LONGHAND_API_KEY", "not a setting"),
            ("HOME", "/root"),
        ]);
        let flags = [("server.listen", "127.0.0.1:3".to_owned())];
        let loaded = load(Some(&file), env, &flags).unwrap();
        assert_eq!(loaded.config.server.listen.port(), 3);
        assert!(loaded.config.server.lenient_headers);
        assert_eq!(
            loaded.config.egress.allow_private,
            ["127.0.0.0/8", "10.0.0.0/8"]
        );
        assert_eq!(loaded.origins["server.listen"], "command line");
        assert!(loaded.origins["server.lenient_headers"].starts_with("file "));
    }

    #[test]
    fn a_misspelt_variable_is_an_error_that_names_it() {
        let env = environment(&[("LONGHAND_SERVER_LISTN", "127.0.0.1:2")]);
        let Err(error) = load(None, env, &[]) else {
            panic!("accepted")
        };
        let text = error.to_string();
        assert!(
            text.contains("`listn`") && text.contains("LONGHAND_SERVER_LISTN"),
            "{text}"
        );
    }
}
