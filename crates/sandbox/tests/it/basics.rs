//! The first words with a sandbox.

use crate::support::{host, ok};

#[tokio::test]
async fn a_command_runs_as_root_of_its_own_world() {
    let host = host();
    let sandbox = host.attach("first").await;
    assert_eq!(
        ok(
            &sandbox,
            "echo hello; id -u; pwd; hostname; cat /proc/1/comm"
        )
        .await,
        "hello\n0\n/workspace\nsandbox\nhand"
    );
    sandbox.stop().await.unwrap();
    assert!(!sandbox.is_alive());
}
