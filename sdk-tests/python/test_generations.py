"""Every route that is served, through whichever version of the SDK runs this file: 2.11, the last 1.x, and 0.96, the
first that knows sessions. Whatever a version has no method for goes through its `get` and `post`."""

import re

import anthropic
import pytest

import kit
import routes
import shapes
from compare import HEADERS, Comparison, from_schema

NEWER = int(anthropic.__version__.split(".")[0]) >= 2
# 0.96 sends the values of `anthropic-beta` by which files and skills speak as in their beta.
OLDEST = anthropic.__version__.startswith("0.")
BETA = {"anthropic-beta": "managed-agents-2026-04-01"}
# What an SDK may send and this server refuses, for the reasons that `differences.toml` gives.
REFUSED = {("BetaManagedAgentsUserMessageEventParams.content[]", "variant only of the SDK: redacted")}

# What files and skills were in their beta: our name, and the name of 0.96.
BETA_ANSWERS = {
    "File": ":FileMetadata",
    "DeletedFile": ":DeletedFile",
    "BetaSkill": ":SkillRetrieveResponse",
    "DeletedSkill": ":SkillDeleteResponse",
    "BetaSkillVersion": "skills:VersionRetrieveResponse",
    "DeletedSkillVersion": "skills:VersionDeleteResponse",
}
BETA_NAMES = {
    "ListBetaFiles": "file_list_params:FileListParams",
    "ListSkills": "skill_list_params:SkillListParams",
    "ListSkillVersions": "skills.version_list_params:VersionListParams",
    "UploadFile": "file_upload_params:FileUploadParams",
    "CreateBetaSkill": "skill_create_params:SkillCreateParams",
    "CreateSkillVersion": "skills.version_create_params:VersionCreateParams",
}
# What 0.96 has no call for.
LATER = {
    "UpdateWork", "StopWork", "CreateMemoryStore", "UpdateMemoryStore", "CreateMemory", "UpdateMemory",
    "CreateDeployment", "UpdateDeployment", "CreateDream",
}  # fmt: skip

SERVED = """
POST /v1/agents
GET /v1/agents
GET /v1/agents/{}
POST /v1/agents/{}
POST /v1/agents/{}/archive
GET /v1/agents/{}/versions
POST /v1/environments
GET /v1/environments
GET /v1/environments/{}
POST /v1/environments/{}
DELETE /v1/environments/{}
POST /v1/environments/{}/archive
POST /v1/sessions
GET /v1/sessions
GET /v1/sessions/{}
POST /v1/sessions/{}
DELETE /v1/sessions/{}
POST /v1/sessions/{}/archive
GET /v1/sessions/{}/events
POST /v1/sessions/{}/events
GET /v1/sessions/{}/events/stream
GET /v1/sessions/{}/threads
GET /v1/sessions/{}/threads/{}
POST /v1/sessions/{}/threads/{}/archive
GET /v1/sessions/{}/threads/{}/events
GET /v1/sessions/{}/threads/{}/stream
POST /v1/vaults
GET /v1/vaults
GET /v1/vaults/{}
POST /v1/vaults/{}
DELETE /v1/vaults/{}
POST /v1/vaults/{}/archive
POST /v1/vaults/{}/credentials
GET /v1/vaults/{}/credentials
GET /v1/vaults/{}/credentials/{}
POST /v1/vaults/{}/credentials/{}
DELETE /v1/vaults/{}/credentials/{}
POST /v1/vaults/{}/credentials/{}/archive
GET /v1/models
GET /v1/models/{}
""".split("\n")[1:-1]


@pytest.fixture
def seen(server, recorder):
    """A recorder, and a client of it."""
    front = recorder(server.url)
    with kit.Server.client(front) as client:
        yield front.seen, client


def template(method, path):
    """`GET /v1/agents/{}` of a request that was recorded."""
    return f"{method} {re.sub('/(?:[a-z]+_[1-9A-Za-z]{22}|claude-[^/?]+)', '/{}', path.split('?')[0])}"


def get(client, path, kind=object):
    return client.get(path, cast_to=kind, options={"headers": BETA})


def post(client, path, body=None):
    return client.post(path, cast_to=object, body=body or {}, options={"headers": BETA})


