//! Agents, environments, workspaces, keys and meta values.

use contract::ids::{AgentId, EnvironmentId, MintedWorkspaceId, WorkspaceId};
use store::agents::VersionList;
use store::page::List;
use store::{Conflict, Error, Thing};

use crate::support::*;

fn foreign() -> WorkspaceId {
    WorkspaceId::Minted(MintedWorkspaceId::from_bits(5))
}

#[tokio::test]
async fn an_agent_has_versions_and_the_latest_is_the_default() {
    let f = super::fixture().await;
    let id = agent_id(1);
    f.store
        .create_agent(WS, id, raw("1"), at(1))
        .await
        .expect("made");
    let two = f
        .store
        .update_agent(WS, id, 1, raw("2"), at(2))
        .await
        .expect("changed");
    assert_eq!(
        (two.version, two.updated_at, two.created_at),
        (2, at(2), at(1))
    );
    let same = f
        .store
        .update_agent(WS, id, 2, raw("2"), at(3))
        .await
        .expect("unchanged");
    assert_eq!((same.version, same.updated_at), (2, at(2)));
    let stale = f.store.update_agent(WS, id, 1, raw("3"), at(4)).await;
    assert!(matches!(
        stale,
        Err(Error::Conflict(Conflict::Version { current: 2 }))
    ));
    assert_eq!(
        f.store
            .agent(WS, id, None)
            .await
            .expect("latest")
            .body
            .get(),
        "2"
    );
    let one = f.store.agent(WS, id, Some(1)).await.expect("first");
    assert_eq!((one.body.get(), one.updated_at), ("1", at(1)));
    let missing = f.store.agent(WS, id, Some(3)).await;
    assert!(matches!(
        missing,
        Err(Error::NotFound(Thing::AgentVersion(3)))
    ));
    let elsewhere = f.store.agent(foreign(), id, None).await;
    assert!(matches!(elsewhere, Err(Error::NotFound(Thing::Agent))));
}

