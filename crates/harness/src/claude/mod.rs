//! `claude`: the loop of Claude Code, a program of others that runs inside the session's sandbox. It never decides:
//! what it wants to do, the session core has decided before it does it.
//!
//! Who says what. The model's words come from the model path, through which claude's requests go to the provider: the
//! reply is read there, reported, and given to claude only when it is durable. So a message or a call in the log is
//! what the model said, whatever the process claims. From the process come two things only: that it waits to run a
//! call which that reply holds, and what that call, once it was let run, has said.
//!
//! Where it stands. The session's log is the truth, and claude's own transcript a copy of it. Whenever a process is not
//! where the session is (it died, its sandbox went, a reply failed, a message came in the middle of a turn, somebody
//! else ran a call), it is ended and replaced by one whose transcript is made from the log. A call that no process can
//! take is run by the hand instead.

mod live;
mod names;
mod path;
mod process;
mod prompt;
mod rebuild;
mod recover;
mod standing;
mod start;
mod wire;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use contract::event::SessionErrorKind;
use contract::ids::{EventId, SessionId};
use model::{Block, Client, Failure, Relayed, Stop, Words};
use sandbox::Sandbox;
use serde_json::value::to_raw_value;
use session::{Fact, Remedy, Step, Used};

use crate::Harness;
use crate::bill::Bill;
use crate::brief::Brief;
use crate::causes::chain;
use crate::claude::live::{Live, NotStarted};
use crate::claude::names::ours;
use crate::claude::path::Asked;
use crate::claude::process::Broken;
use crate::install;
use crate::judge;
use crate::limits::{FOREIGN_AHEAD, FOREIGN_REST, FOREIGN_SILENCE};
use crate::native::conversation::Conversation;
use crate::native::failed::{failed, gave_up};
use crate::native::reply::Previewer;
use crate::native::{self, Native, grade};
use crate::plane::{Plane, PlaneError, Spent};

/// The loop of Claude Code. One value serves every session.
pub struct Claude {
    client: Client,
    native: Native,
    programs: PathBuf,
    /// Those that wait for their session's next turn.
    resting: Mutex<HashMap<SessionId, Live>>,
}

impl Claude {
    /// A loop that reaches models through `client`, of the program that is installed in `programs`, which sandboxes
    /// have at [`sandbox::PROGRAMS`].
    #[must_use]
    pub fn new(client: Client, programs: PathBuf) -> Self {
        Self {
            native: Native::new(client.clone()),
            client,
            programs,
            resting: Mutex::default(),
        }
    }

    /// How many processes wait for their session's next turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let resting = self.resting();
        resting.values().filter(|live| live.lives()).count()
    }

    fn resting(&self) -> MutexGuard<'_, HashMap<SessionId, Live>> {
        // The map is whole between any two statements: a panic elsewhere does not spoil it.
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Harness for Claude {
    fn name(&self) -> &'static str {
        "claude"
    }

    async fn run(&self, plane: &dyn Plane, first: Step) -> Result<(), PlaneError> {
        if first == Step::Rest {
            return Ok(());
        }
        let conversation = Conversation::read_with(ours, plane.transcript().await?)?;
        let mut turn = Turn {
            claude: self,
            plane,
            conversation,
            live: None,
            ended: None,
            looked: false,
        };
        turn.take_rested();
        turn.work(first).await?;
        turn.rest().await;
        let mut resting = self.resting();
        // Those whose sandbox has gone meanwhile wait for nothing.
        resting.retain(|_, live| live.lives());
        if let Some(live) = turn.live {
            resting.insert(plane.session(), live);
        }
        Ok(())
    }

    async fn prepare(&self, session: SessionId, brief: &Brief, sandbox: &Arc<dyn Sandbox>) {
        let Some(version) = install::current_claude(&self.programs) else {
            return;
        };
        let made = async {
            let mut live = Live::start(sandbox, brief, &version, session.bits(), &[]).await?;
            live.listens(brief).await?;
            Ok::<_, NotStarted>(live)
        };
        match tokio::time::timeout(FOREIGN_AHEAD, made).await {
            Ok(Ok(live)) => {
                self.resting().insert(session, live);
            }
            Ok(Err(why)) => tracing::info!(why = %chain(&why), "claude is not started ahead"),
            Err(_) => tracing::info!("claude is not started ahead: it takes too long"),
        }
    }
}

