"""Refusals arrive as the SDK's own classes, with request ids, after the number of tries they deserve."""

import anthropic
import pytest

import kit

ABSENT = "sesn_" + "1" * 22


def test_a_wrong_key_and_no_key(server):
    for key in ("lh_wrong_key_0123456789", "x"):
        with pytest.raises(anthropic.AuthenticationError) as caught:
            server.client(api_key=key).beta.agents.list()
        assert caught.value.body["error"] == {"type": "authentication_error", "message": "Authentication failed"}


def test_either_key_header_is_accepted(server, client):
    made = kit.agent(client)
    old = anthropic.Anthropic(base_url=server.url, api_key="unused", max_retries=0)
    headers = {"Authorization": anthropic.Omit(), "X-Api-Key": kit.KEY, "anthropic-version": "2023-06-01"}
    assert old.beta.agents.retrieve(made.id, extra_headers=headers, extra_query={"beta": "true"}).id == made.id


def test_a_version_conflict_has_the_type_of_the_callers_generation(client):
    made = kit.agent(client)
    headers = {"anthropic-version": "2023-06-01"}
    with pytest.raises(anthropic.ConflictError) as caught:
        client.beta.agents.update(made.id, version=7, name="x", extra_headers=headers)
    assert caught.value.body["error"]["type"] == "invalid_request_error"


def test_unknown_and_malformed_ids_are_not_found(client):
    for id in (ABSENT, "sesn_0", "nonsense", "agent_" + "1" * 22, "a b/c"):
        with pytest.raises(anthropic.NotFoundError) as caught:
            client.beta.sessions.retrieve(id)
        assert caught.value.body["type"] == "error" and caught.value.body["error"]["type"] == "not_found_error"
        assert caught.value.request_id.startswith("req_")
        assert caught.value.request_id == caught.value.body["request_id"]


