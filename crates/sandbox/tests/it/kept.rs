//! What is kept of sandboxes beyond one server: their time, whose they are, what became of them. And what is
//! made ready before anybody needs it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sandbox::{Error, Keeper, Provider as _, Settings, Spec, Terms, What};
use tempfile::TempDir;

use crate::life::{marker, processes, start_sleeper, supervisor_of};
use crate::outlive::Server;
use crate::support::{attach, bash, id, lasting, long, ok, text, until};

/// Servers that come one after the other, on one directory and by one clock.
struct Servers {
    dir: TempDir,
    clock: Arc<AtomicI64>,
}

impl Servers {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(AtomicI64::new(1_000_000)),
        }
    }

    /// The next one; nobody is paused or put to sleep unless `change` says so.
    fn next(&self, change: impl FnOnce(&mut Settings)) -> Keeper {
        let local = lasting(self.dir.path(), Duration::from_secs(120));
        let mut settings = Settings {
            pause_after: None,
            sleep_after: Duration::from_secs(3600),
            patience: Duration::from_millis(100),
            ..Settings::default()
        };
        change(&mut settings);
        let clock = Arc::clone(&self.clock);
        Keeper::new(Arc::new(local), settings, move || {
            clock.load(Ordering::SeqCst)
        })
    }

    fn later(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

fn spec(name: &str) -> Spec {
    Spec::new(id(name))
}

fn of(workspace: &str) -> Terms {
    Terms {
        workspace: Some(workspace.into()),
        ..Terms::default()
    }
}

async fn told(keeper: &Keeper, name: &str) -> Vec<What> {
    let diary = keeper.diary(&id(name)).await.unwrap();
    diary.entries().map(|entry| entry.what).collect()
}

fn is_busy<T>(asked: Result<T, Error>) -> bool {
    matches!(asked, Err(Error::Busy { .. }))
}

#[tokio::test]
async fn a_time_to_live_counts_from_the_first_start_whatever_happens_to_servers_and_sandboxes() {
    let servers = Servers::new();
    let terms = Terms {
        lifetime: Some(Duration::from_secs(60)),
        ..Terms::default()
    };
    let first = servers.next(|_| {});
    drop(first.visit(spec("a"), &terms).await.unwrap());
    servers.later(30);
    first.put_to_sleep(&id("a"), "a test wants it").await;
    drop(first.visit(spec("a"), &terms).await.unwrap());
    first.leave().await;
    let second = servers.next(|_| {});
    assert_eq!(second.take_over().await.unwrap(), [id("a")]);
    servers.later(29);
    second.tend(|_| true).await;
    assert!(second.running(&id("a")).is_some(), "its time is not over");
    servers.later(1);
    second.tend(|_| true).await;
    assert!(second.running(&id("a")).is_none());
    let again = second.visit(spec("a"), &terms).await.unwrap();
    let said = text(&bash(&again, "echo back").await);
    assert!(
        said.contains("[The sandbox was stopped: its time to live of 60 seconds was over"),
        "{said}"
    );
    // It has as long again.
    servers.later(59);
    second.tend(|_| true).await;
    assert!(again.is_alive());
    second.stop_all("the test is over").await;
}

#[tokio::test]
async fn what_an_earlier_server_left_counts_before_it_is_taken_over() {
    let servers = Servers::new();
    let first = servers.next(|_| {});
    for name in ["a1", "a2"] {
        drop(first.visit(spec(name), &of("a")).await.unwrap());
    }
    first.leave().await;
    let second = servers.next(|settings| {
        settings.most_of_workspace = Some(2);
        settings.most = 3;
    });
    second.count_left().await.unwrap();
    assert_eq!(second.load().running, 2);
    assert!(is_busy(second.visit(spec("a3"), &of("a")).await));
    drop(second.visit(spec("b1"), &of("b")).await.unwrap());
    second.take_over().await.unwrap();
    assert_eq!(second.load().running, 3);
    // Now one that is idle can make room, as any other can.
    drop(second.visit(spec("a3"), &of("a")).await.unwrap());
    assert_eq!(second.load().running, 3);
    second.stop_all("the test is over").await;
}

#[tokio::test]
async fn when_more_were_left_than_may_run_nobody_gets_one_more_until_as_few_do() {
    let servers = Servers::new();
    let first = servers.next(|_| {});
    for name in ["a", "b"] {
        drop(first.visit(spec(name), &Terms::default()).await.unwrap());
    }
    first.leave().await;
    let second = servers.next(|settings| settings.most = 1);
    second.take_over().await.unwrap();
    let plain = Terms::default();
    let (_a, _b) = (
        second.visit(spec("a"), &plain).await.unwrap(),
        second.visit(spec("b"), &plain).await.unwrap(),
    );
    assert!(is_busy(second.visit(spec("c"), &plain).await));
    second.put_to_sleep(&id("a"), "a test wants it").await;
    assert!(is_busy(second.visit(spec("c"), &plain).await), "b runs");
    second.put_to_sleep(&id("b"), "a test wants it").await;
    drop(second.visit(spec("c"), &plain).await.unwrap());
    second.stop_all("the test is over").await;
}

#[tokio::test]
async fn one_that_is_kept_awake_is_left_alone_until_that_ends() {
    let servers = Servers::new();
    let keeper = servers.next(|settings| {
        settings.pause_after = Some(Duration::ZERO);
        settings.sleep_after = Duration::ZERO;
        settings.most = 1;
    });
    let awake = Terms {
        awake: true,
        ..Terms::default()
    };
    drop(keeper.visit(spec("a"), &awake).await.unwrap());
    keeper.tend(|_| false).await;
    let running = keeper.running(&id("a")).expect("it was put to sleep");
    assert!(!running.is_paused());
    assert!(is_busy(keeper.visit(spec("b"), &Terms::default()).await));
    assert!(running.is_alive(), "it made room");
    keeper.agree(&id("a"), Terms::default());
    keeper.tend(|_| false).await;
    assert!(keeper.running(&id("a")).is_none());
    keeper.stop_all("the test is over").await;
}

/// A sandbox with something in the background, whose supervisor is killed with all that runs.
async fn kill(keeper: &Keeper, name: &str, marker: &str) {
    let visit = keeper.visit(spec(name), &Terms::default()).await.unwrap();
    ok(&visit, &format!("cd /tmp; {}", start_sleeper(marker))).await;
    until("it runs", || async { processes(marker).len() == 1 }).await;
    rustix::process::kill_process(supervisor_of(marker), rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_loss_is_written_down_with_its_reason_and_the_model_is_told_once() {
    let (servers, marker) = (Servers::new(), marker("lossnoted"));
    let keeper = servers.next(|_| {});
    kill(&keeper, "a", &marker).await;
    until("it is lost", || async {
        keeper.tend(|_| false).await;
        told(&keeper, "a").await == [What::Created, What::Lost]
    })
    .await;
    assert_eq!(keeper.load().running, 0, "what is lost takes no room");
    let again = keeper.visit(spec("a"), &Terms::default()).await.unwrap();
    let said = text(&bash(&again, "pwd").await);
    assert!(
        said.starts_with("/workspace\n[The sandbox was lost since the last call: "),
        "{said}"
    );
    assert_eq!(ok(&again, "pwd").await, "/workspace");
    let news = keeper.news(&id("a")).await;
    let news: Vec<_> = news.iter().map(|entry| entry.what).collect();
    assert_eq!(news, [What::Created, What::Lost, What::Restored]);
    assert_eq!(keeper.news(&id("a")).await, []);
    keeper.stop_all("the test is over").await;
}

#[tokio::test]
async fn what_died_while_no_server_was_there_is_lost_too() {
    let (servers, marker) = (Servers::new(), marker("lossaway"));
    let first = servers.next(|_| {});
    kill_after_leaving(&first, &marker).await;
    let second = servers.next(|_| {});
    assert_eq!(second.take_over().await.unwrap(), []);
    assert_eq!(second.load().running, 0);
    let again = second.visit(spec("a"), &Terms::default()).await.unwrap();
    let said = text(&bash(&again, "echo back").await);
    assert!(
        said.contains("it ended while its server was away"),
        "{said}"
    );
    let whole = [What::Created, What::Lost, What::Restored];
    assert_eq!(told(&second, "a").await, whole);
    second.stop_all("the test is over").await;
}

async fn kill_after_leaving(first: &Keeper, marker: &str) {
    let visit = first.visit(spec("a"), &Terms::default()).await.unwrap();
    ok(&visit, &start_sleeper(marker)).await;
    until("it runs", || async { processes(marker).len() == 1 }).await;
    let supervisor = supervisor_of(marker);
    first.leave().await;
    drop(visit);
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    until("it is dead", || async { processes(marker).is_empty() }).await;
}

#[tokio::test]
async fn one_that_is_made_ready_ahead_stands_still_until_it_is_used_and_takes_nobodys_room() {
    let servers = Servers::new();
    let keeper = servers.next(|settings| settings.most = 1);
    keeper.prepare(spec("a"), Terms::default());
    until("it stands still", || async {
        let running = keeper.running(&id("a"));
        running.is_some_and(|running| running.is_paused())
    })
    .await;
    let visit = keeper.visit(spec("a"), &Terms::default()).await.unwrap();
    assert!(!visit.started);
    assert_eq!(ok(&visit, "pwd").await.lines().next(), Some("/workspace"));
    assert!(!visit.is_paused());
    drop(visit);
    keeper.prepare(spec("b"), Terms::default());
    keeper.stop_all("the test is over").await;
    assert_eq!(told(&keeper, "b").await, [], "it took somebody's room");
    let how = told(&keeper, "a").await;
    assert_eq!(how, [What::Created, What::Paused, What::Stopped]);
}

#[tokio::test]
async fn what_is_written_down_goes_with_the_sandbox_and_cannot_be_seen_inside() {
    let servers = Servers::new();
    let keeper = servers.next(|_| {});
    let visit = keeper.visit(spec("a"), &of("secretspace")).await.unwrap();
    let search = "grep -rl secretspace / --include='diary*' --exclude-dir=proc --exclude-dir=sys 2>/dev/null; true";
    assert_eq!(ok(&visit, search).await, "");
    drop(visit);
    let file = |dir: &Path| dir.join("sandboxes/a/diary");
    let written = std::fs::read_to_string(file(servers.dir.path())).unwrap();
    assert!(written.contains("secretspace"), "{written}");
    // What nobody can read is as good as nothing.
    std::fs::write(file(servers.dir.path()), "{").unwrap();
    assert_eq!(told(&keeper, "a").await, []);
    keeper.delete(&id("a")).await.unwrap();
    assert!(!file(servers.dir.path()).exists());
    let local = lasting(servers.dir.path(), Duration::ZERO);
    assert!(local.recall(&id("a")).await.unwrap().is_none());
    assert!(local.remember(&id("a"), b"x").await.is_err());
}

#[tokio::test]
async fn what_was_driven_over_pipes_ends_with_its_server_also_if_it_stood_still() {
    let (place, marker) = (tempfile::tempdir().unwrap(), marker("driven"));
    let server = Server::start(place.path(), "drives", &marker, Duration::from_secs(120));
    server.kill();
    let local = long(place.path());
    let sandbox = attach(&local, "lasting").await;
    until("nobody drives it", || async {
        let running = sandbox.processes().await.unwrap();
        // The daemon of the shell is nobody's but the agent's.
        running
            .iter()
            .all(|one| !one.command.ends_with("sleep 1000") || one.command.contains(&marker))
    })
    .await;
    assert_eq!(processes(&marker).len(), 1);
    sandbox.stop().await.unwrap();
}
