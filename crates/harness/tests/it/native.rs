//! `native` against the scripted model and a real sandbox.

use std::time::Duration;

use contract::content::Block;
use contract::ids::OutcomeId;
use harness::native::Native;
use harness::{EntryBody, Harness as _, Preview};
use serde_json::json;
use session::UserEvent;

use crate::plane::MemoryPlane;

#[tokio::test]
async fn native_runs_what_the_model_asks_for_and_previews_what_it_says() {
    dial::install_crypto_provider();
    let scripted = scripted::Scripted::start(([127, 0, 0, 1], 0).into())
        .await
        .unwrap();
    let home = tempfile::tempdir().unwrap();
    let script = json!([
        {"tool": "bash", "input": {"command": "echo $((6 * 7)); exit 3"}},
        {"text": "forty-two it is", "chunks": 4},
    ]);
    let text = format!("SCRIPT: {script}");
    let (plane, first) = MemoryPlane::on(&text, &scripted.base_url(), home.path()).await;
    let native = Native::new(model::Client::new(model::ClientConfig::default()).unwrap());
    tokio::time::timeout(Duration::from_secs(60), native.run(&plane, first))
        .await
        .unwrap()
        .unwrap();

    let entries = plane.entries();
    let result = entries.iter().find_map(|e| match &e.body {
        EntryBody::Result {
            content, is_error, ..
        } => Some((content.clone(), *is_error)),
        _ => None,
    });
    assert_eq!(result, Some((vec![Block::text("42")], true)));

    let previews = plane.previews();
    let Some(Preview::Message { id: started }) = previews.first() else {
        panic!("{previews:?}")
    };
    let mut said = String::new();
    for preview in &previews[1..] {
        let Preview::Text { id, index: 0, text } = preview else {
            panic!("{preview:?}")
        };
        assert_eq!(id, started);
        said.push_str(text);
    }
    assert_eq!(said, "forty-two it is");
    assert_eq!(plane.kinds().last(), Some(&"session.status_idle"));
    scripted.shutdown().await;
}

/// On paused time: the model says a little every ten seconds and never comes to its end.
#[tokio::test]
async fn a_grader_that_has_not_ended_its_answer_after_five_minutes_has_failed() {
    dial::install_crypto_provider();
    let scripted = scripted::Scripted::start(([127, 0, 0, 1], 0).into())
        .await
        .unwrap();
    let home = tempfile::tempdir().unwrap();
    let (plane, first) = MemoryPlane::on("hello", &scripted.base_url(), home.path()).await;
    let native = Native::new(model::Client::new(model::ClientConfig::default()).unwrap());
    native.run(&plane, first).await.unwrap();
    let drips =
        json!({"on": "grade", "text": "x".repeat(1_000), "chunks": 100, "delay_ms": 10_000});
    let first = plane.send(vec![UserEvent::Outcome {
        outcome: OutcomeId::from_bits(7),
        description: format!("a report SCRIPT: {}", json!([{"text": "a report"}, drips])),
        rubric: "It has a title.".to_owned(),
        max_iterations: None,
    }]);
    // What was read so far, from caches or not.
    let read = || {
        let totals = plane.state().totals;
        totals.input + totals.cache_read + totals.cache_5m + totals.cache_1h
    };
    let before_it = std::cell::Cell::new(0);
    let graded = async {
        let limit = tokio::time::Instant::now() + Duration::from_secs(60);
        while scripted.requests().len() < 3 {
            assert!(tokio::time::Instant::now() < limit, "no grader is asked");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        before_it.set(read());
        tokio::time::pause();
        std::future::pending::<()>().await;
    };
    let from = tokio::time::Instant::now();
    tokio::select! {
        ended = native.run(&plane, first) => ended.unwrap(),
        () = graded => unreachable!(),
    }
    let took = from.elapsed().as_secs();
    assert!((300..310).contains(&took), "it was given {took} s");
    let (before, after) = (before_it.get(), read());
    assert!(
        after > before,
        "its question was read and is paid: {before} and {after} tokens"
    );
    let kinds = plane.kinds();
    let beats = kinds
        .iter()
        .filter(|k| **k == "span.outcome_evaluation_ongoing");
    assert_eq!(beats.count(), 19, "every 15 s before the last: {kinds:?}");
    assert!(
        kinds.ends_with(&[
            "session.error",
            "session.status_rescheduled",
            "session.thread_status_rescheduled"
        ]) || kinds.ends_with(&[
            "session.error",
            "session.thread_status_rescheduled",
            "session.status_rescheduled"
        ]),
        "{kinds:?}"
    );
}
