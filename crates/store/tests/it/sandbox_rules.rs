//! What a sandbox may reach by rules of its own.

use session::Command;
use store::feed::Changed;

use crate::support::*;

#[tokio::test]
async fn rules_of_a_sandbox_are_kept_told_replaced_and_removed() {
    let f = super::fixture().await;
    assert!(f.store.sandbox_rules("tool").await.expect("read").is_none());
    let mut changes = f.store.changes();
    let set = |body: Option<&'static str>, now| {
        let store = f.store.clone();
        async move {
            let set = store.set_sandbox_rules("tool", body.map(raw), at(now));
            set.await.expect("set");
        }
    };
    set(Some("[1]"), 1).await;
    assert_eq!(changes.recv().await, Ok(Changed::Anything));
    set(Some("[2]"), 2).await;
    let held = f.store.sandbox_rules("tool").await.expect("read");
    let held = held.expect("they are there");
    assert_eq!((held.body.get(), held.updated_at), ("[2]", at(2)));
    set(None, 3).await;
    assert!(f.store.sandbox_rules("tool").await.expect("read").is_none());
}

#[tokio::test]
async fn those_of_a_session_go_with_it() {
    let f = super::fixture().await;
    let session = idle(&f.store).await.id;
    let name = session.to_string();
    let mut changes = f.store.changes();
    let set = f.store.set_sandbox_rules(&name, Some(raw("[]")), at(2));
    set.await.expect("set");
    assert_eq!(changes.recv().await, Ok(Changed::Session(session)));
    command(&f.store, session, Command::Delete, at(3))
        .await
        .expect("deleted");
    assert!(f.store.sandbox_rules(&name).await.expect("read").is_none());
}
