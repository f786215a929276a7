//! Owns finding out what this host can do, by doing it with a sandbox that is thrown away.

use tokio_util::sync::CancellationToken;

use super::Local;
use crate::error::Error;
use crate::provider::{Finding, Provider, Report, SandboxId, Spec, ToolCall};
use hand::wire::Tool;

pub(super) async fn probe(local: &Local) -> Report {
    let mut findings = vec![Finding {
        what: "the static helper".to_owned(),
        ok: true,
        required: true,
        detail: format!("{}, {} bytes", bundle::HELPER_TARGET, bundle::HELPER.len()),
        mend: String::new(),
    }];
    findings.push(match whole(local).await {
        Ok(()) => Finding {
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

async fn whole(local: &Local) -> Result<(), Error> {
    let id = SandboxId::new(format!("probe-{}", std::process::id()))?;
    let sandbox = local.attach(Spec::new(id.clone())).await?;
    let input = serde_json::json!({ "command": "test -w /workspace && test $(id -u) = 0" });
    let call = ToolCall {
        name: Tool::Bash,
        input,
    };
    let ran = sandbox.tool(call, CancellationToken::new()).await;
    drop(sandbox);
    local.delete(&id).await?;
    if ran?.is_error {
        return Err(Error::Unsupported {
            step: "run a command in a sandbox".to_owned(),
            errno: 0,
            hint: "it started, but /bin/bash does not work there: is bash under /usr?".to_owned(),
        });
    }
    Ok(())
}
