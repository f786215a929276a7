//! One claude that runs: what it has been told, what it waits for, and the little it may do. It decides nothing; what
//! is not where the session is, is replaced by one that is (see [`super`]).

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use contract::content::Block;
use model::{Message, UserBlock};
use sandbox::{Command, Sandbox};
use serde_json::json;

use crate::brief::Brief;
use crate::claude::names::{runs_beside, theirs};
use crate::claude::path::{Asked, ModelPath, Serving};
use crate::claude::process::{Asks, Broken, Foreign, Waits};
use crate::claude::wire::{self, Heard, ToolResult};
use crate::claude::{prompt, rebuild};

/// Where it keeps its own state, in the session's sandbox.
const HOME: &str = "/var/lib/longhand/claude";
/// The directory of its transcripts there, whatever directory it works in.
const PROJECT: &str = "session";

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
    /// The call of its own that it may run now.
    allowed: Option<String>,
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
        let path = ModelPath::new(sandbox.listen().await?).map_err(NotStarted::Path)?;
        let id = uuid(id);
        let start = rebuild::start(messages, &id, version);
        let resumes = !start.transcript.is_empty();
        if !resumes && start.say.is_none() {
            return Err(NotStarted::Nothing);
        }
        if resumes {
            keep(sandbox.as_ref(), &id, start.transcript.as_bytes()).await?;
        }
        let mut command = command(brief, version, &path);
        let how = if resumes { "--resume" } else { "--session-id" };
        command.argv.extend([how.to_owned(), id]);
        if start.say.is_none() {
            let goes_on = "CLAUDE_CODE_RESUME_INTERRUPTED_TURN";
            command.env.push((goes_on.to_owned(), "1".to_owned()));
        }
        let mut foreign = Foreign::start(sandbox.as_ref(), command).await?;
        let append = prompt::append(brief);
        foreign
            .say(&wire::initialize(&append, &brief.custom))
            .await?;
        if let Some(content) = start.say {
            foreign.say(&wire::user(content)).await?;
        }
        Ok(Self {
            foreign,
            path,
            serving: None,
            sandbox: Arc::downgrade(sandbox),
            told: messages.len(),
            settled: messages.len(),
            asks: Asks::default(),
            round: Vec::new(),
            outcomes: HashMap::new(),
            allowed: None,
        })
    }

    /// Whether its sandbox is still there.
    pub(crate) fn lives(&self) -> bool {
        self.sandbox.upgrade().is_some_and(|it| it.is_alive())
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
                    if let Heard::Ended { .. } = self.take(heard?, brief).await? {
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
            let heard = self.foreign.hear().await?;
            match self.take(heard, brief).await? {
                Heard::Ended { wrong: false } if over => break,
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
        while !self.asks.contains_key(call) {
            let heard = self.foreign.hear().await.map_err(|why| (why, false))?;
            let heard = self.take(heard, brief).await;
            if let Heard::Ended { wrong: true } = heard.map_err(|why| (why, false))? {
                return Err((Broken::Upset, false));
            }
        }
        let Some(Waits::Permission { request, input }) = self.asks.remove(call) else {
            return Err((Broken::Disobedient, false));
        };
        self.allowed = Some(call.to_owned());
        let allowed = self.foreign.say(&wire::allow(&request, &input)).await;
        allowed.map_err(|why| (why, true))?;
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
                    self.allowed = None;
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

    /// Takes in one thing that it said; gives back what is left of it.
    async fn take(&mut self, heard: Heard, brief: &Brief) -> Result<Heard, Broken> {
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
            Heard::Ended { .. } | Heard::Other => {}
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

/// Writes its transcript to where it looks for it, in place of all that were there.
async fn keep(sandbox: &dyn Sandbox, id: &str, transcript: &[u8]) -> Result<(), sandbox::Error> {
    let projects = format!("{HOME}/projects");
    match sandbox.remove(&projects, true).await {
        Ok(()) | Err(sandbox::Error::Missing { .. }) => {}
        Err(error) => return Err(error),
    }
    let dir = format!("{projects}/{PROJECT}");
    sandbox.make_directory(&dir).await?;
    let mut upload = sandbox
        .write(&format!("{dir}/{id}.jsonl"), Some(0o600))
        .await?;
    upload.send(transcript).await?;
    upload.finish().await
}

fn command(brief: &Brief, version: &str, path: &ModelPath) -> Command {
    let tools = brief.builtin.iter().map(|tool| theirs(*tool));
    let tools = tools.collect::<Vec<_>>();
    let settings = json!({
        // Each of them waits for the session's word, whatever its policy.
        "permissions": {"ask": tools, "defaultMode": "default"},
        "autoCompactEnabled": false,
    });
    let program = format!("{}/claude/{version}/claude", sandbox::PROGRAMS);
    let mut argv = vec![program, "-p".to_owned()];
    let mut add = |more: &[&str]| argv.extend(more.iter().map(|&it| it.to_owned()));
    add(&["--input-format", "stream-json"]);
    add(&["--output-format", "stream-json", "--verbose"]);
    add(&["--permission-prompt-tool", "stdio"]);
    add(&["--permission-mode", "default"]);
    // Nothing that the agent has written says what it may do.
    add(&["--setting-sources", ""]);
    add(&["--strict-mcp-config", "--await-initialize"]);
    add(&["--tools", &tools.join(",")]);
    add(&["--settings", &settings.to_string()]);
    add(&["--model", &brief.model]);
    let mut command = Command::new(argv);
    let env = [
        ("ANTHROPIC_BASE_URL", path.url()),
        ("ANTHROPIC_API_KEY", path.token().to_owned()),
        ("CLAUDE_CONFIG_DIR", HOME.to_owned()),
        ("CLAUDE_CODE_PROJECT_DIR_NAME", PROJECT.to_owned()),
    ];
    let fixed = FIXED.map(|(name, value)| (name, value.to_owned()));
    let env = env.into_iter().chain(fixed);
    command.env = env.map(|(name, value)| (name.to_owned(), value)).collect();
    command
}

/// What holds for each of them. Nothing leaves the sandbox but by the model path; what the session plane does itself
/// (retries, compaction, work in the background) it is not to do as well.
const FIXED: [(&str, &str); 15] = [
    ("API_TIMEOUT_MS", "3600000"),
    ("CLAUDE_AGENT_SDK_MCP_NO_PREFIX", "1"),
    ("CLAUDE_CODE_ATTRIBUTION_HEADER", "0"),
    ("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1"),
    ("CLAUDE_CODE_DISABLE_BUNDLED_SKILLS", "1"),
    // Providers that speak the dialect take what the dialect has.
    ("CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS", "1"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("CLAUDE_CODE_ENTRYPOINT", "sdk-rs"),
    ("CLAUDE_CODE_MAX_RETRIES", "0"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("DISABLE_AUTO_COMPACT", "1"),
    ("DISABLE_ERROR_REPORTING", "1"),
    ("DISABLE_TELEMETRY", "1"),
    ("ENABLE_TOOL_SEARCH", "false"),
    ("IS_SANDBOX", "1"),
];

/// An id as claude wants them.
fn uuid(bits: u128) -> String {
    let hex = format!("{bits:032x}");
    let (a, b, c) = (&hex[..8], &hex[8..12], &hex[13..16]);
    format!("{a}-{b}-4{c}-8{}-{}", &hex[17..20], &hex[20..])
}

/// The results that a message of the conversation holds: the call by the model's id, what it said, whether it failed.
fn results(message: &Message) -> impl Iterator<Item = (&str, Vec<Block>, bool)> {
    let blocks = match message {
        Message::User(blocks) => blocks.as_slice(),
        Message::System(_) | Message::Assistant(_) => &[],
    };
    blocks.iter().filter_map(|block| match block {
        UserBlock::ToolResult {
            tool_use_id,
            content,
            is_error,
        } => Some((
            tool_use_id.as_str(),
            content.iter().map(shown).collect(),
            *is_error,
        )),
        _ => None,
    })
}

fn shown(block: &model::ResultBlock) -> Block {
    match block {
        model::ResultBlock::Text { text } => Block::text(text.clone()),
        model::ResultBlock::Image {
            source: model::Source::Base64 { media_type, data },
        } => Block::Image {
            source: contract::content::Source::Base64 {
                data: data.clone(),
                media_type: media_type.clone(),
            },
        },
        other => Block::text(serde_json::to_string(other).unwrap_or_default()),
    }
}
