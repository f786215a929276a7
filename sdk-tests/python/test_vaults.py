"""Vaults and credentials over the SDK: api.md §12. A secret goes in and never comes out."""

import json

import anthropic
import pytest

import kit

SECRET = "s3cr3t-that-must-not-come-back"


def vault(client, **more):
    return client.beta.vaults.create(**({"display_name": kit.unique("vault")} | more))


def bearer(client, vault_id, url="https://mcp.example.com/sse", **more):
    auth = {"type": "static_bearer", "token": SECRET, "mcp_server_url": url}
    return client.beta.vaults.credentials.create(vault_id, auth=auth, **more)


def test_vaults_are_made_read_changed_and_listed(client):
    made = vault(client, metadata={"team": "a"})
    assert made.type == "vault" and made.id.startswith("vlt_") and made.archived_at is None
    assert client.beta.vaults.retrieve(made.id) == made
    changed = client.beta.vaults.update(made.id, display_name="Renamed", metadata={"team": None, "b": "2"})
    assert changed.display_name == "Renamed" and changed.metadata == {"b": "2"}
    more = [vault(client).id for _ in range(4)]
    listed = []
    for item in client.beta.vaults.list(limit=2):
        listed.append(item.id)
        if item.id == made.id:
            break
    assert listed == [*more[::-1], made.id]


def test_a_secret_is_never_returned(client):
    home = vault(client)
    oauth = {
        "type": "mcp_oauth",
        "access_token": SECRET,
        "mcp_server_url": "https://oauth.example.com/mcp",
        "refresh": {
            "client_id": "me",
            "refresh_token": SECRET,
            "token_endpoint": "https://oauth.example.com/token",
            "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": SECRET},
        },
    }
    variable = {
        "type": "environment_variable",
        "secret_name": "GITHUB_TOKEN",
        "secret_value": SECRET,
        "networking": {"type": "limited", "allowed_hosts": ["api.github.com"]},
    }
    credentials = client.beta.vaults.credentials
    made = [
        bearer(client, home.id),
        credentials.create(home.id, auth=oauth),
        credentials.create(home.id, auth=variable, display_name="GitHub"),
    ]
    assert [c.auth.type for c in made] == ["static_bearer", "mcp_oauth", "environment_variable"]
    assert made[1].auth.refresh.client_id == "me" and made[2].auth.injection_location.header is True
    seen = made + [credentials.retrieve(c.id, vault_id=home.id) for c in made]
    seen += list(credentials.list(home.id, limit=1))
    seen.append(credentials.update(made[0].id, vault_id=home.id, auth={"type": "static_bearer", "token": SECRET + "2"}))
    assert len(seen) == 10
    for item in seen:
        assert SECRET not in json.dumps(item.to_dict(mode="json"))


def test_one_active_credential_an_address(client):
    home = vault(client)
    first = bearer(client, home.id)
    with pytest.raises(anthropic.ConflictError, match="A credential already exists for this MCP server URL"):
        bearer(client, home.id)
    archived = client.beta.vaults.credentials.archive(first.id, vault_id=home.id)
    assert archived.archived_at is not None
    second = bearer(client, home.id)
    assert [c.id for c in client.beta.vaults.credentials.list(home.id)] == [second.id]
    every = client.beta.vaults.credentials.list(home.id, include_archived=True)
    assert [c.id for c in every] == [second.id, first.id]


def test_a_bearer_needs_its_address_outside_an_llm_vault(client):
    auth = {"type": "static_bearer", "token": SECRET}
    with pytest.raises(anthropic.BadRequestError, match="mcp_server_url"):
        client.beta.vaults.credentials.create(vault(client).id, auth=auth)
    llm = vault(client, metadata={"longhand.role": "llm", "longhand.llm_base_url": "https://models.example.com"})
    made = client.beta.vaults.credentials.create(llm.id, auth=auth)
    assert made.auth.type == "static_bearer"


def test_archive_and_delete(client):
    home = vault(client)
    made = bearer(client, home.id)
    deleted = client.beta.vaults.credentials.delete(made.id, vault_id=home.id)
    assert deleted.id == made.id and deleted.type == "vault_credential_deleted"
    assert client.beta.vaults.archive(home.id).archived_at is not None
    environment = kit.environment(client).id
    with pytest.raises(anthropic.BadRequestError, match="vault_ids"):
        client.beta.sessions.create(agent=kit.agent(client).id, environment_id=environment, vault_ids=[home.id])
    gone = client.beta.vaults.delete(home.id)
    assert gone.id == home.id and gone.type == "vault_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.beta.vaults.retrieve(home.id)
