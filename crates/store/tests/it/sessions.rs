//! A session's life through the store: what a turn leaves behind, and what is refused.

use contract::ids::{EnvironmentId, EventId, MintedWorkspaceId, SessionId, VaultId, WorkspaceId};
use contract::patch::Patch;
use session::{Command, Generation, Refused, Status, Step, UserEvent};
use store::events::{EventList, Of};
use store::page::{Order, TimeRange};
use store::sessions::Scope;
use store::{Conflict, Error, SubmitError, Thing, clock};

use crate::support::*;

fn kinds(events: &[std::sync::Arc<store::events::Stored>]) -> Vec<&str> {
    events.iter().map(|e| &*e.kind).collect()
}

#[tokio::test]
async fn a_turn_with_a_call_goes_from_message_to_idle() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    let sent = send(&f.store, row.id, vec![message("hi")], at(2))
        .await
        .expect("sent");
    assert_eq!(
        kinds(&sent.events),
        [
            "session.status_running",
            "session.thread_status_running",
            "user.message"
        ]
    );
    assert_eq!(sent.echo.len(), 1);
    let due = f.store.due_runs(10, at(3)).await.expect("due");
    assert_eq!(due.iter().map(|d| d.session).collect::<Vec<_>>(), [row.id]);

    let claimed = claim(&f.store, row.id, at(4)).await;
    assert!(matches!(claimed.step, Step::Request { .. }));
    assert!(f.store.due_runs(10, at(5)).await.expect("due").is_empty());
    let generation = claimed.state.generation;

    let called = fact(
        &f.store,
        row.id,
        generation,
        reply("ok", &[(7, "bash")]),
        at(6),
    )
    .await;
    let call = EventId::from_bits(7);
    assert_eq!(called.expect("a call").step, Step::Execute { call });
    let next = fact(&f.store, row.id, generation, finished(7), at(7))
        .await
        .expect("a result");
    assert!(matches!(next.step, Step::Request { .. }));
    let done = fact(&f.store, row.id, generation, reply("bye", &[]), at(8))
        .await
        .expect("done");
    assert_eq!(done.step, Step::Rest);

    let row = f.store.session(WS, row.id).await.expect("the row");
    assert_eq!(row.state.status(), Status::Idle);
    assert_eq!(row.state.totals.input, 20);
    assert_eq!(row.updated_at, at(8));
    let transcript = f
        .store
        .transcript(row.id, row.state.primary.id, 0)
        .await
        .expect("a transcript");
    let shown = transcript
        .iter()
        .map(|r| (&*r.kind, r.record.is_some()))
        .collect::<Vec<_>>();
    assert_eq!(
        shown,
        [
            ("user.message", false),
            ("span.model_request_end", true),
            ("agent.tool_result", false),
            ("span.model_request_end", true),
        ]
    );
    let all = f
        .store
        .events_after(row.id, 0, 1_000)
        .await
        .expect("the log");
    let places = all.iter().filter_map(|e| e.seq).collect::<Vec<_>>();
    assert_eq!(
        places,
        (1..row.state.next_seq).collect::<Vec<_>>(),
        "gapless"
    );
    assert!(all.is_sorted_by(|a, b| a.processed_at < b.processed_at));
}

#[tokio::test]
async fn a_foreign_workspace_finds_no_session() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    let foreign = WorkspaceId::Minted(MintedWorkspaceId::from_bits(5));
    let read = f.store.session(foreign, row.id).await;
    assert!(matches!(read, Err(Error::NotFound(Thing::Session(id))) if id == row.id));
    let list = EventList {
        limit: 10,
        order: Order::Asc,
        after: None,
        kinds: Vec::new(),
        processed: TimeRange::default(),
        of: Of::Primary,
    };
    let listed = f.store.events(foreign, row.id, list).await;
    assert!(matches!(listed, Err(Error::NotFound(_))));
    let input = session::Input::Command(Command::Archive);
    let sent = f.store.submit(foreign, row.id, input, at(2), 1).await;
    assert!(matches!(sent, Err(SubmitError::NotFound)));
    assert!(f.store.session(Scope::Any, row.id).await.is_ok());
}

