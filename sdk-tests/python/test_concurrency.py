"""Many sessions at once, the asynchronous client, and what a client may rely on the moment an event arrives."""

import asyncio

import anthropic
import pytest

import kit


def test_who_has_seen_idle_can_archive_and_delete_at_once(client):
    """The hosted API lags here; a status is committed before the event that announces it."""
    made, home = kit.agent(client).id, kit.environment(client).id
    quick = anthropic.Anthropic(base_url=client.base_url, api_key=kit.KEY, max_retries=0)
    for number in range(20):
        session = quick.beta.sessions.create(agent=made, environment_id=home)
        kit.turn(quick, session.id, kit.message("hi"))
        if number % 2:
            assert quick.beta.sessions.archive(session.id).status == "terminated"
        else:
            assert quick.beta.sessions.delete(session.id).type == "session_deleted"


def test_sessions_at_once_each_get_their_own_answer(server):
    async def one(client, agent, environment, number):
        session = await client.beta.sessions.create(agent=agent, environment_id=environment)
        steps = [kit.bash(f"echo {number} > mine; cat mine")] if number % 4 == 0 else []
        task = kit.script(*steps, {"text": f"answer {number}", "chunks": 4})
        stream = await client.beta.sessions.events.stream(session.id, event_deltas=["agent.message"])
        async with stream:
            await client.beta.sessions.events.send(session.id, events=[kit.message(task)])
            events = []
            async for event in stream:
                events.append(event)
                if event.type == "session.status_idle":
                    break
        assert kit.said(events) == [f"answer {number}"]
        if steps:
            assert kit.results(events) == [(False, str(number))]
        listed = [event.id async for event in client.beta.sessions.events.list(session.id, limit=3)]
        assert listed == [event.id for event in events if not event.type.startswith("event_")]

    async def all_of_them():
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key=kit.KEY) as client:
            agent = await client.beta.agents.create(
                name="a", model=kit.MODEL, tools=[{"type": "agent_toolset_20260401"}]
            )
            environment = await client.beta.environments.create(name=kit.unique("environment"))
            await asyncio.gather(*(one(client, agent.id, environment.id, number) for number in range(24)))

    asyncio.run(all_of_them())


def test_senders_at_once_lose_nothing(server, client, model):
    """Messages of many clients to one session: each is acknowledged once and stands in the log once."""
    gate = kit.unique("gate")
    made = kit.session(client, initial_events=[kit.message(kit.script({"wait": gate, "text": "done"}))])
    model.someone_waits_at(gate)

    async def send(client, number):
        sent = await client.beta.sessions.events.send(made.id, events=[kit.message(f"message {number}")])
        return sent.data[0].id

    async def all_of_them():
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key=kit.KEY, max_retries=0) as client:
            return await asyncio.gather(*(send(client, number) for number in range(40)))

    sent = asyncio.run(all_of_them())
    model.release(gate)
    log = kit.idle(client, made.id)
    assert sorted(event.id for event in kit.of(log, "user.message")[1:]) == sorted(sent)


def test_more_than_a_thousand_waiting_events_are_refused(client, model):
    gate = kit.unique("gate")
    made = kit.session(client, initial_events=[kit.message(kit.script({"wait": gate, "text": "done"}))])
    model.someone_waits_at(gate)
    quick = anthropic.Anthropic(base_url=client.base_url, api_key=kit.KEY, max_retries=0)
    assert len(quick.beta.sessions.events.send(made.id, events=[kit.message("x")] * 1000).data) == 1000
    with pytest.raises(anthropic.RateLimitError):
        quick.beta.sessions.events.send(made.id, events=[kit.message("one too many")])
    model.release(gate)
    assert len(kit.of(kit.idle(client, made.id), "user.message")) == 1001
