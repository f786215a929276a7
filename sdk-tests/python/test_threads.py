"""Teams: a coordinator and its threads, what each list and stream shows, answers, interrupts, archive; the advisor."""

import json

import anthropic
import pytest
from anthropic.lib.sessions import accumulate_managed_agents_event

import kit

CREATED = "session.thread_created"
THREAD_IDLE = "session.thread_status_idle"
THREAD_RUNNING = "session.thread_status_running"
SENT = "agent.thread_message_sent"
RECEIVED = "agent.thread_message_received"
ADVISOR = "anthropic.advisor"


def send_to(agent, *steps):
    """The coordinator's call that gives an agent something to do in a thread of its own."""
    return {"name": "send_to_agent", "input": {"agent": agent, "message": kit.script(*steps)}}


def team(client, *, advisor=False, **more):
    """A session whose agent leads a coder (and asks an advisor)."""
    fields = {"name": "coder", "description": "writes code"} | more
    coder = kit.agent(client, **fields)
    agents = [coder.id] + ([{"type": "advisor", "model": kit.MODEL}] if advisor else [])
    return kit.session(client, agent_fields={"multiagent": {"type": "coordinator", "agents": agents}})


def children(client, session_id):
    return [t for t in client.beta.sessions.threads.list(session_id) if t.parent_thread_id]


def shown(client, session_id, thread_id):
    return list(client.beta.sessions.threads.events.list(thread_id, session_id=session_id))


def fold(events):
    """The status of each thread, and of the session, as a client folds them; the session's is always that of all."""
    threads, session = {}, "idle"
    for event in events:
        kind = event.type
        if kind.startswith("session.thread_status_"):
            threads[event.session_thread_id] = kind.rsplit("_", 1)[1]
        elif kind.startswith("session.status_"):
            session = kind.rsplit("_", 1)[1]
            if session == "idle":
                assert "running" not in threads.values(), threads
    return session, threads


def test_a_coordinator_gives_work_and_hears_the_answer(client):
    made = team(client)
    calls = {"tools": [send_to("coder", {"text": "forty-two"})]}
    events = kit.say(client, made.id, calls, {"text": "I wait"}, {"text": "it is forty-two"})
    [primary] = [t for t in client.beta.sessions.threads.list(made.id) if t.parent_thread_id is None]
    [child] = children(client, made.id)
    [created] = kit.of(events, CREATED)
    assert (created.agent_name, created.session_thread_id) == ("coder", child.id)
    # The primary sends and hears; the thread hears and sends.
    [sent], [heard] = kit.of(events, SENT), kit.of(events, RECEIVED)
    assert (sent.to_session_thread_id, sent.to_agent_name) == (child.id, "coder")
    assert (heard.from_session_thread_id, heard.from_agent_name) == (child.id, "coder")
    assert heard.content[0].text == "forty-two"
    own = shown(client, made.id, child.id)
    work = kit.request("agent.message")
    assert kit.kinds(own) == [THREAD_RUNNING, RECEIVED, *work, SENT, THREAD_IDLE]
    assert own[1].from_session_thread_id == primary.id and own[1].from_agent_name is None
    assert own[-2].to_session_thread_id == primary.id and own[-2].to_agent_name is None
    # One row seen from two places: the same ids on the session's list.
    log = {e.id for e in kit.log(client, made.id)}
    crossed = [e for e in own if e.id in log]
    assert kit.kinds(crossed) == [THREAD_RUNNING, THREAD_IDLE]
    assert fold(kit.log(client, made.id)) == ("idle", {primary.id: "idle", child.id: "idle"})
    assert kit.said(events)[-1] == "it is forty-two" and events[-1].stop_reason.type == "end_turn"
    # What each used, and all together.
    session = client.beta.sessions.retrieve(made.id)
    assert child.usage.output_tokens > 0 and child.stats.startup_seconds == 0
    assert session.usage.output_tokens == primary.usage.output_tokens + child.usage.output_tokens
    assert child.agent.type == "agent" and child.agent.name == "coder" and child.status == "idle"


def test_threads_share_the_sandbox_and_not_the_conversation(client):
    made = team(client, tools=[{"type": "agent_toolset_20260401"}])
    calls = {"tools": [send_to("coder", kit.bash("echo kept > /workspace/note"), {"text": "written"})]}
    read = kit.bash("cat /workspace/note")
    events = kit.say(client, made.id, calls, {"text": "I wait"}, read, {"echo_results": True})
    assert "kept" in kit.said(events)[-1]
    [child] = children(client, made.id)
    assert "user.message" not in kit.kinds(shown(client, made.id, child.id))


