"""Agents over the SDK: api.md §4, and the recorded answers to stale versions and archived agents."""

import anthropic
import pytest

import kit


def test_create_fills_in_what_was_left_out(client):
    made = client.beta.agents.create(name="Coder", model=kit.MODEL, tools=[{"type": "agent_toolset_20260401"}])
    assert made.type == "agent" and made.id.startswith("agent_") and made.version == 1
    assert made.model.id == kit.MODEL
    assert made.description is None and made.system is None and made.multiagent is None
    assert made.metadata == {} and made.skills == [] and made.mcp_servers == [] and made.archived_at is None
    toolset = made.tools[0]
    assert toolset.configs == []
    assert toolset.default_config.enabled and toolset.default_config.permission_policy.type == "always_allow"
    assert client.beta.agents.retrieve(made.id) == made


def test_custom_tools_keep_every_key_of_their_schema(client):
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "minLength": 2}},
        "required": ["city"],
        "additionalProperties": False,
    }
    tool = {"type": "custom", "name": "weather", "description": "The weather.", "input_schema": schema}
    made = kit.agent(client, tools=[tool])
    assert client.beta.agents.retrieve(made.id).to_dict()["tools"] == [tool]


def test_update_replaces_keeps_clears_and_counts_versions(client):
    made = kit.agent(client, system="Be brief.", metadata={"team": "a", "gone": "soon"})
    changed = client.beta.agents.update(
        made.id, version=1, name="Renamed", system=None, metadata={"gone": None, "new": "yes"}
    )
    assert changed.version == 2 and changed.name == "Renamed" and changed.system is None
    assert changed.metadata == {"team": "a", "new": "yes"}
    assert changed.tools == made.tools and changed.created_at == made.created_at
    assert client.beta.agents.retrieve(made.id, version=1).name == made.name
    assert client.beta.agents.retrieve(made.id).version == 2


def test_an_update_that_changes_nothing_keeps_the_version(client):
    made = kit.agent(client, system="Be brief.")
    assert client.beta.agents.update(made.id, system="Be brief.").version == 1


def test_a_stale_version_is_a_conflict_that_is_not_retried(server, recorder):
    record = recorder(server.url)
    with server.client(base_url=record.url) as client:
        made = kit.agent(client)
        client.beta.agents.update(made.id, version=1, name="first")
        before = len(record.seen)
        with pytest.raises(anthropic.ConflictError) as caught:
            client.beta.agents.update(made.id, version=1, name="second")
        assert len(record.seen) == before + 1, "x-should-retry: false keeps the SDK from asking again"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.body["error"]["type"] == "conflict_error"
    assert "Concurrent modification detected" in caught.value.body["error"]["message"]
    assert caught.value.request_id == caught.value.body["request_id"]


def test_list_is_newest_first_and_its_iterator_crosses_pages(client):
    made = [kit.agent(client).id for _ in range(5)]
    mark = client.beta.agents.retrieve(made[0]).created_at
    page = client.beta.agents.list(limit=2, created_at_gte=mark)
    assert len(page.data) == 2 and page.has_next_page()
    listed = [item.id for item in client.beta.agents.list(limit=2, created_at_gte=mark)]
    assert listed == made[::-1]


def test_archive_keeps_the_version_hides_and_freezes(client):
    made = kit.agent(client)
    archived = client.beta.agents.archive(made.id)
    assert archived.archived_at is not None and archived.version == 1
    mark = made.created_at
    assert made.id not in [a.id for a in client.beta.agents.list(created_at_gte=mark)]
    assert made.id in [a.id for a in client.beta.agents.list(created_at_gte=mark, include_archived=True)]
    with pytest.raises(anthropic.BadRequestError, match="Cannot modify archived agent"):
        client.beta.agents.update(made.id, name="no")
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.create(agent=made.id, environment_id=kit.environment(client).id)


def test_versions_are_whole_agents_newest_first_over_pages(client):
    made = kit.agent(client)
    for number in range(2, 6):
        client.beta.agents.update(made.id, description=f"version {number}")
    versions = list(client.beta.agents.versions.list(made.id, limit=2))
    assert [v.version for v in versions] == [5, 4, 3, 2, 1]
    assert [v.description for v in versions] == ["version 5", "version 4", "version 3", "version 2", None]


def test_a_version_that_never_was_is_not_found(client):
    made = kit.agent(client)
    with pytest.raises(anthropic.NotFoundError, match="Agent version not found"):
        client.beta.agents.retrieve(made.id, version=999)
