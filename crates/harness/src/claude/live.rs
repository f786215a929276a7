//! One claude that runs: what it has been told, what it waits for, and the little it may do. It decides nothing; what
//! is not where the session is, is replaced by one that is (see [`super`]).

mod adopt;
mod results;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use contract::content::Block;
use model::{Message, UserBlock};
use sandbox::Sandbox;

use self::results::results;
use crate::brief::Brief;
use crate::claude::names::runs_beside;
use crate::claude::path::{Asked, ModelPath, Serving};
use crate::claude::process::{Asks, Broken, Foreign, Waits};
use crate::claude::start::{How, command, give_back, lay_out, made_of, uuid};
use crate::claude::wire::{self, Heard, ToolResult};
use crate::claude::{prompt, rebuild};

/// A claude that runs.
pub(crate) struct Live {
    foreign: Foreign,
    path: ModelPath,
    /// While a run works.
    serving: Option<Serving>,
    sandbox: Weak<dyn Sandbox>,
    /// How many messages of the conversation it knows.
    told: usize,
    /// In how many of them results were looked for.
    settled: usize,
    /// What it waits for.
    asks: Asks,
    /// The calls of the model's last reply, in its order, by the model's ids.
    round: Vec<Call>,
    /// How calls ended that it has not asked for yet.
    outcomes: HashMap<String, (Vec<Block>, bool)>,
    /// The calls of its own that it was let run.
    allowed: HashSet<String>,
    /// Requests of it that an earlier server has answered.
    answered: HashSet<String>,
    /// Whether the end of a turn that an earlier server saw may come again.
    ending: bool,
    /// Whether it is still to be seen that it stands where the session stands.
    unproven: bool,
    /// How it came to be there.
    how: How,
    /// What it was told to be.
    made_of: String,
}

/// A call of the last reply.
struct Call {
    id: String,
    /// Whether it is made beside others.
    beside: bool,
    /// Whether it has its result.
    done: bool,
}

/// Why none runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStarted {
    #[error("it is not installed: run `longhand harness install claude`")]
    NotInstalled,
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("the model path cannot be made")]
    Path(#[source] std::io::Error),
    #[error("there is nothing to say to it")]
    Nothing,
}

impl Live {
    /// Starts the claude of that `version` in the sandbox, from the conversation as it stands.
    pub(crate) async fn start(
        sandbox: &Arc<dyn Sandbox>,
        brief: &Brief,
        version: &str,
        id: u128,
        messages: &[Message],
    ) -> Result<Self, NotStarted> {
        let path = ModelPath::new(sandbox.listen(0).await?).map_err(NotStarted::Path)?;
        let id = uuid(id);
        let start = rebuild::start(messages, &id, version);
        let resumes = !start.transcript.is_empty();
        if !resumes && start.say.is_none() && !messages.is_empty() {
            return Err(NotStarted::Nothing);
        }
        let how = lay_out(sandbox.as_ref(), &id, &start, messages).await?;
        let mut command = command(brief, version, &path);
        let flag = if resumes { "--resume" } else { "--session-id" };
        command.argv.extend([flag.to_owned(), id]);
        if resumes && start.say.is_none() {
            let goes_on = "CLAUDE_CODE_RESUME_INTERRUPTED_TURN";
            command.env.push((goes_on.to_owned(), "1".to_owned()));
        }
        give_back(sandbox.as_ref(), &mut command).await?;
        let mut foreign = Foreign::start(sandbox.as_ref(), command).await?;
        let append = prompt::append(brief);
        foreign
            .say(&wire::initialize(&append, &brief.custom))
            .await?;
        if let Some(content) = start.say {
            foreign.say(&wire::user(content)).await?;
        }
        let made_of = made_of(brief);
        let live = Self::new(foreign, path, sandbox, messages.len(), (how, made_of));
        live.mark(how == How::Ahead);
        Ok(live)
    }

    /// Waits until one that was told nothing listens. Cancel safe: no.
    pub(crate) async fn listens(&mut self, brief: &Brief) -> Result<(), Broken> {
        loop {
            let heard = self.foreign.hear().await?;
            if self.take(heard, brief).await? == Heard::Listens {
                return Ok(());
            }
        }
    }

