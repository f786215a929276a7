//! `harness`: installs the programs of others that run agents. Where they come from is set, or what npm is told on
//! this machine; that nothing of npm is needed is the point.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use contract::secret::Secret;
use harness::install;
use serde_json::json;

use crate::cli::{Harness, HarnessName};
use crate::config;
use crate::data_dir::DataDir;

/// Does it.
///
/// # Errors
/// Whatever kept it from being done; the text says what to do.
pub async fn run(
    command: Harness,
    data_dir: &DataDir,
    settings: &config::Harness,
) -> anyhow::Result<()> {
    let programs = data_dir.programs()?;
    match command {
        Harness::Install {
            name: HarnessName::Claude,
            version,
        } => {
            let version = version.as_deref().unwrap_or(install::CLAUDE_TESTED);
            let url = match &settings.registry {
                Some(url) => url.clone(),
                None => registry().await,
            };
            eprintln!("claude {version} from {url} …");
            let token = settings.registry_token.as_ref().map(Secret::copy);
            let registry = install::Registry { url, token };
            // It is the operator's choice, as any URL in the settings.
            let client = dial::client(&dial::Mode::Exempt, &dial::Options::default())
                .context("the TLS roots of this system cannot be loaded")?;
            let installed = install::claude(&client, &registry, version, &programs).await?;
            let mut out = std::io::stdout().lock();
            writeln!(out, "claude {} {}", installed.version, installed.integrity)?;
            if version != install::CLAUDE_TESTED {
                eprintln!(
                    "this build is tested with {}; another version may speak otherwise",
                    install::CLAUDE_TESTED
                );
            }
            Ok(())
        }
        Harness::List(output) => list(&programs, output.json),
    }
}

fn list(programs: &Path, as_json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let installed = install::list(programs);
    if as_json {
        let rows = installed.iter().map(|(one, current)| {
            json!({"harness": one.harness, "version": one.version, "in_use": current,
                   "integrity": one.integrity, "from": one.from, "bytes": one.bytes})
        });
        writeln!(out, "{}", json!({"data": rows.collect::<Vec<_>>()}))?;
        return Ok(());
    }
    writeln!(out, "native  part of this server")?;
    for (one, current) in &installed {
        let mark = if *current { "in use" } else { "" };
        let mib = one.bytes >> 20;
        writeln!(out, "{}  {}  {mib} MiB  {mark}", one.harness, one.version)?;
    }
    if installed.is_empty() {
        writeln!(
            out,
            "claude  not installed: longhand harness install claude"
        )?;
    }
    Ok(())
}

/// The registry that npm would ask here: the environment, then the user's `.npmrc`, then the machine's.
async fn registry() -> String {
    let named = ["npm_config_registry", "NPM_CONFIG_REGISTRY"];
    let from_environment = named.iter().find_map(std::env::var_os);
    if let Some(url) = from_environment.filter(|url| !url.is_empty()) {
        return url.to_string_lossy().into_owned();
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".npmrc"));
    let user = std::env::var_os("NPM_CONFIG_USERCONFIG").map(PathBuf::from);
    let files = [user, home, Some(PathBuf::from("/etc/npmrc"))];
    for file in files.into_iter().flatten() {
        if let Ok(text) = tokio::fs::read_to_string(file).await
            && let Some(url) = registry_of(&text)
        {
            return url;
        }
    }
    install::DEFAULT_REGISTRY.to_owned()
}

/// The `registry` of an npmrc, if it sets one.
fn registry_of(npmrc: &str) -> Option<String> {
    let settings = npmrc.lines().filter_map(|line| line.split_once('='));
    let mut settings = settings.map(|(name, value)| (name.trim(), value.trim()));
    let (_, url) = settings.find(|(name, _)| *name == "registry")?;
    let url = url.trim_matches(['"', '\'']);
    (!url.is_empty()).then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_the_one_that_npm_would_ask() {
        let npmrc = "; a comment\nfund=false\nregistry = \"https://mirror.example/npm/\"\n";
        let found = registry_of(npmrc);
        assert_eq!(found.as_deref(), Some("https://mirror.example/npm/"));
        assert_eq!(registry_of("@scope:registry=https://other.example\n"), None);
    }
}
