//! The way between a simulated process and the database: requests and answers take their time, get lost, or
//! stand still with their process. A process that is no more is one whose requests never arrive.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use store::simulation::{Fleet, Line, Passage, heard};
use tokio::time::Instant;

use super::books::{below, with};
use super::others::Seers;

/// The line of the process of that number.
#[derive(Debug)]
pub struct Wire(pub usize);

impl Line for Wire {
    fn there(&self, _: bool) -> Passage<'_> {
        Box::pin(async { travel(self.0, true).await })
    }

    fn done(&self) {
        for decided in heard() {
            let checked = catch_unwind(AssertUnwindSafe(|| {
                with(|books| books.hear(self.0, decided));
            }));
            if let Err(why) = checked {
                let text = why.downcast_ref::<String>().cloned();
                let text = text.or_else(|| Some((*why.downcast_ref::<&str>()?).to_owned()));
                with(|books| books.blame(text.unwrap_or_default()));
            }
        }
    }

    fn back(&self, writes: bool) -> Passage<'_> {
        Box::pin(async move { travel(self.0, writes).await })
    }

    fn fleet(&self) -> Option<Arc<dyn Fleet>> {
        let is_one = self.0 > 0 && with(|books| books.linked);
        is_one.then(|| Arc::new(Seers(self.0)) as Arc<dyn Fleet>)
    }
}

/// One way, which may end nowhere.
pub async fn travel(process: usize, may_be_lost: bool) -> Result<(), store::error::Cause> {
    // The first of all is the auditor's.
    if process == 0 {
        return Ok(());
    }
    live(process).await;
    let pause = match below(20) {
        0..10 => 0,
        10..19 => below(4),
        _ => below(20),
    };
    if pause > 0 {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        live(process).await;
    }
    let lost = with(|books| {
        let lost = may_be_lost && !books.calm && books.rng.chance(books.losses);
        if lost {
            books.trouble(process);
        }
        lost
    });
    if lost {
        return Err("lost on its way".into());
    }
    Ok(())
}

/// Goes on when the process does; never if it is no more.
pub async fn live(process: usize) {
    loop {
        let stalled = with(|books| {
            let fate = &mut books.processes[process];
            if !fate.lives {
                return Some(None);
            }
            let until = fate.stalled.filter(|until| *until > Instant::now());
            if fate.stalled.is_some() && until.is_none() {
                fate.stalled = None;
                fate.trouble = Instant::now();
            }
            until.map(Some)
        });
        match stalled {
            None => return,
            Some(None) => std::future::pending::<()>().await,
            Some(Some(until)) => tokio::time::sleep_until(until).await,
        }
    }
}
