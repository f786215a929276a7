"""What was acknowledged survives the end of the server, and the model sees the same bytes again."""

import pytest

import kit
from kit import bash


@pytest.fixture
def own_model(tmp_path):
    """A scripted model whose counts belong to this test alone."""
    model = kit.Model(tmp_path)
    yield model
    model.kill()


@pytest.mark.parametrize("restart", [False, True], ids=["one server", "killed in the middle"])
def test_over_50_turns_95_percent_of_the_input_is_cache_readable(launch, own_model, restart):
    server = launch(own_model.url)
    client = server.client()
    made = kit.session(client, agent_fields={"system": "You keep a diary. " * 20})
    for number in range(50):
        if restart and number == 25:
            server.kill()
            server = launch.again(server)
            client = server.client()
        steps = [{"text": f"Day {number}: nothing happened."}]
        if number % 10 == 0:
            steps.insert(0, bash(f"echo day {number} | tee -a diary"))
        events = kit.say(client, made.id, *steps)
        assert events[-1].stop_reason.type == "end_turn"
    stats = own_model.stats()
    assert stats["requests"] == 55 and stats["prefix_breaks"] == []
    ratio = stats["cache_read_tokens"] / stats["input_tokens"]
    assert 0.95 <= ratio < 1, f"{ratio:.3f}"
    print(f"cache-readable: {ratio:.4f}")
    usage = client.beta.sessions.retrieve(made.id).usage
    assert usage.cache_read_input_tokens == stats["cache_read_tokens"]


def test_a_session_goes_on_after_kill_9_with_its_history_and_its_files(launch):
    server = launch()
    client = server.client()
    made = kit.session(client, title="kept", metadata={"a": "1"})
    kit.say(client, made.id, bash("echo precious > kept.txt; mkdir d; ln -s ../kept.txt d/link"), {"text": "written"})
    before = kit.log(client, made.id)
    server.kill()
    client = launch.again(server).client()
    again = client.beta.sessions.retrieve(made.id)
    assert again.status == "idle" and again.title == "kept" and again.metadata == {"a": "1"}
    assert [e.to_dict() for e in kit.log(client, made.id)] == [e.to_dict() for e in before]
    events = kit.say(client, made.id, bash("cat kept.txt d/link; pwd"), {"text": "read"})
    assert kit.results(events) == [(False, "precious\nprecious\n/workspace")]
    assert kit.said(kit.log(client, made.id)) == ["written", "read"]


def test_a_turn_that_lost_its_server_while_the_model_spoke_is_taken_up_again(launch, model):
    gate = kit.unique("gate")
    server = launch()
    client = server.client()
    made = kit.session(client)
    task = kit.message(kit.script({"wait": gate, "text": "said once"}))
    sent = client.beta.sessions.events.send(made.id, events=[task]).data[0]
    model.someone_waits_at(gate)
    server.kill()
    model.release(gate)
    client = launch.again(server).client()
    events = kit.idle(client, made.id)
    assert kit.said(events) == ["said once"]
    assert [e.id for e in kit.of(events, "user.message")] == [sent.id]
    assert events[-1].stop_reason.type == "end_turn"


def test_a_call_that_ran_when_its_server_was_killed_gives_its_result_to_the_next(launch):
    server = launch()
    client = server.client()
    made = kit.session(client)
    steps = [bash("echo once >> runs; sync; until test -e go; do sleep 0.05; done; cat runs"), {"text": "seen"}]
    client.beta.sessions.events.send(made.id, events=[kit.message(kit.script(*steps))])
    kit.until("the command to run", lambda: [p for p in (server.home / "data").rglob("runs") if p.read_text() == "once\n"])
    server.kill()
    client = launch.again(server).client()
    workspace = server.home / "data" / "sandboxes" / made.id / "workspace"
    (workspace / "go").touch()
    events = kit.idle(client, made.id)
    assert kit.results(events) == [(False, "once")]
    assert "session.status_rescheduled" in kit.kinds(events)


def test_a_call_that_was_lost_with_its_server_is_reported_as_unknown_and_not_run_again(launch):
    # Its sandbox ends with the server, and what ran in it.
    server = launch(LONGHAND_SANDBOX_ORPHAN_SECONDS="0")
    client = server.client()
    made = kit.session(client)
    steps = [bash("echo once >> runs; sync; sleep 600"), bash("cat runs"), {"text": "seen"}]
    with client.beta.sessions.events.stream(made.id) as stream:
        client.beta.sessions.events.send(made.id, events=[kit.message(kit.script(*steps))])
        for event in stream:
            if event.type == "agent.tool_use":
                break
    workspace = server.home / "data"
    kit.until("the command to run", lambda: [p for p in workspace.rglob("runs") if p.read_text() == "once\n"])
    server.kill()
    client = launch.again(server).client()
    events = kit.idle(client, made.id)
    lost, seen = kit.results(events)
    assert lost[0] is True and "unknown" in lost[1]
    ran, told = seen[1].split("\n", 1)
    assert (seen[0], ran) == (False, "once"), "it ran once and only once"
    assert told.startswith("[The sandbox was lost since the last call:"), "the model is told what it lost"
    assert "session.status_rescheduled" in kit.kinds(events)


def test_sigterm_ends_in_order_and_loses_nothing(launch):
    server = launch()
    client = server.client()
    made = kit.session(client)
    kit.say(client, made.id, {"text": "before"})
    with client.beta.sessions.events.stream(made.id) as stream:
        assert server.terminate() == 0
        assert list(stream) == [], "open streams are ended"
    client = launch.again(server).client()
    assert kit.said(kit.log(client, made.id)) == ["before"]
    assert kit.said(kit.say(client, made.id, {"text": "after"})) == ["after"]
