"""Sessions and their threads over the SDK: api.md §7 and §10."""

import anthropic
import pytest

import kit


def test_a_new_session_is_idle_and_holds_a_snapshot_of_its_agent(client):
    made_agent = kit.agent(client, system="Be brief.")
    made = client.beta.sessions.create(
        agent=made_agent.id, environment_id=kit.environment(client).id, title="First", metadata={"a": "1"}
    )
    assert made.type == "session" and made.id.startswith("sesn_") and made.status == "idle"
    assert made.title == "First" and made.metadata == {"a": "1"} and made.archived_at is None
    assert made.agent.id == made_agent.id and made.agent.version == 1 and made.agent.system == "Be brief."
    assert made.resources == [] and made.vault_ids == [] and made.budget is None and made.outcome_evaluations == []
    client.beta.agents.update(made_agent.id, system="Be long.")
    again = client.beta.sessions.retrieve(made.id)
    assert again.agent.system == "Be brief."


def test_a_version_can_be_pinned_and_parts_overridden(client):
    made = kit.agent(client, system="one")
    client.beta.agents.update(made.id, system="two")
    home = kit.environment(client).id
    pinned = client.beta.sessions.create(agent={"type": "agent", "id": made.id, "version": 1}, environment_id=home)
    assert pinned.agent.version == 1 and pinned.agent.system == "one"
    override = {"type": "agent_with_overrides", "id": made.id, "system": "three", "tools": []}
    other = client.beta.sessions.create(agent=override, environment_id=home)
    assert other.agent.system == "three" and other.agent.tools == [] and other.agent.version == 2
    with pytest.raises(anthropic.NotFoundError, match="agent.version: 999 not found"):
        client.beta.sessions.create(agent={"type": "agent", "id": made.id, "version": 999}, environment_id=home)


def test_initial_events_start_the_first_turn(client):
    made = kit.session(client, initial_events=[kit.message(kit.script({"text": "started"}))])
    assert made.status == "running"
    assert kit.said(kit.idle(client, made.id)) == ["started"]


def test_usage_and_stats_stand_in_the_session(client):
    made = kit.session(client)
    kit.say(client, made.id, {"text": "hello"})
    after = client.beta.sessions.retrieve(made.id)
    assert after.status == "idle" and after.usage.output_tokens > 0
    assert after.usage.input_tokens + (after.usage.cache_read_input_tokens or 0) > 0
    assert after.usage.active_seconds > 0 and after.stats.active_seconds > 0
    assert after.stats.duration_seconds >= after.stats.active_seconds


def test_update_of_title_and_metadata_is_announced_once(client):
    made = kit.session(client, title="old", metadata={"keep": "1", "drop": "2"})
    changed = client.beta.sessions.update(made.id, title="new", metadata={"drop": None, "add": "3"})
    assert changed.title == "new" and changed.metadata == {"keep": "1", "add": "3"}
    client.beta.sessions.update(made.id, title="new")
    updates = kit.of(kit.log(client, made.id), "session.updated")
    assert len(updates) == 1
    assert updates[0].title == "new" and updates[0].metadata == {"keep": "1", "add": "3"}
    with pytest.raises(anthropic.BadRequestError, match="vault_ids"):
        client.beta.sessions.update(made.id, vault_ids=[])


def many(client, count):
    made = kit.agent(client).id
    home = kit.environment(client).id
    return made, [client.beta.sessions.create(agent=made, environment_id=home).id for _ in range(count)]


def test_lists_go_both_ways_over_pages(client):
    agent, made = many(client, 5)
    newest = [s.id for s in client.beta.sessions.list(agent_id=agent, limit=2)]
    oldest = [s.id for s in client.beta.sessions.list(agent_id=agent, limit=2, order="asc")]
    assert newest == made[::-1] and oldest == made


def test_prev_page_leads_back_to_the_page_before(client):
    agent, made = many(client, 5)
    first = client.beta.sessions.list(agent_id=agent, limit=2)
    assert first.prev_page is None
    second = client.beta.sessions.list(agent_id=agent, limit=2, page=first.next_page)
    third = client.beta.sessions.list(agent_id=agent, limit=2, page=second.next_page)
    assert third.next_page is None and [s.id for s in third.data] == [made[0]]
    back = client.beta.sessions.list(agent_id=agent, limit=2, page=third.prev_page)
    assert [s.id for s in back.data] == [s.id for s in second.data]
    front = client.beta.sessions.list(agent_id=agent, limit=2, page=back.prev_page)
    assert [s.id for s in front.data] == [s.id for s in first.data]