#[tokio::test]
async fn a_stale_generation_is_refused_and_stores_nothing() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    send(&f.store, row.id, vec![message("hi")], at(2))
        .await
        .expect("sent");
    let first = claim(&f.store, row.id, at(3)).await;
    f.store
        .requeue_all(store::runs::Holder("later".to_owned()), at(4))
        .await
        .expect("requeued");
    let second = claim(&f.store, row.id, at(5)).await;
    assert_eq!(
        second.state.generation,
        Generation(first.state.generation.0 + 1)
    );
    let before = f.store.session(WS, row.id).await.expect("the row");
    let stale = fact(
        &f.store,
        row.id,
        first.state.generation,
        reply("late", &[]),
        at(6),
    )
    .await;
    assert!(matches!(
        stale,
        Err(SubmitError::Refused(Refused::Stale { .. }))
    ));
    let after = f.store.session(WS, row.id).await.expect("the row");
    assert_eq!(before.state, after.state);
}

#[tokio::test]
async fn a_held_run_is_not_claimed_twice() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    send(&f.store, row.id, vec![message("hi")], at(2))
        .await
        .expect("sent");
    claim(&f.store, row.id, at(3)).await;
    let again = f.store.claim(row.id, holder(), None, at(4), 1).await;
    assert!(matches!(again, Err(SubmitError::Held { holder }) if holder == "here"));
}

#[tokio::test]
async fn creation_checks_what_it_is_made_from_in_its_own_transaction() {
    let f = super::fixture().await;
    let (agent, environment) = definitions(&f.store).await;
    let mut unknown_vault = new_session(1, agent, environment, Vec::new());
    unknown_vault.vault_ids = vec![VaultId::from_bits(9)];
    let mut unknown_version = new_session(1, agent, environment, Vec::new());
    unknown_version.agent_version = 2;
    let unknown_environment = new_session(1, agent, EnvironmentId::from_bits(9), Vec::new());
    for (new, missing) in [
        (unknown_vault, Thing::Vault(VaultId::from_bits(9))),
        (unknown_version, Thing::AgentVersion(2)),
        (
            unknown_environment,
            Thing::Environment(EnvironmentId::from_bits(9)),
        ),
    ] {
        let refused = f.store.create_session(new, at(1), 1).await;
        assert!(
            matches!(&refused, Err(Error::NotFound(what)) if *what == missing),
            "{refused:?}"
        );
    }
    // Resolved before, archived in between: the creation itself must see it.
    f.store
        .resolve_for_session(WS, agent, None, environment, Vec::new())
        .await
        .expect("all there");
    f.store
        .archive_environment(WS, environment, at(2))
        .await
        .expect("archived");
    let new = new_session(1, agent, environment, Vec::new());
    let refused = f.store.create_session(new, at(3), 1).await;
    assert!(matches!(refused, Err(Error::Archived(Thing::Environment(e))) if e == environment));
    f.store
        .archive_agent(WS, agent, at(2))
        .await
        .expect("archived");
    let refused = f
        .store
        .create_session(new_session(1, agent, environment, Vec::new()), at(3), 1)
        .await;
    assert!(matches!(refused, Err(Error::Archived(Thing::Agent))));
    let gone = f.store.session(WS, SessionId::from_bits(1)).await;
    assert!(matches!(gone, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_session_that_starts_on_messages_is_due_at_once() {
    let f = super::fixture().await;
    let (agent, environment) = definitions(&f.store).await;
    let new = new_session(1, agent, environment, vec![message("go")]);
    let row = f
        .store
        .create_session(new.clone(), at(1), 1)
        .await
        .expect("a session");
    assert_eq!(row.state.status(), Status::Running);
    assert_eq!(f.store.due_runs(1, at(1)).await.expect("due").len(), 1);
    let twice = f.store.create_session(new, at(1), 1).await;
    assert!(matches!(twice, Err(Error::Conflict(Conflict::Exists))));
}

#[tokio::test]
async fn an_update_changes_title_and_metadata_and_says_so_once() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    let change = Command::Update(Box::new(session::Update {
        title: Patch::Value("t".to_owned()),
        metadata: [("k".to_owned(), Some("v".to_owned()))].into(),
        ..session::Update::default()
    }));
    let done = command(&f.store, row.id, change.clone(), at(2))
        .await
        .expect("updated");
    assert_eq!(kinds(&done.events), ["session.updated"]);
    let again = command(&f.store, row.id, change, at(3))
        .await
        .expect("unchanged");
    assert!(again.events.is_empty());
    let row = f.store.session(WS, row.id).await.expect("the row");
    assert_eq!(row.profile.title.as_deref(), Some("t"));
    assert_eq!(row.profile.metadata, pairs(&[("k", "v")]));
}

#[tokio::test]
async fn an_archived_session_keeps_its_history_and_takes_nothing() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    command(&f.store, row.id, Command::Archive, at(2))
        .await
        .expect("archived");
    command(&f.store, row.id, Command::Archive, at(3))
        .await
        .expect("again");
    let refused = send(&f.store, row.id, vec![message("hi")], at(4)).await;
    assert!(matches!(
        refused,
        Err(SubmitError::Refused(Refused::Archived))
    ));
    let row = f.store.session(WS, row.id).await.expect("the row");
    assert_eq!(row.archived_at, Some(at(2)));
    assert_eq!(row.state.status(), Status::Terminated);
}

#[tokio::test]
async fn a_deleted_session_is_gone_and_its_events_are_swept() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    let answer = |n: u128| UserEvent::CustomToolResult {
        call: EventId::from_bits(n),
        content: Vec::new(),
        is_error: None,
        thread: None,
    };
    let unknown = send(&f.store, row.id, vec![answer(1)], at(2)).await;
    assert!(matches!(
        unknown,
        Err(SubmitError::Refused(Refused::UnknownCall { .. }))
    ));
    let before = f.store.stats().commits;
    command(&f.store, row.id, Command::Delete, at(3))
        .await
        .expect("deleted");
    assert!(matches!(
        f.store.session(WS, row.id).await,
        Err(Error::NotFound(_))
    ));
    assert!(matches!(
        f.store.events_after(row.id, 0, 1).await,
        Err(Error::NotFound(_))
    ));
    // The deletion's commit, and at least one sweep.
    eventually("swept", || async { f.store.stats().commits >= before + 2 }).await;
    f.store
        .delete_environment(WS, environment_id(1))
        .await
        .expect("no session refers to it any more");
}

