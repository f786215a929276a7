"""A whole task: write, run, see it fail, search, edit, run again, read. Everything really happens."""

import kit
from kit import bash

BROKEN = """import sys

def median(numbers):
    ordered = sorted(numbers)
    return ordered[len(ordered) / 2]

print(median([int(word) for word in sys.argv[1:]]))
"""


def write(path, content):
    return {"tool": "write", "input": {"file_path": path, "content": content}}


def edit(path, old, new):
    return {"tool": "edit", "input": {"file_path": path, "old_string": old, "new_string": new}}


def test_a_coding_task_from_the_first_file_to_the_last_word(client):
    made = kit.session(client)
    events = kit.say(
        client,
        made.id,
        write("/workspace/stats/median.py", BROKEN),
        write("/workspace/README.txt", "A median.\n"),
        bash("cd stats && python3 median.py 3 1 2"),
        {"tool": "glob", "input": {"pattern": "**/*.py"}},
        {"tool": "grep", "input": {"pattern": r"len\(ordered\) / 2"}},
        edit("/workspace/stats/median.py", "len(ordered) / 2", "len(ordered) // 2"),
        bash("python3 median.py 3 1 2"),
        {"tool": "read", "input": {"file_path": "/workspace/stats/median.py", "view_range": [3, 5]}},
        {
            "tools": [
                {"name": "bash", "input": {"command": "python3 median.py 9 5 7 | tee result.txt"}},
                {"name": "read", "input": {"file_path": "/workspace/README.txt"}},
                {"name": "glob", "input": {"pattern": "*.none"}},
            ]
        },
        {"echo_results": True},
    )
    assert events[-1].stop_reason.type == "end_turn"
    results = kit.results(events)
    assert len(results) == 11
    wrote, note, failed, found, matched, edited, ran, read, *parallel = results
    assert wrote == (False, f"wrote {len(BROKEN)} bytes to /workspace/stats/median.py"), wrote
    assert note[0] is False
    assert failed[0] is True and "TypeError: list indices must be integers or slices" in failed[1]
    assert found == (False, "/workspace/stats/median.py")
    assert matched == (False, "/workspace/stats/median.py")
    assert edited[0] is False
    assert ran == (False, "2"), "the shell is still in the directory that the first command went to"
    assert read[0] is False and "len(ordered) // 2" in read[1] and "import sys" not in read[1]
    assert parallel == [(False, "7"), (False, "A median.\n"), (False, "No files found")]
    assert "7" in kit.said(events)[-1] and "A median." in kit.said(events)[-1]


def test_what_a_turn_wrote_the_next_one_finds(client):
    made = kit.session(client)
    kit.say(client, made.id, bash("echo kept > note.txt; export WORD=shell"), {"text": "ok"})
    events = kit.say(client, made.id, bash("cat note.txt; echo $WORD"), {"text": "ok"})
    assert kit.results(events) == [(False, "kept\nshell")]


def test_the_place_is_a_sandbox(client, tmp_path):
    secret = tmp_path / "host-secret.txt"
    secret.write_text("must not be seen")
    made = kit.session(client)
    events = kit.say(
        client,
        made.id,
        bash(f"cat {secret}"),
        {"tool": "read", "input": {"file_path": str(secret)}},
        bash("echo $HOME $TZ $LANG; id -u; cat /proc/1/comm; env | grep -c -i -E 'anthropic|longhand' || true"),
        bash("timeout 5 bash -c 'echo > /dev/tcp/1.1.1.1/80' 2>&1 && echo reached || echo no way out"),
        {"text": "done"},
    )
    cat, read, inside, network = kit.results(events)
    assert cat[0] is True and "must not be seen" not in cat[1]
    assert read[0] is True and "must not be seen" not in read[1]
    lines = inside[1].splitlines()
    assert lines[0] == "/root UTC C.UTF-8" and lines[1] == "0" and lines[3] == "0"
    assert network[1].endswith("no way out")


def test_sessions_do_not_see_each_other(client):
    word = kit.unique("word")
    one, two = kit.session(client), kit.session(client)
    kit.say(client, one.id, bash(f"echo {word} > /workspace/mine; echo {word} > /tmp/mine"), {"text": "ok"})
    events = kit.say(client, two.id, bash("ls -A /workspace /tmp; cat /workspace/mine /tmp/mine"), {"text": "ok"})
    assert word not in kit.results(events)[0][1] and kit.results(events)[0][0] is True


def test_wrong_uses_of_tools_are_answers_that_the_model_can_act_on(client):
    made = kit.session(client)
    events = kit.say(
        client,
        made.id,
        {"tool": "read", "input": {"file_path": "/workspace/absent"}},
        {"tool": "read", "input": {}},
        edit("/workspace/absent", "a", "b"),
        bash("exit_with_nothing() { return 3; }; exit_with_nothing"),
        bash("sleep 30", input={"command": "sleep 30", "timeout_ms": 300}),
        bash("", input={"restart": True}),
        bash("echo alive"),
        {"text": "done"},
    )
    absent, empty, no_edit, silent, slow, restarted, alive = kit.results(events)
    assert absent[0] is True and "/workspace/absent" in absent[1]
    assert empty[0] is True and "file_path" in empty[1]
    assert no_edit[0] is True
    assert silent == (True, "exit code 3")
    assert slow[0] is True and "timed out" in slow[1]
    assert restarted == (False, "bash session restarted")
    assert alive == (False, "alive")
