"""What a stream and a list show of a turn, in the order that the hosted API was recorded to have."""

from datetime import datetime

import anthropic
import pytest
from anthropic.lib.sessions import accumulate_managed_agents_event

import kit
from kit import IDLE, RUNNING, bash, request

CUSTOM = {
    "type": "custom",
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def answer(call, words, **more):
    content = [{"type": "text", "text": words}]
    return {"type": "user.custom_tool_result", "custom_tool_use_id": call.id, "content": content, **more}


def test_a_plain_turn(client):
    made = kit.session(client)
    events = kit.say(client, made.id, {"text": "hello"})
    assert kit.kinds(events) == [*RUNNING, "user.message", *request("agent.message"), *IDLE]
    assert kit.said(events) == ["hello"] and events[-1].stop_reason.type == "end_turn"
    start, end = kit.of(events, "span.model_request_start")[0], kit.of(events, "span.model_request_end")[0]
    assert end.model_request_start_id == start.id and not end.is_error
    assert end.model_usage.output_tokens > 0
    usage = kit.of(events, "session.usage")[0].usage
    assert usage.output_tokens == end.model_usage.output_tokens


def test_thinking_shows_that_it_happens_and_not_what(client):
    made = kit.session(client)
    events = kit.say(client, made.id, {"thinking": "a private thought", "text": "hello"})
    assert kit.kinds(events) == [*RUNNING, "user.message", *request("agent.thinking", "agent.message"), *IDLE]
    assert "a private thought" not in str([event.to_dict(mode="json") for event in events[3:]])


def test_the_list_is_what_the_stream_was(client):
    made = kit.session(client)
    streamed = kit.say(client, made.id, bash("echo hi"), {"text": "done"})
    listed = kit.log(client, made.id)
    assert [event.to_dict(mode="json") for event in listed] == [event.to_dict(mode="json") for event in streamed]
    times = [event.processed_at for event in listed]
    assert times == sorted(set(times)), "every event has its own time, in the order of the log"


def test_a_sent_message_is_echoed_without_a_time_and_gets_one_when_it_is_taken_up(client):
    made = kit.session(client)
    with client.beta.sessions.events.stream(made.id) as stream:
        sent = client.beta.sessions.events.send(made.id, events=[kit.message("hi")])
        events = kit.collect(stream)
    assert len(sent.data) == 1 and sent.data[0].processed_at is None
    shown = kit.of(events, "user.message")
    assert shown[-1].id == sent.data[0].id and isinstance(shown[-1].processed_at, datetime)


def test_a_turn_with_a_tool(client):
    made = kit.session(client)
    events = kit.say(client, made.id, bash("echo $((6*7)) in $PWD", text="Let me see."), {"text": "done"})
    assert kit.kinds(events) == [
        *RUNNING,
        "user.message",
        *request("agent.message", "agent.tool_use"),
        "agent.tool_result",
        *request("agent.message"),
        *IDLE,
    ]
    call = kit.of(events, "agent.tool_use")[0]
    assert call.name == "bash" and call.input == {"command": "echo $((6*7)) in $PWD"}
    assert call.evaluated_permission == "allow"
    assert kit.of(events, "agent.tool_result")[0].tool_use_id == call.id
    assert kit.results(events) == [(False, "42 in /workspace")]


def test_parallel_calls_are_all_answered(client):
    made = kit.session(client)
    calls = [{"name": "bash", "input": {"command": f"echo {n}"}} for n in range(3)]
    events = kit.say(client, made.id, {"tools": calls}, {"text": "done"})
    assert kit.kinds(events) == [
        *RUNNING,
        "user.message",
        *request(*["agent.tool_use"] * 3),
        *["agent.tool_result"] * 3,
        *request("agent.message"),
        *IDLE,
    ]
    ids = [event.id for event in kit.of(events, "agent.tool_use")]
    by_call = {event.tool_use_id: kit.text(event) for event in kit.of(events, "agent.tool_result")}
    assert [by_call[id] for id in ids] == ["0", "1", "2"]


def test_a_custom_tool_stops_the_turn_until_its_answer(client, model):
    made = kit.session(client, agent_fields={"tools": [CUSTOM]})
    asked = kit.say(
        client, made.id, {"tool": "weather", "input": {"city": "Oslo"}}, {"echo_results": True}
    )
    assert kit.kinds(asked) == [*RUNNING, "user.message", *request("agent.custom_tool_use"), *IDLE]
    call = kit.of(asked, "agent.custom_tool_use")[0]
    assert call.name == "weather" and call.input == {"city": "Oslo"}
    assert asked[-1].stop_reason.type == "requires_action" and asked[-1].stop_reason.event_ids == [call.id]
    assert client.beta.sessions.retrieve(made.id).status == "idle"

    words = f"waiting on responses to events \\[{call.id}\\]"
    with pytest.raises(anthropic.BadRequestError, match=words):
        client.beta.sessions.events.send(made.id, events=[kit.message("well?")])

    answered = kit.turn(client, made.id, answer(call, "rain at 7 degrees"))
    assert kit.kinds(answered) == ["user.custom_tool_result", *RUNNING, *request("agent.message"), *IDLE]
    assert answered[-1].stop_reason.type == "end_turn"
    assert "rain at 7 degrees" in kit.said(answered)[0], "the answer reached the model"


def test_answers_one_by_one_leave_the_rest_open(client):
    made = kit.session(client, agent_fields={"tools": [CUSTOM]})
    calls = [{"name": "weather", "input": {"city": city}} for city in ("Oslo", "Rome")]
    asked = kit.say(client, made.id, {"tools": calls}, {"echo_results": True})
    first, second = kit.of(asked, "agent.custom_tool_use")
    assert asked[-1].stop_reason.event_ids == [first.id, second.id]
    rest = kit.turn(client, made.id, answer(second, "sun"))
    assert kit.kinds(rest) == ["user.custom_tool_result", *IDLE]
    assert rest[-1].stop_reason.event_ids == [first.id]
    done = kit.turn(client, made.id, answer(first, "rain"))
    assert "rain" in kit.said(done)[0] and "sun" in kit.said(done)[0]


def test_an_answer_to_a_call_that_was_answered_makes_an_empty_cycle(client):
    made = kit.session(client, agent_fields={"tools": [CUSTOM]})
    asked = kit.say(client, made.id, {"tool": "weather", "input": {}}, {"text": "thanks"})
    call = kit.of(asked, "agent.custom_tool_use")[0]
    assert kit.said(kit.turn(client, made.id, answer(call, "rain"))) == ["thanks"]
    again = kit.turn(client, made.id, answer(call, "rain"))
    assert kit.kinds(again) == ["user.custom_tool_result", *RUNNING, *IDLE]


def test_an_answer_to_no_call_is_refused(client):
    made = kit.session(client, agent_fields={"tools": [CUSTOM]})
    asked = kit.say(client, made.id, {"tool": "weather", "input": {}}, {"text": "thanks"})
    wrong = answer(asked[-1], "rain")
    with pytest.raises(anthropic.BadRequestError, match=asked[-1].id):
        client.beta.sessions.events.send(made.id, events=[wrong])


def test_a_message_sent_mid_turn_comes_after_the_tool_result_in_the_same_turn(client, model):
    made = kit.session(client)
    gate = kit.unique("gate")
    steps = [bash("echo one", wait=gate), {"text": "both done"}]
    with client.beta.sessions.events.stream(made.id) as stream:
        client.beta.sessions.events.send(made.id, events=[kit.message(kit.script(*steps))])
        model.someone_waits_at(gate)
        sent = client.beta.sessions.events.send(made.id, events=[kit.message("and two")]).data[0]
        waiting = kit.log(client, made.id)[-1]
        assert waiting.id == sent.id and waiting.processed_at is None, "what waits is listed last"
        model.release(gate)
        events = kit.collect(stream)
    announced = [event for event in events if event.id == sent.id]
    assert [event.processed_at is None for event in announced] == [True, False]
    placed = [event for event in events if event is not announced[0]]
    expected = [
        *RUNNING,
        "user.message",
        *request("agent.tool_use"),
        "agent.tool_result",
        "user.message",
        *request("agent.message"),
        *IDLE,
    ]
    assert kit.kinds(placed) == expected
    assert kit.kinds(kit.log(client, made.id)) == expected


def test_an_interrupt_stops_a_model_that_speaks(client, model):
    made = kit.session(client)
    gate = kit.unique("gate")
    with client.beta.sessions.events.stream(made.id) as stream:
        client.beta.sessions.events.send(made.id, events=[kit.message(kit.script({"wait": gate, "text": "late"}))])
        model.someone_waits_at(gate)
        client.beta.sessions.events.send(made.id, events=[{"type": "user.interrupt"}])
        events = kit.collect(stream)
    model.release(gate)
    assert events[-1].stop_reason.type == "end_turn" and kit.said(events) == []
    log = kit.log(client, made.id)
    end = kit.of(log, "span.model_request_end")
    assert len(end) == 1, "the span of the request that was stopped is closed"
    assert kit.kinds(log)[-4:] == ["user.interrupt", *IDLE]
    assert kit.of(log, "user.interrupt")[0].processed_at is not None
    assert kit.said(kit.say(client, made.id, {"text": "here again"})) == ["here again"]


def test_an_interrupt_stops_a_command_and_a_message_with_it_starts_the_next_turn(client):
    made = kit.session(client)
    slow = bash("echo started > started; sleep 300; echo finished > finished")
    with client.beta.sessions.events.stream(made.id) as stream:
        client.beta.sessions.events.send(made.id, events=[kit.message(kit.script(slow, {"text": "never said"}))])
        for event in stream:
            if event.type == "agent.tool_use":
                break
        redirect = kit.message(kit.script(bash("ls; pgrep -x sleep || echo no sleep"), {"text": "redirected"}))
        client.beta.sessions.events.send(made.id, events=[{"type": "user.interrupt"}, redirect])
        first = kit.collect(stream)
        second = kit.collect(stream)
    placed = [event for event in first if not (event.type == "user.message" and event.processed_at is None)]
    placed = [event for event in placed if not (event.type == "user.interrupt" and event.processed_at is None)]
    assert kit.kinds(placed)[-5:] == ["user.interrupt", "agent.tool_result", *IDLE]
    assert kit.results(first)[0][0] is True, "the call that was stopped is answered with an error"
    assert kit.said(second) == ["redirected"]
    assert "finished" not in kit.results(second)[0][1] and "no sleep" in kit.results(second)[0][1]


def test_an_interrupt_of_an_idle_session_is_kept_and_changes_nothing(client):
    made = kit.session(client)
    sent = client.beta.sessions.events.send(made.id, events=[{"type": "user.interrupt"}])
    assert sent.data[0].processed_at is not None
    assert kit.kinds(kit.log(client, made.id)) == ["user.interrupt"]
    assert client.beta.sessions.retrieve(made.id).status == "idle"


def test_deltas_add_up_to_the_message(client):
    made = kit.session(client)
    words = "one two three four five six seven eight"
    step = {"text": words, "chunks": 8, "thinking": "hm"}
    events = kit.say(client, made.id, step, deltas=["agent.message", "agent.thinking"])
    message = kit.of(events, "agent.message")[0]
    starts = [event.event for event in kit.of(events, "event_start")]
    assert ("agent.message", message.id) in [(start.type, start.id) for start in starts]
    assert "agent.thinking" in [start.type for start in starts]
    accumulated = None
    deltas = 0
    for event in events:
        if event.type == "agent.message":
            break
        accumulated = accumulate_managed_agents_event(accumulated, event)
        deltas += event.type == "event_delta"
    assert deltas > 1 and accumulated.id == message.id
    assert accumulated.content[0].text == message.content[0].text == words
    plain = [kind for kind in kit.kinds(events) if not kind.startswith("event_")]
    assert kit.kinds(kit.log(client, made.id)) == plain, "previews are never stored"


def test_deltas_only_for_those_who_asked(client):
    made = kit.session(client)
    assert "event_start" not in kit.kinds(kit.say(client, made.id, {"text": "a b c", "chunks": 3}))
    only = kit.say(client, made.id, {"text": "a b c", "thinking": "hm"}, deltas=["agent.thinking"])
    assert [event.event.type for event in kit.of(only, "event_start")] == ["agent.thinking"]
    assert "event_delta" not in kit.kinds(only)
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.events.stream(made.id, event_deltas=["agent.tool_use"])


def test_lists_filter_by_type_order_and_time_over_pages(client):
    made = kit.session(client)
    for number in range(3):
        kit.say(client, made.id, {"text": f"answer {number}"})
    events = client.beta.sessions.events
    every = kit.log(client, made.id)
    assert [e.id for e in events.list(made.id, limit=4)] == [e.id for e in every]
    assert [e.id for e in events.list(made.id, limit=4, order="desc")] == [e.id for e in every[::-1]]
    some = list(events.list(made.id, types=["agent.message", "user.message"], limit=2))
    assert kit.kinds(some) == ["user.message", "agent.message"] * 3
    mark = some[2].processed_at
    after = events.list(made.id, types=["agent.message"], created_at_gt=mark)
    assert [kit.text(e) for e in after] == ["answer 1", "answer 2"]
    upto = events.list(made.id, types=["user.message"], created_at_lte=mark)
    assert [e.id for e in upto] == [some[0].id, some[2].id]
    assert list(events.list(made.id, created_at_lt=mark, created_at_gte=mark)) == []


def test_several_messages_of_one_send_are_taken_up_together_in_order(client):
    made = kit.session(client)
    events = kit.turn(client, made.id, kit.message("first"), kit.message("second"))
    log = kit.log(client, made.id)
    assert [kit.text(e) for e in kit.of(log, "user.message")] == ["first", "second"]
    assert len(kit.of(events, "session.status_running")) == 1


def test_two_streams_see_the_same(client):
    made = kit.session(client)
    with client.beta.sessions.events.stream(made.id) as one, client.beta.sessions.events.stream(made.id) as two:
        client.beta.sessions.events.send(made.id, events=[kit.message("hi")])
        assert [e.id for e in kit.collect(one)] == [e.id for e in kit.collect(two)]


def test_frames_are_named_so_that_every_sdk_delivers_them(server, client):
    """SDKs before 2 drop a frame whose name they do not know, such as `session.usage`."""
    made = kit.session(client)
    path = f"/v1/sessions/{made.id}/events/stream"
    names = {}
    with client.beta.sessions.events.with_streaming_response.stream(made.id) as raw:
        client.beta.sessions.events.send(made.id, events=[kit.message("hi")])
        name = None
        for line in raw.iter_lines():
            if line.startswith("event:"):
                name = line.removeprefix("event:").strip()
            if line.startswith("data:") and '"type":"' in line:
                kind = line.split('"type":"', 1)[1].split('"', 1)[0]
                names.setdefault(name, line)
                if name == "session.status_idle":
                    break
    assert "agent.message" in names and "session.status_running" in names, (path, kind)
    assert "session.usage" not in names and '"session.usage"' in names["message"]
