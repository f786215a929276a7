"""The examples of the repository, run as their reader would run them."""

import subprocess
import sys

import pytest

import kit

EXAMPLES = kit.ROOT / "examples"


@pytest.mark.parametrize(
    "command",
    [[sys.executable, EXAMPLES / "python/quickstart.py"], ["bash", EXAMPLES / "curl/quickstart.sh"]],
    ids=["python", "curl"],
)
def test_a_quickstart_works_twice(server, command):
    environment = kit.clean_environment(ANTHROPIC_BASE_URL=server.url, ANTHROPIC_API_KEY=kit.KEY)
    for number in range(2):
        task = kit.script(kit.bash(f"echo file number {number} | tee n.txt"), {"echo_results": True})
        done = subprocess.run(
            [*map(str, command), task], env=environment, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, done.stderr
        assert f"file number {number}" in done.stdout, done.stdout