    fn new(
        foreign: Foreign,
        path: ModelPath,
        sandbox: &Arc<dyn Sandbox>,
        told: usize,
        (how, made_of): (How, String),
    ) -> Self {
        Self {
            foreign,
            path,
            serving: None,
            sandbox: Arc::downgrade(sandbox),
            told,
            settled: told,
            asks: Asks::default(),
            round: Vec::new(),
            outcomes: HashMap::new(),
            allowed: HashSet::new(),
            answered: HashSet::new(),
            ending: false,
            unproven: matches!(how, How::Adopted | How::Revived),
            how,
            made_of,
        }
    }

    /// How it came to be there.
    pub(crate) fn how(&self) -> How {
        self.how
    }

    /// Whether it was told nothing yet.
    pub(crate) fn is_new(&self) -> bool {
        self.told == 0
    }

    /// Whether it is still there, as far as is known without asking.
    pub(crate) fn lives(&self) -> bool {
        let sandbox = self.sandbox.upgrade();
        sandbox.is_some_and(|it| it.is_alive()) && !self.foreign.has_ended()
    }

    /// Ends it. Does not wait.
    pub(crate) fn end(&self) {
        self.foreign.end();
    }

    /// Waits until it has ended, or its sandbox has. Cancel safe: yes.
    pub(crate) async fn gone(&self) {
        self.foreign.gone().await;
    }

    /// Whether it runs in that one, and is what the session wants there: an agent may have been changed since.
    pub(crate) fn is_for(&self, sandbox: &Arc<dyn Sandbox>, brief: &Brief) -> bool {
        self.is_in(sandbox) && self.made_of == made_of(brief)
    }

    /// Whether it runs in that one.
    pub(crate) fn is_in(&self, sandbox: &Arc<dyn Sandbox>) -> bool {
        std::ptr::addr_eq(self.sandbox.as_ptr(), Arc::as_ptr(sandbox))
    }

    /// Tells it what has been said since, if that can be told: a message in the middle of a turn it might hear only
    /// after its next request. False if it has to be started anew.
    pub(crate) async fn tell(&mut self, messages: &[Message]) -> Result<bool, Broken> {
        let Some(news) = messages.get(self.told..) else {
            return Ok(false);
        };
        let said = news.iter().any(|message| match message {
            Message::User(blocks) => {
                let mut blocks = blocks.iter();
                blocks.any(|block| !matches!(block, UserBlock::ToolResult { .. }))
            }
            Message::System(_) => true,
            Message::Assistant(_) => false,
        });
        // Its own requests it knows.
        let foreign = |message: &Message| matches!(message, Message::Assistant(_));
        if news.is_empty() {
            // An earlier server has said it.
            return Ok(true);
        }
        if said != self.round.is_empty() || news.iter().any(foreign) {
            return Ok(false);
        }
        self.settle(messages).await?;
        self.told = messages.len();
        if said {
            let mut turns = model::anthropic_messages(news);
            let Some(turn) = turns.pop().filter(|_| turns.is_empty()) else {
                return Ok(false);
            };
            self.foreign
                .say(&wire::user(turn["content"].clone()))
                .await?;
        }
        Ok(true)
    }

    /// Tells it how calls ended that it has not run itself.
    pub(crate) async fn settle(&mut self, messages: &[Message]) -> Result<(), Broken> {
        let news = messages.get(self.settled..).unwrap_or_default();
        self.settled = messages.len();
        for (call, content, is_error) in news.iter().flat_map(results) {
            self.ended(call, &content, is_error).await?;
        }
        Ok(())
    }

    async fn ended(&mut self, call: &str, content: &[Block], is_error: bool) -> Result<(), Broken> {
        let Some(known) = self.round.iter_mut().find(|known| known.id == call) else {
            return Ok(());
        };
        if std::mem::replace(&mut known.done, true) {
            return Ok(());
        }
        match self.asks.remove(call) {
            Some(waits) => self.answer(&waits, content, is_error).await,
            None => {
                let outcome = (content.to_vec(), is_error);
                self.outcomes.insert(call.to_owned(), outcome);
                Ok(())
            }
        }
    }

