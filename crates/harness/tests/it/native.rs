//! `native` against the scripted model and a real sandbox.

use std::time::Duration;

use contract::content::Block;
use harness::native::Native;
use harness::{EntryBody, Harness as _, Preview};
use serde_json::json;

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
