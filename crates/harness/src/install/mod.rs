//! Installs programs of others that run agents (harnesses): fetched from the npm registry, checked, kept where
//! sandboxes see them read-only. It runs none of them, and no script of theirs.

mod npm;
mod tar;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use npm::{DEFAULT_REGISTRY, Registry};

/// The version of claude that this build is tested with.
pub const CLAUDE_TESTED: &str = "2.1.330";
/// The file that names the version in use, beside the versions.
const CURRENT: &str = "current";
/// The file that says what was installed, beside the program.
const RECORD: &str = "installed.json";

/// What is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The harness.
    pub harness: String,
    /// Its version.
    pub version: String,
    /// The package's digest, as the registry gives it and as it was checked.
    pub integrity: String,
    /// Where it came from.
    pub from: String,
    /// Bytes of the program.
    pub bytes: u64,
}

/// Why nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There is no package for this machine.
    #[error("there is no `claude` for this machine ({0}); it runs on x86_64 and aarch64")]
    Machine(&'static str),
    /// The registry did not answer as one does.
    #[error("the npm registry {registry}: {problem}")]
    Registry {
        /// Its URL.
        registry: String,
        /// What was wrong.
        problem: String,
    },
    /// The version does not exist.
    #[error("{package} has no version {version}; the newest is {newest}")]
    Version {
        /// The package.
        package: String,
        /// What was asked for.
        version: String,
        /// The newest there is.
        newest: String,
    },
    /// What came is not what the registry promised.
    #[error(
        "the package does not match its integrity ({expected}): it was cut or changed on its way; nothing was installed"
    )]
    Integrity {
        /// What it should have been.
        expected: String,
    },
    /// The archive holds something else than expected.
    #[error("the package is not what was expected: {0}; nothing was installed")]
    Archive(String),
    /// This machine's files.
    #[error("cannot write to {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Installs that version of claude among `programs` from the registry, and has new processes use it. One that is
/// there already is fetched again only if it is not whole.
///
/// Cancel safe: yes; what was there before stays in use.
///
/// # Errors
/// [`InstallError`].
pub async fn claude(
    client: &reqwest::Client,
    registry: &Registry,
    version: &str,
    programs: &Path,
) -> Result<Installed, InstallError> {
    let package = match std::env::consts::ARCH {
        "x86_64" => "@anthropic-ai/claude-code-linux-x64",
        "aarch64" => "@anthropic-ai/claude-code-linux-arm64",
        other => return Err(InstallError::Machine(other)),
    };
    let home = programs.join("claude");
    let io = |source: io::Error| InstallError::Io {
        path: home.clone(),
        source,
    };
    directory(&home).map_err(io)?;
    // One at a time: who comes second finds it there.
    let lock = fs::File::create(programs.join(".lock")).map_err(io)?;
    let locked = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock));
    let _lock = locked
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
        .map_err(io)?;
    if let Some(there) = recorded(&home, version) {
        choose(&home, version).map_err(io)?;
        return Ok(there);
    }
    let offer = npm::offer(client, registry, package, version).await?;
    let new = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(&home)
        .map_err(io)?;
    let archive = new.path().join("package.tgz");
    npm::fetch(client, registry, &offer, &archive).await?;
    let (place, version) = (new.path().to_owned(), version.to_owned());
    let unpacking = tokio::task::spawn_blocking(move || {
        let bytes = tar::unpack(&archive, &place)?;
        let io = |source| InstallError::Io {
            path: place.clone(),
            source,
        };
        fs::remove_file(&archive).map_err(io)?;
        let installed = Installed {
            harness: "claude".to_owned(),
            version: version.clone(),
            integrity: offer.integrity,
            from: offer.tarball,
            bytes,
        };
        let record = serde_json::to_vec(&installed).unwrap_or_default();
        fs::write(place.join(RECORD), record).map_err(io)?;
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).map_err(io)?;
        let target = home.join(&version);
        // What stands there is not whole, or it would have been used.
        let _ = fs::remove_dir_all(&target);
        fs::rename(&place, &target).map_err(io)?;
        choose(&home, &version).map_err(io)?;
        Ok(installed)
    });
    let installed = unpacking.await.unwrap_or_else(|_| {
        let problem = "unpacking it failed".to_owned();
        Err(InstallError::Archive(problem))
    })?;
    // It has another name now.
    let _ = new.keep();
    Ok(installed)
}

/// What is installed among these programs: each version, and whether it is the one in use. In order of their names.
#[must_use]
pub fn list(programs: &Path) -> Vec<(Installed, bool)> {
    let home = programs.join("claude");
    let current = fs::read_to_string(home.join(CURRENT)).unwrap_or_default();
    let entries = fs::read_dir(&home).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found = names
        .filter_map(|name| recorded(&home, &name))
        .collect::<Vec<_>>();
    found.sort_by(|a, b| a.version.cmp(&b.version));
    let is_current = |one: &Installed| one.version == current.trim();
    found
        .into_iter()
        .map(|one| (is_current(&one), one))
        .map(|(current, one)| (one, current))
        .collect()
}

/// The version of claude in use among these programs; none if none is installed.
#[must_use]
pub fn current_claude(programs: &Path) -> Option<String> {
    let home = programs.join("claude");
    let current = fs::read_to_string(home.join(CURRENT)).ok()?;
    recorded(&home, current.trim()).map(|installed| installed.version)
}

/// Makes the directory of programs, readable for everybody: what is in it is for sandboxes to see.
///
/// # Errors
/// It cannot be made.
pub fn directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// What stands in the directory of that version, if it is whole.
fn recorded(home: &Path, version: &str) -> Option<Installed> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-+".contains(&byte);
    if version.is_empty() || version.starts_with('.') || !version.bytes().all(plain) {
        return None;
    }
    let place = home.join(version);
    let record = fs::read(place.join(RECORD)).ok()?;
    let installed: Installed = serde_json::from_slice(&record).ok()?;
    let program = fs::metadata(place.join("claude")).ok()?;
    (program.len() == installed.bytes && installed.version == version).then_some(installed)
}

/// Has new processes use that version.
fn choose(home: &Path, version: &str) -> io::Result<()> {
    let new = tempfile::NamedTempFile::new_in(home)?;
    fs::write(new.path(), version)?;
    fs::set_permissions(new.path(), fs::Permissions::from_mode(0o644))?;
    new.persist(home.join(CURRENT))?;
    Ok(())
}
