//! How many sandboxes a workspace runs. The provider here only pretends: what is counted needs no processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use sandbox::{
    Command, Error, Keeper, Process, Provider, Report, Sandbox, SandboxId, Settings, Spec, Terms,
    ToolCall, ToolOutput, Visit,
};
use tokio_util::sync::CancellationToken;

struct Pretend;

#[derive(Default)]
struct Running {
    ended: AtomicBool,
}

#[async_trait]
impl Provider for Pretend {
    async fn attach(&self, _: Spec) -> Result<Arc<dyn Sandbox>, Error> {
        Ok(Arc::new(Running::default()))
    }

    async fn delete(&self, _: &SandboxId) -> Result<(), Error> {
        Ok(())
    }

    async fn list(&self) -> Result<Vec<SandboxId>, Error> {
        Ok(Vec::new())
    }

    async fn probe(&self) -> Report {
        let findings = Vec::new();
        Report { findings }
    }
}

#[async_trait]
impl Sandbox for Running {
    async fn tool(&self, _: ToolCall, _: CancellationToken) -> Result<ToolOutput, Error> {
        Err(Error::Gone)
    }

    async fn spawn(&self, _: Command) -> Result<Process, Error> {
        Err(Error::Gone)
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn stop(&self) -> Result<(), Error> {
        self.ended.store(true, Ordering::Release);
        Ok(())
    }

    async fn hibernate(&self, _: &str) -> Result<(), Error> {
        self.stop().await
    }

    fn is_alive(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }
}

/// Two of each workspace, and so many in all.
fn keeper(most: usize) -> Keeper {
    let settings = Settings {
        most,
        most_of_workspace: Some(2),
        patience: Duration::from_secs(60),
        ..Settings::default()
    };
    Keeper::new(Arc::new(Pretend), settings, || 0)
}

fn id(name: &str) -> SandboxId {
    SandboxId::new(name.to_owned()).unwrap()
}

async fn visit(keeper: &Keeper, workspace: &str, name: &str) -> Result<Visit, Error> {
    let terms = Terms {
        workspace: Some(workspace.into()),
        ..Terms::default()
    };
    keeper.visit(Spec::new(id(name)), &terms).await
}

fn is_refused(done: &Result<Visit, Error>) -> bool {
    let says = |problem: &str| problem.starts_with("2 sandboxes of this workspace");
    matches!(done, Err(Error::Busy { problem }) if says(problem))
}

#[tokio::test(start_paused = true)]
async fn a_workspace_that_has_all_it_may_waits_for_its_own_and_holds_up_nobody_else() {
    let keeper = keeper(10);
    let first = visit(&keeper, "a", "a1").await.unwrap();
    let _second = visit(&keeper, "a", "a2").await.unwrap();
    let mut third = Box::pin(visit(&keeper, "a", "a3"));
    let mut fourth = Box::pin(visit(&keeper, "a", "a4"));
    assert!(futures_util::poll!(&mut third).is_pending());
    assert!(futures_util::poll!(&mut fourth).is_pending());
    // As many wait as may run: one more is told at once, and so holds no turn.
    let Poll::Ready(fifth) = futures_util::poll!(Box::pin(visit(&keeper, "a", "a5"))) else {
        panic!("it waits as well");
    };
    assert!(is_refused(&fifth));
    let other = visit(&keeper, "b", "b1").await;
    assert!(other.unwrap().started, "another workspace has room");
    // One that runs may be used, whatever else waits.
    let again = visit(&keeper, "a", "a2").await;
    assert!(!again.unwrap().started);
    drop(first);
    let third = third.await.unwrap();
    assert!(third.started, "it takes the place of one that is idle");
    assert!(keeper.running(&id("a1")).is_none());
    // Nothing of it becomes idle any more: in the end it is told.
    assert!(is_refused(&fourth.await));
    let load = keeper.load();
    assert_eq!((load.running, load.most, load.refused), (3, 10, 2));
}

#[tokio::test(start_paused = true)]
async fn who_wants_room_in_a_workspace_takes_it_from_no_other() {
    let keeper = keeper(10);
    drop(visit(&keeper, "b", "b1").await.unwrap());
    let _held = (
        visit(&keeper, "a", "a1").await.unwrap(),
        visit(&keeper, "a", "a2").await.unwrap(),
    );
    assert!(is_refused(&visit(&keeper, "a", "a3").await));
    assert!(keeper.running(&id("b1")).is_some(), "idle, but not its own");
}

#[tokio::test(start_paused = true)]
async fn who_found_room_in_its_workspace_and_none_on_the_host_gives_it_back() {
    let keeper = keeper(1);
    let held = visit(&keeper, "b", "b1").await.unwrap();
    for name in ["a1", "a2", "a3"] {
        let refused = visit(&keeper, "a", name).await;
        let says = |problem: &str| problem.starts_with("1 sandboxes run");
        assert!(matches!(refused, Err(Error::Busy { problem }) if says(&problem)));
    }
    drop(held);
    assert!(visit(&keeper, "a", "a4").await.unwrap().started);
}