    async fn answer(
        &mut self,
        waits: &Waits,
        content: &[Block],
        is_error: bool,
    ) -> Result<(), Broken> {
        let line = match waits {
            Waits::Custom { request, rpc } => wire::returned(request, rpc, content, is_error),
            Waits::Permission { request, .. } => {
                let texts = content.iter().filter_map(|block| match block {
                    Block::Text { text } => Some(text.as_str()),
                    _ => None,
                });
                wire::deny(request, &texts.collect::<Vec<_>>().join("\n"))
            }
        };
        self.foreign.say(&line).await
    }

    /// What it asks its model next. Cancel safe: no.
    pub(crate) async fn asked(&mut self, brief: &Brief) -> Result<Asked, Broken> {
        loop {
            let serving = self.serving.get_or_insert_with(|| self.path.serve());
            tokio::select! {
                asked = serving.asked() => return asked.ok_or(Broken::Ended),
                heard = self.foreign.hear() => {
                    let heard = self.take(heard?, brief).await?;
                    let again = heard == (Heard::Ended { wrong: false }) && std::mem::take(&mut self.ending);
                    if matches!(heard, Heard::Ended { .. }) && !again {
                        return Err(Broken::Upset);
                    }
                }
            }
        }
    }

    /// Waits until it stands still: at the end of its turn, or where it waits for somebody's word. From then on
    /// nothing of it needs this process. Cancel safe: no.
    pub(crate) async fn rest(&mut self, brief: &Brief) -> Result<(), Broken> {
        loop {
            let first = self.round.iter().find(|call| !call.done);
            match first {
                Some(call) if self.asks.contains_key(&call.id) => break,
                _ => {}
            }
            let over = first.is_none();
            let heard = tokio::select! {
                heard = self.foreign.hear() => heard?,
                // It goes on where the session does not, as when that has spent its budget.
                () = asks_its_model(&mut self.serving) => return Err(Broken::Elsewhere),
            };
            match self.take(heard, brief).await? {
                Heard::Ended { wrong: false } if over => {
                    self.mark(true);
                    break;
                }
                Heard::Ended { .. } => return Err(Broken::Upset),
                _ => {}
            }
        }
        self.serving = None;
        Ok(())
    }

    /// The model has answered. The conversation stood at `known` messages after that.
    pub(crate) fn replied(&mut self, known: usize, calls: &[(String, String)], brief: &Brief) {
        self.told = known;
        self.settled = known;
        self.asks.clear();
        self.outcomes.clear();
        self.allowed.clear();
        self.answered.clear();
        self.ending = false;
        self.round_of(calls, brief);
        self.mark(false);
    }

    fn round_of(&mut self, calls: &[(String, String)], brief: &Brief) {
        let is_custom = |name: &str| brief.custom.iter().any(|tool| tool.name == name);
        let calls = calls.iter().map(|(id, name)| Call {
            id: id.clone(),
            beside: runs_beside(name, is_custom(name)),
            done: false,
        });
        self.round = calls.collect();
    }

    /// Whether it will come to that call now: it works through them in order, and only some beside others.
    pub(crate) fn reaches(&self, call: &str) -> bool {
        let Some(at) = self.round.iter().position(|known| known.id == call) else {
            return false;
        };
        let beside = self.round[at].beside;
        let mut before = self.round[..at].iter();
        before.all(|known| known.done || beside && known.beside)
    }

