//! A server's end of the conversation with the egress process: it starts one, or takes over the one that an
//! earlier server left, and after a crash tells the next one all that the former knew. It must never have a
//! sandbox carried for without its policy.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use contract::ids::CredentialId;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::held::Held;
use super::orders::Orders;
use super::program::Program;
use super::question::{self, CarrierError, ask, stream};
use super::wire::{self, Answer, Explained, Keep, Owner, RefusedToken, Request, VERSION};
use crate::audit::{Found, Search};
use crate::limits;

/// Questions that may wait for the egress process.
const QUEUE: usize = 64;
/// How long to wait before looking again whether a process that was started listens.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Shortest and longest pause before a process that ended is started again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The egress process of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Carrier {
    commands: mpsc::Sender<Order>,
    directory: Arc<Path>,
}

enum Order {
    Attach {
        sandbox: String,
        held: Box<Held>,
        reply: Reply,
    },
    Policy {
        sandbox: String,
        orders: [OwnedFd; 2],
        reply: Reply,
    },
    Ask {
        request: Request,
        reply: Reply,
    },
    Certificate {
        sandbox: String,
        reply: Reply,
    },
    Gone {
        sandbox: String,
    },
    Keep {
        keep: Keep,
        reply: Reply,
    },
    End {
        reply: Reply,
    },
}

type Reply = oneshot::Sender<Result<Answer, CarrierError>>;