#[tokio::test]
async fn an_answer_is_matched_to_the_call_that_asked() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    send(&f.store, row.id, vec![message("hi")], at(2))
        .await
        .expect("sent");
    let generation = claim(&f.store, row.id, at(3)).await.state.generation;
    let asked = fact(
        &f.store,
        row.id,
        generation,
        reply("?", &[(7, "ask")]),
        at(4),
    )
    .await;
    assert_eq!(asked.expect("asked").step, Step::Rest);
    let answer = UserEvent::CustomToolResult {
        call: EventId::from_bits(7),
        content: Vec::new(),
        is_error: None,
        thread: None,
    };
    let resumed = send(&f.store, row.id, vec![answer], at(5))
        .await
        .expect("answered");
    assert_eq!(resumed.state.status(), Status::Running);
    assert_eq!(f.store.due_runs(1, at(6)).await.expect("due").len(), 1);
    assert!(claim(&f.store, row.id, at(7)).await.state.generation > generation);
}

#[tokio::test]
async fn a_contradiction_stores_nothing_and_leaves_the_store_up() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    send(&f.store, row.id, vec![message("hi")], at(2))
        .await
        .expect("sent");
    let generation = claim(&f.store, row.id, at(3)).await.state.generation;
    // The same event id twice: the log's own index refuses it.
    let twice = fact(
        &f.store,
        row.id,
        generation,
        reply("x", &[(7, "ask"), (7, "ask")]),
        at(4),
    );
    assert!(matches!(twice.await, Err(SubmitError::Bug(_))));
    let fine = fact(&f.store, row.id, generation, reply("x", &[]), at(5)).await;
    assert!(fine.is_ok());
    let _ = clock::now();
}

#[tokio::test]
async fn a_deletion_wakes_the_waiter_and_the_session_no_longer_exists() {
    let f = super::fixture().await;
    let gone = idle(&f.store).await;
    let asked = vec![gone.id, SessionId::from_bits(99)];
    let existing = f.store.existing(asked.clone()).await;
    assert_eq!(existing.expect("a read"), [gone.id]);
    let delete = session::Input::Command(Command::Delete);
    let deleted = f
        .store
        .submit(WS, gone.id, delete, at(3), clock::entropy())
        .await;
    deleted.expect("deleted");
    let woken = tokio::time::timeout(
        std::time::Duration::from_secs(30),
        f.store.session_deleted(),
    );
    woken
        .await
        .expect("a wake-up that came before its waiter is kept");
    assert_eq!(f.store.existing(asked).await.expect("a read"), []);
}
