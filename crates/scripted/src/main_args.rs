//! The server as a small process of its own: for tests in other languages. It prints one JSON line with its
//! address and runs until it is killed or its standard input ends, when asked to watch it.

use std::io::Write;
use std::net::SocketAddr;

use serde_json::json;

use crate::server::Scripted;

const USAGE: &str = "usage: scripted [--listen 127.0.0.1:0] [--until-stdin-closes]";

/// Runs the server as `args` (without the program's name) say; returns the process's exit code. Blocks.
#[must_use]
pub fn main_with_args(args: impl IntoIterator<Item = String>) -> i32 {
    let (mut listen, mut watch) = ("127.0.0.1:0".to_owned(), false);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match (arg.as_str(), arg.strip_prefix("--listen=")) {
            (_, Some(value)) => value.clone_into(&mut listen),
            ("--listen", _) => listen = args.next().unwrap_or_default(),
            ("--until-stdin-closes", _) => watch = true,
            _ => return complain(&format!("unknown argument {arg}\n{USAGE}")),
        }
    }
    let Ok(addr) = listen.parse::<SocketAddr>() else {
        return complain(&format!("--listen {listen:?} is not ADDRESS:PORT\n{USAGE}"));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(addr, watch)),
        Err(e) => complain(&format!("cannot start: {e}")),
    }
}

fn complain(words: &str) -> i32 {
    let _unheard = writeln!(std::io::stderr(), "scripted: {words}");
    2
}

async fn run(addr: SocketAddr, watch: bool) -> i32 {
    let running = match Scripted::start(addr).await {
        Ok(running) => running,
        Err(e) => return complain(&format!("cannot listen on {addr}: {e}")),
    };
    let line = json!({"listen": running.addr().to_string(), "base_url": running.base_url()});
    if writeln!(std::io::stdout(), "{line}")
        .and_then(|()| std::io::stdout().flush())
        .is_err()
    {
        return 1;
    }
    if watch {
        let watched = tokio::task::spawn_blocking(|| {
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())
        });
        let _ended = watched.await;
    } else {
        std::future::pending::<()>().await;
    }
    running.shutdown().await;
    0
}
