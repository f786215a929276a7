//! The link of one server to the others: a connection of its own on which it says that it is there, hears that
//! something was committed elsewhere, and says so itself. What is lost on it costs a delay of a beat, never an event:
//! everything is read from the tables.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use contract::ids::SessionId;
use deadpool_postgres::Pool;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::sync::CancellationToken;

use super::changes::{self, Reader};
use super::fault::{Fault, told, why};
use super::open::{Server, Wire};
use super::{Conn, events};
use crate::error::{Cause, Error, OpenError};
use crate::events::Stored;
use crate::limits;
use crate::link::{self, Bond, Log};
use crate::replica::Replica;
use crate::store::Shared;

pub(super) struct Link {
    pub(super) server: Server,
    pub(super) me: Replica,
    /// This start of this server.
    pub(super) holder: String,
    pub(super) shared: Arc<Shared>,
    /// For what is read for those who watch.
    pub(super) reads: Pool,
    /// The writer committed something that others must know.
    pub(super) told: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

impl Link {
    /// Takes the name at the start, so that whatever is wrong with it is known. It is had for as long as what is
    /// returned is open.
    pub(super) async fn take(&self) -> Result<Wire, OpenError> {
        let deadline = Instant::now() + limits::TAKE_OVER;
        loop {
            let (client, mut connection) = self.server.wire().await?;
            let entered = async {
                if !changes::take_name(&client, &self.me).await.map_err(told)? {
                    return Ok(None);
                }
                changes::enter(&client, &self.me, &self.holder)
                    .await
                    .map_err(told)?;
                changes::beat(&client, &self.me, &self.holder, &self.shared.own)
                    .await
                    .map_err(told)
            };
            let entered = tokio::select! {
                entered = entered => entered,
                ended = &mut connection => Err(ended.err().map_or_else(|| "the connection ended".into(), told)),
            };
            match entered.map_err(|source| self.server.failed(source))? {
                Some(beat) => return self.check_clock(beat.ahead).map(|()| (client, connection)),
                // That of a server that was killed is soon free.
                None if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                None => {
                    let name = self.me.name.as_str();
                    return Err(self.server.refused(format!(
                        "a server with the name {name:?} works on it: give this one another with \
                         `server.replica`, or stop that one"
                    )));
                }
            }
        }
    }

    fn check_clock(&self, ahead: i64) -> Result<(), OpenError> {
        let most = i64::try_from(limits::CLOCK_SKEW.as_micros()).unwrap_or(i64::MAX);
        if ahead.abs() <= most {
            return Ok(());
        }
        let which = if ahead < 0 { "behind" } else { "before" };
        Err(self.server.refused(format!(
            "the clock of this host is {} s {which} the database's: set both by NTP, then start again",
            ahead.abs() / 1_000_000
        )))
    }

    /// Until it is stopped, at first on the connection that has the name; what breaks is made anew.
    pub(super) async fn run(self, first: Wire) {
        // Side by side: whoever waits for a page of events must not keep it from saying that it is there.
        let catches_up = link::catch_up(&self.reads, &self.shared);
        tokio::join!(self.links(first), self.stop.run_until_cancelled(catches_up));
    }

    async fn links(&self, first: Wire) {
        let mut first = Some(first);
        while !self.stop.is_cancelled() {
            let wire = match first.take() {
                Some(first) => Ok(first),
                None => self.server.wire().await,
            };
            match wire {
                Ok(wire) => {
                    let Err(error) = self.on(wire).await else {
                        return;
                    };
                    tracing::warn!(%error, "the link to the other servers broke; it is made anew");
                }
                Err(error) => {
                    tracing::warn!(error = %error, "no link to the other servers");
                }
            }
            let pause = tokio::time::sleep(limits::BEAT / 2);
            let _ = self.stop.run_until_cancelled(pause).await;
        }
    }

