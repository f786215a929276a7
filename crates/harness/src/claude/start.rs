//! How a claude is started: its command line, its variables, and its own transcript, which is kept in the session's
//! sandbox and with its workspace. It starts none, and what it reads from inside it takes for hostile.

use aws_lc_rs::digest::{SHA256, digest};
use model::Message;
use sandbox::{Command, Sandbox};
use serde_json::{Value, json};

use crate::brief::Brief;
use crate::claude::names::theirs;
use crate::claude::path::ModelPath;
use crate::claude::prompt;
use crate::claude::rebuild::Start;
use crate::claude::standing::Standing;
use crate::limits::FOREIGN_TRANSCRIPT_BYTES;

/// Where it keeps its own state: below [`sandbox::STATE`], which is the session's and in no snapshot or fork.
const HOME: &str = "/run/harness/claude";
/// The directory of its transcripts there, whatever directory it works in.
const PROJECT: &str = "session";
/// What it puts in front of each command of its shell.
const PREAMBLE: &str = "/run/harness/preamble.sh";
/// What the names begin with under which it hands on variables that are not its own.
const CARRIED: &str = "LONGHAND_OF_PROGRAMS_";

/// By which it finds the model path.
const TO_ITS_MODEL: [&str; 2] = ["ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"];

/// How a claude came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// New, with nothing to go on from.
    Started,
    /// The same, before anybody said anything.
    Ahead,
    /// It ran on while its server was killed.
    Adopted,
    /// New, from its own transcript.
    Revived,
    /// New, from a transcript that was made from the log.
    Rebuilt,
}

impl How {
    /// As the timeline and the binding have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Ahead => "ahead",
            Self::Adopted => "adopted",
            Self::Revived => "revived",
            Self::Rebuilt => "rebuilt",
        }
    }
}

/// Lays out what a new claude of that `id` goes on from: its own transcript where that says what the log says, or else
/// one that is made from the log.
pub(super) async fn lay_out(
    sandbox: &dyn Sandbox,
    id: &str,
    start: &Start,
    messages: &[Message],
) -> Result<How, sandbox::Error> {
    if start.transcript.is_empty() {
        keep(sandbox, id, b"").await?;
        let is_ahead = start.say.is_none();
        return Ok(if is_ahead { How::Ahead } else { How::Started });
    }
    let own = read(sandbox, id).await?;
    let transcript = own.as_deref().and_then(|own| mended(own, start, messages));
    let (transcript, how) = match &transcript {
        Some(own) => (own.as_str(), How::Revived),
        None => (start.transcript.as_str(), How::Rebuilt),
    };
    keep(sandbox, id, transcript.as_bytes()).await?;
    Ok(how)
}

