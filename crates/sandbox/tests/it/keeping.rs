//! The one process of a sandbox that is kept: the next server drives it from where the last one marked.

use std::sync::Arc;
use std::time::Duration;

use sandbox::{Command, Provider as _, Sandbox};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::life::marker;
use crate::outlive::Server;
use crate::support::{attach, long, until};

/// What a process that is kept is kept under.
const LOOP: &str = "loop";

/// Answers each line.
fn echo() -> Command {
    Command::new(["bash", "-c", "while read x; do echo got $x; done"])
}

/// A process that is spoken with.
struct Talk {
    process: sandbox::Process,
    stdout: Box<dyn tokio::io::AsyncRead + Send + Sync + Unpin>,
}

impl Talk {
    fn new(mut process: sandbox::Process) -> Self {
        let stdout = process.stdout.take().unwrap();
        Self { process, stdout }
    }

    async fn say(&mut self, words: &str) {
        let stdin = self.process.stdin.as_mut().unwrap();
        stdin.write_all(words.as_bytes()).await.unwrap();
    }

    async fn hear(&mut self, words: &str) {
        let mut heard = vec![0; words.len()];
        self.stdout.read_exact(&mut heard).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), words);
    }
}

/// A server with one that answered twice, and was marked between.
pub async fn serve(sandbox: &Arc<dyn Sandbox>) {
    let mut kept = Talk::new(sandbox.keep(LOOP, echo()).await.unwrap());
    kept.say("one\n").await;
    kept.hear("got one\n").await;
    kept.process.mark("got one\n".len() as u64, "after one");
    kept.say("two\n").await;
    kept.hear("got two\n").await;
    println!("server-ready");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_process_that_is_kept_goes_on_with_the_next_server_from_what_was_marked() {
    let (place, marker) = (tempfile::tempdir().unwrap(), marker("keeps"));
    let dir = place.path();
    Server::start(dir, "keeps", &marker, Duration::from_secs(120)).kill();
    let local = long(dir);
    let sandbox = attach(&local, "lasting").await;
    let (process, known) = sandbox.kept(LOOP).await.unwrap().expect("it is kept");
    assert_eq!(
        (known.note.as_str(), known.said.as_str()),
        ("after one", "two\n")
    );
    let mut first = Talk::new(process);
    first.hear("got two\n").await;
    first.say("three\n").await;
    first.hear("got three\n").await;
    // Nothing was marked since: whoever takes it over sees all of it again, and who had it nothing more.
    let (process, known) = sandbox.kept(LOOP).await.unwrap().expect("it is kept");
    assert_eq!(known.said, "two\nthree\n");
    let mut second = Talk::new(process);
    second.hear("got two\ngot three\n").await;
    first.say("forged\n").await;
    drop(first);
    second.say("four\n").await;
    second.hear("got four\n").await;
    // More than was sent cannot be marked.
    second.process.mark(u64::MAX, "after four");
    second.say("five\n").await;
    second.hear("got five\n").await;
    let left = { sandbox.processes().await.unwrap().into_iter() }.map(|one| one.command);
    let is_ours = |command: &String| command.contains("read x");
    assert_eq!(left.filter(is_ours).count(), 1);
    // In order too: what is left goes on.
    local.leave().await;
    drop((second, sandbox, local));
    let local = long(dir);
    let sandbox = attach(&local, "lasting").await;
    let (process, known) = sandbox.kept(LOOP).await.unwrap().expect("it is kept");
    assert_eq!(
        (known.note.as_str(), known.said.as_str()),
        ("after four", "five\n")
    );
    let mut third = Talk::new(process);
    third.hear("got five\n").await;
    // Another one takes its place.
    let fourth = sandbox.keep(LOOP, echo()).await.unwrap();
    assert_eq!(third.process.wait().await.unwrap().signal, Some(9));
    drop(third);
    // A name that is not kept ends what is.
    assert!(sandbox.kept("another").await.unwrap().is_none());
    assert_eq!(fourth.wait().await.unwrap().signal, Some(9));
    assert!(sandbox.kept(LOOP).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_dropping_it_kills_it() {
    let (place, flood) = (
        tempfile::tempdir().unwrap(),
        "head -c 40000000 /dev/zero; read x; echo $x",
    );
    let local = long(place.path());
    let sandbox = attach(&local, "lasting").await;
    let process = sandbox
        .keep(LOOP, Command::new(["bash", "-c", flood]))
        .await;
    let mut talk = Talk::new(process.unwrap());
    let mut all = vec![0; 40_000_000];
    talk.stdout.read_exact(&mut all).await.unwrap();
    // More than is held: nobody can take it over, but who drives it misses nothing.
    talk.say("still there\n").await;
    talk.hear("still there\n").await;
    assert!(sandbox.kept(LOOP).await.unwrap().is_none());
    let talk = Talk::new(sandbox.keep(LOOP, echo()).await.unwrap());
    drop(talk);
    until("it is gone", || async {
        sandbox.kept(LOOP).await.unwrap().is_none()
    })
    .await;
}
