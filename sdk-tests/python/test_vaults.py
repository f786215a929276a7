"""Vaults and credentials over the SDK: api.md §12. A secret goes in and never comes out."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

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


class Authority:
    """An authorization server and the MCP server it opens: one access token in force, each refresh token once."""

    def __init__(self):
        self.generation = 0
        authority = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                status, answer = authority.token(body) if self.path == "/token" else authority.mcp(self.headers)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.listener.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.listener.server_port}"
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    def token(self, form):
        if parse_qs(form).get("refresh_token") != [f"refresh-{self.generation}"]:
            return 400, {"error": "invalid_grant", "error_description": f"not good: {form}"}
        self.generation += 1
        now = {"access_token": f"access-{self.generation}", "refresh_token": f"refresh-{self.generation}"}
        return 200, now | {"token_type": "bearer", "expires_in": 3600}

    def mcp(self, headers):
        sent = headers.get("authorization")
        if sent != f"Bearer access-{self.generation}":
            return 401, {"error": f"you sent {sent}"}
        return 200, {"jsonrpc": "2.0", "id": 1, "result": {}}

    def close(self):
        self.listener.shutdown()
        self.listener.server_close()


@pytest.fixture
def authority():
    authority = Authority()
    yield authority
    authority.close()


def oauth(client, vault_id, authority, **more):
    refresh = {
        "client_id": "me",
        "refresh_token": "refresh-0",
        "token_endpoint": f"{authority.url}/token",
        "token_endpoint_auth": {"type": "none"},
    }
    auth = {"type": "mcp_oauth", "access_token": "access-0", "mcp_server_url": f"{authority.url}/mcp"}
    return client.beta.vaults.credentials.create(vault_id, auth=auth | {"refresh": refresh} | more)


def test_an_oauth_credential_is_tried_and_refreshed(client, authority):
    home = vault(client)
    made = oauth(client, home.id, authority)
    validate = client.beta.vaults.credentials.mcp_oauth_validate
    found = validate(made.id, vault_id=home.id)
    assert (found.type, found.status, found.has_refresh_token) == ("vault_credential_validation", "valid", True)
    assert found.mcp_probe is None and found.refresh is None
    authority.token("refresh_token=refresh-0")  # somebody else took the refresh token
    found = validate(made.id, vault_id=home.id)
    assert found.status == "invalid"
    assert found.mcp_probe.method == "initialize" and found.mcp_probe.http_response.status_code == 401
    assert "[redacted]" in found.mcp_probe.http_response.body
    assert found.refresh.status == "failed" and found.refresh.http_response.status_code == 400
    assert "access-0" not in found.to_json() and "refresh-0" not in found.to_json()
    auth = {"type": "mcp_oauth", "access_token": "old", "refresh": {"refresh_token": "refresh-1"}}
    client.beta.vaults.credentials.update(made.id, vault_id=home.id, auth=auth)
    found = validate(made.id, vault_id=home.id)
    assert (found.status, found.refresh.status, authority.generation) == ("valid", "succeeded", 2)
    assert client.beta.vaults.credentials.retrieve(made.id, vault_id=home.id).auth.expires_at is not None


def test_only_an_oauth_credential_is_tried(client):
    home = vault(client)
    made = bearer(client, home.id)
    with pytest.raises(anthropic.BadRequestError, match="static_bearer"):
        client.beta.vaults.credentials.mcp_oauth_validate(made.id, vault_id=home.id)


def test_updates_keep_what_is_left_out_and_fixed_fields_stay(client):
    home = vault(client)
    credentials = client.beta.vaults.credentials
    auth = {
        "type": "environment_variable",
        "secret_name": "TOKEN",
        "secret_value": SECRET,
        "networking": {"type": "limited", "allowed_hosts": ["api.example.com"]},
        "injection_location": {"header": True},
    }
    made = credentials.create(home.id, auth=auth, display_name="n", metadata={"a": "1", "b": "2"})
    assert made.auth.injection_location.body is False

    def changed(auth, **more):
        return credentials.update(made.id, vault_id=home.id, auth={"type": "environment_variable"} | auth, **more)

    kept = changed({"secret_value": SECRET + "2"}, metadata={"a": None})
    assert kept.auth == made.auth and kept.display_name == "n" and kept.metadata == {"b": "2"}
    wider = changed({"networking": {"type": "unrestricted"}, "injection_location": {"body": True}}, display_name=None)
    assert wider.auth.networking.type == "unrestricted" and wider.display_name is None
    assert wider.auth.injection_location.header is True and wider.auth.injection_location.body is True
    for wrong in [
        {"injection_location": {"header": False, "body": False}},
        {"injection_location": None},
        {"secret_name": "OTHER"},
        {"networking": {"type": "limited", "allowed_hosts": ["https://api.example.com"]}},
        {"networking": {"type": "limited", "allowed_hosts": ["a.example.com"] * 17}},
    ]:
        with pytest.raises(anthropic.BadRequestError, match=next(iter(wrong))):
            changed(wrong)
    with pytest.raises(anthropic.BadRequestError, match="type"):
        credentials.update(made.id, vault_id=home.id, auth={"type": "static_bearer", "token": "x"})
