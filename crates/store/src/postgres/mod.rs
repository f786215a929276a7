//! The PostgreSQL back end: one writer that groups commits, a pool of connections that read, one file of SQL
//! an aggregate, under the names that it has on SQLite. Nothing outside this directory sees a connection or
//! a statement.

pub(crate) mod agents;
mod around;
mod batch;
pub(crate) mod changes;
mod conn;
pub(crate) mod credentials;
pub(crate) mod environments;
pub(crate) mod events;
mod fault;
mod held;
pub(crate) mod kept;
pub(crate) mod keys;
mod link;
pub(crate) mod master;
pub(crate) mod meta;
mod migrate;
pub(crate) mod moving;
mod open;
mod outcomes;
mod paging;
pub(crate) mod refreshes;
mod remove;
mod row;
pub(crate) mod runs;
pub(crate) mod sandbox_rules;
pub(crate) mod sessions;
pub(crate) mod submit;
pub(crate) mod tallies;
pub(crate) mod threads;
pub(crate) mod timeline;
pub(crate) mod usage;
mod value;
pub(crate) mod vaults;
mod writer;

use std::sync::Arc;

use deadpool_postgres::Pool;
use futures_util::future::{BoxFuture, join};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use conn::Conn;
pub(crate) use fault::{Fault, Told};
pub(crate) use held::Held;
pub(crate) use writer::Cx;

use crate::clock;
use crate::error::OpenError;
use crate::kept::Keep;
use crate::limits;
use crate::replica::{Replica, ReplicaName};
use crate::rules::fault::Trouble;
use crate::runs::Holder;
use crate::store::{Options, Shared};

/// The database.
#[derive(Debug)]
pub(crate) struct Postgres {
    reads: Pool,
    writes: mpsc::Sender<writer::Message>,
    /// The writer's connection.
    writer: Pool,
    tasks: TaskTracker,
    /// As whom it is there among several servers.
    me: Option<(ReplicaName, Holder)>,
    /// Ends the link to the others.
    unlink: CancellationToken,
}

impl Postgres {
    pub(crate) async fn open(
        url: &str,
        options: Options,
        shared: Arc<Shared>,
        replica: Option<Replica>,
    ) -> Result<Self, OpenError> {
        let server = open::Server::parse(url, options, replica.as_ref())?;
        let trash = server.prepare().await?;
        let (writes, queue) = mpsc::channel(limits::WRITE_QUEUE);
        let (reads, writer) = (server.pool(options.readers.max(1))?, server.pool(1)?);
        let holder = format!("{:032x}", clock::entropy());
        let (told, unlink) = (Arc::<Notify>::default(), CancellationToken::new());
        let me = replica.as_ref();
        let me = me.map(|me| (me.name.clone(), Holder(holder.clone())));
        let tasks = TaskTracker::new();
        if let Some(me) = replica {
            let link = link::Link {
                server,
                me,
                holder: holder.clone(),
                shared: Arc::clone(&shared),
                reads: reads.clone(),
                told: Arc::clone(&told),
                stop: unlink.clone(),
            };
            shared.feed.link();
            let first = link.take().await?;
            tasks.spawn(link.run(first));
        }
        let teller = writer::Teller {
            origin: holder,
            told,
        };
        tasks.spawn(writer::Writer::new(writer.clone(), queue, shared, trash, teller).run());
        tasks.close();
        Ok(Self {
            reads,
            writes,
            writer,
            tasks,
            me,
            unlink,
        })
    }

    pub(crate) fn replica(&self) -> Option<(ReplicaName, Holder)> {
        self.me.clone()
    }

    /// What the server is, if it will do.
    pub(crate) async fn probe(url: &str, options: Options) -> Result<String, OpenError> {
        open::Server::parse(url, options, None)?.probe().await
    }

    async fn write_again<T, E, F>(&self, work: F, keep: Option<Arc<Keep>>) -> Result<(T, u64), E>
    where
        F: for<'a> FnMut(&'a mut Cx) -> BoxFuture<'a, Told<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<Trouble> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.queue(writer::job(work, keep, reply), answer).await
    }

    async fn queue<T, E: From<Trouble>>(
        &self,
        job: Box<dyn writer::Job>,
        answer: oneshot::Receiver<Result<T, E>>,
    ) -> Result<T, E> {
        if self.writes.send(writer::Message::Job(job)).await.is_err() {
            return Err(Trouble::closed().into());
        }
        let answer = answer.await;
        answer.unwrap_or_else(|_| Err(Trouble::closed().into()))
    }

    async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: for<'a> FnOnce(&'a Conn) -> BoxFuture<'a, Told<T, E>> + Send,
        E: From<Trouble>,
    {
        const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let conn = Conn::take(&self.reads).await?;
        // The first statement follows without waiting for the answer: it is the next to be run.
        let (begun, found) = join(conn.batch(SNAPSHOT), work(&conn)).await;
        let ended = match begun {
            Ok(()) => conn.batch("COMMIT").await,
            Err(failed) => Err(failed),
        };
        if ended.is_ok() {
            conn.give();
        }
        let found = found.map_err(Fault::settle)?;
        ended.map_err(|failed| Trouble::Unavailable(writer::cause(failed)))?;
        Ok(found)
    }

    pub(crate) fn queue_depth(&self) -> u64 {
        (self.writes.max_capacity() - self.writes.capacity()) as u64
    }

    pub(crate) fn read_queue_depth(&self) -> u64 {
        self.reads.status().waiting as u64
    }

    /// Finishes what is queued and closes the connections.
    pub(crate) async fn close(&self) {
        let _ = self.writes.send(writer::Message::Close).await;
        self.unlink.cancel();
        self.tasks.wait().await;
        self.reads.close();
        self.writer.close();
    }
}