def agents(beta):
    agent = beta.agents.create(name="a", model={"id": kit.MODEL, "speed": "standard"}, metadata={"k": "v"})
    assert beta.agents.retrieve(agent.id).metadata == {"k": "v"}
    newer = beta.agents.update(agent.id, version=agent.version, description="d", metadata={"k": None})
    assert (newer.version, newer.description, newer.metadata) == (agent.version + 1, "d", {})
    assert [one.version for one in beta.agents.versions.list(agent.id)] == [newer.version, agent.version]
    assert agent.id in [one.id for one in beta.agents.list(limit=100)]
    assert beta.agents.archive(agent.id).archived_at is not None


def environments(beta):
    one = beta.environments.create(name=kit.unique(), config={"type": "cloud", "networking": {"type": "unrestricted"}})
    assert beta.environments.retrieve(one.id).config.networking.type == "unrestricted"
    assert beta.environments.update(one.id, description="d").description == "d"
    assert one.id in [other.id for other in beta.environments.list(limit=100)]
    assert beta.environments.archive(one.id).archived_at is not None
    assert beta.environments.delete(one.id).type == "environment_deleted"


def vaults(beta):
    vault = beta.vaults.create(display_name="v")
    assert beta.vaults.retrieve(vault.id).display_name == "v"
    assert beta.vaults.update(vault.id, display_name="w").display_name == "w"
    assert vault.id in [one.id for one in beta.vaults.list(limit=100)]
    auth = {"type": "static_bearer", "token": "t-secret", "mcp_server_url": "https://mcp.example/x"}
    made = beta.vaults.credentials.create(vault.id, auth=auth)
    assert beta.vaults.credentials.retrieve(made.id, vault_id=vault.id).auth.type == "static_bearer"
    assert beta.vaults.credentials.update(made.id, vault_id=vault.id, display_name="c").display_name == "c"
    assert [one.id for one in beta.vaults.credentials.list(vault.id)] == [made.id]
    assert beta.vaults.credentials.archive(made.id, vault_id=vault.id).archived_at is not None
    assert beta.vaults.credentials.delete(made.id, vault_id=vault.id).type == "vault_credential_deleted"
    assert beta.vaults.archive(vault.id).archived_at is not None
    assert beta.vaults.delete(vault.id).type == "vault_deleted"


def sessions(client):
    beta = client.beta
    session = kit.session(client, title="t")
    assert kit.said(kit.say(client, session.id, {"text": "hello"})) == ["hello"]
    assert beta.sessions.retrieve(session.id).status == "idle"
    assert beta.sessions.update(session.id, title="u").title == "u"
    assert session.id in [one.id for one in beta.sessions.list(limit=100)]
    assert kit.said(kit.log(client, session.id)) == ["hello"]
    threads(client, session.id)
    assert beta.sessions.archive(session.id).archived_at is not None
    assert beta.sessions.delete(session.id).type == "session_deleted"


def threads(client, session):
    base = f"/v1/sessions/{session}/threads"
    (thread,) = get(client, base)["data"]
    assert get(client, f"{base}/{thread['id']}")["parent_thread_id"] is None
    log = get(client, f"{base}/{thread['id']}/events")["data"]
    assert "agent.message" in [event["type"] for event in log]
    with pytest.raises(anthropic.BadRequestError):
        post(client, f"{base}/{thread['id']}/archive")


def models(client):
    listed = [one.id for one in client.models.list(limit=100)]
    assert client.models.retrieve(listed[0]).id == listed[0]


def test_every_route_is_served(seen, server):
    requests, client = seen
    agents(client.beta)
    environments(client.beta)
    vaults(client.beta)
    models(client)
    with server.client() as direct:  # a recorder waits for the end of a stream
        sessions(direct)
    sessions_without_streams(client)
    called = {template(method, path) for method, path, _ in requests}
    streams = {one for one in SERVED if one.endswith("/stream")}
    assert called == set(SERVED) - streams
    for _, path, headers in requests:
        assert headers["anthropic-version"] == ("2026-10-21" if NEWER else "2023-06-01")
        assert ("authorization" in headers, "x-api-key" in headers) == (NEWER, not NEWER)


def sessions_without_streams(client):
    beta = client.beta
    session = kit.session(client, title="t")
    beta.sessions.events.send(session.id, events=[kit.message(kit.script({"text": "hello"}))])
    kit.until("an answer", lambda: "hello" in kit.said(kit.idle(client, session.id)))
    beta.sessions.retrieve(session.id)
    beta.sessions.update(session.id, metadata={"k": "v"})
    beta.sessions.list(agent_id=session.agent.id, limit=1)
    threads(client, session.id)
    beta.sessions.archive(session.id)
    beta.sessions.delete(session.id)


