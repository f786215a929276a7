//! New tokens outlive a store that cannot be written: whoever was given them has the only copy, and what they were
//! made from is spent.

use std::sync::Arc;

use contract::credential::TokenAuth;
use contract::time::Micros;
use store::refreshes::{Claim, Due, Holder, Patience};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vault::master::MasterKey;
use vault::refresh::TokenError;
use vault::{KeySource, Vault};

use crate::authority::*;

/// From here on no row of that table can be changed, until [`restore`].
fn break_down(bench: &Bench, table: &str) {
    let trigger =
        format!("CREATE TRIGGER broken BEFORE UPDATE ON {table} BEGIN SELECT json('{{'); END");
    bench.beside().execute_batch(&trigger).expect("it fails");
}

fn restore(bench: &Bench) {
    let sql = "DROP TRIGGER broken";
    bench.beside().execute_batch(sql).expect("it works again");
}

/// Until when somebody refreshes the only credential.
fn lease(bench: &Bench) -> Option<Micros> {
    let sql = "SELECT lease_until FROM refreshes";
    let until = bench
        .beside()
        .query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
    until.expect("a row").map(Micros)
}

/// Waits until so many more writes have failed.
async fn refused(bench: &Bench, writes: u64) {
    let all = bench.store.stats().refused + writes;
    let failed = async || bench.store.stats().refused >= all;
    until("writes to fail", failed).await;
}

/// Opens the gate of an authority that was asked, and waits until what it gave cannot be stored.
async fn given(bench: &Bench, authority: &Authority) {
    until("the server to be asked", async || authority.asked() > 0).await;
    break_down(bench, "credentials");
    authority.gate.notify_one();
    refused(bench, 1).await;
}

#[tokio::test]
async fn new_tokens_are_stored_when_the_store_works_again_and_nobody_else_refreshes_meanwhile() {
    let (bench, authority) = (Bench::new().await, Authority::start(Way::Gated).await);
    let it = bench
        .credential(&authority, within(-5), TokenAuth::None)
        .await;
    let mut caller = asking(&bench, it);
    given(&bench, &authority).await;
    // Each time ten seconds before it ends.
    for _ in 0..2 {
        pass(50);
        let enough = within(55);
        until("the lease to be kept", async || lease(&bench) > enough).await;
    }
    let due = Due {
        workspace: WS,
        vault: VAULT,
        credential: it.credential,
    };
    let soon = within(1).expect("a time");
    let claim = bench
        .store
        .claim_refresh(due, Holder(7), Patience::Waived, now(), soon);
    let claim = claim.await.expect("asked");
    assert!(matches!(claim, Claim::Held { .. }), "{claim:?}");
    restore(&bench);
    let token = caller.join_next().await.expect("one").expect("it ran");
    assert_eq!(token.expect("a token").expose(), access_token(1));
    let stored = bench.stored(it).await;
    assert_eq!(stored.token.expose(), access_token(1));
    let refresh = stored.refresh_token.expect("there");
    assert_eq!(refresh.expose(), refresh_token(1));
    assert_eq!((authority.asked(), lease(&bench)), (1, None));
}

#[tokio::test]
async fn tokens_that_the_owner_gave_meanwhile_win_though_the_store_fails() {
    let (bench, authority) = (Bench::new().await, Authority::start(Way::Gated).await);
    let it = bench
        .credential(&authority, within(-5), TokenAuth::None)
        .await;
    let mut caller = asking(&bench, it);
    until("the server to be asked", async || authority.asked() > 0).await;
    replace(&bench, it, 1, "another-refresh-token").await;
    // The lease cannot be given back.
    break_down(&bench, "refreshes");
    authority.gate.notify_one();
    refused(&bench, 4).await;
    restore(&bench);
    let token = caller.join_next().await.expect("one").expect("it ran");
    assert_eq!(token.expect("a token").expose(), "another-access-token");
    let refresh = bench.stored(it).await.refresh_token.expect("there");
    assert_eq!(refresh.expose(), "another-refresh-token");
}

#[tokio::test]
async fn a_credential_that_is_deleted_while_the_store_fails_is_not_waited_for() {
    let (bench, authority) = (Bench::new().await, Authority::start(Way::Gated).await);
    let it = bench
        .credential(&authority, within(-5), TokenAuth::None)
        .await;
    let mut caller = asking(&bench, it);
    given(&bench, &authority).await;
    let deleted = bench.store.delete_credential(WS, VAULT, it.credential);
    deleted.await.expect("deleted");
    let token = caller.join_next().await.expect("one").expect("it ran");
    let gone = matches!(token, Err(TokenError::Store(store::Error::NotFound(_))));
    assert!(gone, "{token:?}");
}

#[tokio::test]
async fn a_store_that_goes_on_failing_does_not_keep_the_refresher_from_ending() {
    let (bench, authority) = (Bench::new().await, Authority::start(Way::Gated).await);
    let it = bench
        .credential(&authority, within(60), TokenAuth::None)
        .await;
    let stop = CancellationToken::new();
    let (refresher, stopped) = (bench.refresher.clone(), stop.clone());
    let mut running = JoinSet::new();
    running.spawn(async move { refresher.run(stopped).await });
    given(&bench, &authority).await;
    stop.cancel();
    let ended = async || running.try_join_next().is_some();
    until("the refresher to end", ended).await;
    assert_eq!(bench.stored(it).await.token.expose(), access_token(0));
}

#[tokio::test]
async fn a_server_without_the_next_master_key_leaves_what_is_due_to_those_that_have_it() {
    let way = Way::Good {
        expires_in: serde_json::json!(3_600),
    };
    let (bench, authority) = (Bench::new().await, Authority::start(way).await);
    bench
        .credential(&authority, within(60), TokenAuth::None)
        .await;
    let source = KeySource::Given {
        key: MasterKey::from_bytes([1; 32]),
        next: Some(MasterKey::from_bytes([2; 32])),
    };
    let new = Vault::unlock(&bench.store, source).await.expect("unlocked");
    new.rotate(&bench.store).await.expect("rotated");
    let looked_at = || {
        let sql = "SELECT due_at IS NOT 0 AND lease_until IS NULL FROM refreshes";
        let looked = bench.beside().query_row(sql, [], |row| row.get(0));
        looked.expect("a row")
    };
    looks(&bench.refresher, async || looked_at()).await;
    pass(31);
    let other = Bench::another(&bench.store, &Arc::new(new), "127.0.0.0/8");
    looks(&other, async || authority.granted() == 1).await;
}
