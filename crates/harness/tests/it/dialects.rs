//! `native` in each dialect: what the model garbles, where it pauses, what it leaves blank.

use std::time::Duration;

use contract::content::Block;
use harness::native::Native;
use harness::{EntryBody, Harness as _, Preview};
use model::{Dialect, ToolSpec};
use scripted::Running;
use serde_json::{Value, json};
use session::Step;
use session::policy::{ToolRule, ToolRules};

use crate::plane::MemoryPlane;

/// A session behind a dialect.
struct World {
    plane: MemoryPlane,
    scripted: Running,
    native: Native,
    _home: tempfile::TempDir,
}

/// Runs the first turn of a session on a script, to its end.
async fn turn(dialect: Dialect, steps: &Value) -> World {
    dial::install_crypto_provider();
    let scripted = scripted::Scripted::start_local().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let rules = [("bash", ToolRule::Allow), ("ask_user", ToolRule::Custom)];
    let rules = rules.map(|(name, rule)| (name.to_owned(), rule));
    let rules = ToolRules(rules.into_iter().collect());
    let (plane, first) = MemoryPlane::with(
        &format!("SCRIPT: {steps}"),
        &scripted.base_url(),
        home.path(),
        rules,
        |brief| {
            brief.custom.push(ToolSpec {
                name: "ask_user".to_owned(),
                description: "Asks.".to_owned(),
                input_schema: json!({"type": "object"}),
            });
            if dialect == Dialect::OpenAiResponses {
                brief.model = "gpt-5".to_owned();
            }
        },
    )
    .await;
    let base = match dialect {
        Dialect::AnthropicMessages => scripted.base_url(),
        Dialect::OpenAiChat | Dialect::OpenAiResponses => format!("{}/v1", scripted.base_url()),
    };
    let plane = plane.speaking(dialect, &base);
    let native = Native::new(model::Client::new(model::ClientConfig::default()).unwrap());
    run(&native, &plane, first).await;
    let breaks = scripted.stats().prefix_breaks;
    assert!(breaks.is_empty(), "{breaks:?}");
    World {
        plane,
        scripted,
        native,
        _home: home,
    }
}

/// Runs a turn from what is recorded, as a server does that has just started: the loop keeps nothing.
async fn run(native: &Native, plane: &MemoryPlane, first: Step) {
    tokio::time::timeout(Duration::from_secs(60), native.run(plane, first))
        .await
        .unwrap()
        .unwrap();
}

/// What was shown as it came, by text of the message.
fn shown(plane: &MemoryPlane) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for preview in plane.previews() {
        if let Preview::Text { index, text, .. } = preview {
            texts.resize(texts.len().max(index + 1), String::new());
            texts[index].push_str(&text);
        }
    }
    texts
}

#[tokio::test]
async fn arguments_that_are_no_object_are_told_to_the_model_and_reach_no_client() {
    let garbled = ["{\"question\": \"Whi", "[1, 2]", "yes"];
    for (dialect, wrote) in Dialect::ALL.into_iter().zip(garbled) {
        let steps = json!([
            {"tool": "ask_user", "arguments": wrote},
            {"tools": [{"name": "bash", "input": {"command": "echo fine"}}, {"name": "bash", "arguments": wrote}]},
            {"echo_results": true},
        ]);
        let World {
            plane, scripted, ..
        } = turn(dialect, &steps).await;
        let kinds = plane.kinds();
        assert!(!kinds.contains(&"agent.custom_tool_use"), "{kinds:?}");
        let uses = kinds.iter().filter(|kind| **kind == "agent.tool_use");
        assert_eq!(uses.count(), 3, "{kinds:?}");
        assert_eq!(kinds.last(), Some(&"session.status_idle"));
        let refused = plane.entries().into_iter().filter(|e| match &e.body {
            EntryBody::Result {
                content, is_error, ..
            } => {
                matches!(&content[..], [Block::Text { text }] if text.contains("not a JSON object"))
                    && *is_error
            }
            _ => false,
        });
        assert_eq!(refused.count(), 2, "{dialect:?} {wrote}");
        let last = &scripted.requests().pop().unwrap().body;
        let sent = last.to_string();
        assert!(
            sent.contains("fine") && sent.contains("not a JSON object"),
            "{sent}"
        );
    }
}

#[tokio::test]
async fn a_reply_that_its_provider_pauses_goes_on_and_is_one_reply() {
    for dialect in Dialect::ALL {
        let steps = json!([
            {"thinking": "long", "text": "Searching.", "stop": "pause_turn"},
            {"text": "Still.", "stop": "pause_turn"},
            {"text": "Found it.", "chunks": 3},
        ]);
        let World {
            plane, scripted, ..
        } = turn(dialect, &steps).await;
        let replies = plane.entries().into_iter();
        let replies = replies.filter(|e| matches!(e.body, EntryBody::Reply { .. }));
        assert_eq!(replies.count(), 1, "{dialect:?}");
        let kinds = plane.kinds();
        let messages = kinds.iter().filter(|kind| **kind == "agent.message");
        assert_eq!(messages.count(), 1, "{kinds:?}");
        let previews = plane.previews();
        let begun = previews
            .iter()
            .filter(|p| matches!(p, Preview::Message { .. }));
        assert_eq!(begun.count(), 1, "{previews:?}");
        assert_eq!(
            shown(&plane),
            ["Searching.", "Still.", "Found it."],
            "{dialect:?}"
        );
        assert_eq!(scripted.requests().len(), 3);
    }
}