def test_a_stream_delivers_every_event_of_the_log(client):
    session = kit.session(client)
    streamed = kit.say(client, session.id, kit.bash("echo out"), {"text": "done"})
    listed = kit.log(client, session.id)
    once = {event.id: event for event in streamed}
    assert [event.id for event in listed] == list(once), "a waiting event is announced first, in its place"
    assert kit.kinds(listed) == [event.type for event in once.values()]
    assert {"session.usage", "session.thread_status_idle"} <= set(kit.kinds(streamed))


def test_the_stream_of_a_thread_is_named_for_the_generation(server, client):
    session = kit.session(client)
    (thread,) = get(client, f"/v1/sessions/{session.id}/threads")["data"]
    path = f"/v1/sessions/{session.id}/threads/{thread['id']}/stream"
    with client.beta.sessions.events.stream(session.id) as shown:
        version = shown.response.request.headers["anthropic-version"]
    answer = anthropic.DefaultHttpxClient(timeout=60)
    key = {"x-api-key": kit.KEY, "anthropic-version": version} | BETA
    names = []
    with answer.stream("GET", server.url + path, headers=key) as stream:
        client.beta.sessions.events.send(session.id, events=[kit.message(kit.script({"text": "hi"}))])
        for line in stream.iter_lines():
            names += [line.removeprefix("event: ")] if line.startswith("event: ") else []
            if names[-1:] == ["session.status_idle"] or names.count("message") > 5:
                break
    assert "agent.message" in names and "message" in names
    assert ("session.thread_status_running" in names) == NEWER


def test_a_conflict_has_the_type_of_the_generation_and_is_not_repeated(seen):
    requests, client = seen
    agent = kit.agent(client)
    before = len(requests)
    with pytest.raises(anthropic.ConflictError) as refusal:
        client.beta.agents.update(agent.id, version=agent.version + 7, name="x")
    assert refusal.value.body["error"]["type"] == ("conflict_error" if NEWER else "invalid_request_error")
    assert len(requests) == before + 1


def test_a_field_that_no_sdk_sends_is_refused_by_its_path(client):
    with pytest.raises(anthropic.BadRequestError, match="`colour`: unknown field"):
        client.beta.agents.create(name="a", model=kit.MODEL, extra_body={"colour": "red"})


def test_whatever_this_sdk_may_send_is_understood():
    """By its own declarations. Nothing else chooses what a request may hold by generation: what the last SDK of the
    older one may send is what that of the newer one may send."""
    ours, found = kit.shapes(), set()
    known = routes.REQUESTS.keys() - (LATER if OLDEST else set())
    for name in known:
        path = routes.REQUESTS[name][1]
        declared = shapes.Shapes()
        shape = declared.of(shapes.load(path))
        comparison = Comparison(declared.types)
        comparison.shapes(path.split(":")[1], shape, from_schema(ours["requests"][name], False)[0])
        found |= comparison.found
    sendable = ("only the SDK", "variant only of the SDK", "value only of the SDK", "required by us", "null for the SDK")
    refused = {one for one in found if one[1].startswith((*sendable, "any text for the SDK"))}
    assert refused - REFUSED == set()


def sent(declared, path):
    """What a call of this SDK sends in its query or form."""
    shape = declared.of(shapes.load(path))
    return declared.types[shape["name"]]["fields"].keys() - HEADERS


def test_whatever_this_sdk_asks_for_files_and_skills_is_understood():
    ours, declared = kit.shapes(), shapes.Shapes()
    names = BETA_NAMES
    if not OLDEST:
        tables = (routes.QUERIES | routes.FORMS).values()
        names = {name: path for name, path in tables if path.startswith(("file_", "skill"))}
    assert len(names) == 6
    for name, path in names.items():
        known = (ours["queries"] | ours["forms"])[name]
        assert sent(declared, path) - routes.IN_PATH.get(path.split(":")[1], set()) <= set(known), name


@pytest.mark.skipif(not OLDEST, reason="the later ones know files and skills as they are now")
def test_files_and_skills_answer_as_the_first_sdk_knows_them():
    ours, found = kit.shapes(), set()
    for name, path in BETA_ANSWERS.items():
        declared = shapes.Shapes()
        shape = declared.of(shapes.load(path))
        comparison = Comparison(declared.types, written=True)
        comparison.shapes(name, shape, from_schema(ours["objects"][name], True)[0])
        found |= comparison.found
    # Later than this SDK, which keeps what it does not know.
    assert found == {("FileMetadata.expires_at", "only we have it")}