def test_a_question_of_a_thread_is_answered_by_its_call_alone_or_with_its_thread(client):
    custom = {"type": "custom", "name": "ask", "description": "asks", "input_schema": {"type": "object"}}
    made = team(client, tools=[custom])
    ask = {"tools": [{"name": "ask"}]}
    calls = {"tools": [send_to("coder", ask, ask, {"text": "thanks"})]}
    events = kit.say(client, made.id, calls, {"text": "I wait"}, {"text": "all done"})
    [child] = children(client, made.id)
    [use] = kit.of(events, "agent.custom_tool_use")
    assert use.session_thread_id == child.id
    assert events[-1].stop_reason.event_ids == [use.id]
    [primary] = [t for t in client.beta.sessions.threads.list(made.id) if t.parent_thread_id is None]
    answer = {"type": "user.custom_tool_result", "custom_tool_use_id": use.id, "content": []}
    with pytest.raises(anthropic.BadRequestError, match="session_thread_id"):
        kit.turn(client, made.id, answer | {"session_thread_id": primary.id})
    with pytest.raises(anthropic.BadRequestError, match="waiting on responses"):
        kit.turn(client, made.id, kit.message("hello"))
    events = kit.turn(client, made.id, answer)
    [result] = kit.of(events, "user.custom_tool_result")
    assert result.session_thread_id == child.id
    [use] = kit.of(events, "agent.custom_tool_use")
    answer = answer | {"custom_tool_use_id": use.id, "session_thread_id": child.id}
    events = kit.turn(client, made.id, answer)
    assert kit.said(events)[-1] == "all done"


def test_an_interrupt_reaches_one_thread_or_all(client, model):
    made, gates = team(client), [kit.unique("gate"), kit.unique("gate")]
    work = [send_to("coder", {"text": "never", "wait": gate}) for gate in gates]
    with client.beta.sessions.events.stream(made.id) as stream:
        client.beta.sessions.events.send(made.id, events=[kit.message(kit.script({"tools": work}, {"text": "I wait"}))])
        for gate in gates:
            model.someone_waits_at(gate)
        first, second = children(client, made.id)
        assert first.status == second.status == "running"
        with pytest.raises(anthropic.BadRequestError, match="Cannot archive thread while it is running"):
            client.beta.sessions.threads.archive(first.id, session_id=made.id)
        stop = {"type": "user.interrupt", "session_thread_id": first.id}
        client.beta.sessions.events.send(made.id, events=[stop])
        kit.until("the first to stop", lambda: children(client, made.id)[0].status == "idle")
        assert children(client, made.id)[1].status == "running"
        assert client.beta.sessions.retrieve(made.id).status == "running"
        client.beta.sessions.events.send(made.id, events=[{"type": "user.interrupt"}])
        events = kit.collect(stream)
    assert events[-1].stop_reason.type == "end_turn"
    assert [t.status for t in children(client, made.id)] == ["idle", "idle"]
    interrupts = kit.of(kit.log(client, made.id), "user.interrupt")
    assert [e.session_thread_id for e in interrupts] == [first.id, None]


def test_an_archived_thread_is_terminated_and_takes_nothing_more(client):
    made = team(client)
    kit.say(client, made.id, {"tools": [send_to("coder", {"text": "one"})]}, {"text": "I wait"}, {"text": "fine"})
    [child] = children(client, made.id)
    gone = client.beta.sessions.threads.archive(child.id, session_id=made.id)
    assert gone.status == "terminated" and gone.archived_at
    assert client.beta.sessions.threads.archive(child.id, session_id=made.id) == gone
    assert kit.log(client, made.id)[-1].type == "session.thread_status_terminated"
    told = {"name": "send_to_agent", "input": {"thread_id": child.id, "message": "more"}}
    events = kit.say(client, made.id, {"tools": [told]}, {"echo_results": True})
    assert kit.of(events, "agent.tool_result")[0].is_error and "has ended" in kit.said(events)[-1]
    listed = client.beta.sessions.threads.list(made.id, statuses=["terminated"])
    assert [t.id for t in listed] == [child.id]
    [primary] = client.beta.sessions.threads.list(made.id, limit=1).data
    assert primary.parent_thread_id is None
    with pytest.raises(anthropic.BadRequestError, match="Archive the session instead"):
        client.beta.sessions.threads.archive(primary.id, session_id=made.id)


