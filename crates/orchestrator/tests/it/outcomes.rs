//! Outcomes from end to end: the work, the grader, the revisions; and what becomes of them when something
//! breaks in the middle.

use std::time::Duration;

use contract::ids::{OutcomeId, SessionId};
use serde_json::{Value, json};
use session::{Phase, UserEvent};

use crate::support::{Server, World, bash, interrupt, kinds, message, of, said, script};

fn outcome(description: &str, max_iterations: Option<u32>) -> UserEvent {
    UserEvent::Outcome {
        outcome: OutcomeId::from_bits(store::clock::id_bits(store::clock::now())),
        description: description.to_owned(),
        rubric: "It has a title.".to_owned(),
        max_iterations,
    }
}

fn verdict(verdict: &str, why: &str) -> Value {
    let text = json!({"verdict": verdict, "explanation": why}).to_string();
    json!({"on": "grade", "text": text})
}

/// A session that was greeted, and then works on what `steps` script.
async fn working(server: &Server, steps: &Value) -> SessionId {
    let id = server.session("always_allow", "hello").await;
    server.log(id).await;
    let event = outcome(&script("write a report", steps), Some(2));
    server.send(id, vec![event]).await;
    id
}

fn results(log: &[Value]) -> Vec<&str> {
    let ends = of(log, "span.outcome_evaluation_end");
    ends.into_iter()
        .map(|end| end["result"].as_str().unwrap())
        .collect()
}

/// The requests that asked for a verdict, by their question.
fn questions(world: &World) -> Vec<Value> {
    let bodies = world.scripted.requests().into_iter().map(|r| r.body);
    let question = |body: Value| {
        let text = body["messages"][0]["content"][0]["text"]
            .as_str()?
            .to_owned();
        let asked: Value = serde_json::from_str(&text).ok()?;
        asked["rubric"].is_string().then_some(asked)
    };
    bodies.filter_map(question).collect()
}

async fn graded(server: &Server, id: SessionId) {
    let grading = |s: &session::State| matches!(s.primary.phase, Phase::Grading { .. });
    server.until(id, "a grader is at work", grading).await;
}

#[tokio::test]
async fn work_is_graded_in_a_context_of_its_own_and_revised_until_it_is_satisfied() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([
        bash("echo private > /workspace/report"),
        {"text": "here is a report"},
        {"text": "now with a title"},
        verdict("needs_revision", "the title is missing"),
        verdict("satisfied", "there is a title"),
    ]);
    let id = working(&server, &steps).await;
    let log = server.log(id).await;
    assert_eq!(said(&log)[1..], ["here is a report", "now with a title"]);
    assert_eq!(results(&log), ["needs_revision", "satisfied"]);
    let asked = questions(&world);
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0]["rubric"], "It has a title.");
    let seen = asked[0]["transcript"].as_str().unwrap();
    assert!(seen.contains("here is a report") && seen.contains("hello"));
    let last = world.scripted.requests();
    let told = last.iter().any(|r| {
        let question = r.body["messages"][0].to_string();
        !question.contains("transcript") && r.body.to_string().contains("the title is missing")
    });
    assert!(told, "the agent is told what is missing");
    let row = server.store.session(store::sessions::Scope::Any, id).await;
    let [outcome] = row.unwrap().outcomes.try_into().unwrap();
    assert_eq!((outcome.iteration, &*outcome.result), (1, "satisfied"));
    assert_eq!(outcome.explanation.as_deref(), Some("there is a title"));
    assert!(outcome.completed_at.is_some());
    let state = server.state(id).await;
    let spans = of(&log, "span.model_request_end").into_iter();
    let shown = |e: &Value, at: &str| e[at]["output_tokens"].as_u64().unwrap();
    let output = spans.map(|e| shown(e, "model_usage")).sum::<u64>();
    let ends = of(&log, "span.outcome_evaluation_end").into_iter();
    let graded = ends.map(|e| shown(e, "usage")).sum::<u64>();
    assert!(graded > 0);
    assert_eq!(state.totals.output, output + graded, "the grader is paid");
}

#[tokio::test]
async fn after_the_last_iteration_the_agent_has_the_last_word() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([
        {"text": "one"}, {"text": "two"}, {"text": "no title"},
        verdict("needs_revision", "no"),
        verdict("needs_revision", "still no"),
    ]);
    let id = working(&server, &steps).await;
    let log = server.log(id).await;
    assert_eq!(said(&log)[1..], ["one", "two", "no title"]);
    assert_eq!(results(&log), ["needs_revision", "max_iterations_reached"]);
}

#[tokio::test]
async fn a_grader_reads_the_files_itself_and_may_not_write() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([
        {"text": "a report"},
        {"on": "grade", "tool": "read", "input": {"file_path": "/workspace/report"}},
        {"on": "grade", "tool": "bash", "input": {"command": "true"}},
        verdict("satisfied", "read it"),
    ]);
    let id = working(&server, &steps).await;
    let log = server.log(id).await;
    assert_eq!(results(&log), ["satisfied"]);
    assert_eq!(of(&log, "span.outcome_evaluation_ongoing").len(), 2);
    assert!(of(&log, "agent.tool_use").is_empty());
    assert_eq!(
        world.sandboxes.calls(),
        1,
        "one call was run, the other not"
    );
    let asked = world.scripted.requests();
    let offered = asked
        .iter()
        .find(|r| r.body.to_string().contains("transcript"));
    let tools = offered.unwrap().body["tools"].clone();
    let names = tools.as_array().unwrap().iter().map(|t| t["name"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["glob", "grep", "read"]);
}