/// One run of a session.
struct Turn<'a> {
    claude: &'a Claude,
    plane: &'a dyn Plane,
    conversation: Conversation,
    /// The process, while it is where the session is.
    live: Option<Live>,
    /// The one before it, which was ended and may still be writing: no other starts on its files before it is gone.
    ended: Option<Live>,
    /// Whether it was looked for one that an earlier server has left.
    looked: bool,
}

/// Why a model request was not made.
enum NotAsked {
    Cancelled,
    NotStarted(NotStarted),
    Broken(Broken),
}

impl Turn<'_> {
    async fn work(&mut self, first: Step) -> Result<(), PlaneError> {
        let (claude, plane) = (self.claude, self.plane);
        let mut step = first;
        loop {
            let taken = match step {
                Step::Rest => return Ok(()),
                Step::Request { span } => self.request(span).await?,
                Step::Compact { span } => {
                    self.end();
                    let fact = { &claude.native }.compact(plane, span, &self.conversation);
                    plane.report(fact.await?).await?
                }
                Step::Execute { call } => {
                    let fact = self.execute(call).await?;
                    plane.report(fact).await?
                }
                Step::Recover { call } => {
                    let fact = self.recover(call).await?;
                    plane.report(fact).await?
                }
                Step::Grade { start, beat } => {
                    let conversation = &self.conversation;
                    grade::grade(&claude.client, plane, (start, beat), conversation).await?
                }
            };
            self.conversation.extend(taken.entries)?;
            step = taken.step;
        }
    }

    /// Waits until claude stands still; one that does not is ended.
    async fn rest(&mut self) {
        let Some(live) = self.live.as_mut() else {
            return;
        };
        let resting = tokio::time::timeout(FOREIGN_REST, live.rest(self.plane.brief()));
        let rested = self.plane.cancelled().run_until_cancelled(resting).await;
        if !matches!(rested, Some(Ok(Ok(())))) {
            tracing::info!("claude does not come to rest and is ended");
            self.end();
        }
    }

    /// Has claude make its next model request, and answers it.
    async fn request(&mut self, span: EventId) -> Result<crate::Taken, PlaneError> {
        let plane = self.plane;
        let asked = match self.asked().await {
            Ok(asked) => asked,
            Err(why) => {
                self.end();
                return plane.report(self.not_asked(span, why)?).await;
            }
        };
        let cancel = plane.cancelled();
        let (mut previewer, mut bill) = (Previewer::new(plane), Bill::default());
        let began = Instant::now();
        let mut hold = Some(asked.hold);
        let mut sink = |delta| {
            // It is answered, so its words are gone.
            hold = None;
            previewer.see(delta);
        };
        let relayed = self.relay(asked.words, &mut sink).await;
        drop(hold);
        plane.spent(Spent::Model, began.elapsed());
        let relayed = match relayed {
            Ok(relayed) => relayed,
            Err(failure) => {
                // It saw its request fail, which the session will make again.
                self.end();
                bill.add(plane, &failure.partial_usage);
                let fact = match cancel.is_cancelled() {
                    true => gave_up(plane, &bill)?,
                    false => failed(span, &failure, &bill),
                };
                return plane.report(fact).await;
            }
        };
        bill.add(plane, &relayed.reply.usage);
        let reply = relayed.reply;
        let crowded =
            native::is_crowded(plane.brief(), &reply) && !self.conversation.is_condensed();
        let calls = calls(&reply.blocks);
        let goes_on = matches!(reply.stop, Stop::EndTurn | Stop::ToolUse);
        let mut said = previewer.finish(reply, plane.endpoint().dialect)?;
        for call in &mut said.calls {
            translate(call)?;
        }
        let words = self.conversation.said();
        judge::judge(
            &self.claude.client,
            plane,
            words,
            &mut said.calls,
            &mut bill,
        )
        .await;
        if cancel.is_cancelled()
            && !plane.interrupted()
            && native::is_judged(plane.brief(), &said.calls)
        {
            return Err(PlaneError::Stopping);
        }
        let before = self.conversation.messages().len();
        let taken = plane.report(said.fact(span, &bill, crowded)).await?;
        // Only now: what it is told is in the log.
        let heard = asked.answer.send(relayed.stream).is_ok();
        match self.live.as_mut().filter(|_| heard && goes_on) {
            Some(live) => live.replied(before + 1, &calls, plane.brief()),
            // It would go on in a way of its own.
            None => self.end(),
        }
        Ok(taken)
    }

    /// Asks the session's model in claude's words.
    async fn relay(&self, words: Words, sink: model::Sink<'_>) -> Result<Relayed, Failure> {
        let brief = self.plane.brief();
        let mut words = Words {
            effort: brief.effort,
            ..words
        };
        if let Some(most) = words.body.get_mut("max_tokens") {
            let asked = most.as_u64().unwrap_or(u64::MAX);
            *most = asked.min(brief.max_tokens.into()).into();
        }
        let (client, cancel) = (&self.claude.client, self.plane.cancelled());
        client
            .relay(self.plane.endpoint(), &brief.model, words, &cancel, sink)
            .await
    }

    /// The next model request of a claude that knows what the session knows.
    async fn asked(&mut self) -> Result<Asked, NotAsked> {
        let cancel = self.plane.cancelled();
        let asking = async {
            let mut doubted = false;
            loop {
                let anew = self.ready().await.map_err(NotAsked::NotStarted)?;
                let live = self.live.as_mut().ok_or(NotAsked::Broken(Broken::Ended))?;
                let mut asked = live.asked(self.plane.brief()).await;
                if let Ok(it) = &asked
                    && !live.agrees(it, &self.conversation.messages())
                {
                    // The log wins.
                    asked = Err(Broken::Elsewhere);
                }
                let elsewhere = matches!(asked, Err(Broken::Elsewhere));
                let distrusted = elsewhere || asked.is_err() && live.is_doubtful();
                match asked {
                    Err(_) if distrusted && !std::mem::replace(&mut doubted, true) => {
                        tracing::info!("claude does not go on as the log says and is made from it");
                        self.forget().await.map_err(NotAsked::NotStarted)?;
                    }
                    Err(why) if !anew => {
                        tracing::info!(why = %chain(&why), "claude is started anew");
                        self.end();
                    }
                    asked => return asked.map_err(NotAsked::Broken),
                }
            }
        };
        let asking = tokio::time::timeout(FOREIGN_SILENCE, asking);
        match cancel.run_until_cancelled(asking).await {
            None => Err(NotAsked::Cancelled),
            Some(asked) => asked.unwrap_or(Err(NotAsked::Broken(Broken::Silent))),
        }
    }

    /// Has a claude run that has been told everything; true if it was started for this.
    async fn ready(&mut self) -> Result<bool, NotStarted> {
        let plane = self.plane;
        let sandbox = plane.sandbox().await?;
        sandbox.resume().await?;
        self.take_rested();
        self.adopt().await;
        let messages = self.conversation.messages();
        if let Some(live) = self
            .live
            .as_mut()
            .filter(|live| live.is_for(&sandbox, plane.brief()))
        {
            match live.tell(&messages).await {
                Ok(true) => return Ok(false),
                Ok(false) => {
                    tracing::info!("claude is started anew: it is not where the session is")
                }
                Err(why) => tracing::info!(why = %chain(&why), "claude is started anew"),
            }
        }
        self.end();
        self.gone().await;
        let version =
            install::current_claude(&self.claude.programs).ok_or(NotStarted::NotInstalled)?;
        let (id, began) = (plane.session().bits(), Instant::now());
        let live = Live::start(&sandbox, plane.brief(), &version, id, &messages).await?;
        plane.placed(live.how().name(), began.elapsed());
        self.live = Some(live);
        Ok(true)
    }

    fn not_asked(&self, span: EventId, why: NotAsked) -> Result<Fact, PlaneError> {
        let used = Used::default();
        let (why, remedy) = match why {
            NotAsked::Cancelled
            | NotAsked::NotStarted(NotStarted::Sandbox(sandbox::Error::Cancelled)) => {
                return gave_up(self.plane, &Bill::default());
            }
            NotAsked::NotStarted(why) => {
                let remedy = match &why {
                    NotStarted::NotInstalled
                    | NotStarted::Sandbox(sandbox::Error::Unsupported { .. }) => Remedy::None,
                    _ => Remedy::Wait { at_least: None },
                };
                (
                    format!("The harness `claude` was not started: {why}"),
                    remedy,
                )
            }
            NotAsked::Broken(why) => {
                let remedy = Remedy::Wait { at_least: None };
                (
                    format!("The harness `claude` is of no use any more: {why}"),
                    remedy,
                )
            }
        };
        tracing::warn!(why, "no model request was made");
        Ok(Fact::RequestFailed {
            span,
            kind: SessionErrorKind::UnknownError,
            message: why,
            used,
            remedy,
        })
    }

    /// Has a call run: by claude, if it will come to it, else by the hand.
    async fn execute(&mut self, call: EventId) -> Result<Fact, PlaneError> {
        self.adopt().await;
        let plane = self.plane;
        let wanted = self
            .conversation
            .call(call)
            .map(|it| it.provider_id.clone());
        let began = Instant::now();
        let ran = match (wanted, self.live.as_mut()) {
            (Some(id), Some(live)) => {
                let messages = self.conversation.messages();
                let running = run(plane, live, &messages, &id);
                plane.cancelled().run_until_cancelled(running).await
            }
            _ => Some(Ok(None)),
        };
        match ran {
            None => {
                self.end();
                gave_up(plane, &Bill::default())
            }
            Some(Ok(Some(result))) => {
                plane.spent(Spent::Tool, began.elapsed());
                Ok(Fact::Finished {
                    call,
                    content: result.content,
                    is_error: result.is_error,
                })
            }
            Some(Err((why, true))) => {
                tracing::warn!(why = %chain(&why), "the outcome of a call is lost");
                self.end();
                Ok(Fact::Lost { call })
            }
            Some(Ok(None) | Err((_, false))) => {
                self.end();
                native::execute(plane, &self.conversation, call).await
            }
        }
    }
}

