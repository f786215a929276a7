"""Malformed requests for every served route, made from the OpenAPI document, against the real server.

    python fuzz.py BINARY SECONDS

Nothing may answer 5xx, with a status or a body that the document does not declare, or without a request id. The
server must still be there afterwards, and nothing in it may have panicked.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

KEY = "lh_fuzz0000000000000000000000000000000000000"
HEADERS = {
    "authorization": f"Bearer {KEY}",
    "anthropic-version": "2026-10-21",
    "anthropic-beta": "managed-agents-2026-04-01",
    "content-type": "application/json",
}
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]


def get(url, path, body=None):
    request = urllib.request.Request(url + path, body, HEADERS)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def post(url, path, body):
    return get(url, path, json.dumps(body).encode())


def things(url):
    """One of each, so that requests get past the 404; the fuzzer may delete them."""
    agent = post(url, "/v1/agents", {"name": "fuzz", "model": "claude-sonnet-5-5"})["id"]
    environment = post(url, "/v1/environments", {"name": "fuzz"})["id"]
    session = post(url, "/v1/sessions", {"agent": agent, "environment_id": environment})["id"]
    vault = post(url, "/v1/vaults", {"display_name": "fuzz"})["id"]
    auth = {"type": "static_bearer", "token": "fuzz", "mcp_server_url": "https://mcp.example.com"}
    credential = post(url, f"/v1/vaults/{vault}/credentials", {"auth": auth})["id"]
    thread = get(url, f"/v1/sessions/{session}/threads")["data"][0]["id"]
    workspace = post(url, "/v1/x/workspaces", {"name": "fuzz"})["id"]
    key = post(url, "/v1/x/keys", {"name": "fuzz"})["id"]
    return {
        "agent_id": agent,
        "environment_id": environment,
        "session_id": session,
        "vault_id": vault,
        "credential_id": credential,
        "thread_id": thread,
        "workspace_id": workspace,
        "key_id": key,
    }


def configuration(parameters):
    lines = ["[parameters]"]
    lines += [f'"path.{name}" = "{value}"' for name, value in parameters.items()]
    # The generator of the coverage phase fails by itself on bodies as nested as these; the others do not.
    lines += ["[[operations]]", 'include-method = "POST"', "phases.coverage.enabled = false"]
    return "\n".join(lines) + "\n"


def fuzz(url, home, seconds, document):
    (home / "openapi.json").write_text(document)
    (home / "schemathesis.toml").write_text(configuration(things(url)))
    command = [
        str(pathlib.Path(sys.executable).with_name("schemathesis")),
        "--config-file", str(home / "schemathesis.toml"),
        "run", str(home / "openapi.json"),
        "--url", url,
        "--header", f"Authorization: Bearer {KEY}",
        "--workers", "2",
        "--max-time", str(seconds),
        "--checks", ",".join(CHECKS),
        # A stream has no end to wait for; streams have tests of their own.
        "--exclude-path-regex", "(stream|watch)$",
        "--request-timeout", "20",
        "--continue-on-failure",
        "--generation-database", "none",
        "--no-color",
    ]
    return subprocess.run(command, cwd=home, timeout=seconds + 120).returncode


def main():
    binary, seconds = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    document = subprocess.run([binary, "openapi"], check=True, capture_output=True, text=True).stdout
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LONGHAND_", "ANTHROPIC_", "OPENAI_"))}
    with tempfile.TemporaryDirectory(prefix="longhand-fuzz-") as home:
        home = pathlib.Path(home)
        data = ["--data-dir", str(home / "data")]
        # An operator's key, so that the operators' routes are reached too.
        made = subprocess.run(
            [binary, "keys", "create", "--operator", "--json", *data],
            check=True, capture_output=True, text=True, env=environment,
        )
        global KEY
        KEY = json.loads(made.stdout)["key"]
        HEADERS["authorization"] = f"Bearer {KEY}"
        with open(home / "log", "w") as log:
            server = subprocess.Popen(
                [binary, "serve", "--listen", "127.0.0.1:0", *data],
                stdout=subprocess.PIPE, stderr=log, text=True, env=environment,
            )
            try:
                url = json.loads(server.stdout.readline())["listening"]
                code = fuzz(url, home, seconds, document)
                alive = server.poll() is None
            finally:
                server.terminate()
                server.wait(30)
        log = (home / "log").read_text()
        for word in ("panicked", '"level":"ERROR"'):
            if word in log:
                print(f"the server's log has {word}:")
                print("\n".join(line for line in log.splitlines() if word in line)[:4000])
                code = code or 1
        if not alive:
            print("the server did not survive")
            code = code or 1
        return code


if __name__ == "__main__":
    sys.exit(main())
