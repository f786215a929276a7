//! Which step answers.

use serde_json::json;

use crate::talk::{Talk, assistant, user};

#[tokio::test]
async fn the_step_is_the_count_of_answers_since_the_script() {
    let talk = Talk::start().await;
    let script = user(r#"hello SCRIPT: [{"text": "one"}, {"text": "two"}] and thanks"#);
    assert_eq!(talk.said(json!([script])).await, "one");
    assert_eq!(
        talk.said(json!([script])).await,
        "one",
        "a retry gets the same step"
    );
    assert_eq!(
        talk.said(json!([script, assistant("one"), user("mid-turn word")]))
            .await,
        "two"
    );
    let past = json!([
        script,
        assistant("one"),
        user("a"),
        assistant("two"),
        user("b")
    ]);
    assert_eq!(talk.said(past).await, "Done.");
    let anew = json!([
        script,
        assistant("one"),
        user(r#"SCRIPT: [{"text": "anew"}]"#)
    ]);
    assert_eq!(talk.said(anew).await, "anew");
}

#[tokio::test]
async fn without_a_script_the_model_echoes() {
    let talk = Talk::start().await;
    assert_eq!(
        talk.said(json!([user("good morning")])).await,
        "You said: good morning"
    );
}

#[tokio::test]
async fn a_common_script_answers_who_brings_none_and_nobody_else() {
    let talk = Talk::start().await;
    let post = async |steps| {
        let sent = talk.post("/_scripted/script", &steps).send().await;
        sent.unwrap().status().as_u16()
    };
    assert_eq!(post(json!([{"txt": "one"}])).await, 400);
    assert_eq!(post(json!([{"text": "one"}, {"text": "two"}])).await, 200);
    let hello = user("hello");
    assert_eq!(talk.said(json!([hello])).await, "one");
    let more = json!([hello, assistant("one"), user("and?")]);
    assert_eq!(talk.said(more).await, "two");
    let own = user(r#"SCRIPT: [{"text": "own"}]"#);
    assert_eq!(talk.said(json!([own])).await, "own");
}

#[tokio::test]
async fn failing_steps_happen_as_often_as_they_say_and_then_the_script_goes_on() {
    let talk = Talk::start().await;
    let script = json!([user(
        r#"SCRIPT: [{"error": 529, "times": 2, "retry_after": 3}, {"text": "at last"}]"#
    )]);
    for _ in 0..2 {
        let response = talk
            .post(
                "/v1/messages",
                &json!({"model": "m", "max_tokens": 1, "messages": script}),
            )
            .send();
        let response = response.await.unwrap();
        assert_eq!(
            (
                response.status().as_u16(),
                &response.headers()["retry-after"]
            ),
            (529, &"3".parse().unwrap())
        );
        assert_eq!(
            response.json::<serde_json::Value>().await.unwrap()["error"]["type"],
            "overloaded_error"
        );
    }
    assert_eq!(talk.said(script).await, "at last");
}

#[tokio::test]
async fn a_gate_holds_the_answer_until_it_is_released() {
    let talk = Talk::start().await;
    let script = json!([user(r#"SCRIPT: [{"wait": "g"}, {"text": "through"}]"#)]);
    let (said, ()) = tokio::join!(talk.said(script), async {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while talk.get("/_scripted/stats").await["waiting"] != json!(["g"]) {
            assert!(tokio::time::Instant::now() < deadline, "nobody waits");
        }
        talk.post("/_scripted/release/g", &json!({}))
            .send()
            .await
            .unwrap();
    });
    assert_eq!(said, "through");
    assert!(talk.server.stats().waiting.is_empty());
}

#[tokio::test]
async fn a_script_that_is_none_is_the_authors_mistake() {
    let talk = Talk::start().await;
    for text in [
        r#"SCRIPT: [{"txet": "typo"}]"#,
        "SCRIPT: nonsense",
        "SCRIPT:",
    ] {
        let (status, body) = talk.messages(json!([user(text)])).await;
        assert_eq!(status, 400);
        assert!(
            body["error"]["message"]
                .as_str()
                .unwrap()
                .contains("SCRIPT"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn shutdown_ends_those_who_hang() {
    let talk = Talk::start().await;
    let hang =
        json!({"model": "m", "max_tokens": 1, "messages": [user(r#"SCRIPT: [{"hang": true}]"#)]});
    let (answer, ()) = tokio::join!(talk.post("/v1/messages", &hang).send(), async {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while talk.server.requests().is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "no request came");
            tokio::task::yield_now().await;
        }
        talk.server.shutdown().await;
    });
    assert!(answer.map_or(true, |a| a.status() == 503));
}

#[tokio::test]
async fn a_request_that_does_not_fit_is_refused_in_the_dialects_words() {
    let talk = Talk::start().await;
    let messages = json!([user(
        r#"SCRIPT: [{"too_long": true}, {"text": "now it fits"}]"#
    )]);
    let (status, body) = talk.messages(messages.clone()).await;
    assert_eq!(
        (status, &body["error"]["type"]),
        (400, &json!("invalid_request_error"))
    );
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("prompt is too long")
    );
    assert_eq!(talk.said(messages).await, "now it fits");

    let small = json!([user(&format!(
        r#"{} SCRIPT: [{{"window": 100}}, {{"text": "in"}}]"#,
        "x".repeat(800)
    ))]);
    let (status, body) = talk.messages(small).await;
    assert_eq!(status, 400, "{body}");
    let fits = json!([user(r#"SCRIPT: [{"window": 100}, {"text": "in"}]"#)]);
    assert_eq!(talk.said(fits).await, "in");
}

#[tokio::test]
async fn a_summary_says_where_the_script_stands() {
    let talk = Talk::start().await;
    let script =
        user(r#"SCRIPT: [{"text": "one"}, {"on": "summary", "text": "mine"}, {"text": "two"}]"#);
    let wanted = user("Write it between <summary> and </summary>.");
    let asked = json!([script, assistant("one"), wanted]);
    assert_eq!(talk.said(asked.clone()).await, "mine");
    let summary = talk.said(asked).await;
    assert!(summary.contains("SCRIPT-STEP: 1"), "{summary}");
    let quoted = r#"SCRIPT-STEP: 1. You were told: SCRIPT: [{"text": "one"}, {"text": "two"}]"#;
    assert_eq!(talk.said(json!([user(quoted)])).await, "two");
}

#[tokio::test]
async fn a_judge_is_asked_with_the_users_words_and_the_call() {
    let talk = Talk::start().await;
    let ask = |words: &str| {
        let asked = json!({"user_messages": [words], "call": {"tool": "bash", "input": {}}});
        json!([user(&asked.to_string())])
    };
    let script = r#"SCRIPT: [{"tool": "bash"}, {"on": "judge", "text": "allow"}]"#;
    assert_eq!(talk.said(ask(script)).await, "allow");
    assert_eq!(
        talk.said(ask(script)).await,
        "unclear",
        "the step has happened"
    );
    assert_eq!(talk.said(ask("no script")).await, "unclear");
}