    /// On one connection: an error once it is of no use, nothing once it was stopped.
    async fn on(&self, (client, mut connection): Wire) -> Result<(), Cause> {
        let heard = Notify::new();
        let line = Line {
            link: self,
            client: &client,
        };
        let own = std::sync::atomic::AtomicI32::new(0);
        let driven = poll_fn(|cx| {
            loop {
                match connection.poll_message(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(AsyncMessage::Notification(news)))) => {
                        // Its own it knows.
                        if news.process_id() != own.load(std::sync::atomic::Ordering::Relaxed) {
                            heard.notify_one();
                        }
                    }
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(told(error)),
                    Poll::Ready(None) => return Poll::Ready(Cause::from("the connection ended")),
                }
            }
        });
        let worked = async {
            let pid = client.query_one("SELECT pg_backend_pid()", &[]).await;
            own.store(
                pid.map_err(told)?.get(0),
                std::sync::atomic::Ordering::Relaxed,
            );
            tokio::select! {
                () = self.stop.cancelled() => {}
                done = link::keep_up(&line, &self.shared, &heard, &self.told) => match done? {},
            }
            within(changes::leave(&client, &self.holder)).await
        };
        tokio::select! {
            done = worked => done,
            ended = driven => Err(ended),
        }
    }
}

/// The one connection of a link.
struct Line<'l> {
    link: &'l Link,
    client: &'l Client,
}

impl Bond for Line<'_> {
    type Reader = Reader;

    async fn enter(&self) -> Result<(), Cause> {
        let Link { me, holder, .. } = self.link;
        if !within(changes::take_name(self.client, me)).await? {
            let name = me.name.as_str();
            return Err(format!("another server has taken the name {name:?}").into());
        }
        let hears = "SET synchronous_commit = off; LISTEN longhand";
        within(self.client.batch_execute(hears)).await?;
        within(changes::enter(self.client, me, holder)).await
    }

    async fn read(&self, reader: &mut Reader) -> Result<(), Cause> {
        within(reader.read(self.client, &self.link.holder, &self.link.shared)).await
    }

    async fn tell(&self) -> Result<(), Cause> {
        within(self.client.batch_execute("NOTIFY longhand")).await
    }

    async fn beat(&self) -> Result<bool, Cause> {
        let Link { me, holder, .. } = self.link;
        let beat = changes::beat(self.client, me, holder, &self.link.shared.own);
        let Some(beat) = within(beat).await? else {
            return Err("another server has taken its name".into());
        };
        if let Err(error) = self.link.check_clock(beat.ahead) {
            tracing::error!(%error, "turns begin too early or too late");
        }
        Ok(beat.orphans)
    }

    async fn sweep(&self) -> Result<(), Cause> {
        within(changes::sweep(self.client)).await
    }

    async fn held(&self) -> Result<Vec<SessionId>, Cause> {
        within(changes::held(self.client, &self.link.holder)).await
    }
}

impl Log for Pool {
    async fn after(&self, session: SessionId, seq: u64, limit: u32) -> Result<Vec<Stored>, Error> {
        let conn = taken(self).await?;
        let found = events::after(&conn, session, seq, limit).await;
        let found = found.map_err(Fault::settle)?;
        conn.give();
        Ok(found)
    }

    async fn announced(&self, session: SessionId) -> Result<Vec<Stored>, Error> {
        let conn = taken(self).await?;
        let found = events::announced(&conn, session).await;
        let found = found.map_err(Fault::settle)?;
        conn.give();
        Ok(found)
    }
}

async fn taken(pool: &Pool) -> Result<Conn, Error> {
    let conn = Conn::take(pool).await;
    conn.map_err(|trouble| Error::Unavailable(why(trouble)))
}

/// What is asked of the database on this connection takes no longer than a new connection may.
async fn within<T>(
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Cause> {
    match timeout(limits::CONNECT, asked).await {
        Ok(done) => done.map_err(told),
        Err(_) => Err("the database does not answer".into()),
    }
}