/// None if claude does not come to that call. True beside a failure after which nobody knows whether it ran.
async fn run(
    plane: &dyn Plane,
    live: &mut Live,
    messages: &[model::Message],
    call: &str,
) -> Result<Option<wire::ToolResult>, (Broken, bool)> {
    let Ok(sandbox) = plane.sandbox().await else {
        return Ok(None);
    };
    if !live.is_in(&sandbox) || sandbox.resume().await.is_err() {
        return Ok(None);
    }
    live.settle(messages).await.map_err(|why| (why, false))?;
    if !live.reaches(call) {
        return Ok(None);
    }
    live.run(call, plane.brief()).await.map(Some)
}

/// The calls of a reply: the model's id and name of each.
fn calls(blocks: &[Block]) -> Vec<(String, String)> {
    let calls = blocks.iter().filter_map(|block| match block {
        Block::ToolUse { id, name, .. } => Some((id.clone(), name.clone())),
        _ => None,
    });
    calls.collect()
}

/// The call in the contract's words: those of events and policies.
fn translate(call: &mut session::ProposedCall) -> Result<(), PlaneError> {
    let bug = |error: serde_json::Error| PlaneError::Bug(error.to_string());
    let input = serde_json::from_str(call.input.get()).map_err(bug)?;
    let (name, input) = ours(&call.name, &input);
    call.name = name;
    call.input = to_raw_value(&input).map_err(bug)?;
    Ok(())
}
