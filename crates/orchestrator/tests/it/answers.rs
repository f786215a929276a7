//! Answers of clients that come while a turn runs.

use serde_json::json;
use session::UserEvent;

use crate::support::{World, kinds, of, said, script, until};

#[tokio::test]
async fn an_answer_that_comes_while_another_call_runs_is_in_the_next_request() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let calls = json!([
        {"name": "ask", "input": {}},
        {"name": "bash", "input": {"command": "wait"}},
    ]);
    let steps = json!([{"tools": calls}, {"echo_results": true}]);
    let id = server.session("asking", &script("both", &steps)).await;
    until("it runs", || async { world.sandboxes.hanging() == 1 }).await;
    let events = server.store.events_after(id, 0, 100).await.unwrap();
    let asked = events.iter().find(|e| e.kind == "agent.custom_tool_use");
    let answer = UserEvent::CustomToolResult {
        call: asked.unwrap().id,
        content: vec![contract::content::Block::text("forty-two")],
        is_error: None,
        thread: None,
    };
    server.send(id, vec![answer]).await;
    world.sandboxes.release();
    let log = server.log(id).await;
    assert!(of(&log, "session.error").is_empty(), "{:?}", kinds(&log));
    let [text] = said(&log)[..] else {
        panic!("{log:?}")
    };
    assert!(
        text.contains("forty-two") && text.contains("waited"),
        "{text}"
    );
}
