//! Owns finding out what this host can do, by doing it with a sandbox that is thrown away.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::groups::size;
use super::{Local, isolation};
use crate::error::Error;
use crate::isolation::Isolation;
use crate::provider::{Finding, Provider, Report, Sandbox, SandboxId, Spec, ToolCall};
use hand::wire::Tool;

/// What agents use most; none is needed to run a sandbox.
const EXPECTED: &[&str] = &["git", "python3", "node"];

/// What the names of probes begin with.
const NAME: &str = "probe-";

/// Whether that is a probe's name.
pub(super) fn is_of(id: &SandboxId) -> bool {
    id.as_str().starts_with(NAME)
}

pub(super) async fn probe(local: &Local) -> Report {
    let mut findings = vec![Finding {
        what: "the static helper".to_owned(),
        ok: true,
        required: true,
        detail: format!("{}, {} bytes", bundle::HELPER_TARGET, bundle::HELPER.len()),
        mend: String::new(),
    }];
    let shared = Arc::clone(&local.0);
    if let Ok(groups) = tokio::task::spawn_blocking(move || shared.groups()).await {
        findings.extend(groups.findings());
    }
    let shared = Arc::clone(&local.0);
    let gvisor = tokio::task::spawn_blocking(move || shared.gvisor_finding());
    findings.extend(gvisor.await);
    if let Ok(isolation) = local.isolation().await {
        findings.extend(isolation::findings(&isolation));
        findings.push(disk(&isolation));
    }
    let tried = whole(local).await;
    if let Ok(programs) = &tried {
        findings.extend(programs.iter().map(|(name, there)| program(name, *there)));
    }
    findings.push(match tried {
        Ok(_) => Finding {
            what: "a whole sandbox that runs a command".to_owned(),
            ok: true,
            required: true,
            detail: "namespaces, id range, overlay, seccomp, the hand and bash work".to_owned(),
            mend: String::new(),
        },
        Err(Error::Unsupported { step, errno, hint }) => Finding {
            what: step,
            ok: false,
            required: true,
            detail: std::io::Error::from_raw_os_error(errno).to_string(),
            mend: hint,
        },
        Err(error) => Finding {
            what: "a whole sandbox that runs a command".to_owned(),
            ok: false,
            required: true,
            detail: error.to_string(),
            mend: "see the detail; the log has the cause".to_owned(),
        },
    });
    Report { findings }
}

fn disk(isolation: &Isolation) -> Finding {
    let held = &isolation.disk;
    let most = match held.most {
        0 => "as much as there is".to_owned(),
        most => format!("at most {}", size(most)),
    };
    Finding {
        what: "disk of a sandbox".to_owned(),
        ok: true,
        required: false,
        detail: if held.firmly {
            format!("{most}, held by {}", held.by)
        } else {
            format!(
                "{most}, held by {}: it may be exceeded for a moment",
                held.by
            )
        },
        mend: String::new(),
    }
}

fn program(name: &str, there: bool) -> Finding {
    let (detail, mend) = if there {
        ("found in the sandbox".to_owned(), String::new())
    } else {
        let mend = format!(
            "install {name} under /usr, which sandboxes see, or make them on a template that has it: \
             longhand template build base"
        );
        ("not found in the sandbox".to_owned(), mend)
    };
    Finding {
        what: format!("{name} for agents"),
        ok: there,
        required: false,
        detail,
        mend,
    }
}

/// Runs a sandbox, and says for each of [`EXPECTED`] whether it is there.
async fn whole(local: &Local) -> Result<Vec<(&'static str, bool)>, Error> {
    let id = SandboxId::new(format!("{NAME}{}", std::process::id()))?;
    let sandbox = local.attach(Spec::new(id.clone())).await?;
    let runs = run(&sandbox, "test -w /workspace && test \"$(id -u)\" = 0").await;
    let mut found = Vec::with_capacity(EXPECTED.len());
    for name in EXPECTED {
        let there = run(&sandbox, &format!("command -v {name}")).await;
        found.push((*name, there.unwrap_or(false)));
    }
    drop(sandbox);
    local.delete(&id).await?;
    if runs? {
        return Ok(found);
    }
    Err(Error::Unsupported {
        step: "run a command in a sandbox".to_owned(),
        errno: 0,
        hint:
            "it started, but /bin/bash does not work there: is bash under /usr, or in the template?"
                .to_owned(),
    })
}

async fn run(sandbox: &Arc<dyn Sandbox>, command: &str) -> Result<bool, Error> {
    let input = serde_json::json!({ "command": command });
    let call = ToolCall {
        name: Tool::Bash,
        input,
        caller: None,
    };
    let ran = sandbox.tool(call, CancellationToken::new()).await;
    ran.map(|output| !output.is_error)
}
