"""Environments over the SDK: api.md §5."""

import anthropic
import pytest

import kit


def test_create_defaults_to_an_unrestricted_cloud(client):
    made = kit.environment(client)
    assert made.type == "environment" and made.id.startswith("env_") and made.archived_at is None
    assert made.config.type == "cloud" and made.config.networking.type == "unrestricted"
    assert made.config.packages.pip == [] and made.metadata == {}
    assert client.beta.environments.retrieve(made.id) == made


def test_update_changes_only_what_was_sent(client):
    networking = {"type": "limited", "allowed_hosts": ["example.com"]}
    made = kit.environment(client, config={"type": "cloud", "networking": networking}, metadata={"a": "1", "b": "2"})
    assert made.config.networking.allow_package_managers is False
    changed = client.beta.environments.update(made.id, description="new", metadata={"a": "", "b": None, "c": "3"})
    assert changed.description == "new" and changed.metadata == {"c": "3"}
    assert changed.config == made.config and changed.name == made.name


def test_the_type_of_a_config_is_for_life(client):
    made = kit.environment(client)
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.update(made.id, config={"type": "self_hosted"})
    assert caught.value.body["error"]["details"]["error_code"] == "invalid_config_type_change"


def test_a_name_is_taken_once(client):
    made = kit.environment(client)
    with pytest.raises(anthropic.ConflictError):
        kit.environment(client, name=made.name)


def test_list_crosses_pages_newest_first(client):
    made = [kit.environment(client).id for _ in range(5)]
    page = client.beta.environments.list(limit=2)
    assert [e.id for e in page.data] == made[:2:-1] and page.has_next_page()
    listed = []
    for item in client.beta.environments.list(limit=2):
        listed.append(item.id)
        if item.id == made[0]:
            break
    assert listed == made[::-1]


def test_archive_ends_its_use_and_delete_ends_it(client):
    made = kit.environment(client)
    assert client.beta.environments.archive(made.id).archived_at is not None
    assert made.id not in [e.id for e in client.beta.environments.list(limit=100)]
    assert made.id in [e.id for e in client.beta.environments.list(limit=100, include_archived=True)]
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.update(made.id, name="no")
    assert caught.value.body["error"]["details"]["error_code"] == "environment_archived"
    with pytest.raises(anthropic.BadRequestError, match="environment_id"):
        client.beta.sessions.create(agent=kit.agent(client).id, environment_id=made.id)
    deleted = client.beta.environments.delete(made.id)
    assert deleted.id == made.id and deleted.type == "environment_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.beta.environments.retrieve(made.id)