def test_a_cursor_belongs_to_its_order(client):
    agent, _ = many(client, 3)
    page = client.beta.sessions.list(agent_id=agent, limit=1)
    with pytest.raises(anthropic.BadRequestError, match="page token order does not match request"):
        client.beta.sessions.list(agent_id=agent, limit=1, order="asc", page=page.next_page)
    with pytest.raises(anthropic.BadRequestError, match="invalid page cursor"):
        client.beta.sessions.list(agent_id=agent, limit=1, page="page_nonsense")


def test_lists_filter_by_status_version_and_time(client):
    agent, made = many(client, 3)
    client.beta.sessions.archive(made[1])
    listed = client.beta.sessions.list
    assert [s.id for s in listed(agent_id=agent)] == [made[2], made[0]]
    assert [s.id for s in listed(agent_id=agent, include_archived=True)] == made[::-1]
    ended = listed(agent_id=agent, include_archived=True, statuses=["terminated", "running"])
    assert [s.id for s in ended] == [made[1]]
    assert [s.id for s in listed(agent_id=agent, agent_version=2)] == []
    middle = client.beta.sessions.retrieve(made[1]).created_at
    assert [s.id for s in listed(agent_id=agent, created_at_gt=middle)] == [made[2]]
    assert [s.id for s in listed(agent_id=agent, created_at_lt=middle)] == [made[0]]


def test_archive_ends_a_session_and_keeps_its_history(client):
    made = kit.session(client)
    kit.say(client, made.id, {"text": "hello"})
    archived = client.beta.sessions.archive(made.id)
    assert archived.archived_at is not None and archived.status == "terminated"
    events = kit.log(client, made.id)
    assert kit.kinds(events)[-1] == "session.status_terminated" and kit.said(events) == ["hello"]
    with pytest.raises(anthropic.ConflictError):
        client.beta.sessions.events.send(made.id, events=[kit.message("more")])


def test_delete_ends_open_streams(client):
    made = kit.session(client)
    with client.beta.sessions.events.stream(made.id) as stream:
        deleted = client.beta.sessions.delete(made.id)
        assert deleted.id == made.id and deleted.type == "session_deleted"
        assert kit.kinds(stream)[-1:] == ["session.deleted"]
    with pytest.raises(anthropic.NotFoundError):
        client.beta.sessions.retrieve(made.id)
    with pytest.raises(anthropic.NotFoundError):
        client.beta.sessions.events.send(made.id, events=[kit.message("more")])


def test_a_running_session_is_neither_archived_nor_deleted(client, model):
    gate = kit.unique("gate")
    made = kit.session(client, initial_events=[kit.message(kit.script({"wait": gate, "text": "done"}))])
    model.someone_waits_at(gate)
    with pytest.raises(anthropic.BadRequestError, match="Cannot delete session while it is running"):
        client.beta.sessions.delete(made.id)
    with pytest.raises(anthropic.BadRequestError, match="running"):
        client.beta.sessions.archive(made.id)
    model.release(gate)
    assert kit.said(kit.idle(client, made.id)) == ["done"]
    assert client.beta.sessions.delete(made.id).type == "session_deleted"


def test_the_primary_thread(client):
    made = kit.session(client)
    kit.say(client, made.id, {"text": "hello"})
    threads = list(client.beta.sessions.threads.list(made.id))
    assert len(threads) == 1
    thread = threads[0]
    assert thread.type == "session_thread" and thread.id.startswith("sthr_") and thread.session_id == made.id
    assert thread.parent_thread_id is None and thread.status == "idle" and thread.agent.name == made.agent.name
    assert client.beta.sessions.threads.retrieve(thread.id, session_id=made.id).id == thread.id
    first = next(e for e in kit.log(client, made.id) if e.type == "session.thread_status_running")
    assert first.session_thread_id == thread.id and first.agent_name == made.agent.name


def test_the_events_of_the_primary_thread_are_the_sessions(client):
    made = kit.session(client)
    kit.say(client, made.id, {"text": "hello"})
    thread = client.beta.sessions.threads.list(made.id).data[0]
    listed = client.beta.sessions.threads.events.list(thread.id, session_id=made.id, limit=3)
    assert listed.has_next_page()
    assert [e.id for e in listed] == [e.id for e in kit.log(client, made.id)]


def test_the_stream_of_the_primary_thread(client):
    made = kit.session(client)
    thread = client.beta.sessions.threads.list(made.id).data[0]
    stream = client.beta.sessions.threads.events.stream(
        thread.id, session_id=made.id, event_deltas=["agent.message"]
    )
    with stream:
        client.beta.sessions.events.send(made.id, events=[kit.message(kit.script({"text": "hello", "chunks": 3}))])
        events = kit.collect(stream)
    assert "event_delta" in kit.kinds(events) and kit.said(events) == ["hello"]