#[tokio::test]
async fn a_provider_that_only_pauses_is_asked_nine_times_and_no_more() {
    let pause = json!({"text": "Wait.", "stop": "pause_turn"});
    let steps = Value::Array(vec![pause; 20]);
    let World {
        plane, scripted, ..
    } = turn(Dialect::AnthropicMessages, &steps).await;
    assert_eq!(scripted.requests().len(), 9);
    assert_eq!(plane.kinds().last(), Some(&"session.status_idle"));
}

#[tokio::test]
async fn what_a_refused_reply_had_asked_for_is_not_run() {
    for dialect in Dialect::ALL {
        let steps = json!([{"text": "So.", "tool": "bash", "input": {"command": "echo x"}, "stop": "refusal"}]);
        let World {
            plane,
            native,
            scripted,
            _home,
        } = turn(dialect, &steps).await;
        let kinds = plane.kinds();
        assert!(!kinds.contains(&"agent.tool_use"), "{dialect:?}: {kinds:?}");
        assert_eq!(kinds.last(), Some(&"session.status_idle"));
        assert_eq!(scripted.requests().len(), 1);
        // The transcript is one that the provider still takes.
        let first = plane.say("And now? SCRIPT: [{\"text\": \"Fine.\"}]");
        run(&native, &plane, first).await;
        assert_eq!(
            shown(&plane).concat().matches("Fine.").count(),
            1,
            "{dialect:?}"
        );
    }
}

#[tokio::test]
async fn words_of_nothing_but_white_space_make_no_message_and_no_preview() {
    for dialect in Dialect::ALL {
        let steps = json!([
            {"text": "\n\n", "tool": "bash", "input": {"command": "echo fine"}},
            {"text": " \n ", "chunks": 3},
        ]);
        let World { plane, .. } = turn(dialect, &steps).await;
        assert!(
            !plane.kinds().contains(&"agent.message"),
            "{dialect:?}: {:?}",
            plane.kinds()
        );
        assert_eq!(plane.previews(), [], "{dialect:?}");

        let steps = json!([{"text": "\n\n  Hello.", "chunks": 6}]);
        let World { plane, .. } = turn(dialect, &steps).await;
        assert!(plane.kinds().contains(&"agent.message"));
        assert_eq!(shown(&plane), ["\n\n  Hello."], "{dialect:?}");
    }
}

/// The law of the prefix with everything that happens on the way: calls, thinking, pauses, garbled arguments,
/// blank words, and a server that starts anew before each turn, so that all of it comes from what was recorded.
#[tokio::test]
async fn fifty_turns_with_a_restart_before_each_repeat_their_prefix_in_every_dialect() {
    for dialect in Dialect::ALL {
        let filler = "x".repeat(8_000);
        let steps = json!([{"thinking": "hm", "text": filler, "tool": "bash", "input": {"command": "echo 1"}}]);
        let world = turn(dialect, &steps).await;
        for turn in 1..50 {
            let steps = match turn % 4 {
                0 => {
                    json!([{"thinking": "a", "text": "\n", "tool": "bash", "input": {"command": format!("echo {turn}")}},
                            {"thinking": "b", "text": format!("Turn {turn}.")}])
                }
                1 => {
                    json!([{"text": "So.", "stop": "pause_turn"}, {"thinking": "c", "text": "On."}])
                }
                2 => {
                    json!([{"thinking": "d", "tool": "ask_user", "arguments": "{\"q"}, {"text": " "}])
                }
                _ => json!([{"thinking": "e", "text": "Cut", "stop": "max_tokens"}]),
            };
            let first = world.plane.say(&format!("{turn} SCRIPT: {steps}"));
            run(&world.native, &world.plane, first).await;
        }
        let stats = world.scripted.stats();
        let breaks = &stats.prefix_breaks;
        assert!(breaks.is_empty(), "{dialect:?}: {:?}", breaks.first());
        assert!(stats.requests > 80, "{dialect:?}: {}", stats.requests);
        let ratio = stats.cache_read_tokens as f64 / stats.input_tokens as f64;
        assert!(ratio > 0.9, "{dialect:?}: {ratio:.3}");
        let kept = match dialect {
            Dialect::AnthropicMessages => "\"signature\":",
            Dialect::OpenAiChat => "\"reasoning_content\":",
            Dialect::OpenAiResponses => "\"encrypted_content\":",
        };
        let last = world.scripted.requests().pop().unwrap().body.to_string();
        assert!(
            last.matches(kept).count() >= 50,
            "{dialect:?}: thinking is lost"
        );
    }
}