def test_a_twenty_sixth_thread_is_a_tool_error(client):
    made = team(client)
    many = {"tools": [send_to("coder", {"text": "done"}) for _ in range(26)]}
    events = kit.say(client, made.id, many, {"text": "I wait"})
    refused = [e for e in kit.of(events, "agent.tool_result") if e.is_error]
    assert len(refused) == 1 and "25 threads" in refused[0].content[0].text
    assert len(children(client, made.id)) == 25
    pages = client.beta.sessions.threads.list(made.id, limit=10)
    assert len(pages.data) == 10 and len(list(pages)) == 26


def test_who_may_be_in_a_team_is_checked(client):
    coder = kit.agent(client, name="coder")
    lead = kit.agent(client, multiagent={"type": "coordinator", "agents": [coder.id]})
    archived = kit.agent(client)
    client.beta.agents.archive(archived.id)
    advisor = {"type": "advisor", "model": kit.MODEL}
    wrong = [
        ["agent_111111111111111111111z"],
        [archived.id],
        [lead.id],
        [advisor, advisor],
        [{"type": "self"}, {"type": "self"}],
        [coder.id] * 2,
        [kit.agent(client, name=f"a{n}").id for n in range(21)],
        [],
    ]
    for agents in wrong:
        with pytest.raises(anthropic.BadRequestError, match="multiagent"):
            kit.agent(client, multiagent={"type": "coordinator", "agents": agents})
    # Archived meanwhile: the session says so.
    client.beta.agents.archive(coder.id)
    with pytest.raises(anthropic.BadRequestError, match="multiagent"):
        client.beta.sessions.create(agent=lead.id, environment_id=kit.environment(client).id)


def test_an_advisor_is_asked_and_never_fails_the_turn(client):
    made = team(client, advisor=True)
    ask = {"tools": [{"name": "ask_advisor", "input": {"question": kit.script({"text": "mind the gap"})}}]}
    events = kit.say(client, made.id, ask, {"echo_results": True})
    about = [e for e in events if getattr(e, "agent_name", None) == ADVISOR or e.type == RECEIVED]
    assert kit.kinds(about) == [CREATED, THREAD_RUNNING, RECEIVED, THREAD_IDLE, "session.thread_status_terminated"]
    assert about[2].from_agent_name == ADVISOR and about[2].content[0].text == "mind the gap"
    assert "mind the gap" in kit.said(events)[-1]
    assert not kit.of(events, "agent.tool_use") and not kit.of(events, "agent.tool_result")
    [child] = children(client, made.id)
    assert (child.status, child.agent.type, child.agent.model) == ("terminated", "advisor", kit.MODEL)
    assert child.usage.output_tokens > 0
    refusing = {"tools": [{"name": "ask_advisor", "input": {"question": kit.script({"error": 400})}}]}
    events = kit.say(client, made.id, refusing, {"text": "I go on without"})
    assert kit.said(events)[-1] == "I go on without" and events[-1].stop_reason.type == "end_turn"


def test_subagents_may_be_made_up_and_workflows_are_only_echoed(client):
    made = kit.session(client, agent_fields={"multiagent": {"type": "multiagent_20261001"}})
    echoed = made.agent.multiagent
    assert echoed.subagents.inline_agents.type == "enabled" and echoed.workflows.type == "enabled"
    assert echoed.advisor.type == "disabled"
    new = {"name": "poet", "system": "You rhyme.", "message": kit.script({"text": "a rhyme"})}
    calls = {"tools": [{"name": "send_to_new_agent", "input": new}]}
    events = kit.say(client, made.id, calls, {"text": "I wait"}, {"text": "a fine rhyme"})
    assert kit.said(events)[-1] == "a fine rhyme"
    [child] = children(client, made.id)
    assert (child.agent.type, child.agent.name, child.agent.system) == ("inline", "poet", "You rhyme.")


