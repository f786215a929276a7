//! Every type of event that is stored, and the two that only streams have: read and written unchanged.

use contract::event::{Body, Event, Preview};
use contract::query::EVENT_TYPES;
use serde_json::{Value, json};

fn id(prefix: &str) -> String {
    format!("{prefix}1111111111111111111112")
}

fn usage() -> Value {
    json!({"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 4, "speed": "standard"})
}

fn budget() -> Value {
    json!({"type": "limit", "max_list_cost": {"amount": "2500", "currency": "USD"}})
}

/// The fields of one event of each type, without its envelope.
fn samples() -> Vec<Value> {
    let content = json!([{"type": "text", "text": "hi"}]);
    let (event, thread) = (id("sevt_"), id("sthr_"));
    let (run, phase, outcome) = (id("wfrun_"), id("wfphase_"), id("outc_"));
    let source = json!({"type": "url", "url": "https://x.example/a"});
    let error = json!({"type": "timeout_error", "message": "m"});
    let user = [
        json!({"type": "user.message", "content": [
            {"type": "text", "text": "hi"}, {"type": "image", "source": source},
            {"type": "document", "source": {"type": "text", "data": "d", "media_type": "text/plain"},
                "context": "c", "title": "t"}, {"type": "redacted"}]}),
        json!({"type": "user.interrupt", "session_thread_id": thread}),
        json!({"type": "user.tool_confirmation", "tool_use_id": event, "result": "deny",
            "deny_message": "no", "session_thread_id": thread}),
        json!({"type": "user.custom_tool_result", "custom_tool_use_id": event, "content": content,
            "is_error": true, "session_thread_id": thread}),
        json!({"type": "user.tool_result", "tool_use_id": event, "content": content,
            "is_error": false, "session_thread_id": thread}),
        json!({"type": "user.define_outcome", "outcome_id": outcome, "description": "d",
            "rubric": {"type": "text", "content": "r"}, "max_iterations": 3}),
        json!({"type": "system.message", "content": content}),
    ];
    let agent = [
        json!({"type": "agent.message", "content": content}),
        json!({"type": "agent.thinking"}),
        json!({"type": "agent.tool_use", "name": "bash", "input": {"command": "ls"},
            "evaluated_permission": "deny", "session_thread_id": thread, "evaluation": {"type": "auto",
            "evaluated_permission": {"type": "deny", "reason_code": "high_risk"}}}),
        json!({"type": "agent.tool_result", "tool_use_id": event, "content": content, "is_error": false}),
        json!({"type": "agent.mcp_tool_use", "mcp_server_name": "m", "name": "n", "input": {},
            "evaluated_permission": "allow", "evaluation": {"type": "always_allow"}, "session_thread_id": thread}),
        json!({"type": "agent.mcp_tool_result", "mcp_tool_use_id": event, "is_error": false, "content": [
            {"type": "search_result", "source": "s", "title": "t", "citations": {"enabled": true},
                "content": content}]}),
        json!({"type": "agent.custom_tool_use", "name": "n", "input": {"a": [1, null]},
            "session_thread_id": thread}),
        json!({"type": "agent.thread_message_received", "from_session_thread_id": thread,
            "from_agent_name": "a", "content": content}),
        json!({"type": "agent.thread_message_sent", "to_session_thread_id": thread,
            "to_agent_name": "a", "content": content}),
        json!({"type": "agent.thread_context_compacted"}),
    ];
    let idle = json!({"type": "requires_action", "event_ids": [event]});
    let details = json!({"type": "refusal", "category": "bio", "explanation": null});
    let thread_idle = json!({"type": "session.thread_status_idle", "agent_name": "a",
        "session_thread_id": thread, "stop_reason": {"type": "refusal"}, "stop_details": details});
    let session = [
        json!({"type": "session.status_running"}),
        json!({"type": "session.status_idle", "stop_reason": idle, "stop_details": null}),
        json!({"type": "session.status_rescheduled"}),
        json!({"type": "session.status_terminated"}),
        json!({"type": "session.error", "error": {"type": "credential_host_unreachable_error",
            "credential_id": id("vcrd_"), "vault_id": id("vlt_"), "message": "m",
            "retry_status": {"type": "exhausted"}}}),
        json!({"type": "session.updated", "agent": {"any": "copy"}, "budget": null, "title": "t",
            "metadata": {"k": "v"}}),
        json!({"type": "session.usage", "budget": budget(), "usage": {"active_seconds": 1.5,
            "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 0},
            "cache_read_input_tokens": 1, "input_tokens": 2, "output_tokens": 3,
            "list_cost": {"amount": "7", "currency": "USD"}}}),
        json!({"type": "session.thread_created", "agent_name": "a", "session_thread_id": thread,
            "workflow_run_id": run}),
        json!({"type": "session.thread_status_running", "agent_name": "a", "session_thread_id": thread}),
        thread_idle,
        json!({"type": "session.thread_status_rescheduled", "agent_name": "a", "session_thread_id": thread}),
        json!({"type": "session.thread_status_terminated", "agent_name": "a", "session_thread_id": thread}),
        json!({"type": "session.deleted"}),
    ];
    let rest = [
        json!({"type": "span.model_request_start"}),
        json!({"type": "span.model_request_end", "model_request_start_id": event, "is_error": false,
            "model_usage": usage()}),
        json!({"type": "span.outcome_evaluation_start", "outcome_id": outcome, "iteration": 0}),
        json!({"type": "span.outcome_evaluation_ongoing", "outcome_id": outcome, "iteration": 0}),
        json!({"type": "span.outcome_evaluation_end", "outcome_evaluation_start_id": event,
            "outcome_id": outcome, "iteration": 0, "result": "satisfied", "explanation": "e",
            "usage": usage()}),
        json!({"type": "workflow_run.created", "workflow_run_id": run, "name": "n", "description": null,
            "phases": [{"id": phase, "name": "n", "description": "d"}]}),
        json!({"type": "workflow_run.status_running", "workflow_run_id": run}),
        json!({"type": "workflow_run.status_idle", "workflow_run_id": run}),
        json!({"type": "workflow_run.status_ended", "workflow_run_id": run,
            "result": {"type": "error", "error": error}}),
        json!({"type": "workflow_run.error", "workflow_run_id": null, "error": error}),
        json!({"type": "workflow_run.phase_started", "workflow_run_id": run, "workflow_run_phase_id": phase}),
        json!({"type": "workflow_run.phase_ended", "workflow_run_id": run, "workflow_run_phase_id": phase,
            "phase_started_id": event}),
    ];
    [&user[..], &agent, &session, &rest].concat()
}

fn with_envelope(mut event: Value) -> Value {
    event["id"] = id("sevt_").into();
    event["processed_at"] = "2026-10-21T12:00:00.000001Z".into();
    event
}

#[test]
fn every_type_of_the_contract_is_read_and_written_unchanged() {
    let kinds = samples()
        .iter()
        .map(|s| s["type"].clone())
        .collect::<Vec<_>>();
    assert_eq!(
        kinds,
        Body::KINDS,
        "one sample of each type, in the contract's order"
    );
    assert_eq!(kinds.len(), 42);
    for sample in samples().into_iter().map(with_envelope) {
        let event =
            Event::read(&sample.to_string()).unwrap_or_else(|bad| panic!("{sample}: {bad}"));
        assert_eq!(event.body.kind(), sample["type"]);
        assert_eq!(serde_json::to_value(&event).unwrap(), sample);
    }
}

#[test]
fn a_list_is_filtered_by_every_type_but_the_one_that_ends_it() {
    let mut kinds = Body::KINDS.to_vec();
    kinds.retain(|kind| *kind != "session.deleted");
    assert_eq!(kinds, EVENT_TYPES);
}

#[test]
fn the_input_of_a_tool_keeps_its_bytes() {
    let input = r#"{"z":1,"a":1.10,"n":12345678901234567890123}"#;
    let text = format!(
        r#"{{"type":"agent.custom_tool_use","id":"{}","processed_at":null,"name":"n","input":{input}}}"#,
        id("sevt_")
    );
    let event = Event::read(&text).unwrap();
    let written = serde_json::to_string(&event).unwrap();
    assert!(written.contains(input), "{written}");
}

#[test]
fn an_event_with_a_missing_field_or_of_an_unknown_type_is_not_read() {
    for sample in [
        json!({"type": "user.tool_confirmation", "tool_use_id": id("sevt_")}),
        json!({"type": "session.status_idle", "stop_reason": {"type": "tired"}, "stop_details": null}),
        json!({"type": "agent.dream"}),
    ] {
        let text = with_envelope(sample).to_string();
        assert!(Event::read(&text).is_err(), "{text}");
    }
}

#[test]
fn null_says_that_a_budget_was_removed_and_absence_that_it_was_not_touched() {
    let removed = json!({"type": "session.updated", "budget": null});
    let untouched = json!({"type": "session.updated", "title": null});
    for sample in [removed, untouched].map(with_envelope) {
        let event = Event::read(&sample.to_string()).unwrap();
        assert_eq!(serde_json::to_value(&event).unwrap(), sample);
    }
}

#[test]
fn previews_are_read_and_written_unchanged() {
    let event = id("sevt_");
    let text = json!({"type": "text", "text": "hi"});
    for sample in [
        json!({"type": "event_start", "event": {"type": "agent.message", "id": event}}),
        json!({"type": "event_start", "event": {"type": "agent.thinking", "id": event}}),
        json!({"type": "event_delta", "event_id": event, "delta": {"type": "content_delta", "content": text}}),
        json!({"type": "event_delta", "event_id": event,
            "delta": {"type": "content_delta", "content": text, "index": 2}}),
    ] {
        let preview: Preview = serde_json::from_value(sample.clone()).unwrap();
        assert_eq!(serde_json::to_value(&preview).unwrap(), sample);
    }
}
