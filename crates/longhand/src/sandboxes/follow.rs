//! Programs of a sandbox that this command has lost, or never had: which there are, what they print, how they end. It
//! starts none.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::exec::{Seen, ended_as, print};
use super::path;
use crate::client::{Client, Refused};
use crate::view;

/// How often to ask a program that runs what it has printed.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a server may be away.
const PATIENCE: Duration = Duration::from_secs(60);
/// There is no such program.
const NOT_FOUND: u16 = 404;
/// From here on the server says that it cannot now.
const LATER: u16 = 500;

/// `sandbox follow`
///
/// # Errors
/// [`Exited`](crate::Exited) as the program; what the server answered, or that it could not be reached.
pub(super) async fn run(
    client: &Client,
    id: &str,
    exec: Option<String>,
    json: bool,
) -> anyhow::Result<()> {
    let Some(exec) = exec else {
        let columns = ["id", "running", "exit_code", "stdout_bytes", "command"];
        let known = client.get(&path(id, "/exec")?).await?;
        let known = known["data"].as_array().cloned().unwrap_or_default();
        return Ok(view::objects(&known, &columns, json)?);
    };
    let seen = Seen {
        exec,
        ..Seen::default()
    };
    ended_as(&to_the_end(client, id, &seen).await?)
}

/// Prints what is not `seen` yet until the program has ended, and has the server forget it; how it ended.
pub(super) async fn to_the_end(client: &Client, id: &str, seen: &Seen) -> anyhow::Result<Value> {
    let one = path(id, &format!("/exec/{}", seen.exec))?;
    let (mut stdout, mut stderr) = (seen.stdout, seen.stderr);
    let mut answered = Instant::now();
    loop {
        let asked = format!("{one}?stdout_from={stdout}&stderr_from={stderr}&base64=true");
        match client.get(&asked).await {
            Ok(now) => {
                answered = Instant::now();
                stdout = shown(&now, "stdout", stdout, std::io::stdout())?;
                stderr = shown(&now, "stderr", stderr, std::io::stderr())?;
                if now["running"] == false {
                    // One that stays is forgotten when others come.
                    let _ = client.delete(&one).await;
                    return Ok(now);
                }
            }
            Err(error) => match error.downcast_ref::<Refused>() {
                Some(refused) if refused.status == NOT_FOUND => {
                    bail!("{} is not known any more: its sandbox has ended", seen.exec)
                }
                Some(refused) if refused.status < LATER => return Err(error),
                _ if answered.elapsed() > PATIENCE => {
                    let hint = format!("longhand sandbox follow {id} {}", seen.exec);
                    return Err(error.context(format!("later, this takes it up: {hint}")));
                }
                _ => {}
            },
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Prints one of its outputs, of which `from` is the first byte that was not printed; which that is now.
fn shown(now: &Value, name: &str, from: u64, to: impl std::io::Write) -> anyhow::Result<u64> {
    let bytes = now[name].as_str().unwrap_or_default();
    let bytes = STANDARD.decode(bytes).context("what a program printed")?;
    let first = now[format!("{name}_from")].as_u64().unwrap_or(from);
    if first > from {
        eprintln!("[{} bytes of its {name} are not kept]", first - from);
    }
    print(to, &bytes)?;
    Ok(first + bytes.len() as u64)
}