def test_the_stream_of_a_thread_shows_all_it_does_with_deltas(client, model):
    made, gate = team(client), kit.unique("gate")
    calls = {"tools": [send_to("coder", {"text": "first"}, {"text": "second words", "wait": gate})]}
    kit.say(client, made.id, calls, {"text": "I wait"}, {"text": "fine"})
    [child] = children(client, made.id)
    more = {"name": "send_to_agent", "input": {"thread_id": child.id, "message": "go on"}}
    with client.beta.sessions.threads.events.stream(
        child.id, session_id=made.id, event_deltas=["agent.message"]
    ) as stream:
        sent = [kit.message(kit.script({"tools": [more]}, {"text": "I wait"}, {"text": "good"}))]
        client.beta.sessions.events.send(made.id, events=sent)
        model.someone_waits_at(gate)
        model.release(gate)
        events = kit.collect(stream, THREAD_IDLE)
    deltas = [e.delta.content.text for e in events if e.type == "event_delta"]
    [said] = kit.said([e for e in events if e.type == "agent.message"])
    assert said == "second words" and said.startswith("".join(deltas)) and deltas
    assert all(getattr(e, "session_thread_id", child.id) == child.id for e in events)


def test_a_server_that_dies_in_the_middle_of_a_delegation_is_taken_over(launch, model):
    gate = kit.unique("gate")
    server = launch()
    with server.client() as client:
        made = team(client)
        calls = {"tools": [send_to("coder", {"wait": gate, "text": "late"})]}
        client.beta.sessions.events.send(
            made.id, events=[kit.message(kit.script(calls, {"text": "I wait"}, {"text": "at last"}))]
        )
        model.someone_waits_at(gate)
    server.kill()
    again = launch.again(server)
    with again.client() as client:
        model.release(gate)
        events = kit.idle(client, made.id)
    assert "at last" in kit.said(events)
    [heard] = kit.of(events, RECEIVED)
    assert heard.content[0].text == "late"
    session, threads = fold(events)
    assert session == "idle" and set(threads.values()) == {"idle"}


def accumulated(events):
    """Every message of a stream as the SDK's helper accumulates it, each from its own previews, by id."""
    snapshots, whole = {}, {}
    for event in events:
        if event.type == "event_start" and event.event.type == "agent.message":
            snapshots[event.event.id] = accumulate_managed_agents_event(None, event)
        elif event.type == "event_delta":
            snapshots[event.event_id] = accumulate_managed_agents_event(snapshots[event.event_id], event)
        elif event.type == "agent.message":
            previewed = snapshots.pop(event.id)
            whole[event.id] = accumulate_managed_agents_event(previewed, event)
            assert [part.text for part in previewed.content] == [part.text for part in event.content]
        else:
            # What is no message leaves what was accumulated as it is.
            kept = next(iter(snapshots.values()), None)
            assert accumulate_managed_agents_event(kept, event) is kept
    assert not snapshots, "a preview without its message"
    return whole


def test_the_accumulating_helper_folds_a_coordinator_an_advisor_and_an_outcome(client):
    made = team(client, advisor=True)
    ask = {"name": "ask_advisor", "input": {"question": kit.script({"text": "mind the gap", "chunks": 3})}}
    give = send_to("coder", {"text": "forty two it is", "chunks": 4})
    words = [{"text": "I wait for it", "chunks": 3}, {"text": "heard all of it", "chunks": 4}]
    steps = [{"tools": [ask]}, {"tools": [give]}, *words]
    verdict = {"on": "grade", "text": json.dumps({"verdict": "satisfied", "explanation": "it is short"})}
    outcome = {
        "type": "user.define_outcome",
        "description": kit.script(*steps, verdict),
        "rubric": {"type": "text", "content": "It is short."},
    }
    events = kit.turn(client, made.id, outcome, deltas=["agent.message"])
    whole = accumulated(events)
    assert [message.content[0].text for message in whole.values()] == kit.said(events)
    assert kit.said(events)[-1] == "heard all of it"
    advice = [e for e in kit.of(events, RECEIVED) if e.from_agent_name == ADVISOR]
    assert kit.text(advice[0]) == "mind the gap", "advice comes whole, and has no preview"
    assert "span.outcome_evaluation_end" in kit.kinds(events)
    # A thread's own stream and list show its message; the primary's shows neither it nor its previews.
    [child] = [t for t in children(client, made.id) if t.agent.type == "agent"]
    own = [e.id for e in shown(client, made.id, child.id) if e.type == "agent.message"]
    assert own and not set(own) & set(whole)
