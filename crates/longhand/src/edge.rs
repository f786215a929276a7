//! From the settings to the edge: TLS, who may be believed and asked, and that nobody listens on a network
//! in plain text by accident.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use gateway::metrics::Kind;
use gateway::{Floor, Metrics, SandboxMetrics, Tls};
use harness::bodies;
use orchestrator::Orchestrator;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Server};

/// How often the files of the certificate are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// The identity of the listener, if it speaks TLS.
///
/// # Errors
/// Files that cannot be used; half of a pair; a listener on a network without TLS that was not asked for.
pub fn tls(server: &Server) -> anyhow::Result<Option<Arc<Tls>>> {
    match (&server.tls_cert, &server.tls_key) {
        (Some(certificate), Some(key)) => {
            let tls = Tls::load(certificate, key).context("`server.tls_cert`, `server.tls_key`")?;
            Ok(Some(Arc::new(tls)))
        }
        (Some(_), None) => bail!("`server.tls_cert` is set and `server.tls_key` is not; set both"),
        (None, Some(_)) => bail!("`server.tls_key` is set and `server.tls_cert` is not; set both"),
        (None, None) => {
            plain(server.listen, server.plain_http)?;
            Ok(None)
        }
    }
}

/// Keys and events would cross the network for everybody to read.
fn plain(listen: SocketAddr, asked: bool) -> anyhow::Result<()> {
    if listen.ip().to_canonical().is_loopback() || asked {
        return Ok(());
    }
    bail!(
        "`server.listen` is {listen}, which others can reach, and there is no TLS: set `server.tls_cert` and \
         `server.tls_key` (--tls-cert, --tls-key), or say --plain-http if something in front of it speaks TLS"
    )
}

/// What the operator set for the edge.
///
/// # Errors
/// A range of addresses or an origin that is none.
pub fn config(config: &Config, data_dir: &Path) -> anyhow::Result<gateway::Config> {
    let server = &config.server;
    let nets = server.trusted_proxies.iter().map(|net| net.parse());
    let trusted_proxies = nets
        .collect::<Result<Vec<_>, _>>()
        .context("`server.trusted_proxies`")?;
    for origin in &server.cors_origins {
        let host = origin
            .strip_prefix("https://")
            .or_else(|| origin.strip_prefix("http://"));
        let is_origin = host.is_some_and(|host| !host.is_empty() && !host.contains('/'));
        if !is_origin && origin != "*" {
            bail!(
                "`server.cors_origins`: {origin:?} is no origin; write it as https://tools.example"
            );
        }
    }
    let free = config.limits.disk_free_bytes;
    let programs = data_dir.join("harness");
    Ok(gateway::Config {
        claude: Some(gateway::Installed(Arc::new(move || {
            harness::install::current_claude(&programs).is_some()
        }))),
        lenient_headers: server.lenient_headers,
        limits: config.limits.edge(),
        cors_origins: server.cors_origins.clone(),
        trusted_proxies,
        disk: (free > 0).then(|| Floor {
            path: data_dir.to_owned(),
            free,
        }),
        ..gateway::Config::default()
    })
}

/// Has the turns and the sandboxes counted that run here.
pub fn count_turns(metrics: &Metrics, orchestrator: &Orchestrator) {
    let running = orchestrator.clone();
    metrics.read(
        "orchestrator_turns",
        "Turns that run in this process",
        Kind::Level,
        move || running.running() as u64,
    );
    let most = orchestrator::Config::default().turns as u64;
    metrics.read(
        "orchestrator_turns_limit",
        "Turns that may run in this process; further ones wait in the database",
        Kind::Level,
        move || most,
    );
    metrics.read(
        "model_request_bytes",
        "Bytes that requests of sandboxes to their models hold, until they are answered",
        Kind::Level,
        || bodies::held().0 as u64,
    );
    metrics.read(
        "model_request_limit_bytes",
        "Bytes that these may hold; further ones get 429",
        Kind::Level,
        || bodies::held().1 as u64,
    );
    let keeper = orchestrator.keeper().clone();
    let happened = SandboxMetrics::register(metrics);
    keeper.tell(move |entry| happened.hear(entry));
    let sandboxes = |name, help, kind, read: fn(sandbox::Load) -> u64| {
        let keeper = keeper.clone();
        metrics.read(name, help, kind, move || read(keeper.load()));
    };
    let of = |load: sandbox::Load| load.running as u64;
    sandboxes("sandboxes", "Sandboxes that run", Kind::Level, of);
    sandboxes(
        "sandboxes_limit",
        "Sandboxes that may run at once; who wants one more waits",
        Kind::Level,
        |load| load.most as u64,
    );
    sandboxes(
        "sandboxes_waiting",
        "Sandboxes that wait for their first use, made for nobody; they are not among those that run",
        Kind::Level,
        |load| load.waiting as u64,
    );
    sandboxes(
        "sandbox_refusals",
        "Calls that got no sandbox: as many run as may, on the host or of the workspace, and all are in use",
        Kind::Count,
        |load| load.refused,
    );
    sandboxes(
        "sandbox_syncs",
        "Turns after which what they wrote in their sandbox was brought to the disk",
        Kind::Count,
        |load| load.flushed,
    );
}

/// Takes a new certificate when its files change or at SIGHUP, until `closed`.
pub async fn keep_fresh(tls: Arc<Tls>, closed: CancellationToken) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::error!(%error, "SIGHUP cannot be heard; certificates are not taken anew");
            return;
        }
    };
    let mut seen = stamps(&tls);
    loop {
        let told = tokio::select! {
            () = closed.cancelled() => return,
            _ = hangup.recv() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        let now = stamps(&tls);
        if !told && now == seen {
            continue;
        }
        seen = now;
        match tls.reload() {
            Ok(()) => tracing::info!("a new certificate is served"),
            // Half of a pair may have been written; the other half changes the stamps again.
            Err(error) => tracing::error!(
                error = format!("{:#}", anyhow::Error::from(error)),
                "the new certificate cannot be used; the one before is served on"
            ),
        }
    }
}

/// When the files were last written.
fn stamps(tls: &Tls) -> Vec<(PathBuf, Option<SystemTime>)> {
    let written = |path: &Path| {
        std::fs::metadata(path)
            .and_then(|meta| meta.modified())
            .ok()
    };
    tls.files()
        .into_iter()
        .map(|path| (path.to_owned(), written(path)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_others_can_reach_needs_tls_or_a_word() {
        for (listen, asked, fine) in [
            ("127.0.0.1:1", false, true),
            ("[::1]:1", false, true),
            ("0.0.0.0:1", false, false),
            ("[::]:1", false, false),
            ("192.0.2.1:1", false, false),
            ("0.0.0.0:1", true, true),
        ] {
            let done = plain(listen.parse().unwrap(), asked);
            assert_eq!(done.is_ok(), fine, "{listen} {asked}");
        }
    }
}