impl Carrier {
    /// Keeps an egress process running until `stop`, in a task of `tasks`. It outlives this one. What comes out beside it
    /// are the tokens that were refused to programs and that may be renewed: each is to be answered by [`Self::renewed`];
    /// where nobody takes them, the refusals stand.
    #[must_use]
    pub fn start(
        program: Program,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> (Self, mpsc::Receiver<RefusedToken>) {
        let (commands, received) = mpsc::channel(QUEUE);
        let (refused, hears) = mpsc::channel(QUEUE);
        let directory = Arc::from(program.dir.as_path());
        let keeper = Keeper {
            program,
            keep: None,
            commands: received,
            refused,
            stop,
            sandboxes: HashMap::new(),
            child: None,
        };
        tasks.spawn(keeper.run());
        let carrier = Self {
            commands,
            directory,
        };
        (carrier, hears)
    }

    /// Has it carry for that sandbox: `ends` are the pidfd of its PID 1, its listener, its socket for DNS, and
    /// the line over which it is told who carries.
    ///
    /// Its programs must trust [`Carrier::certificate`] before anything looks into TLS ([`Orders::look_into_tls`]).
    ///
    /// # Errors
    /// [`CarrierError`]. It is carried for as soon as there is a process that does.
    pub async fn attach(
        &self,
        sandbox: &str,
        owner: Option<Owner>,
        ends: [OwnedFd; 4],
        orders: impl Into<Orders<'_>>,
    ) -> Result<(), CarrierError> {
        let held = Box::new(Held {
            owner,
            ends,
            orders: orders.into().out().map_err(CarrierError::Policy)?,
            memory: wire::memory().map_err(CarrierError::Policy)?,
            certificate: None,
        });
        let sandbox = sandbox.to_owned();
        let asked = self.ask(|reply| Order::Attach {
            sandbox,
            held,
            reply,
        });
        asked.await.map(|_| ())
    }

    /// The certificate of that sandbox's own authority, as PEM: requests inside TLS are judged with it. It is the same
    /// after an end of the egress process or of the server, but not of both.
    ///
    /// # Errors
    /// [`CarrierError::Unknown`] while no process has carried for it.
    pub async fn certificate(&self, sandbox: &str) -> Result<String, CarrierError> {
        let sandbox = sandbox.to_owned();
        match self
            .ask(|reply| Order::Certificate { sandbox, reply })
            .await?
        {
            Answer::Attached { certificate } => Ok(certificate),
            _ => Err(CarrierError::Silent),
        }
    }

    /// Puts another policy in force for that sandbox with other credentials, and closes what it does not allow.
    ///
    /// # Errors
    /// [`CarrierError`]. It is in force as soon as there is a process that does.
    pub async fn set_policy(
        &self,
        sandbox: &str,
        orders: impl Into<Orders<'_>>,
    ) -> Result<(), CarrierError> {
        let orders = orders.into().out().map_err(CarrierError::Policy)?;
        let sandbox = sandbox.to_owned();
        let asked = self.ask(|reply| Order::Policy {
            sandbox,
            orders,
            reply,
        });
        asked.await.map(|_| ())
    }

    /// What would be done with that URL.
    ///
    /// # Errors
    /// [`CarrierError`].
    pub async fn explain(
        &self,
        sandbox: &str,
        url: &str,
        method: &str,
    ) -> Result<Explained, CarrierError> {
        let request = Request::Explain {
            sandbox: sandbox.to_owned(),
            url: url.to_owned(),
            method: method.to_owned(),
        };
        match self.ask(|reply| Order::Ask { request, reply }).await? {
            Answer::Explained(explained) => Ok(explained),
            _ => Err(CarrierError::Silent),
        }
    }

    /// Records of the audit, as far as it may be looked at now; with `wait`, when there are any.
    ///
    /// Cancel safe: yes.
    ///
    /// # Errors
    /// [`CarrierError`].
    pub async fn audit(&self, search: Search, wait: bool) -> Result<Found, CarrierError> {
        question::of_audit(&self.directory, search, wait).await
    }

    /// Says that a token that was refused was looked after: whatever there is instead is in force.
    ///
    /// # Errors
    /// [`CarrierError`]. Whoever waits for it waits until its time is over.
    pub async fn renewed(
        &self,
        sandbox: &str,
        credential: CredentialId,
    ) -> Result<(), CarrierError> {
        let request = Request::Renewed {
            sandbox: sandbox.to_owned(),
            credential,
        };
        self.ask(|reply| Order::Ask { request, reply })
            .await
            .map(|_| ())
    }

    /// Has the audit kept so long from now on.
    ///
    /// # Errors
    /// [`CarrierError`]. It holds as soon as there is a process that does.
    pub async fn keep(&self, keep: Keep) -> Result<(), CarrierError> {
        self.ask(|reply| Order::Keep { keep, reply })
            .await
            .map(|_| ())
    }

    /// That sandbox has ended, or is the next server's. Never waits: the egress process knows by itself, and what
    /// cannot be noted here is let go at the end of this process.
    pub fn gone(&self, sandbox: &str) {
        let sandbox = sandbox.to_owned();
        let _ = self.commands.try_send(Order::Gone { sandbox });
    }

    /// Ends the egress process. Every sandbox loses its network.
    pub async fn end(&self) {
        // One that does not answer has nothing to end.
        let _ = self.ask(|reply| Order::End { reply }).await;
    }

    async fn ask(&self, command: impl FnOnce(Reply) -> Order) -> Result<Answer, CarrierError> {
        let (reply, answer) = oneshot::channel();
        let asking = async {
            let sent = self.commands.send(command(reply)).await;
            sent.map_err(|_| CarrierError::Silent)?;
            answer.await.map_err(|_| CarrierError::Silent)?
        };
        timeout(limits::ASK, asking)
            .await
            .map_err(|_| CarrierError::Silent)?
    }
}

/// The task that speaks with the process.
struct Keeper {
    program: Program,
    commands: mpsc::Receiver<Order>,
    refused: mpsc::Sender<RefusedToken>,
    stop: CancellationToken,
    sandboxes: HashMap<String, Held>,
    keep: Option<Keep>,
    /// The process, if this server started it: it is to be reaped.
    child: Option<Child>,
}

/// Why the conversation ended.
enum Over {
    /// This server has no more to say.
    Stop,
    /// The process has gone, or talks nonsense.
    Lost,
}

impl Keeper {
    async fn run(mut self) {
        let stop = self.stop.clone();
        let mut pause = RETRY.0;
        loop {
            let begun = Instant::now();
            let over = tokio::select! {
                () = stop.cancelled() => return,
                connected = self.connect() => match connected {
                    Ok(connection) => self.converse(&connection).await,
                    Err(error) => {
                        tracing::error!(%error, "there is no egress process: sandboxes have no network");
                        Over::Lost
                    }
                },
            };
            if matches!(over, Over::Stop) {
                return;
            }
            // One that ran for a while is started again at once.
            pause = if begun.elapsed() > RETRY.1 {
                RETRY.0
            } else {
                (pause * 2).min(RETRY.1)
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// A conversation with a process of this version: the one that runs, or one that is started.
    async fn connect(&mut self) -> io::Result<UnixStream> {
        let deadline = Instant::now() + limits::START;
        let mut started = false;
        loop {
            match wire::connect(&self.program.dir) {
                Ok(socket) => {
                    let connection = stream(socket)?;
                    let hello = Request::Hello { version: VERSION };
                    match ask(&connection, &hello, &[]).await {
                        Ok(Answer::Welcome { version }) if version == VERSION => {
                            return Ok(connection);
                        }
                        Ok(Answer::Welcome { .. }) => {
                            tracing::info!("an egress process of another version is replaced");
                            let _ = ask(&connection, &Request::End, &[]).await;
                        }
                        // It is about to end.
                        Ok(_) | Err(_) => {}
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                        if !started || self.has_ended() {
                            self.child = Some(self.program.spawn()?);
                            started = true;
                        }
                    }
                    _ => return Err(error),
                },
            }
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    fn has_ended(&mut self) -> bool {
        let ended = self.child.as_mut().map(Child::try_wait);
        !matches!(ended, Some(Ok(None)))
    }

    /// Tells the process all that it has to know, then what is asked, until one side has gone. What it asks itself comes
    /// over a second connection, which is there before any sandbox is.
    async fn converse(&mut self, connection: &UnixStream) -> Over {
        let Ok(refusals) = question::refusals(&self.program.dir).await else {
            return Over::Lost;
        };
        if let Some(keep) = self.keep
            && ask(connection, &Request::Keep { keep }, &[]).await.is_err()
        {
            return Over::Lost;
        }
        for (sandbox, held) in &mut self.sandboxes {
            match held.attach(connection, sandbox).await {
                Ok(Answer::Attached { certificate }) => held.certificate = Some(certificate),
                Ok(answer) => tracing::warn!(sandbox, ?answer, "a sandbox has no network"),
                Err(_) => return Over::Lost,
            }
        }
        tracing::info!(
            sandboxes = self.sandboxes.len(),
            "the egress process carries"
        );
        loop {
            let refused = || wire::receive::<RefusedToken>(&refusals);
            let command = tokio::select! {
                () = self.stop.cancelled() => return Over::Stop,
                refused = refusals.async_io(Interest::READABLE, refused) => {
                    let Ok(Some((refused, _))) = refused else {
                        return Over::Lost;
                    };
                    if self.hand_on(connection, refused).await.is_err() {
                        return Over::Lost;
                    }
                    continue;
                }
                // It says nothing by itself: whatever is heard now, the conversation is over.
                _ = connection.async_io(Interest::READABLE, || wire::receive::<Answer>(connection)) => {
                    return Over::Lost;
                }
                command = self.commands.recv() => command,
            };
            let Some(command) = command else {
                return Over::Stop;
            };
            if let Err(over) = self.pass_on(connection, command).await {
                return over;
            }
        }
    }

    /// Has somebody look after that token. Where nobody does, or too many wait, that is all there is to say of it.
    async fn hand_on(&self, connection: &UnixStream, refused: RefusedToken) -> io::Result<()> {
        let Err(left) = self.refused.try_send(refused) else {
            return Ok(());
        };
        let RefusedToken {
            sandbox,
            credential,
            ..
        } = left.into_inner();
        let renewed = Request::Renewed {
            sandbox,
            credential,
        };
        ask(connection, &renewed, &[]).await.map(drop)
    }

    async fn pass_on(&mut self, connection: &UnixStream, command: Order) -> Result<(), Over> {
        let ended = matches!(command, Order::End { .. });
        let (answer, reply) = match command {
            Order::Gone { sandbox } => {
                self.sandboxes.remove(&sandbox);
                return Ok(());
            }
            Order::Attach {
                sandbox,
                mut held,
                reply,
            } => {
                let answer = held.attach(connection, &sandbox).await;
                if let Ok(Answer::Attached { certificate }) = &answer {
                    held.certificate = Some(certificate.clone());
                }
                self.sandboxes.insert(sandbox, *held);
                (answer, reply)
            }
            Order::Certificate { sandbox, reply } => {
                let held = self.sandboxes.get(&sandbox);
                let certificate = held.and_then(|held| held.certificate.clone());
                let answer = certificate.map(|certificate| Answer::Attached { certificate });
                // Whoever asked may have gone.
                let _ = reply.send(answer.ok_or(CarrierError::Unknown));
                return Ok(());
            }
            Order::Policy {
                sandbox,
                orders,
                reply,
            } => {
                let request = Request::Policy {
                    sandbox: sandbox.clone(),
                };
                let answer =
                    ask(connection, &request, &orders.each_ref().map(OwnedFd::as_fd)).await;
                if let Some(held) = self.sandboxes.get_mut(&sandbox) {
                    held.orders = orders;
                }
                (answer, reply)
            }
            Order::Keep { keep, reply } => {
                self.keep = Some(keep);
                (ask(connection, &Request::Keep { keep }, &[]).await, reply)
            }
            Order::Ask { request, reply } => (ask(connection, &request, &[]).await, reply),
            Order::End { reply } => (ask(connection, &Request::End, &[]).await, reply),
        };
        let lost = answer.is_err();
        let answer = match answer {
            Ok(Answer::Refused { problem }) => Err(CarrierError::Refused(problem)),
            Ok(Answer::NoUrl { problem }) => Err(CarrierError::Url(problem)),
            Ok(Answer::Unknown) => Err(CarrierError::Unknown),
            Ok(answer) => Ok(answer),
            Err(_) => Err(CarrierError::Silent),
        };
        // Whoever asked may have gone.
        let _ = reply.send(answer);
        match (ended, lost) {
            (true, _) => {
                if let Some(child) = &mut self.child {
                    let _ = timeout(limits::START, child.wait()).await;
                }
                Err(Over::Stop)
            }
            (false, true) => Err(Over::Lost),
            (false, false) => Ok(()),
        }
    }
}
