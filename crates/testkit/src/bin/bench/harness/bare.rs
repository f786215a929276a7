//! The same program as an application would drive it on the host. It knows nothing of us.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::wait;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::Wrong;

/// A running one; killed when dropped.
pub(super) struct Bare {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    begun: bool,
    _home: TempDir,
}

/// As in a sandbox: nothing but its model is asked.
const VARIABLES: [(&str, &str); 6] = [
    ("ANTHROPIC_API_KEY", "sk-scripted-0000000000000000"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("DISABLE_TELEMETRY", "1"),
    ("IS_SANDBOX", "1"),
    ("PATH", "/usr/bin:/bin"),
];

impl Bare {
    /// Starts it.
    pub(super) fn start(program: &Path, model: &str) -> Result<Self, Wrong> {
        let home = tempfile::tempdir()?;
        let mut command = Command::new(program);
        command.arg("-p");
        command.args(["--input-format", "stream-json"]);
        command.args(["--output-format", "stream-json", "--verbose"]);
        command.args(["--permission-prompt-tool", "stdio"]);
        command.args(["--permission-mode", "default"]);
        command.args(["--setting-sources", "", "--strict-mcp-config"]);
        command.arg("--await-initialize");
        command.args(["--tools", "Bash,Edit,Glob,Grep,Read,Write"]);
        command.args(["--model", "claude-sonnet-5-5"]);
        command.env_clear().envs(VARIABLES);
        command.env("ANTHROPIC_BASE_URL", model);
        command.env("HOME", home.path()).current_dir(home.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().ok_or("no standard input")?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        Ok(Self {
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
            begun: false,
            _home: home,
        })
    }

    /// Waits until it listens.
    pub(super) async fn ready(&mut self) -> Result<(), Wrong> {
        self.begin().await?;
        self.hear("control_response").await
    }

    /// Says something to it.
    pub(super) async fn say(&mut self, token: &str) -> Result<(), Wrong> {
        self.begin().await?;
        let text = testkit::script::message(token, &json!([{"text": "done"}]));
        let message = json!({"role": "user", "content": text["content"]});
        self.write(&json!({"type": "user", "session_id": "", "parent_tool_use_id": null, "message": message}))
            .await
    }

    /// Waits for the end of its turn.
    pub(super) async fn ended(&mut self) -> Result<(), Wrong> {
        self.hear("result").await
    }

    /// Its number.
    pub(super) fn pid(&self) -> Result<i32, Wrong> {
        Ok(self.child.id().ok_or("it has ended")?.try_into()?)
    }

    /// The first words of its protocol, once.
    async fn begin(&mut self) -> Result<(), Wrong> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        let request = json!({"subtype": "initialize", "systemPromptSnapshot": false});
        self.write(
            &json!({"type": "control_request", "request_id": "initialize", "request": request}),
        )
        .await
    }

    async fn hear(&mut self, kind: &str) -> Result<(), Wrong> {
        loop {
            let line = wait::within("a line of claude's", self.lines.next_line()).await?;
            let line: Value = serde_json::from_str(&line.ok_or("claude has ended")?)?;
            if line["type"] == kind {
                return Ok(());
            }
        }
    }

    async fn write(&mut self, line: &Value) -> Result<(), Wrong> {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(self.stdin.flush().await?)
    }
}
