//! Where the master key comes from: its file, the environment, or a command of the operator's; and what runs beside
//! the vault. It holds a key only until the vault has it.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use contract::secret::Secret;
use store::Store;
use store::feed::Changed;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use vault::master::MasterKey;
use vault::refresh::{Refresher, Settings};
use vault::rotate::RotateError;
use vault::{KeySource, Vault};

use crate::config::{self, Config};
use crate::data_dir::DataDir;

/// The variable that holds the master key, and the one that holds the key that a rotation goes to.
pub const VARIABLES: [&str; 2] = ["LONGHAND_MASTER_KEY", "LONGHAND_MASTER_KEY_NEXT"];

/// How long a command may take: it may ask a service elsewhere.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause before it is looked again for what could not be taken up of another server's rotation.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// More is no key.
const OUTPUT: u64 = 4_096;

/// The source that the operator chose.
///
/// # Errors
/// Two sources; a variable or a command that gives no key. The text never holds what was given.
pub async fn source(settings: &config::Vault, data_dir: &DataDir) -> anyhow::Result<KeySource> {
    settings.check()?;
    let [variable, next_variable] = VARIABLES;
    let (given, next) = (from_variable(variable)?, from_variable(next_variable)?);
    if let Some(key) = given {
        if !settings.key_command.is_empty() {
            bail!("{variable} and `vault.key_command` are both set; keep one of them");
        }
        return Ok(KeySource::Given { key, next });
    }
    if next.is_some() {
        bail!("{next_variable} is set and {variable} is not; set both");
    }
    if settings.key_command.is_empty() {
        return Ok(KeySource::File(data_dir.join("master.key")));
    }
    let key = from_command("vault.key_command", &settings.key_command).await?;
    let next = match settings.next_key_command.as_slice() {
        [] => None,
        command => Some(from_command("vault.next_key_command", command).await?),
    };
    Ok(KeySource::Given { key, next })
}

fn from_variable(name: &str) -> anyhow::Result<Option<MasterKey>> {
    let Some(text) = std::env::var_os(name) else {
        return Ok(None);
    };
    let text = Secret::new(text.into_string().unwrap_or_default());
    MasterKey::parse(&text).map(Some).context(name.to_owned())
}

async fn from_command(setting: &str, command: &[String]) -> anyhow::Result<MasterKey> {
    let name = || format!("`{setting}`");
    let [program, arguments @ ..] = command else {
        bail!("{} is empty", name());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Its own words are for the operator, who started us.
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{}: {program} cannot be run", name()))?;
    let mut output = child
        .stdout
        .take()
        .with_context(|| format!("{}: {program} has no output", name()))?
        .take(OUTPUT);
    let asked = async {
        let mut text = String::with_capacity(OUTPUT as usize);
        let read = output.read_to_string(&mut text).await;
        // Taken as a secret before anything can fail.
        let text = Secret::new(text);
        read?;
        drop(output);
        Ok::<_, std::io::Error>((text, child.wait().await?))
    };
    let (text, status) = tokio::time::timeout(PATIENCE, asked)
        .await
        .with_context(|| format!("{}: {program} took longer than {PATIENCE:?}", name()))?
        .with_context(|| format!("{}: {program} printed no text", name()))?;
    if !status.success() {
        bail!("{}: {program} ended with {status}", name());
    }
    MasterKey::parse(&text).with_context(|| format!("{}: what {program} printed", name()))
}

/// What keeps OAuth tokens fresh.
///
/// # Errors
/// A range or a certificate in the settings that is none.
pub fn refresher(config: &Config, store: &Store, vault: &Arc<Vault>) -> anyhow::Result<Refresher> {
    let settings = Settings {
        policy: dial::Policy {
            allow_private: crate::egress::nets(&config.egress.allow_private)?,
        },
        extra_roots_pem: crate::provider::roots(&config.model)?,
        ..Settings::default()
    };
    Refresher::new(store.clone(), Arc::clone(vault), settings)
        .context("the TLS roots of this system, or those of `model.ca_file`, cannot be loaded")
}

/// Ends a rotation of the master key that was cut short, while the server serves.
pub async fn end_rotation(vault: Arc<Vault>, store: Store) {
    if !vault.is_rotating() {
        return;
    }
    tracing::info!("a rotation of the master key was cut short; going on");
    if let Err(error) = vault.rotate(&store).await {
        tracing::error!(%error, "the rotation of the master key did not end; both keys are kept");
    }
}

/// Takes up what other servers on the same database do to the master key, until it is stopped. They are heard of as
/// of every change that they make.
pub async fn follow(vault: Arc<Vault>, store: Store, stop: CancellationToken) {
    let mut changes = store.changes();
    // The first look is for what happened between the unlocking and here.
    let (mut again, mut told) = (true, false);
    loop {
        let changed = tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.recv() => changed,
            () = tokio::time::sleep(LOOK_AGAIN), if again => Ok(Changed::Anything),
        };
        match changed {
            Ok(Changed::Anything) | Err(RecvError::Lagged(_)) => {}
            Ok(_) => continue,
            Err(RecvError::Closed) => return,
        }
        let followed = vault.follow(&store).await;
        again = followed.is_err();
        match followed {
            Ok(()) => told = false,
            Err(RotateError::NoNext) if told => {}
            Err(RotateError::NoNext) => {
                told = true;
                tracing::error!(
                    "another server rotates the master key, and this one has not got the next key: no secret under it \
                     can be read here; restart this server with it"
                );
            }
            Err(error) => tracing::warn!(%error, "the master key's state was not read"),
        }
    }
}
