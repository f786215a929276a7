"""The official SDKs inside a sandbox: they find the session's model and a stand-in for its key by themselves."""

import os
import pathlib
import shutil

import anthropic
import pytest

import kit

# The modules that this program runs with, and those of the TypeScript tests.
PYTHON = pathlib.Path(anthropic.__file__).parents[1]
TYPESCRIPT = kit.ROOT / "sdk-tests/typescript/node_modules"
# What the TypeScript SDK needs of its neighbours.
NEEDED = ["@anthropic-ai", "@babel", "@opentelemetry", "@stablelib"]
NEEDED += ["fast-sha256", "json-schema-to-ts", "standardwebhooks", "ts-algebra"]

IN_PYTHON = """
import anthropic
ask = dict(model="claude-sonnet-5-5", max_tokens=50, messages=[{"role": "user", "content": "said by Python"}])
client = anthropic.Anthropic(max_retries=0)
print(client.api_key.startswith("stand-in-"), anthropic.__version__)
print("whole:", client.messages.create(**ask).content[0].text)
with client.messages.stream(**ask) as stream:
    print("streamed:", "".join(stream.text_stream))
print("beta:", client.beta.messages.create(**ask).content[0].text)
try:
    anthropic.Anthropic(api_key="another", max_retries=0).messages.create(**ask)
except anthropic.AuthenticationError as refused:
    print("another key:", refused.status_code)
try:
    client.messages.batches.list()
except anthropic.NotFoundError as refused:
    print("another path:", refused.status_code)
"""

IN_TYPESCRIPT = """
const { default: Anthropic } = require("@anthropic-ai/sdk");
const { VERSION } = require("@anthropic-ai/sdk/version");
const ask = { model: "claude-sonnet-5-5", max_tokens: 50, messages: [{ role: "user", content: "said by TypeScript" }] };
(async () => {
  const client = new Anthropic({ maxRetries: 0 });
  console.log(client.apiKey.startsWith("stand-in-"), VERSION);
  console.log("whole:", (await client.messages.create(ask)).content[0].text);
  console.log("streamed:", await client.messages.stream(ask).finalText());
  console.log("beta:", (await client.beta.messages.create(ask)).content[0].text);
  const other = new Anthropic({ maxRetries: 0, apiKey: "another" });
  await other.messages.create(ask).catch((refused) => console.log("another key:", refused.status));
  await client.messages.batches.list().catch((refused) => console.log("another path:", refused.status));
})();
"""


def sandboxed(server, client):
    """A session whose programs may ask its model, and the workspace of its sandbox with the SDKs in it."""
    made = kit.session(client, metadata={"longhand.sandbox_model": "true"})
    kit.say(client, made.id, kit.bash("true"), {"text": "it is there"})
    workspace = server.home / "data/sandboxes" / made.id / "workspace"
    tools = shutil.ignore_patterns("pip*", "setuptools*", "pkg_resources", "_pytest*", "pygments*", "__pycache__")
    shutil.copytree(PYTHON, workspace / "python", ignore=tools)
    for name in NEEDED:
        # Some of them are only there for some versions.
        if (TYPESCRIPT / name).is_dir():
            shutil.copytree(TYPESCRIPT / name, workspace / "node_modules" / name)
    (workspace / "ask.py").write_text(IN_PYTHON)
    (workspace / "ask.cjs").write_text(IN_TYPESCRIPT)
    return made.id


@pytest.mark.skipif(os.geteuid() != 0, reason="a server without root's rights has no stand-ins (docs/vaults.md)")
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("Python", "PYTHONPATH=/workspace/python /usr/bin/python3 ask.py"),
        ("TypeScript", "node ask.cjs"),
    ],
)
def test_an_official_sdk_asks_the_sessions_model_with_its_stand_in(launch, name, command):
    server = launch(LONGHAND_EGRESS_ENABLED="true")
    with server.client() as client:
        session = sandboxed(server, client)
        before = client.beta.sessions.retrieve(session).usage
        events = kit.say(client, session, kit.bash(command), {"text": "done"})
        [(is_error, told)] = kit.results(events)
        assert not is_error, told
        first, *rest = told.strip().splitlines()
        assert first.lower().startswith("true "), told
        said = f"You said: said by {name}"
        expected = [f"whole: {said}", f"streamed: {said}", f"beta: {said}", "another key: 401", "another path: 404"]
        assert rest == expected, told
        # Its own two requests, and the three that were answered.
        spans = kit.of(events, "span.model_request_end")
        assert len(spans) == 5, events
        paid = client.beta.sessions.retrieve(session).usage.output_tokens - before.output_tokens
        assert paid == sum(span.model_usage.output_tokens for span in spans)
