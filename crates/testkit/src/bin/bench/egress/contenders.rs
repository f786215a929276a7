//! Others that do the same work, where this machine has them: HAProxy passes on, mitmproxy looks inside.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use super::server::{HAPROXY, MITMPROXY, PLAIN, SERVER, TLS};
use crate::Wrong;

/// How long one of them may take to begin.
const START: Duration = Duration::from_secs(60);

/// HAProxy in front of both ports; `None` where there is none.
pub(super) async fn haproxy(dir: &Path) -> Result<Option<Child>, Wrong> {
    let file = dir.join("haproxy.cfg");
    let mut text = "defaults\n mode tcp\n option splice-auto\n timeout connect 5s\n \
        timeout client 60s\n timeout server 60s\n"
        .to_owned();
    for port in [TLS, PLAIN] {
        text += &format!("listen l{port}\n bind {HAPROXY}:{port}\n server s {SERVER}:{port}\n");
    }
    std::fs::write(&file, text)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    begun(command, HAPROXY).await
}

/// mitmproxy in front of TLS, and the certificate to hold it against; `None` where there is none.
pub(super) async fn mitmproxy(dir: &Path, root: &Path) -> Result<Option<(Child, PathBuf)>, Wrong> {
    let home = dir.join("mitmproxy");
    std::fs::create_dir_all(&home)?;
    let mut command = Command::new("mitmdump");
    command.args(["-q", "--mode", &format!("reverse:https://{SERVER}:{TLS}")]);
    command.args(["--listen-host", MITMPROXY, "--listen-port", "443"]);
    command.args(["--set", &format!("confdir={}", home.display())]);
    let trusted = format!("ssl_verify_upstream_trusted_ca={}", root.display());
    command.args(["--set", &trusted]);
    // Else it keeps an answer until all of it is there.
    command.args(["--set", "stream_large_bodies=1m"]);
    let child = begun(command, MITMPROXY).await?;
    Ok(child.map(|child| (child, home.join("mitmproxy-ca-cert.pem"))))
}

/// Starts it, and waits until it listens there.
async fn begun(mut command: Command, ip: &str) -> Result<Option<Child>, Wrong> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    let mut child = match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        child => child?,
    };
    let deadline = Instant::now() + START;
    while TcpStream::connect((ip, TLS)).is_err() {
        if let Some(status) = child.try_wait()? {
            return Err(format!("what should listen at {ip} has ended: {status}").into());
        }
        if Instant::now() > deadline {
            return Err(format!("nothing listens at {ip}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(Some(child))
}
