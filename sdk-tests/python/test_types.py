"""The types of both SDKs against ours: every name, requiredness, nullability and value of what the served routes
send and receive. What differs stands in `differences.toml`, with a reason, and nothing else does."""

import json
import os
import pathlib
import subprocess
import tomllib

import pytest

import kit
import routes
import shapes
from compare import HEADERS, PATH, Comparison, from_schema

HERE = pathlib.Path(__file__).parent
TYPESCRIPT = kit.ROOT / "sdk-tests/typescript"
PACKAGE = os.environ.get("LONGHAND_TYPESCRIPT_SDK", TYPESCRIPT / "node_modules/@anthropic-ai/sdk")
MOST = 40
# What a `TypedDict` of this version of Python cannot say.
UNSAYABLE = {("BetaManagedAgentsCustomToolInputSchema", "only the SDK may have further keys")}


@pytest.fixture(scope="module")
def declared():
    """What the TypeScript SDK declares. Its declarations tell null from absent, which Python's models do not, so
    they are what ours are compared with; Python's are compared with them."""
    names = [typescript for typescript, _ in (*routes.REQUESTS.values(), *routes.OBJECTS.values())]
    names += [*routes.QUERIES, routes.ERRORS[0]]
    command = ["node", "shapes.mjs", PACKAGE, *names]
    return json.loads(subprocess.run(command, cwd=TYPESCRIPT, check=True, capture_output=True).stdout)


@pytest.fixture(scope="module")
def ours():
    """What this server reads and writes."""
    found = kit.shapes()
    found["objects"]["Streamed"] = {"oneOf": [found["objects"]["Event"], found["objects"]["Preview"]]}
    return found


def differing(declared, ours):
    """Every (place, what) in which the TypeScript SDK and this server differ."""
    found = set()
    for written, table, schemas in ((False, routes.REQUESTS, ours["requests"]), (True, routes.OBJECTS, ours["objects"])):
        comparison = Comparison(declared["types"], written=written)
        for name, (typescript, _) in table.items():
            shape, _ = from_schema(schemas[name], written)
            comparison.shapes(typescript.split(":")[1], declared["roots"][typescript], shape)
        found |= comparison.found
    for typescript, (name, _) in routes.QUERIES.items():
        theirs, known = set(query(declared, typescript)), set(ours["queries"][name])
        found |= {(f"{typescript}.{key}", "only the SDK has it") for key in theirs - known}
        found |= {(f"{typescript}.{key}", "only we have it") for key in known - theirs}
    errors = Comparison(declared["types"])
    errors.shapes("ErrorType", declared["roots"][routes.ERRORS[0]], {"kind": "enum", "values": ours["errors"]})
    return found | errors.found


def query(declared, typescript):
    shape = declared["roots"][typescript]
    fields = declared["types"][shape["name"]]["fields"] if shape["kind"] == "ref" else shape["fields"]
    return fields.keys() - HEADERS - PATH


def reviewed():
    return tomllib.loads((HERE / "differences.toml").read_text())["difference"]


def test_the_server_differs_from_the_sdk_only_where_that_is_meant(declared, ours):
    meant = {(one["at"], one["what"]) for one in reviewed()}
    found = differing(declared, ours)
    assert sorted(found - meant) == [], "these differ and nobody said why"
    assert sorted(meant - found) == [], "these are said to differ and do not"


def test_every_difference_has_a_reason_and_they_are_few():
    entries = reviewed()
    assert len(entries) <= MOST
    for one in entries:
        assert one.keys() == {"at", "what", "why"}, one
        assert len(one["why"]) > 20 and "not built" not in one["why"], one


def test_the_declarations_of_both_languages_say_the_same(declared):
    found = set()
    for table in (routes.REQUESTS, routes.OBJECTS):
        for typescript, path in table.values():
            found |= between(declared, typescript, path)
    for typescript, (_, path) in routes.QUERIES.items():
        # Both drop a null from a query before they send it.
        found |= {one for one in between(declared, typescript, path) if not one[1].startswith("null for")}
    assert sorted(found - UNSAYABLE) == []


def between(declared, typescript, path):
    found = shapes.Shapes()
    shape = found.of(shapes.load(path))
    comparison = Comparison(declared["types"], ours=found.types)
    comparison.shapes(typescript, declared["roots"][typescript], shape)
    return comparison.found


@pytest.mark.parametrize("change", ["required", "nullable", "name", "value"])
def test_a_change_of_one_field_is_seen(declared, ours, change):
    """The comparison itself: what is changed in the SDK is found."""
    before = differing(declared, ours)
    declared = json.loads(json.dumps(declared))
    fields = declared["types"]["BetaManagedAgentsUserToolConfirmationEventParams"]["fields"]
    if change == "name":
        fields["renamed"] = fields.pop("deny_message")
    elif change == "value":
        fields["result"]["shape"]["values"].append("later")
    else:
        fields["deny_message"][change] = not fields["deny_message"][change]
    assert differing(declared, ours) != before
