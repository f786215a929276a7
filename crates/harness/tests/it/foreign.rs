//! The trait is not `native`'s shape: a second harness drives a foreign loop that lives in the sandbox,
//! makes its own model requests, runs its own tools and asks for permission, over a pipe.

use async_trait::async_trait;
use contract::content::Block;
use contract::ids::EventId;
use harness::{Fact, Harness, Plane, PlaneError, Step};
use sandbox::{Command, Process};
use serde_json::value::to_raw_value;
use session::input::ReplyEnd;
use session::{ProposedCall, Used};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};

use crate::plane::MemoryPlane;

/// The foreign product: it decides what to do, and does it once it is let.
const FOREIGN: &str = r#"
read -r prompt
echo request; read -r go
echo "reply-call echo one > made-by-foreign; cat made-by-foreign"
read -r verdict
if [ "$verdict" = allow ]; then
  echo "result $(echo one > made-by-foreign; cat made-by-foreign)"
fi
echo request; read -r go
echo "reply-text you said: $prompt"
"#;

struct Foreign;

#[async_trait]
impl Harness for Foreign {
    fn name(&self) -> &'static str {
        "foreign"
    }

    async fn run(&self, plane: &dyn Plane, first: Step) -> Result<(), PlaneError> {
        let sandbox = plane.sandbox().await.map_err(bug)?;
        let command = Command::new(["/bin/bash", "-c", FOREIGN]);
        let mut loop_ = Loop::new(sandbox.spawn(command).await.map_err(bug)?);
        loop_.say("the task").await?;
        let mut step = first;
        while let Some(line) = loop_.hear().await? {
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let fact = match (word, step) {
                // The step is the permission: the process waits until it has come.
                ("request", Step::Request { .. }) => {
                    loop_.say("go").await?;
                    continue;
                }
                ("reply-call", Step::Request { span }) => replied(plane, span, None, Some(rest))?,
                ("reply-text", Step::Request { span }) => replied(plane, span, Some(rest), None)?,
                ("result", Step::Execute { call }) => Fact::Finished {
                    call,
                    content: vec![Block::text(rest)],
                    is_error: false,
                },
                (word, step) => return Err(PlaneError::Bug(format!("{word} at {step:?}"))),
            };
            step = plane.report(fact).await?.step;
            match step {
                Step::Execute { .. } => loop_.say("allow").await?,
                Step::Request { .. } => {}
                // This one keeps nothing that could be asked for.
                Step::Recover { .. } => return Err(PlaneError::Bug("recovery".to_owned())),
                // Its loop condenses its own context.
                Step::Compact { .. } => return Err(PlaneError::Bug("compaction".to_owned())),
                // Nobody defined an outcome.
                Step::Grade { .. } => return Err(PlaneError::Bug("a grading".to_owned())),
                Step::Rest => return Ok(()),
            }
        }
        Err(PlaneError::Bug(
            "the foreign loop ended in the middle".to_owned(),
        ))
    }
}

fn replied(
    plane: &dyn Plane,
    span: EventId,
    text: Option<&str>,
    call: Option<&str>,
) -> Result<Fact, PlaneError> {
    let calls = call.map(|command| {
        let input = to_raw_value(&serde_json::json!({"command": command})).map_err(bug)?;
        Ok::<_, PlaneError>(ProposedCall {
            id: plane.mint(),
            name: "bash".to_owned(),
            input,
            judgement: None,
        })
    });
    Ok(Fact::Replied {
        span,
        thinking: Vec::new(),
        message: text.map(|text| (plane.mint(), vec![text.to_owned()])),
        calls: calls.transpose()?.into_iter().collect(),
        record: to_raw_value("kept by the foreign loop itself").map_err(bug)?,
        used: Used::default(),
        end: ReplyEnd::Complete,
        crowded: false,
    })
}

fn bug(error: impl std::fmt::Display) -> PlaneError {
    PlaneError::Bug(error.to_string())
}

/// The pipe to the process.
struct Loop {
    process: Process,
    lines: Lines<BufReader<Box<dyn tokio::io::AsyncRead + Send + Sync + Unpin>>>,
}

impl Loop {
    fn new(mut process: Process) -> Self {
        let stdout = process.stdout.take().unwrap();
        let lines = BufReader::new(stdout).lines();
        Self { process, lines }
    }

    async fn say(&mut self, line: &str) -> Result<(), PlaneError> {
        let stdin = self.process.stdin.as_mut().unwrap();
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .await
            .map_err(bug)?;
        stdin.flush().await.map_err(bug)
    }

    async fn hear(&mut self) -> Result<Option<String>, PlaneError> {
        self.lines.next_line().await.map_err(bug)
    }
}

#[tokio::test]
async fn a_foreign_loop_in_the_sandbox_works_under_the_same_trait() {
    let home = tempfile::tempdir().unwrap();
    let (plane, first) = MemoryPlane::on("the task", "http://127.0.0.1:9", home.path()).await;
    let run = Foreign.run(&plane, first);
    tokio::time::timeout(std::time::Duration::from_secs(60), run)
        .await
        .unwrap()
        .unwrap();
    let kinds = plane.kinds();
    let order = [
        "span.model_request_start",
        "agent.tool_use",
        "span.model_request_end",
        "agent.tool_result",
        "span.model_request_start",
        "agent.message",
        "span.model_request_end",
        "session.thread_status_idle",
        "session.usage",
        "session.status_idle",
    ];
    assert_eq!(kinds[kinds.len() - order.len()..], order);
    assert!(matches!(
        &plane.entries().iter().rev().find_map(|e| match &e.body {
            harness::EntryBody::Result { content, .. } => Some(content.clone()),
            _ => None,
        }),
        Some(content) if *content == [Block::text("one")]
    ));
}
