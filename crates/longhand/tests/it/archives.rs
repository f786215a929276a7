//! The real server is killed while workspaces go out and come in: a sandbox is there whole or not at all, an archive that
//! was said to be whole is, and the next server does it again.
//!
//! Needs what a sandbox needs. `TESTKIT_CUTS` sets the number of kills.

use std::path::Path;
use std::time::Duration;

use testkit::seed::Seed;
use testkit::{setting, wait};
use tokio::process::Child;

use crate::stage::Stage;
use crate::terminal::{command, lines, piped};

/// What a workspace holds, in few words.
const SUM: &str = "cd /workspace && find . -type f | sort | xargs cat | cksum";

/// What a script in a sandbox prints.
async fn shell(dir: &Path, id: &str, script: &str) -> String {
    let words = ["sandbox", "exec", id, "--", "/bin/sh", "-c", script];
    let ran = piped(dir, &words).await;
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

fn begun(dir: &Path, words: &[&str]) -> Child {
    command(dir, words).spawn().expect("it starts")
}

async fn has_ended(mut child: Child) -> bool {
    let ended = wait::within("a command whose server is gone", child.wait());
    ended.await.expect("it ends").success()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_during_exports_and_imports_leaves_each_whole_or_not_there() {
    let mut stage = Stage::new(0).await;
    let dir = stage.launch.data_dir().to_owned();
    lines(&dir, &["sandbox", "create", "source"]).await;
    let fill = "for d in $(seq 40); do mkdir $d; for f in $(seq 50); do seq $d > $d/$f; done; done; seq 400000 > large";
    shell(&dir, "source", fill).await;
    let sum = shell(&dir, "source", SUM).await;
    let whole = dir.join("whole.tar.zst");
    let whole = whole.to_str().expect("a name");
    assert!(
        piped(&dir, &["sandbox", "export", "source", "-o", whole])
            .await
            .status
            .success()
    );
    let seed = setting::number("TESTKIT_SEED", 1);
    let mut seeded = Seed::new(seed);
    for round in 0..setting::number("TESTKIT_CUTS", 6) {
        let (to, back) = (format!("to-{round}"), format!("back-{round}"));
        let half = dir.join(format!("{round}.tar.zst"));
        let half = half.to_str().expect("a name");
        let import = begun(&dir, &["sandbox", "import", &to, whole]);
        let export = begun(&dir, &["sandbox", "export", "source", "-o", half]);
        wait::pass(seeded.moment(Duration::from_millis(400))).await;
        stage.kill().await;
        let (imported, exported) = (has_ended(import).await, has_ended(export).await);
        stage.restart().await;
        let there = lines(&dir, &["sandbox", "ps"]).await;
        let there = there.iter().any(|one| one["id"] == to.as_str());
        assert!(
            there || !imported,
            "seed {seed}, round {round}: it was acknowledged"
        );
        if !there {
            lines(&dir, &["sandbox", "import", &to, whole]).await;
        }
        assert_eq!(
            shell(&dir, &to, SUM).await,
            sum,
            "seed {seed}, round {round}"
        );
        if exported {
            lines(&dir, &["sandbox", "import", &back, half]).await;
            assert_eq!(
                shell(&dir, &back, SUM).await,
                sum,
                "seed {seed}, round {round}"
            );
        }
        assert_eq!(
            shell(&dir, "source", SUM).await,
            sum,
            "seed {seed}, round {round}"
        );
    }
    stage.kill().await;
}
