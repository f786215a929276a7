"""The types of both SDKs against ours: every name, requiredness, nullability and value of what the core routes
send and receive. What differs stands in `differences.toml`, with a reason, and nothing else does."""

import json
import tomllib

import pytest

import declarations
import routes
import shapes
from compare import Comparison
from declarations import differing

PACKAGE = declarations.TYPESCRIPT / "node_modules/@anthropic-ai/sdk"
MOST = 40
# What a `TypedDict` of this version of Python cannot say, and a kind of work that only TypeScript declares.
UNSAID = {
    ("BetaManagedAgentsCustomToolInputSchema", "only the SDK may have further keys"),
    ("BetaSelfHostedWork.data.type", "required by us, not by the SDK"),
    ("BetaSelfHostedWork.data.type", "value only of the SDK: healthcheck"),
}


@pytest.fixture(scope="module")
def declared():
    """What the TypeScript SDK declares. Its declarations tell null from absent, which Python's models do not, so
    they are what ours are compared with; Python's are compared with them."""
    return declarations.typescript(PACKAGE)


@pytest.fixture(scope="module")
def ours():
    return declarations.ours()


def reviewed():
    return tomllib.loads((declarations.HERE / "differences.toml").read_text())["difference"]


def test_the_server_differs_from_the_sdk_only_where_that_is_meant(declared, ours):
    meant = {(one["at"], one["what"]) for one in reviewed()}
    found = differing(declared, ours)
    assert sorted(found - meant) == [], "these differ and nobody said why"
    assert sorted(meant - found) == [], "these are said to differ and do not"


def test_no_call_of_the_core_is_left_out():
    """Whatever a call sends or answers is one of the types that are compared."""
    params, answers = declarations.calls(PACKAGE)
    assert len(params) > 90 and len(answers) > 30
    compared = {path for path, _ in routes.REQUESTS.values()} | routes.QUERIES.keys() | routes.FORMS.keys()
    in_path = {name for names in routes.IN_PATH.values() for name in names} | {"skill_id"}
    assert {name for name, fields in params.items() if fields - in_path} - compared == set()
    objects = {path.split(":")[1] for path, _ in routes.OBJECTS.values()}
    assert answers - objects == routes.OTHER_NAMES


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
            found |= between(declared, typescript, path) if path else set()
    for typescript, (_, path) in routes.QUERIES.items():
        # Both drop a null from a query before they send it.
        found |= {one for one in between(declared, typescript, path) if not one[1].startswith("null for")}
    for typescript, (_, path) in routes.FORMS.items():
        # Both take many kinds of things for a file.
        found |= {one for one in between(declared, typescript, path) if "the SDK has union, we have any" != one[1]}
    assert sorted(found - UNSAID) == []


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