#[tokio::test]
async fn versions_are_listed_newest_first_by_pages() {
    let f = super::fixture().await;
    let id = agent_id(1);
    f.store
        .create_agent(WS, id, raw("1"), at(1))
        .await
        .expect("made");
    for n in 1..5u32 {
        let body = raw(&(n + 1).to_string());
        f.store
            .update_agent(WS, id, n, body, at(i64::from(n) + 1))
            .await
            .expect("changed");
    }
    let mut below = None;
    let mut seen = Vec::new();
    loop {
        let list = VersionList { limit: 2, below };
        let page = f.store.agent_versions(WS, id, list).await.expect("a page");
        seen.extend(page.items.iter().map(|a| a.version));
        below = seen.last().copied();
        if !page.has_next {
            break;
        }
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn an_archived_agent_is_read_only_and_keeps_its_version() {
    let f = super::fixture().await;
    let id = agent_id(1);
    f.store
        .create_agent(WS, id, raw("1"), at(1))
        .await
        .expect("made");
    let row = f
        .store
        .archive_agent(WS, id, at(2))
        .await
        .expect("archived");
    assert_eq!((row.version, row.archived_at), (1, Some(at(2))));
    let again = f.store.archive_agent(WS, id, at(3)).await.expect("again");
    assert_eq!(again.archived_at, Some(at(2)));
    let change = f.store.update_agent(WS, id, 1, raw("2"), at(4)).await;
    assert!(matches!(change, Err(Error::Archived(Thing::Agent))));
    let shown = f.store.agents(WS, List::newest(9)).await.expect("a page");
    assert!(shown.items.is_empty());
    let all = List {
        include_archived: true,
        ..List::newest(9)
    };
    assert_eq!(
        f.store.agents(WS, all).await.expect("a page").items.len(),
        1
    );
    let missing = f
        .store
        .archive_agent(WS, AgentId::from_bits(9), at(5))
        .await;
    assert!(matches!(missing, Err(Error::NotFound(Thing::Agent))));
}

#[tokio::test]
async fn an_active_environments_name_is_its_own_in_its_workspace() {
    let f = super::fixture().await;
    let make = |ws, n: u128, name: &str| {
        let (store, name) = (f.store.clone(), name.to_owned());
        async move {
            let id = EnvironmentId::from_bits(n);
            store
                .create_environment(ws, id, name, raw("{}"), at(1))
                .await
        }
    };
    make(WS, 1, "e").await.expect("made");
    let twice = make(WS, 2, "e").await;
    assert!(matches!(
        twice,
        Err(Error::Conflict(Conflict::EnvironmentName))
    ));
    make(foreign(), 3, "e").await.expect("another workspace");
    make(WS, 4, "f").await.expect("another name");
    let rename = f
        .store
        .update_environment(WS, environment_id(4), 1, "e".to_owned(), raw("{}"), at(2))
        .await;
    assert!(matches!(
        rename,
        Err(Error::Conflict(Conflict::EnvironmentName))
    ));
    f.store
        .archive_environment(WS, environment_id(1), at(3))
        .await
        .expect("archived");
    make(WS, 5, "e").await.expect("archiving frees the name");
}

#[tokio::test]
async fn an_environment_moves_by_revisions() {
    let f = super::fixture().await;
    let (_, id) = definitions(&f.store).await;
    let change = |base: u32, body: &str| {
        let (store, body) = (f.store.clone(), raw(body));
        async move {
            store
                .update_environment(WS, id, base, "e".to_owned(), body, at(5))
                .await
        }
    };
    assert_eq!(change(1, "[1]").await.expect("changed").revision, 2);
    assert_eq!(change(2, "[1]").await.expect("unchanged").revision, 2);
    let stale = change(1, "[2]").await;
    assert!(matches!(
        stale,
        Err(Error::Conflict(Conflict::Revision { current: 2 }))
    ));
    f.store
        .archive_environment(WS, id, at(6))
        .await
        .expect("archived");
    assert!(matches!(
        change(3, "[3]").await,
        Err(Error::Archived(Thing::Environment(_)))
    ));
}

#[tokio::test]
async fn an_environment_with_sessions_is_not_deleted() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    let id = row.environment_id;
    let refused = f.store.delete_environment(WS, id).await;
    assert!(matches!(refused, Err(Error::Conflict(Conflict::InUse))));
    command(&f.store, row.id, session::Command::Delete, at(5))
        .await
        .expect("deleted");
    f.store.delete_environment(WS, id).await.expect("free now");
    let gone = f.store.environment(WS, id).await;
    assert!(matches!(gone, Err(Error::NotFound(Thing::Environment(e))) if e == id));
}

#[tokio::test]
async fn an_archived_workspace_locks_its_keys_out() {
    use store::keys::{ApiKeyRow, KeyHash, KeyRole};
    let f = super::fixture().await;
    f.store
        .create_workspace(foreign(), "w".to_owned(), at(1))
        .await
        .expect("made");
    let key = ApiKeyRow {
        id: contract::ids::ApiKeyId::from_bits(1),
        workspace: foreign(),
        hash: KeyHash([1; 32]),
        prefix: "lh_abcd".to_owned(),
        last4: "wxyz".to_owned(),
        name: "k".to_owned(),
        role: KeyRole::Workspace,
        created_at: at(1),
        revoked_at: None,
    };
    f.store.create_api_key(key.clone()).await.expect("made");
    assert!(
        f.store
            .authenticate(key.hash)
            .await
            .expect("asked")
            .is_some()
    );
    f.store
        .archive_workspace(foreign(), at(2))
        .await
        .expect("archived");
    assert!(
        f.store
            .authenticate(key.hash)
            .await
            .expect("asked")
            .is_none()
    );
    let late = ApiKeyRow {
        hash: KeyHash([2; 32]),
        ..key
    };
    let late = f.store.create_api_key(late).await;
    assert!(matches!(late, Err(Error::Archived(Thing::Workspace))));
    let names = f
        .store
        .workspaces()
        .await
        .expect("listed")
        .into_iter()
        .map(|w| w.id);
    let mut names = names.collect::<Vec<_>>();
    names.sort();
    assert_eq!(names, [WorkspaceId::Default, foreign()]);
}

#[tokio::test]
async fn a_meta_value_is_set_once_unless_it_is_meant() {
    let f = super::fixture().await;
    assert_eq!(f.store.meta("k").await.expect("asked"), None);
    assert_eq!(f.store.meta_init("k", vec![1]).await.expect("set"), [1]);
    assert_eq!(f.store.meta_init("k", vec![2]).await.expect("kept"), [1]);
    f.store.meta_set("k", vec![3]).await.expect("set");
    assert_eq!(f.store.meta("k").await.expect("asked"), Some(vec![3]));
}
