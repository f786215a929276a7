//! Stopping when asked to: readiness off, streams ended, the turn brought to a commit, exit code 0; and the
//! next start goes on. A second signal ends it at once.

use serde_json::json;
use testkit::wait;

use crate::stage::{self, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_streams_and_lets_the_turn_reach_a_commit() {
    let mut stage = Stage::new(1).await;
    let mut stream = stage
        .api()
        .stream(&stage.subjects[0].session, false)
        .await
        .expect("a stream");
    let steps = json!([
        {"text": "first piece, then", "chunks": 2, "wait_mid": "drain",
         "tool": "bash", "input": {"command": "echo after >> /workspace/ran"}},
        {"text": "done"},
    ]);
    stage.play(0, "drained", &steps).await;
    stage.model.reached(&["drain".to_owned()]).await;
    let api = stage.api();
    let server = stage.server.take().expect("it runs");
    server.terminate();

    wait::within("the stream to end", async {
        while stream
            .next()
            .await
            .expect("a drained stream ends properly, not by a cut")
            .is_some()
        {}
    })
    .await;
    let ready = api.get("/readyz").await;
    assert!(ready.is_err(), "still ready while it drains: {ready:?}");
    stage.model.release("drain");
    let status = server.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");

    stage.restart().await;
    let log = stage.api().idle(&stage.subjects[0].session).await;
    assert_eq!(stage.subjects[0].ledger.audit(&log), Vec::<String>::new());
    let kinds = log
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect::<Vec<_>>();
    assert!(
        !kinds.contains(&"session.status_rescheduled"),
        "the turn was cut and taken up again although it had time to reach a commit: {kinds:?}"
    );
    assert_eq!(
        stage.ran(0, "read").await,
        ["after"],
        "the call that was not opened before the drain runs once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once_and_the_next_start_goes_on() {
    let (launch, model) = stage::launch().await;
    // Longer than any deadline here: a server that waits for the turn fails the test.
    let launch = launch.environment("LONGHAND_SERVER_DRAIN_SECONDS", "3600");
    let mut stage = Stage::on(launch, model, 1).await;
    let mut stream = stage
        .api()
        .stream(&stage.subjects[0].session, false)
        .await
        .expect("a stream");
    stage
        .play(
            0,
            "stuck",
            &json!([{"text": "two pieces", "chunks": 2, "wait_mid": "stuck"}]),
        )
        .await;
    stage.model.reached(&["stuck".to_owned()]).await;
    let server = stage.server.take().expect("it runs");
    server.terminate();
    // The end of the stream shows that the first signal was taken: the second is not merged with it.
    wait::within("the stream to end", async {
        while let Ok(Some(_)) = stream.next().await {}
    })
    .await;
    server.terminate();
    let status = server.ended().await;
    assert_ne!(
        status.code(),
        Some(0),
        "a turn was cut: that is not a clean end"
    );

    stage.restart().await;
    stage.model.release("stuck");
    let log = stage.api().idle(&stage.subjects[0].session).await;
    assert_eq!(stage.subjects[0].ledger.audit(&log), Vec::<String>::new());
}