    /// Lets it run a tool of its own, and returns what that said. True beside a failure that came when it ran
    /// already. Cancel safe: no.
    pub(crate) async fn run(
        &mut self,
        call: &str,
        brief: &Brief,
    ) -> Result<ToolResult, (Broken, bool)> {
        if !self.wanted(call, brief).await.map_err(|why| (why, false))? {
            let Some(Waits::Permission { request, input }) = self.asks.remove(call) else {
                return Err((Broken::Disobedient, false));
            };
            if self.foreign.has_ended() {
                return Err((Broken::Ended, false));
            }
            self.allowed.insert(call.to_owned());
            let allowed = self.foreign.say(&wire::allow(&request, &input)).await;
            allowed.map_err(|why| (why, true))?;
        }
        loop {
            let heard = self.foreign.hear().await.map_err(|why| (why, true))?;
            if let Heard::Results(results) = heard {
                let mut mine = None;
                for result in results {
                    if result.call == call {
                        mine = Some(result);
                    } else {
                        self.unasked(&result).map_err(|why| (why, true))?;
                    }
                }
                if let Some(mine) = mine {
                    self.allowed.remove(call);
                    if let Some(known) = self.round.iter_mut().find(|known| known.id == call) {
                        known.done = true;
                    }
                    return Ok(mine);
                }
            } else {
                let heard = self.take(heard, brief).await;
                heard.map_err(|why| (why, true))?;
            }
        }
    }

    /// Waits until it wants to run that call; true if it has been let already. Cancel safe: no.
    pub(crate) async fn wanted(&mut self, call: &str, brief: &Brief) -> Result<bool, Broken> {
        while !self.asks.contains_key(call) && !self.allowed.contains(call) {
            let heard = self.foreign.hear().await?;
            if let Heard::Ended { wrong: true } = self.take(heard, brief).await? {
                return Err(Broken::Upset);
            }
        }
        Ok(self.allowed.contains(call))
    }

    /// Takes in one thing that it said; gives back what is left of it.
    async fn take(&mut self, heard: Heard, brief: &Brief) -> Result<Heard, Broken> {
        if heard.request().is_some_and(|it| self.answered.remove(it)) {
            // An earlier server has said what it said; a permission still holds.
            if let Heard::Ask { call, .. } = &heard {
                self.allowed.insert(call.clone());
            }
            return Ok(Heard::Other);
        }
        match &heard {
            Heard::Ask {
                request,
                call,
                tool,
                input,
            } => {
                let (request, input) = (request.clone(), input.clone());
                if brief.custom.iter().any(|custom| custom.name == *tool) {
                    // It is not run there: what it says comes from the client.
                    self.foreign.say(&wire::allow(&request, &input)).await?;
                } else {
                    self.waits(call, Waits::Permission { request, input })
                        .await?;
                }
            }
            Heard::Custom { request, rpc, call } => {
                let (request, rpc) = (request.clone(), rpc.clone());
                self.waits(call, Waits::Custom { request, rpc }).await?;
            }
            Heard::Rpc {
                request,
                rpc,
                method,
            } => {
                let about = wire::about(request, rpc, method, &brief.custom);
                self.foreign.say(&about).await?;
            }
            Heard::Unknown { request } => self.foreign.say(&wire::refuse(request)).await?,
            Heard::Results(results) => {
                for result in results {
                    self.unasked(result)?;
                }
            }
            Heard::Ended { .. } | Heard::Listens | Heard::Other => {}
        }
        Ok(heard)
    }

    /// It waits for that call. One that no reply has made is refused for good.
    async fn waits(&mut self, call: &str, waits: Waits) -> Result<(), Broken> {
        if !self.round.iter().any(|known| known.id == call) || self.asks.contains_key(call) {
            let why = [Block::text("The model did not ask for this call.")];
            return self.answer(&waits, &why, true).await;
        }
        if let Some((content, is_error)) = self.outcomes.remove(call) {
            return self.answer(&waits, &content, is_error).await;
        }
        self.asks.insert(call.to_owned(), waits);
        Ok(())
    }

    /// The result of a call that was not to be run by it: of one that has ended elsewhere, or of one that it refused
    /// itself, it says so too.
    fn unasked(&self, result: &ToolResult) -> Result<(), Broken> {
        let known = self.round.iter().find(|known| known.id == result.call);
        let is_open = known.is_some_and(|known| !known.done);
        if is_open && !result.is_error {
            return Err(Broken::Disobedient);
        }
        Ok(())
    }
}

/// Returns when it makes a model request; never while nobody serves the path. Cancel safe: a request that was taken is
/// lost with its connection.
async fn asks_its_model(serving: &mut Option<Serving>) {
    match serving {
        Some(serving) => drop(serving.asked().await),
        None => std::future::pending().await,
    }
}
