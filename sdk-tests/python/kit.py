"""Starts the real server and the scripted model, and the words that every test uses.

Nothing here waits for a fixed time: it waits for a condition, with a deadline.
"""

import http.client
import json
import os
import pathlib
import signal
import subprocess
import threading
import time
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import anthropic

import cluster

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("LONGHAND_BIN", ROOT / "target/debug/longhand"))
SCRIPTED = pathlib.Path(os.environ.get("SCRIPTED_BIN", ROOT / "target/debug/scripted"))
KEY = "lh_sdk_tests_key_0001"
MODEL = "claude-sonnet-5-5"
DEADLINE = 60.0

# What would change the meaning of a test if it leaked in from the shell that runs it.
FOREIGN = ("ANTHROPIC_", "OPENAI_", "LONGHAND_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def clean_environment(**more):
    """The environment of this process without what would change a test."""
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(FOREIGN)}
    # What a test leaves when its server is killed is soon gone.
    kept["LONGHAND_SANDBOX_ORPHAN_SECONDS"] = "15"
    if hand := os.environ.get("LONGHAND_HAND_BIN"):
        kept["LONGHAND_HAND_BIN"] = hand
    return kept | more


def until(what, condition, deadline=DEADLINE):
    """Waits until `condition` returns something true, and returns it."""
    end = time.monotonic() + deadline
    while True:
        if found := condition():
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline:.0f} s in vain for {what}")
        time.sleep(0.02)