def test_every_answer_has_a_request_id(client):
    made = kit.agent(client)
    assert made._request_id.startswith("req_")
    assert client.beta.agents.retrieve(made.id)._request_id != made._request_id


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"surprise": 1}, "surprise"),
        ({"name": 7}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"name": "nul\0"}, "name"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, "metadata"),
        ({"tools": [{"type": "agent_toolset_20260401", "configs": [{"name": "fly"}]}]}, "tools[0].configs[0]"),
        ({"model": None}, "model"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(client, body, path):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.agents.create(name="a", model=kit.MODEL, extra_body=body)
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    assert path in caught.value.body["error"]["message"], caught.value.body


def test_a_missing_field_and_an_unknown_query_key_are_named(client):
    with pytest.raises(anthropic.BadRequestError, match="environment_id"):
        client.post("/v1/sessions", body={"agent": "x"}, cast_to=object, options={"headers": BETA})
    with pytest.raises(anthropic.BadRequestError, match="surprise"):
        client.beta.agents.list(extra_query={"surprise": "1"})


BETA = {"anthropic-beta": "managed-agents-2026-04-01"}


def test_a_missing_beta_hides_the_route_and_an_unknown_route_is_unknown(client):
    with pytest.raises(anthropic.NotFoundError):
        client.get("/v1/agents", cast_to=object)
    with pytest.raises(anthropic.NotFoundError):
        client.get("/v1/nothing", cast_to=object, options={"headers": BETA})


def test_a_body_over_32_mb_is_too_large(client):
    made = kit.session(client)
    with pytest.raises(anthropic.ContentTooLargeError) as caught:
        client.beta.sessions.events.send(made.id, events=[kit.message("x" * (33 << 20))])
    assert caught.value.body["error"]["type"] == "request_too_large"
    assert kit.log(client, made.id) == []


def test_what_is_not_built_answers_501_once(server, client, recorder):
    record = recorder(server.url)
    made = kit.session(client)
    with server.client(base_url=record.url) as watched:
        calls = [
            lambda: watched.beta.sessions.resources.list(made.id),
            lambda: watched.beta.files.list(),
            lambda: watched.beta.memory_stores.list(),
            lambda: watched.beta.deployments.list(),
            lambda: watched.beta.skills.list(),
        ]
        for number, call in enumerate(calls, start=1):
            with pytest.raises(anthropic.HTTPNotImplementedError) as caught:
                call()
            assert caught.value.body["error"]["details"]["error_code"] == "not_implemented"
            assert len(record.seen) == number, "a route that is not there is not asked for again"


def test_a_foreign_workspace_is_forbidden(client):
    with pytest.raises(anthropic.PermissionDeniedError):
        client.beta.agents.list(workspace_id="wrkspc_" + "1" * 22)


def test_a_refused_batch_leaves_nothing_behind(client):
    made = kit.session(client)
    events = [kit.message("good"), {"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_" + "1" * 22}]
    with pytest.raises(anthropic.BadRequestError, match=r"events\[1\]|sevt_"):
        client.beta.sessions.events.send(made.id, events=events)
    assert kit.log(client, made.id) == []


MCP = [{"type": "url", "name": "docs", "url": "https://mcp.example.com"}]
ROLE = {"type": "aws_role", "role_arn": "arn:aws:iam::123456789012:role/agent"}


@pytest.mark.parametrize(
    ("agent", "environment", "fields", "path"),
    [
        ({}, {}, {"resources": [{"type": "file", "file_id": "file_" + "1" * 22}]}, "resources"),
        ({"skills": [{"type": "anthropic", "skill_id": "xlsx"}]}, {}, {}, "agent.skills"),
        (
            {"mcp_servers": MCP, "tools": [{"type": "mcp_toolset", "mcp_server_name": "docs"}]},
            {},
            {},
            "agent.tools[0]",
        ),
        (
            {"tools": [{"type": "agent_toolset_20260401", "configs": [{"name": "web_fetch", "enabled": True}]}]},
            {},
            {},
            "agent.tools[0].configs[0]",
        ),
        ({"execution_identity": ROLE}, {}, {}, "agent.execution_identity"),
        ({"model": {"id": "claude-sonnet-5-5", "speed": "fast"}}, {}, {}, "agent.model.speed"),
        ({"model": {"id": "claude-sonnet-5-5", "inference_geo": "us"}}, {}, {}, "agent.model.inference_geo"),
        ({}, {"config": {"type": "self_hosted"}}, {}, "environment_id"),
        (
            {},
            {"config": {"type": "cloud", "packages": {"type": "packages", "pip": ["pandas"]}}},
            {},
            "environment_id",
        ),
    ],
)
def test_a_session_that_needs_what_is_not_built_is_refused_naming_the_field(
    client, agent, environment, fields, path
):
    made, home = kit.agent(client, **agent), kit.environment(client, **environment)
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.sessions.create(agent=made.id, environment_id=home.id, **fields)
    error = caught.value.body["error"]
    assert f"`{path}`" in error["message"] and "not_implemented" in error["message"]
    assert error["details"]["error_code"] == "not_implemented"
    assert list(client.beta.sessions.list(agent_id=made.id)) == []


def test_events_that_are_not_built_are_refused_naming_the_type(client):
    event = {"type": "user.tool_result", "tool_use_id": "sevt_" + "1" * 22}
    made = kit.session(client)
    with pytest.raises(anthropic.BadRequestError, match=r"events\[1\].type"):
        client.beta.sessions.events.send(made.id, events=[kit.message("x"), event])
    assert kit.log(client, made.id) == []


def test_a_session_takes_a_vault_with_variables(client):
    vault = client.beta.vaults.create(display_name="keys")
    auth = {
        "type": "environment_variable",
        "secret_name": "TOKEN",
        "secret_value": "s3cret",
        "networking": {"type": "unrestricted"},
    }
    client.beta.vaults.credentials.create(vault.id, auth=auth)
    made, home = kit.agent(client), kit.environment(client)
    session = client.beta.sessions.create(agent=made.id, environment_id=home.id, vault_ids=[vault.id])
    assert session.vault_ids == [vault.id]