#[tokio::test]
async fn a_grader_that_answers_garbage_is_asked_again_and_then_given_up() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([
        {"text": "a report"},
        {"on": "grade", "text": "great work!", "times": 0},
    ]);
    let id = working(&server, &steps).await;
    let log = server.log(id).await;
    assert_eq!(results(&log), ["failed"]);
    let end = of(&log, "span.outcome_evaluation_end")[0];
    assert_eq!(
        end["explanation"],
        "The grader gave no verdict that can be read."
    );
    assert_eq!(questions(&world).len(), 3);
    assert_eq!(kinds(&log).last(), Some(&"session.status_idle"));
}

#[tokio::test]
async fn a_grader_that_fails_for_a_while_is_asked_again() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([
        {"text": "a report"},
        {"on": "grade", "error": 529},
        verdict("satisfied", "fine"),
    ]);
    let id = working(&server, &steps).await;
    let log = server.log(id).await;
    assert_eq!(results(&log), ["satisfied"]);
    assert_eq!(of(&log, "session.status_rescheduled").len(), 1);
    assert_eq!(of(&log, "span.outcome_evaluation_start").len(), 1);
}

#[tokio::test]
async fn an_interrupt_stops_a_grader_that_hangs() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([{"text": "a report"}, {"on": "grade", "hang": true}]);
    let id = working(&server, &steps).await;
    graded(&server, id).await;
    world.asked(3).await;
    server.send(id, interrupt()).await;
    let log = server.log(id).await;
    assert_eq!(results(&log), ["interrupted"]);
    let start = of(&log, "span.outcome_evaluation_start")[0];
    let end = of(&log, "span.outcome_evaluation_end")[0];
    assert_eq!(end["outcome_evaluation_start_id"], start["id"]);
}

#[tokio::test]
async fn an_interrupt_before_the_grading_leaves_an_evaluation_that_never_began() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let id = working(&server, &json!([{"hang": true}])).await;
    world.asked(2).await;
    server.send(id, interrupt()).await;
    let log = server.log(id).await;
    let end = of(&log, "span.outcome_evaluation_end")[0];
    assert_eq!(end["outcome_evaluation_start_id"], "");
    assert_eq!(end["result"], "interrupted");
}

#[tokio::test]
async fn a_grading_that_a_crash_cut_is_taken_over_in_the_same_evaluation() {
    let world = World::new().await;
    let short = |c: &mut orchestrator::Config| {
        c.lease = Duration::from_millis(300);
        c.renew_every = Duration::from_millis(100);
    };
    let first = world.server(short);
    let steps = json!([
        {"text": "a report"},
        {"on": "grade", "hang": true},
        verdict("satisfied", "fine"),
    ]);
    let id = working(&first, &steps).await;
    graded(&first, id).await;
    world.asked(3).await;
    first.crash();
    let second = world.server(short);
    let log = second.log(id).await;
    assert_eq!(results(&log), ["satisfied"]);
    assert_eq!(of(&log, "span.outcome_evaluation_start").len(), 1);
    assert_eq!(of(&log, "session.status_rescheduled").len(), 1);
}

#[tokio::test]
async fn a_message_that_comes_while_a_grader_works_is_answered_after_the_verdict() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([
        {"text": "a report"},
        {"text": "you are welcome"},
        {"on": "grade", "wait": "gate", "text": "{\"verdict\": \"satisfied\", \"explanation\": \"ok\"}"},
    ]);
    let id = working(&server, &steps).await;
    graded(&server, id).await;
    server.send(id, vec![message("thanks")]).await;
    world.scripted.release("gate");
    let log = server.log(id).await;
    assert_eq!(said(&log)[1..], ["a report", "you are welcome"]);
    assert_eq!(
        of(&log, "session.status_running").len(),
        2,
        "in the same turn"
    );
}

#[tokio::test]
async fn an_outcome_outlives_a_compaction() {
    let world = World::with_model("tiny").await;
    let server = world.server(|_| {});
    let long = "word ".repeat(700);
    let steps = json!([
        {"text": long},
        {"text": "a title"},
        verdict("needs_revision", "too long"),
        verdict("satisfied", "fine"),
    ]);
    let id = server.session("always_allow", "hello").await;
    server.log(id).await;
    let event = outcome(&script("shorten it", &steps), None);
    server.send(id, vec![event]).await;
    let log = server.log(id).await;
    assert_eq!(results(&log), ["needs_revision", "satisfied"]);
    assert!(!of(&log, "agent.thread_context_compacted").is_empty());
    let asked = questions(&world);
    assert_eq!(asked.len(), 2);
    for question in asked {
        assert!(
            question["outcome"]
                .as_str()
                .unwrap()
                .starts_with("shorten it")
        );
    }
}
