//! Requests and answers, in clear text and inside TLS that is looked into: each request on a connection is
//! judged, passed on in one form, answered in order, and recorded. It must never pass on a head other than the
//! one that was judged, nor a byte behind a request's end.
//!
//! HTTP/1 of a client is read by our own strict reader ([`one`]), HTTP/2 by hyper ([`two`]); towards servers
//! hyper frames both ([`way`]). What a request is, and whether it may go on, is the same for all of them
//! ([`asking`], [`exchange`]).

mod again;
mod asking;
mod body;
mod early;
mod exchange;
mod masked;
mod mcp;
mod one;
mod sought;
mod spending;
mod turned;
mod two;
mod way;
mod withheld;

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(super) use self::masked::Masked;
pub(super) use self::mcp::Call;
pub(super) use self::one::serve as serve_one;
pub(super) use self::sought::Sought;
pub(super) use self::two::serve as serve_two;
pub(super) use self::way::Channel;

/// The tasks of one client's connection: they end with it.
#[derive(Clone)]
pub(super) struct Scope {
    tasks: TaskTracker,
    over: CancellationToken,
}

impl Scope {
    pub(super) fn new(tasks: &TaskTracker) -> Self {
        Self {
            tasks: tasks.clone(),
            over: CancellationToken::new(),
        }
    }

    /// Ends all of them when it is dropped.
    pub(super) fn guard(&self) -> tokio_util::sync::DropGuard {
        self.over.clone().drop_guard()
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let over = self.over.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = over.cancelled() => {}
                () = task => {}
            }
        });
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Scope {
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}
