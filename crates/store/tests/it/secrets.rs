//! What a purge and a rotation leave behind: nothing of what was.

use std::path::Path;
use std::time::{Duration, Instant};

use contract::ids::{CredentialId, MintedWorkspaceId, VaultId, WorkspaceId};
use store::master::Wrapped;
use store::vaults::{CredentialChange, CredentialKind, NewCredential, Sealed, Slot};
use store::{Error, Store};

use crate::support::*;

const VAULTS: u128 = 40;
const EACH: u128 = 20;
const NUMBERS: u128 = u128::from_be_bytes([1; 16]);

fn vault(n: u128) -> VaultId {
    VaultId::from_bits(n + 1)
}

/// Bytes that occur nowhere else, as long as a sealed secret: some stand in pages of their own. No zeros: those are
/// what a wiped one looks like.
fn blob(n: u128) -> Vec<u8> {
    let word = [&b"SEALED"[..], &(n + NUMBERS).to_be_bytes()].concat();
    let times = if n.is_multiple_of(7) { 400 } else { 8 };
    word.repeat(times)
}

fn new(n: u128) -> NewCredential {
    NewCredential {
        id: CredentialId::from_bits(n * 0x9E37_79B9_7F4A_7C15),
        kind: CredentialKind::McpOauth,
        slot: Some(Slot::McpServerUrl(format!("https://{n}.example"))),
        auth: raw("{}"),
        display_name: None,
        metadata: pairs(&[]),
        sealed: Sealed {
            blob: blob(n),
            key_version: 1,
        },
    }
}

async fn fill(store: &Store) {
    for v in 0..VAULTS {
        let made = store.create_vault(WS, vault(v), "v".to_owned(), pairs(&[]), at(1));
        made.await.expect("a vault");
    }
    // Across the vaults, so that rows of one lie beside those of others.
    for n in 0..VAULTS * EACH {
        let made = store.create_credential(WS, vault(n % VAULTS), new(n), at(2));
        made.await.expect("a credential");
    }
}

/// Which of these secrets stand in a file of the directory.
fn found(dir: &Path, wanted: impl Iterator<Item = u128>) -> Vec<u128> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the directory") {
        files.push(std::fs::read(entry.expect("a file").path()).expect("bytes"));
    }
    let mut there = std::collections::BTreeSet::new();
    for file in &files {
        for at in 0..file.len().saturating_sub(22) {
            if file[at..].starts_with(b"SEALED") {
                let n = file[at + 6..at + 22].try_into().expect("16 bytes");
                there.insert(u128::from_be_bytes(n).wrapping_sub(NUMBERS));
            }
        }
    }
    wanted.filter(|n| there.contains(n)).collect()
}

/// Waits until none of them is left.
async fn gone(dir: &Path, wanted: impl Iterator<Item = u128> + Clone) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let left = found(dir, wanted.clone());
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still readable: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_purge_leaves_nothing_readable_in_the_files() {
    let place = super::place();
    let store = place.open(options()).await;
    fill(&store).await;
    let all = 0..VAULTS * EACH;
    if let Some(dir) = place.files() {
        assert_eq!(found(dir, all.clone()).len(), all.clone().count());
    }
    // A vault archived, one deleted, one credential of each way, one replaced; the others stay.
    store
        .archive_vault(WS, vault(0), at(3))
        .await
        .expect("archived");
    store.delete_vault(WS, vault(1)).await.expect("deleted");
    for n in [2, 3, 7 * VAULTS + 2] {
        let id = new(n).id;
        let archived = store.archive_credential(WS, vault(n % VAULTS), id, at(4));
        archived.await.expect("archived");
    }
    let deleted = store.delete_credential(WS, vault(4), new(4).id);
    deleted.await.expect("deleted");
    let change = CredentialChange {
        base: 1,
        auth: raw("{}"),
        display_name: None,
        metadata: pairs(&[]),
        sealed: Some(Sealed {
            blob: vec![7; 100],
            key_version: 1,
        }),
    };
    let changed = store.update_credential(WS, vault(5), new(5).id, change, at(5));
    changed.await.expect("changed");
    let purged = all
        .clone()
        .filter(|n| n % VAULTS < 2)
        .chain([2, 3, 7 * VAULTS + 2, 4, 5]);
    let rows = store
        .vault_views(WS, vec![vault(2), vault(3), vault(5)])
        .await;
    for row in rows
        .expect("read")
        .iter()
        .flat_map(|view| &view.credentials)
    {
        let left = row.sealed.as_ref().expect("active ones have a secret");
        let purged = purged.clone().map(blob).any(|blob| blob == left.blob);
        assert!(!purged, "{} has a secret that was purged", row.id);
    }
    // The files of a server are not only this store's.
    let Some(dir) = place.files() else { return };
    gone(dir, purged.clone()).await;
    let purged = purged.collect::<Vec<_>>();
    let kept = all.filter(|n| !purged.contains(n));
    assert_eq!(found(dir, kept.clone()).len(), kept.count());
}

