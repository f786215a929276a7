"""A model that fails ends the turn visibly and leaves a session that can go on."""

import socket

import anthropic
import pytest

import kit
from kit import IDLE, RUNNING


def failed(events, kind):
    """Checks how the turn ended and returns the error."""
    error = kit.of(events, "session.error")[0].error
    assert error.type == kind and error.retry_status.type == "exhausted", error
    assert kit.kinds(events) == [
        *RUNNING,
        "user.message",
        "span.model_request_start",
        "span.model_request_end",
        "session.error",
        *IDLE,
    ]
    assert kit.of(events, "span.model_request_end")[0].is_error is True
    assert events[-1].stop_reason.type == "retries_exhausted"
    return error


@pytest.mark.parametrize(
    ("step", "kind", "words"),
    [
        ({"error": 400}, "model_request_failed_error", "does not accept the request"),
        ({"garbage": True}, "model_request_failed_error", "not"),
    ],
)
def test_a_failure_that_would_repeat_itself_ends_the_turn_and_the_next_message_starts_anew(client, step, kind, words):
    made = kit.session(client)
    events = kit.say(client, made.id, step | {"times": 0})
    assert words in failed(events, kind).message
    assert client.beta.sessions.retrieve(made.id).status == "idle"
    assert kit.said(kit.say(client, made.id, {"text": "well again"})) == ["well again"]


RETRIED = [
    "span.model_request_end",
    "session.error",
    "session.status_rescheduled",
    "session.thread_status_rescheduled",
    *RUNNING,
]


@pytest.mark.parametrize(
    ("step", "kind", "words"),
    [
        ({"error": 500}, "model_request_failed_error", "failed"),
        ({"error": 429, "retry_after": 1}, "model_rate_limited_error", "rate"),
        ({"error": 529}, "model_overloaded_error", "overloaded"),
        ({"error_event": "overloaded_error"}, "model_overloaded_error", "overloaded"),
        ({"cut": True}, "model_request_failed_error", "ended its answer in the middle"),
    ],
)
def test_a_failure_that_may_pass_is_shown_and_tried_again_in_the_same_turn(client, step, kind, words):
    made = kit.session(client)
    events = kit.say(client, made.id, step, {"text": "well again"})
    error = kit.of(events, "session.error")[0].error
    assert (error.type, error.retry_status.type) == (kind, "retrying")
    assert words in error.message
    assert kit.kinds(events) == [
        *RUNNING,
        "user.message",
        "span.model_request_start",
        *RETRIED,
        *kit.request("agent.message"),
        *IDLE,
    ]
    assert kit.said(events) == ["well again"]
    assert events[-1].stop_reason.type == "end_turn"


def test_a_session_that_waits_for_its_next_try_says_so_takes_messages_and_stops_when_told(client):
    made = kit.session(client)
    step = {"error": 429, "retry_after": 240, "times": 0}
    client.beta.sessions.events.send(made.id, events=[kit.message(kit.script(step))])
    kit.until("the session to wait", lambda: client.beta.sessions.retrieve(made.id).status == "rescheduling")
    with pytest.raises(anthropic.BadRequestError, match="while it is running"):
        client.beta.sessions.delete(made.id)
    with client.beta.sessions.events.stream(made.id) as stream:
        sent = client.beta.sessions.events.send(
            made.id, events=[{"type": "user.interrupt"}, kit.message(kit.script({"text": "instead"}))]
        )
        assert [event.type for event in sent.data] == ["user.interrupt", "user.message"]
        kit.collect(stream)
        assert kit.said(kit.collect(stream)) == ["instead"]


def test_an_endpoint_that_is_down_is_tried_again_until_somebody_stops_it(launch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with launch(url).client() as client:
            made = kit.session(client)
            with client.beta.sessions.events.stream(made.id) as stream:
                client.beta.sessions.events.send(made.id, events=[kit.message("hello")])
                error = kit.collect(stream, "session.error")[-1].error
                assert (error.type, error.retry_status.type) == ("model_request_failed_error", "retrying")
                assert f"no connection to the model endpoint {url}" in error.message
                client.beta.sessions.events.send(made.id, events=[{"type": "user.interrupt"}])
                assert kit.collect(stream)[-1].stop_reason.type == "end_turn"


def test_the_operators_refused_key_is_named_by_header_and_variable(launch):
    with launch(ANTHROPIC_API_KEY="bad-operator-key-01").client() as client:
        made = kit.session(client)
        error = failed(kit.say(client, made.id, {"text": "never"}), "model_request_failed_error")
        assert "x-api-key" in error.message and "ANTHROPIC_API_KEY" in error.message
        assert "bad-operator-key-01" not in error.message


def test_no_model_at_all_says_what_to_do(launch):
    with launch(ANTHROPIC_API_KEY=None, ANTHROPIC_BASE_URL=None).client() as client:
        made = kit.session(client)
        events = kit.turn(client, made.id, kit.message("hello"))
        message = kit.of(events, "session.error")[0].error.message
        assert "LLM vault" in message and "ANTHROPIC_API_KEY" in message


def test_what_waited_is_flushed_when_the_turn_fails(client, model):
    made = kit.session(client)
    gate = kit.unique("gate")
    with client.beta.sessions.events.stream(made.id) as stream:
        step = {"error": 400, "times": 0, "wait": gate}
        client.beta.sessions.events.send(made.id, events=[kit.message(kit.script(step))])
        model.someone_waits_at(gate)
        client.beta.sessions.events.send(made.id, events=[kit.message("waiting")])
        model.release(gate)
        kit.collect(stream)
    kinds = kit.kinds(kit.log(client, made.id))
    assert kinds[-6:] == ["span.model_request_end", "session.error", "user.message", *IDLE]


def test_a_refusal_and_an_answer_that_is_cut_by_its_limit_end_the_turn(client):
    made = kit.session(client)
    refused = kit.say(client, made.id, {"stop": "refusal", "text": "I will not."})
    assert refused[-1].stop_reason.type == "refusal"
    limited = kit.say(client, made.id, {"stop": "max_tokens", "text": "and so on and"})
    assert limited[-1].stop_reason.type == "end_turn" and kit.said(limited) == ["and so on and"]


def test_a_tool_that_is_not_offered_is_denied_and_the_model_told(client):
    tools = [{"type": "agent_toolset_20260401", "configs": [{"name": "bash", "enabled": False}]}]
    made = kit.session(client, agent_fields={"tools": tools})
    events = kit.say(client, made.id, kit.bash("touch /workspace/ran"), {"tool": "glob", "input": {"pattern": "*"}})
    call = kit.of(events, "agent.tool_use")[0]
    assert call.evaluated_permission == "deny"
    denied, listed = kit.results(events)
    assert denied[0] is True and listed == (False, "No files found")