class Process:
    """A child that says one JSON line when it is ready."""

    def __init__(self, args, log, **environment):
        self.log = pathlib.Path(log)
        with open(self.log, "ab") as err:
            self.child = subprocess.Popen(
                args,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=err,
                env=clean_environment(**environment),
            )
        watchdog = threading.Timer(DEADLINE, self.child.kill)
        watchdog.start()
        line = self.child.stdout.readline()
        watchdog.cancel()
        if not line.startswith(b"{"):
            self.kill()
            raise AssertionError(f"{args[0]} did not start ({line!r}); its log ends:\n{self.tail()}")
        self.ready = json.loads(line)

    def tail(self):
        return self.log.read_text(errors="replace")[-4000:]

    def kill(self):
        """SIGKILL: the end that nobody can prepare for."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGKILL)
        self.child.wait(DEADLINE)
        self.child.stdout.close()

    def terminate(self):
        """SIGTERM: the end in order. Returns the exit status."""
        self.child.terminate()
        status = self.child.wait(DEADLINE)
        self.child.stdout.close()
        return status


class Model(Process):
    """The scripted model server."""

    def __init__(self, home):
        super().__init__([str(SCRIPTED), "--listen", "127.0.0.1:0"], home / "scripted.log")
        self.url = self.ready["base_url"]

    def _get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def requests(self):
        return self._get("/_scripted/requests")

    def stats(self):
        return self._get("/_scripted/stats")

    def release(self, gate):
        request = urllib.request.Request(f"{self.url}/_scripted/release/{gate}", data=b"", method="POST")
        urllib.request.urlopen(request, timeout=30).close()

    def play(self, *steps):
        """What answers whoever brings no script."""
        request = urllib.request.Request(f"{self.url}/_scripted/script", data=json.dumps(steps).encode(), method="POST")
        urllib.request.urlopen(request, timeout=30).close()

    def someone_waits_at(self, gate):
        until(f"the model to wait at {gate}", lambda: gate in self.stats()["waiting"])


class Server(Process):
    """`longhand serve` on a directory; `restarted` goes on with the same one."""

    def __init__(self, home, model_url, **environment):
        self.home, self.model_url, self.environment = home, model_url, environment
        settings = {
            "LONGHAND_API_KEY": KEY,
            "ANTHROPIC_API_KEY": "sk-scripted-default",
            "ANTHROPIC_BASE_URL": model_url,
            "LONGHAND_EGRESS_ALLOW_PRIVATE": "127.0.0.0/8",
            # No suite dials outside.
            "LONGHAND_EGRESS_ENABLED": "false",
        }
        if cluster.WANTED:
            settings["LONGHAND_SERVER_DATABASE_URL"] = cluster.url(home)
        settings |= environment
        settings = {name: value for name, value in settings.items() if value is not None}
        arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", str(home / "data")]
        super().__init__([str(BINARY), *arguments], home / "longhand.log", **settings)
        self.url = self.ready["listening"]

    def client(self, **options):
        options = {"base_url": self.url, "api_key": KEY} | options
        return anthropic.Anthropic(**options)

    def restarted(self):
        return Server(self.home, self.model_url, **self.environment)


class Recorder:
    """Passes requests on to `upstream` and remembers method, path and headers of each."""

    def __init__(self, upstream):
        seen = self.seen = []
        target = urlsplit(upstream)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen.append((self.command, self.path, headers))
                onward = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
                passed = {k: v for k, v in headers.items() if k not in ("host", "connection", "accept-encoding")}
                onward.request(self.command, self.path, body=body or None, headers=passed)
                answer = onward.getresponse()
                data = answer.read()
                onward.close()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                        self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = handle_any

            def log_message(self, *_):
                pass

        self.listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.listener.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.listener.server_port}"
        self.thread = threading.Thread(target=self.listener.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.listener.shutdown()
        self.listener.server_close()


def shapes():
    """What this server reads and writes, as JSON Schemas by name."""
    program = os.environ.get("LONGHAND_SHAPES", ROOT / "target/debug/examples/shapes")
    return json.loads(subprocess.run([program], check=True, capture_output=True).stdout)


def unique(word="x"):
    return f"{word}-{uuid.uuid4().hex[:12]}"


def script(*steps):
    """What a user says so that the scripted model does these steps. The words differ each time."""
    return f"{unique('task')} SCRIPT: {json.dumps(list(steps))}"


def bash(command, **more):
    return {"tool": "bash", "input": {"command": command}, **more}


def message(text):
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def agent(client, **more):
    fields = {"name": unique("agent"), "model": MODEL, "tools": [{"type": "agent_toolset_20260401"}]} | more
    return client.beta.agents.create(**fields)


def environment(client, **more):
    return client.beta.environments.create(**({"name": unique("environment")} | more))


def session(client, *, agent_fields=None, **more):
    """A new session with an agent and an environment of its own."""
    made = agent(client, **(agent_fields or {}))
    return client.beta.sessions.create(agent=made.id, environment_id=environment(client).id, **more)


def collect(stream, last="session.status_idle"):
    """The events of an open stream up to and including the first of type `last`."""
    events = []
    for event in stream:
        events.append(event)
        if event.type == last:
            return events
    raise AssertionError(f"the stream ended before {last}: {kinds(events)}")


def turn(client, session_id, *events, deltas=None):
    """Opens the stream, then sends, then reads to the end of the turn."""
    options = {"event_deltas": deltas} if deltas else {}
    with client.beta.sessions.events.stream(session_id, **options) as stream:
        client.beta.sessions.events.send(session_id, events=list(events))
        return collect(stream)


def say(client, session_id, *steps, **options):
    """A turn of which the model does `steps`."""
    return turn(client, session_id, message(script(*steps)), **options)


def idle(client, session_id):
    """Waits until the session rests and returns its events."""
    until("the session to be idle", lambda: client.beta.sessions.retrieve(session_id).status == "idle")
    return log(client, session_id)


def log(client, session_id):
    return list(client.beta.sessions.events.list(session_id))


def kinds(events):
    return [event.type for event in events]


def of(events, kind):
    return [event for event in events if event.type == kind]


def text(event):
    """All the text of an event."""
    return "".join(block.text for block in event.content or [] if block.type == "text")


def said(events):
    return [text(event) for event in of(events, "agent.message")]


def results(events):
    """(is_error, text) of each tool result, in order."""
    return [(bool(event.is_error), text(event)) for event in of(events, "agent.tool_result")]


RUNNING = ["session.status_running", "session.thread_status_running"]
IDLE = ["session.thread_status_idle", "session.usage", "session.status_idle"]


def request(*events):
    """The kinds of one model request that produced `events`."""
    return ["span.model_request_start", *events, "span.model_request_end"]