#[tokio::test]
async fn a_rotation_ends_only_when_no_secret_is_left_and_what_was_sealed_before_is_refused() {
    let place = super::place();
    let store = place.open(options()).await;
    let pepper = |key_version| Sealed {
        blob: b"pepper".to_vec(),
        key_version,
    };
    let first = store.init_master(b"one".to_vec(), pepper(1)).await;
    assert_eq!(first.expect("made").version, 1);
    let again = store.init_master(b"other".to_vec(), pepper(9)).await;
    let again = again.expect("kept");
    assert_eq!(again.check.as_deref(), Some(&b"one"[..]));
    assert_eq!(again.pepper, Some(pepper(1)));
    assert!(matches!(
        store.finish_rotation(pepper(2)).await,
        Err(Error::Bug(_))
    ));
    fill(&store).await;
    let begun = store.begin_rotation(b"two".to_vec()).await.expect("begun");
    assert_eq!(begun.next_check.as_deref(), Some(&b"two"[..]));
    let begun = store
        .begin_rotation(b"three".to_vec())
        .await
        .expect("asked");
    assert_eq!(
        begun.next_check.as_deref(),
        Some(&b"two"[..]),
        "one at a time"
    );
    let (mut after, mut pages, mut done) = (None, 0, 0);
    loop {
        let page = store.wrapped_under(1, after, 300).await.expect("a page");
        let Some(last) = page.last() else { break };
        assert!(!store.finish_rotation(pepper(2)).await.expect("asked"));
        (after, pages) = (Some(last.credential), pages + 1);
        let wrapped = page.into_iter().map(|row| Wrapped {
            credential: row.credential,
            before: row.sealed.blob.clone(),
            after: Sealed {
                blob: row.sealed.blob.iter().map(|b| b ^ 0xFF).collect(),
                key_version: 2,
            },
        });
        let wrapped = wrapped.collect::<Vec<_>>();
        done += store.rewrap(wrapped.clone()).await.expect("wrapped");
        assert_eq!(store.rewrap(wrapped).await.expect("again"), 0);
    }
    assert_eq!((u128::from(done), pages), (VAULTS * EACH, 3));
    assert!(store.finish_rotation(pepper(2)).await.expect("finished"));
    let state = store.master_state().await.expect("read");
    assert_eq!((state.version, state.next_check), (2, None));
    assert_eq!(state.check.as_deref(), Some(&b"two"[..]));
    assert_eq!(state.pepper, Some(pepper(2)));
    if let Some(dir) = place.files() {
        gone(dir, 0..VAULTS * EACH).await;
    }
    store.delete_vault(WS, vault(0)).await.expect("deleted");
    let made = store.create_vault(WS, vault(0), "v".to_owned(), pairs(&[]), at(9));
    made.await.expect("a vault");
    let late = store.create_credential(WS, vault(0), new(0), at(9)).await;
    assert!(matches!(late, Err(Error::Unavailable(_))), "{late:?}");
}

#[tokio::test]
async fn a_slot_is_found_in_the_first_vault_that_has_it_and_in_no_other_workspace() {
    let place = super::place();
    let store = place.open(options()).await;
    for v in 0..3 {
        let made = store.create_vault(WS, vault(v), "v".to_owned(), pairs(&[]), at(1));
        made.await.expect("a vault");
    }
    for (n, v) in [(1, 1), (2, 2)] {
        let row = NewCredential {
            slot: Some(Slot::McpServerUrl("https://x".to_owned())),
            ..new(n)
        };
        let made = store.create_credential(WS, vault(v), row, at(2)).await;
        made.expect("made");
    }
    let at_slot = |workspace, vaults: &[u128], slot| {
        let vaults = vaults.iter().map(|v| vault(*v)).collect();
        store.credential_at(workspace, vaults, slot)
    };
    let url = || Slot::McpServerUrl("https://x".to_owned());
    let first = at_slot(WS, &[0, 1, 2], url()).await.expect("asked");
    assert_eq!(first.expect("there").id, new(1).id);
    let other = at_slot(WS, &[9, 2, 1], url()).await.expect("asked");
    assert_eq!(other.expect("there").id, new(2).id);
    let name = Slot::SecretName("https://x".to_owned());
    assert!(at_slot(WS, &[1], name).await.expect("asked").is_none());
    let foreign = WorkspaceId::Minted(MintedWorkspaceId::from_bits(5));
    let none = at_slot(foreign, &[1, 2], url()).await.expect("asked");
    assert!(none.is_none());
}
