//! What a sandbox costs from nothing to the first output of a program. A measurement for a person, never a pass or fail.

use std::process::Stdio;
use std::time::{Duration, Instant};

use sandbox::{Command, Provider};
use tokio::io::AsyncReadExt;

use crate::support::{Host, host, id, ok};

const PROGRAM: [&str; 2] = ["/usr/bin/echo", "here"];
/// Long enough for another supervisor to wait.
const REST: Duration = Duration::from_millis(40);

#[tokio::test]
#[ignore = "prints figures: run it by hand, with --nocapture, on a quiet machine"]
async fn from_nothing_to_the_first_output() {
    const ROUNDS: usize = 200;
    let host = host();
    ok(&host.attach("warm").await, "true").await;
    let mut all = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        tokio::time::sleep(REST).await;
        let [first, second] = ["first", "second"].map(|name| format!("{name}-{round}"));
        // The second comes before another waits.
        let (found, found_none) = (start(&host, &first).await, start(&host, &second).await);
        for name in [first, second] {
            host.local.delete(&id(&name)).await.unwrap();
        }
        tokio::time::sleep(REST).await;
        let took = [found, found_none, bubblewrap().await];
        all.iter_mut()
            .zip(took)
            .for_each(|(times, took)| times.push(took));
    }
    let [found, found_none, bubblewrap] = all.map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2]
    });
    println!("p50: found one waiting {found:?}, none {found_none:?}, bubblewrap {bubblewrap:?}");
}

async fn start(host: &Host, name: &str) -> Duration {
    let begun = Instant::now();
    let sandbox = host.attach(name).await;
    let mut process = sandbox.spawn(Command::new(PROGRAM)).await.unwrap();
    let mut stdout = process.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).await.unwrap();
    begun.elapsed()
}

async fn bubblewrap() -> Duration {
    let begun = Instant::now();
    let mut command = tokio::process::Command::new("bwrap");
    command
        .args(["--unshare-all", "--die-with-parent", "--cap-drop", "ALL"])
        .args(["--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib"])
        .args(["--symlink", "usr/lib64", "/lib64", "--proc", "/proc"])
        .args(["--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run", "--"])
        .args(PROGRAM)
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).await.unwrap();
    let took = begun.elapsed();
    child.wait().await.unwrap();
    took
}