/// Its own transcript, if there is one that can be read.
async fn read(sandbox: &dyn Sandbox, id: &str) -> Result<Option<String>, sandbox::Error> {
    let path = format!("{HOME}/projects/{PROJECT}/{id}.jsonl");
    let mut file = match sandbox.read(&path, 0).await {
        Ok(file) => file,
        Err(sandbox::Error::Missing { .. } | sandbox::Error::Invalid { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut own = Vec::new();
    while let Some(piece) = file.next().await? {
        own.extend_from_slice(&piece);
        if own.len() > FOREIGN_TRANSCRIPT_BYTES {
            return Ok(None);
        }
    }
    Ok(String::from_utf8(own).ok())
}

/// Its own transcript with what it had not heard of yet; none if it says something else than the log, which wins.
pub(super) fn mended(own: &str, start: &Start, messages: &[Message]) -> Option<String> {
    let mut rows = Vec::new();
    for line in own.lines() {
        rows.push(serde_json::from_str::<Value>(line).ok()?);
    }
    let is_main = |row: &&Value| row["isSidechain"] != true && row["isMeta"] != true;
    let said = rows.iter().filter(is_main);
    let said = said.filter(|row| row["type"] == "user" || row["type"] == "assistant");
    let theirs = Standing::of(said.map(|row| &row["message"]));
    let ours = model::anthropic_messages(messages);
    // What the user said last, it is told when it has started.
    let ours = &ours[..ours.len() - usize::from(start.say.is_some())];
    let mut known = (1..=ours.len()).rev().take(UNHEARD + 1);
    let known = known.find(|known| Standing::of(ours[..*known].iter()).agrees(&theirs))?;
    let mut own = own.trim_end().to_owned() + "\n";
    let mut parent = rows
        .iter()
        .rev()
        .find(|row| row["uuid"].is_string() && is_main(row))?["uuid"]
        .clone();
    for row in start.transcript.lines().skip(known) {
        let mut row: Value = serde_json::from_str(row).ok()?;
        row["parentUuid"] = parent;
        parent = row["uuid"].clone();
        own.push_str(&row.to_string());
        own.push('\n');
    }
    Some(own)
}

/// Messages at the end of the log that a claude may not have heard of when it was lost.
const UNHEARD: usize = 8;

/// Writes its transcript to where it looks for it, in place of all that were there; an empty one is none.
pub(super) async fn keep(
    sandbox: &dyn Sandbox,
    id: &str,
    transcript: &[u8],
) -> Result<(), sandbox::Error> {
    let projects = format!("{HOME}/projects");
    match sandbox.remove(&projects, true).await {
        Ok(()) | Err(sandbox::Error::Missing { .. }) => {}
        Err(error) => return Err(error),
    }
    if transcript.is_empty() {
        return Ok(());
    }
    let dir = format!("{projects}/{PROJECT}");
    sandbox.make_directory(&dir).await?;
    let mut upload = sandbox
        .write(&format!("{dir}/{id}.jsonl"), Some(0o600))
        .await?;
    upload.send(transcript).await?;
    upload.finish().await
}

/// What it is told to be, in few bytes: another brief makes another claude.
pub(super) fn made_of(brief: &Brief) -> String {
    let said = [
        format!("{:?}", arguments(brief)),
        prompt::append(brief),
        format!("{:?}", brief.custom),
    ];
    let digest = digest(&SHA256, said.join("\0").as_bytes());
    { digest.as_ref().iter() }
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn arguments(brief: &Brief) -> Vec<String> {
    let tools = brief.builtin.iter().map(|tool| theirs(*tool));
    let tools = tools.collect::<Vec<_>>();
    let settings = json!({
        // Each of them waits for the session's word, whatever its policy.
        "permissions": {"ask": tools, "defaultMode": "default"},
        "autoCompactEnabled": false,
    });
    let mut argv = vec!["-p".to_owned()];
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
    argv
}

pub(super) fn command(brief: &Brief, version: &str, path: &ModelPath) -> Command {
    let program = format!("{}/claude/{version}/claude", sandbox::PROGRAMS);
    let mut command = Command::new(std::iter::once(program).chain(arguments(brief)));
    let [url, key] = TO_ITS_MODEL;
    let env = [
        (url, path.url()),
        (key, path.token().to_owned()),
        ("CLAUDE_CONFIG_DIR", HOME.to_owned()),
        ("CLAUDE_CODE_PROJECT_DIR_NAME", PROJECT.to_owned()),
    ];
    let fixed = FIXED.map(|(name, value)| (name, value.to_owned()));
    let env = env.into_iter().chain(fixed);
    command.env = env.map(|(name, value)| (name.to_owned(), value)).collect();
    command
}

/// Has what it starts find the sandbox's own variables where it is itself started with others of their names: its base URL
/// and key lead to the model path, where nobody else is to ask; those of programs are a stand-in's, a credential's or none.
/// Call it when `command` has all its variables.
///
/// Claude puts what the file in `CLAUDE_ENV_FILE` says in front of each command of its shell, and takes nothing from it itself.
/// The values come to that shell by claude's own environment, under other names: the file has none of them.
pub(super) async fn give_back(
    sandbox: &dyn Sandbox,
    command: &mut Command,
) -> Result<(), sandbox::Error> {
    let theirs = sandbox.variables();
    let (mut preamble, mut carried) = (String::new(), Vec::new());
    for (name, _) in &command.env {
        match theirs.iter().find(|(known, _)| known == name) {
            Some((_, value)) => {
                let there = format!("{CARRIED}{name}");
                preamble += &format!("export {name}=\"${there}\"; unset -v {there}\n");
                carried.push((there, value.clone()));
            }
            None if TO_ITS_MODEL.contains(&name.as_str()) => {
                preamble += &format!("unset -v {name}\n");
            }
            None => {}
        }
    }
    let mut upload = sandbox.write(PREAMBLE, Some(0o600)).await?;
    upload.send(preamble.as_bytes()).await?;
    upload.finish().await?;
    command.env.extend(carried);
    let variable = ("CLAUDE_ENV_FILE".to_owned(), PREAMBLE.to_owned());
    command.env.push(variable);
    Ok(())
}

/// What holds for each of them. Nothing leaves the sandbox but by the model path; what the session plane does itself
/// (retries, compaction, work in the background) it is not to do as well.
const FIXED: [(&str, &str); 16] = [
    ("API_TIMEOUT_MS", "3600000"),
    ("CLAUDE_AGENT_SDK_MCP_NO_PREFIX", "1"),
    ("CLAUDE_CODE_ATTRIBUTION_HEADER", "0"),
    ("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1"),
    ("CLAUDE_CODE_DISABLE_BUNDLED_SKILLS", "1"),
    // Providers that speak the dialect take what the dialect has.
    ("CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS", "1"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    // A request whose answer was cut is made again as it was: another kind the model path does not take.
    ("CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK", "1"),
    ("CLAUDE_CODE_ENTRYPOINT", "sdk-rs"),
    // Of a connection that was cut: its server was killed, and the next one takes the request up. A failure of the
    // model it never hears of.
    ("CLAUDE_CODE_MAX_RETRIES", "10"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("DISABLE_AUTO_COMPACT", "1"),
    ("DISABLE_ERROR_REPORTING", "1"),
    ("DISABLE_TELEMETRY", "1"),
    ("ENABLE_TOOL_SEARCH", "false"),
    ("IS_SANDBOX", "1"),
];

/// An id as claude wants them.
pub(super) fn uuid(bits: u128) -> String {
    let hex = format!("{bits:032x}");
    let (a, b, c) = (&hex[..8], &hex[8..12], &hex[13..16]);
    format!("{a}-{b}-4{c}-8{}-{}", &hex[17..20], &hex[20..])
}
