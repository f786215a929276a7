"""The SDK's own examples that need nothing unbuilt, unchanged, out of the source distribution that the registry has.

They send first and open the stream then, and count on a model that takes its time: so the model waits here until
somebody watches. `cargo xtask sdk` fetches the distribution; nothing of it is kept in the repository.
"""

import subprocess
import sys
import tarfile
import urllib.request

import anthropic
import pytest

import kit

SOURCES = kit.ROOT / "target/sdk/sources"

# Further ones need what is not built: files (agents_with_files), skills and an MCP server (agents_comprehensive),
# results of tools that a client runs (managed-agents-observe-tool-calls), work items (the two workers).
EXAMPLES = {
    "agents.py": ["Created environment:", "Created agent:", "Created session:", '"type": "session.status_idle"'],
    "managed-agents-streaming-deltas-manual.py": ["Created session:", "Streaming:", "[final] Waves fold into foam"],
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The unpacked distribution of the SDK that is installed."""
    name = f"anthropic-{anthropic.__version__}"
    archive = SOURCES / f"{name}.tar.gz"
    assert archive.exists(), f"{archive} is missing; `cargo xtask sdk` fetches it"
    home = tmp_path_factory.mktemp("source")
    with tarfile.open(archive) as files:
        files.extractall(home, filter="data")
    return home / name


def watched(server):
    """Whether somebody has a stream open."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return any(line.startswith("longhand_gateway_streams ") and not line.endswith(" 0") for line in lines)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_sdk_runs_unchanged(source, tmp_path, example):
    model = kit.Model(tmp_path)
    server = kit.Server(tmp_path, model.url)
    program = source / "examples" / example
    environment = kit.clean_environment(ANTHROPIC_BASE_URL=server.url, ANTHROPIC_API_KEY=kit.KEY)
    try:
        model.play({"wait": "watched", "text": "Waves fold into foam", "chunks": 4})
        running = subprocess.Popen(
            [sys.executable, program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        kit.until("the example to watch its session", lambda: watched(server) or running.poll() is not None)
        model.release("watched")
        said, complained = running.communicate(timeout=kit.DEADLINE)
        assert running.returncode == 0, complained
        for words in EXAMPLES[example]:
            assert words in said, said
    finally:
        server.kill()
        model.kill()
