//! Which sandboxes run: in use, paused, asleep, and never more than allowed.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use sandbox::{Error, Keeper, Settings, Spec, Terms};
use tokio::task::JoinSet;

use crate::support::{Host, bash, host, id, ok, text, until};

const LONG: Duration = Duration::from_secs(3600);

fn keeper(host: &Host, change: impl FnOnce(&mut Settings)) -> Keeper {
    let mut settings = Settings {
        pause_after: None,
        sleep_after: LONG,
        ..Settings::default()
    };
    change(&mut settings);
    Keeper::new(Arc::new(host.local.clone()), settings, now)
}

/// The time of day, by a clock that begins when it is first asked.
fn now() -> i64 {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    i64::try_from(BEGUN.elapsed().as_micros()).unwrap()
}

fn lasting(lifetime: Duration) -> Terms {
    Terms {
        lifetime: Some(lifetime),
        ..Terms::default()
    }
}

fn spec(name: &str) -> Spec {
    Spec::new(id(name))
}

#[tokio::test]
async fn one_that_nobody_uses_is_paused_and_its_next_use_resumes_it() {
    let host = host();
    let keeper = keeper(&host, |settings| {
        settings.pause_after = Some(Duration::ZERO)
    });
    let visit = keeper.visit(spec("a"), &Terms::default()).await.unwrap();
    assert!(visit.started);
    keeper.tend(|_| false).await;
    assert!(!visit.is_paused(), "it was paused under its user");
    ok(&visit, "echo used").await;
    drop(visit);
    keeper.tend(|id| id.as_str() == "a").await;
    let running = keeper.running(&id("a")).unwrap();
    assert!(!running.is_paused(), "a turn uses it");
    keeper.tend(|_| false).await;
    assert!(running.is_paused() && running.is_alive());
    let again = keeper.visit(spec("a"), &Terms::default()).await.unwrap();
    assert!(!again.started);
    assert_eq!(ok(&again, "echo back").await, "back");
}

#[tokio::test]
async fn one_that_nobody_uses_for_long_sleeps_and_comes_back_where_it_was() {
    let host = host();
    let keeper = keeper(&host, |settings| settings.sleep_after = Duration::ZERO);
    let visit = keeper.visit(spec("a"), &Terms::default()).await.unwrap();
    ok(&visit, "mkdir deep; cd deep; export KEPT=yes").await;
    drop(visit);
    keeper.tend(|_| false).await;
    assert!(keeper.running(&id("a")).is_none());
    let list = keeper.list().await.unwrap();
    assert_eq!(list.len(), 1);
    assert!(list[0].running.is_none());
    let again = keeper.visit(spec("a"), &Terms::default()).await.unwrap();
    let said = text(&bash(&again, "pwd; echo $KEPT").await);
    assert!(
        said.starts_with(
            "/workspace/deep\nyes\n[The sandbox was stopped: it was idle for 0 seconds."
        ),
        "{said}"
    );
}

#[tokio::test]
async fn time_that_is_over_is_over_for_whoever_uses_it_and_the_model_is_told() {
    let host = host();
    let keeper = keeper(&host, |_| {});
    let visit = keeper
        .visit(spec("a"), &lasting(Duration::ZERO))
        .await
        .unwrap();
    ok(&visit, "echo kept >file; sleep 1000 >/dev/null 2>&1 &").await;
    // Between its start and its program it has the shell's name.
    until("it sleeps", || async {
        let running = visit.processes().await.unwrap();
        running.iter().any(|one| one.command == "sleep 1000")
    })
    .await;
    keeper.tend(|_| true).await;
    assert!(!visit.is_alive());
    let again = keeper.visit(spec("a"), &lasting(LONG)).await.unwrap();
    assert!(again.started);
    let said = text(&bash(&again, "cat file").await);
    assert!(
        said.starts_with("kept\n[The sandbox was stopped: its time to live of 0 seconds was over"),
        "{said}"
    );
    assert!(said.contains("`sleep 1000`"), "{said}");
    keeper.tend(|_| false).await;
    assert!(again.is_alive());
}

#[tokio::test]
async fn when_as_many_run_as_may_the_one_idle_for_longest_makes_room() {
    let host = host();
    let keeper = keeper(&host, |settings| settings.most = 2);
    for name in ["old", "new"] {
        let visit = keeper.visit(spec(name), &Terms::default()).await.unwrap();
        ok(&visit, &format!("cd /tmp; echo {name}")).await;
    }
    let third = keeper
        .visit(spec("third"), &Terms::default())
        .await
        .unwrap();
    assert!(keeper.running(&id("old")).is_none());
    assert!(keeper.running(&id("new")).is_some());
    drop(third);
    let old = keeper.visit(spec("old"), &Terms::default()).await.unwrap();
    let said = text(&bash(&old, "pwd").await);
    assert!(
        said.contains("its host needed the room for others"),
        "{said}"
    );
}

#[tokio::test]
async fn who_waits_for_one_in_use_is_refused_in_the_end_and_served_when_it_is_free() {
    let host = host();
    let keeper = keeper(&host, |settings| {
        settings.most = 1;
        settings.patience = Duration::from_millis(100);
    });
    let first = keeper
        .visit(spec("first"), &Terms::default())
        .await
        .unwrap();
    let refused = keeper
        .visit(spec("second"), &Terms::default())
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, Error::Busy { .. }), "{refused:?}");
    assert!(refused.to_string().contains("as many as may"), "{refused}");
    // Whoever has one is not in its own way.
    drop(
        keeper
            .visit(spec("first"), &Terms::default())
            .await
            .unwrap(),
    );
    drop(first);
    let second = keeper
        .visit(spec("second"), &Terms::default())
        .await
        .unwrap();
    assert_eq!(ok(&second, "echo mine").await, "mine");
}

#[tokio::test]
async fn many_that_want_few_places_all_get_one() {
    let host = host();
    let keeper = keeper(&host, |settings| settings.most = 2);
    let mut users = JoinSet::new();
    for number in 0..6 {
        let keeper = keeper.clone();
        users.spawn(async move {
            let visit = keeper
                .visit(spec(&format!("user{number}")), &Terms::default())
                .await
                .unwrap();
            ok(&visit, "echo served").await
        });
    }
    while let Some(served) = users.join_next().await {
        assert_eq!(served.unwrap().lines().next(), Some("served"));
    }
    let running = keeper.list().await.unwrap();
    assert!(running.iter().filter(|one| one.running.is_some()).count() <= 2);
}
