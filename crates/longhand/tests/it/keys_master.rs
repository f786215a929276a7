//! The master key of the real binary: where it may come from, what refuses to start, and that a rotation survives
//! a kill anywhere.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use contract::ids::{CredentialId, VaultId, WorkspaceId};
use contract::secret::Secret;
use contract::time::Micros;
use serde_json::value::RawValue;
use store::vaults::{CredentialKind, NewCredential};
use store::{Options, Store, Synchronous};
use testkit::api::control;
use testkit::wait;
use tokio::task::JoinSet;
use vault::secret::CredentialSecret;
use vault::{KeySource, Vault};

use crate::stage::{self, Stage};
use crate::terminal::{command, lines};

const WS: WorkspaceId = WorkspaceId::Default;
const VAULTS: u128 = 50;
const EACH: u128 = 200;

/// `longhand serve` on a directory, which must end by itself.
async fn refused(dir: &Path, environment: &[(&str, &str)]) -> String {
    let mut serve = command(dir, &["serve", "--listen", "127.0.0.1:0"]);
    for (name, value) in environment {
        serve.env(name, value);
    }
    let ended = serve.output();
    let Output { status, stderr, .. } = wait::within("it to end", ended).await.expect("it runs");
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_missing_or_open_master_key_refuses_to_start_and_says_what_to_do() {
    let mut stage = Stage::new(0).await;
    stage.kill().await;
    let dir = stage.launch.data_dir().to_owned();
    let key = dir.join("master.key");
    let whole = std::fs::read(&key).expect("the key");
    let other = "0f".repeat(32);
    for (environment, wanted) in [
        (
            &[("LONGHAND_MASTER_KEY", other.as_str())][..],
            "not the one this database was made with",
        ),
        (
            &[("LONGHAND_MASTER_KEY", "hunter2")][..],
            "LONGHAND_MASTER_KEY: the given master key",
        ),
        (
            &[("LONGHAND_MASTER_KEY_NEXT", other.as_str())][..],
            "LONGHAND_MASTER_KEY is not; set both",
        ),
        (
            &[("LONGHAND_VAULT_KEY_COMMAND", "false")][..],
            "false ended with",
        ),
        (
            &[("LONGHAND_VAULT_KEY_COMMAND", "/nowhere/to/be/found")][..],
            "cannot be run",
        ),
        (
            &[("LONGHAND_VAULT_KEY_COMMAND", "echo,hunter2")][..],
            "what echo printed",
        ),
        (
            &[("LONGHAND_VAULT_NEXT_KEY_COMMAND", "true")][..],
            "`vault.key_command` is not; set both",
        ),
        (
            &[
                ("LONGHAND_VAULT_KEY_COMMAND", "true"),
                ("LONGHAND_MASTER_KEY", other.as_str()),
            ][..],
            "both set; keep one",
        ),
    ] {
        let said = refused(&dir, environment).await;
        assert!(said.contains(wanted), "{environment:?}: {said}");
        assert!(
            !said.contains("hunter2") && !said.contains(&other),
            "{said}"
        );
    }
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("chmod");
    let said = refused(&dir, &[]).await;
    assert!(said.contains("chmod 600"), "{said}");
    std::fs::remove_file(&key).expect("removed");
    let said = refused(&dir, &[]).await;
    assert!(
        said.contains("is missing") && said.contains("backup"),
        "{said}"
    );
    assert!(!key.exists(), "a lost key is not replaced");
    std::fs::write(&key, whole).expect("restored");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    stage.restart().await;
    stage.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_given_leaves_no_file_and_rotates_to_the_next_one() {
    let (launch, model) = stage::launch().await;
    let (one, two) = ("1a".repeat(32), "2b".repeat(32));
    let launch = launch
        .environment("LONGHAND_VAULT_KEY_COMMAND", &format!("echo,{one}"))
        .environment("LONGHAND_VAULT_NEXT_KEY_COMMAND", &format!("echo,{two}"));
    let mut stage = Stage::on(launch, model, 0).await;
    let dir = stage.launch.data_dir().to_owned();
    assert!(!dir.join("master.key").exists());
    let done = lines(&dir, &["keys", "master", "rotate", "--json"]).await;
    assert_eq!(done[0]["version"], 2, "{done:?}");
    assert!(!dir.join("master.key.next").exists());
    stage.kill().await;
    let said = refused(&dir, &[("LONGHAND_MASTER_KEY", &one)]).await;
    assert!(said.contains("not the one"), "{said}");
    // Both keys are still given: the second is the one in force.
    stage.restart().await;
    let shown = lines(&dir, &["keys", "master", "show", "--json"]).await;
    assert_eq!(
        (&shown[0]["version"], &shown[0]["rotating"]),
        (&2.into(), &false.into())
    );
    stage
        .api()
        .get("/v1/vaults")
        .await
        .expect("the API key is still known");
    stage.kill().await;
}

async fn open(dir: &Path) -> (Store, Vault) {
    let options = Options {
        synchronous: Synchronous::Off,
        caps: store::caps::Caps {
            vault_credentials: 1_000,
            ..Default::default()
        },
        ..Options::default()
    };
    let store = Store::open(&dir.join("longhand.db"), options).expect("the store");
    let source = KeySource::File(dir.join("master.key"));
    let vault = Vault::unlock(&store, source).await.expect("unlocked");
    (store, vault)
}

fn credential(v: u128, n: u128) -> CredentialId {
    CredentialId::from_bits(v * 10_000 + n + 1)
}

/// Puts 10,000 secrets into the database of a server that does not run.
async fn fill(dir: &Path) {
    let (store, vault) = open(dir).await;
    let vault = std::sync::Arc::new(vault);
    let mut writers = JoinSet::new();
    for v in 0..VAULTS {
        let (store, vault) = (store.clone(), vault.clone());
        writers.spawn(async move {
            let home = VaultId::from_bits(v + 1);
            let made = store.create_vault(WS, home, "v".to_owned(), [].into(), Micros(1));
            made.await.expect("a vault");
            for n in 0..EACH {
                let id = credential(v, n);
                let secret = CredentialSecret::token(Secret::new(format!("secret {v} {n}")));
                let new = NewCredential {
                    id,
                    kind: CredentialKind::StaticBearer,
                    slot: None,
                    auth: RawValue::from_string("{}".to_owned()).expect("JSON"),
                    display_name: None,
                    metadata: [].into(),
                    sealed: vault.seal_credential(WS, id, &secret),
                };
                let made = store.create_credential(WS, home, new, Micros(2)).await;
                made.expect("made");
            }
        });
    }
    writers.join_all().await;
    store.close().await;
}

async fn all_open(dir: &Path) {
    let (store, vault) = open(dir).await;
    for v in 0..VAULTS {
        let home = VaultId::from_bits(v + 1);
        let views = store.vault_views(WS, vec![home]).await.expect("the vault");
        assert_eq!(views[0].credentials.len() as u128, EACH);
        for row in &views[0].credentials {
            let sealed = row.sealed.as_ref().expect("sealed");
            let opened = vault.open_credential(WS, row.id, sealed).expect("it opens");
            assert!(opened.token.expose().starts_with(&format!("secret {v} ")));
        }
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_a_rotation_goes_on_at_its_next_start() {
    let mut stage = Stage::new(0).await;
    stage.kill().await;
    let dir = stage.launch.data_dir().to_owned();
    fill(&dir).await;
    let socket = dir.join("control.sock");
    for moment in [0, 5, 40, 200] {
        stage.restart().await;
        let mut rotating = command(&dir, &["keys", "master", "rotate"]);
        let mut rotating = rotating.spawn().expect("it runs");
        wait::until("the rotation to begin", || async {
            let begun = dir.join("master.key.next").exists();
            let key = control(&socket, "/v1/x/master_key").await.ok()?;
            (begun || key["rotating"] == true || key["version"] != 1).then_some(())
        })
        .await;
        wait::pass(Duration::from_millis(moment)).await;
        stage.kill().await;
        wait::within("the command to end", rotating.wait())
            .await
            .expect("it ends");
        all_open(&dir).await;
    }
    stage.restart().await;
    let key = wait::until("the rotation to end", || async {
        let key = control(&socket, "/v1/x/master_key").await.ok()?;
        (key["rotating"] == false).then_some(key)
    })
    .await;
    stage
        .api()
        .get("/v1/vaults")
        .await
        .expect("the API key is still known");
    stage.kill().await;
    assert!(!dir.join("master.key.next").exists());
    all_open(&dir).await;
    // Not told how far each round came, but that at least one rotation was under way in them.
    assert!(key["version"].as_u64() >= Some(2), "{key}");
}
