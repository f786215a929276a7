//! A refresh that is begun while another server's end of one, or its owner's change, is not yet committed: it is made
//! with what they have written.

use contract::ids::{CredentialId, VaultId};
use store::refreshes::{Claim, Due, Holder, Patience};
use store::vaults::{CredentialKind, NewCredential, Sealed};
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_begins_with_the_tokens_that_were_committed_while_it_waited() {
    let place = super::place();
    let store = place.open(options()).await;
    let it = Due {
        workspace: WS,
        vault: VaultId::from_bits(1),
        credential: CredentialId::from_bits(1),
    };
    let vault = store.create_vault(WS, it.vault, "v".to_owned(), pairs(&[]), at(1));
    vault.await.expect("a vault");
    let new = NewCredential {
        id: it.credential,
        kind: CredentialKind::McpOauth,
        slot: None,
        auth: raw("{}"),
        display_name: None,
        metadata: pairs(&[]),
        sealed: Sealed {
            blob: vec![1],
            key_version: 1,
        },
    };
    let made = store.create_credential(WS, it.vault, new, at(2)).await;
    made.expect("made");
    let (other, driven) = tokio_postgres::connect(&place.url(), NoTls).await.expect("connected");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = driven.await;
    });
    let begun = format!(
        "BEGIN; UPDATE credentials SET revision = 2 WHERE id = '{id}';
            UPDATE refreshes SET failures = 0 WHERE credential = '{id}'",
        id = it.credential
    );
    other.batch_execute(&begun).await.expect("begun");
    let mut claims = JoinSet::new();
    let one = store.clone();
    claims.spawn(async move { one.claim_refresh(it, Holder(1), Patience::Waived, at(10), at(90)).await });
    eventually("it waits for the other", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))";
        let row = other.query_one(sql, &[]).await.expect("asked");
        row.get::<_, i64>(0) > 0
    })
    .await;
    other.batch_execute("COMMIT").await.expect("committed");
    let claim = claims.join_next().await.expect("one").expect("it ran").expect("asked");
    assert!(matches!(&claim, Claim::Ours { row, .. } if row.revision == 2), "{claim:?}");
    store.close().await;
}
