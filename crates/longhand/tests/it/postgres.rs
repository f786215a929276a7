//! A server on PostgreSQL: it does all that it does on a file, and waits for a database that is away.

use serde_json::json;
use testkit::api::Failed;
use testkit::cluster::{Cluster, Database};
use testkit::{script, wait};

use crate::stage::{self, Stage};

async fn turn(stage: &mut Stage, token: &str) {
    let api = stage.api();
    let subject = &mut stage.subjects[0];
    subject.ledger.sent(token);
    let message = script::message(token, &json!([{"text": "heard"}]));
    let ids = api.send(&subject.session, &[message]).await.expect("sent");
    subject.ledger.acknowledged(ids);
    let log = api.idle(&subject.session).await;
    assert_eq!(subject.ledger.audit(&log), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_go_on_after_a_kill() {
    let database = Database::new();
    let (launch, model) = stage::launch().await;
    let launch = launch.environment("LONGHAND_SERVER_DATABASE_URL", &database.url());
    let mut stage = Stage::on(launch, model, 1).await;
    turn(&mut stage, "first").await;
    stage.kill().await;
    stage.restart().await;
    turn(&mut stage, "second").await;
    stage.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_requests_are_refused_for_now_and_then_work_again() {
    let home = tempfile::Builder::new().prefix("lhpg").tempdir();
    let cluster = Cluster::new(&home.expect("a directory").keep().join("c"));
    let (launch, model) = stage::launch().await;
    let launch = launch.environment("LONGHAND_SERVER_DATABASE_URL", &cluster.url());
    let mut stage = Stage::on(launch, model, 1).await;
    turn(&mut stage, "before").await;
    cluster.stop();
    let path = format!("/v1/sessions/{}", stage.subjects[0].session);
    let refused = stage.api().get(&path).await;
    let Err(Failed::Refused { status, body }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(status, 503, "{body}");
    assert!(body["request_id"].is_string(), "{body}");
    cluster.start();
    wait::until("the session to be read again", || async {
        stage.api().get(&path).await.ok()
    })
    .await;
    turn(&mut stage, "after").await;
    stage.kill().await;
}
