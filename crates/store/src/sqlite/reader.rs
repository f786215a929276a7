//! Reader threads: each read runs on one snapshot of the database. They cannot write.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::fault::Fault;
use crate::rules::fault::Trouble;

pub(super) type Job = Box<dyn FnOnce(&Connection) + Send>;

/// What a reader is asked.
pub(super) enum Message {
    Job(Job),
    Close,
}

pub(super) fn job<T, E, F>(work: F, reply: oneshot::Sender<Result<T, E>>) -> Job
where
    F: FnOnce(&Connection) -> Result<T, Fault<E>> + Send + 'static,
    T: Send + 'static,
    E: From<Trouble> + Send + 'static,
{
    Box::new(move |conn| {
        if reply.is_closed() {
            return;
        }
        let read = || -> Result<T, Fault<E>> {
            let snapshot = conn.unchecked_transaction()?;
            let found = work(conn)?;
            snapshot.finish()?;
            Ok(found)
        };
        let found = catch_unwind(AssertUnwindSafe(read));
        let found = found.unwrap_or_else(|_| Err(Fault::Bad("a read panicked".into())));
        // Nobody waits any more: nothing is lost.
        let _ = reply.send(found.map_err(Fault::settle));
    })
}

/// Reads until the store is closed or dropped. One idle reader waits in the queue, the others for it.
pub(super) fn run(conn: &Connection, asked: &Mutex<mpsc::Receiver<Message>>) {
    loop {
        let message = {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            let message = asked.blocking_recv();
            if matches!(message, Some(Message::Close)) {
                asked.close();
            }
            message
        };
        match message {
            Some(Message::Job(job)) => job(conn),
            Some(Message::Close) => {}
            None => return,
        }
    }
}

/// Does what is asked already, and returns.
#[cfg(feature = "simulation")]
pub(super) fn pump(conn: &Connection, asked: &Mutex<mpsc::Receiver<Message>>) {
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    while let Ok(message) = asked.try_recv() {
        match message {
            Message::Job(job) => job(conn),
            Message::Close => asked.close(),
        }
    }
}
