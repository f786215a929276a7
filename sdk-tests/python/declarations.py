"""What SDKs declare and what this server reads and writes, side by side."""

import json
import pathlib
import re
import subprocess

import kit
import routes
from compare import HEADERS, Comparison, from_schema

HERE = pathlib.Path(__file__).parent
TYPESCRIPT = kit.ROOT / "sdk-tests/typescript"


def typescript(package):
    """What the TypeScript SDK in a folder declares for the core routes, and the routes that it knows."""
    names = [name for name, _ in (*routes.REQUESTS.values(), *routes.OBJECTS.values())]
    names += [*routes.QUERIES, *routes.FORMS, routes.ERRORS[0]]
    found = run(["node", "shapes.mjs", package, *names], cwd=TYPESCRIPT)
    found["routes"] = paths(pathlib.Path(package))
    return found


def python(interpreter):
    """What the Python SDK of an interpreter declares for the core routes."""
    tables = routes.REQUESTS, routes.OBJECTS, routes.QUERIES, routes.FORMS
    names = [path for table in tables for _, path in table.values() if path]
    return run([interpreter, HERE / "shapes.py", *names])


def run(command, **options):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, **options).stdout)


def paths(package):
    """`post /v1/agents/{}` of every call in the SDK's resources."""
    call = re.compile(r"\.(get|post|put|patch|delete|getAPIList)\(\s*(?:path\s*)?[`'](/v1/[^`']*)[`']")
    found = set()
    for file in (package / "resources").rglob("*.mjs"):
        for method, path in call.findall(file.read_text()):
            method = "get" if method == "getAPIList" else method
            found.add(f"{method} {re.sub(r'[$][{][^}]*[}]', '{}', path).split('?')[0]}")
    return sorted(found)


def calls(package):
    """The parameters and the answers of every call of the core: (path of a type, names of its fields), names."""
    names, answers = [], set()
    home = pathlib.Path(package) / "resources/beta"
    for file in sorted(home.rglob("*.d.ts")):
        path = file.relative_to(home).as_posix().removesuffix(".d.ts")
        if path.split("/")[0] not in routes.CORE:
            continue
        text = file.read_text()
        names += [f"{path}:{name}" for name in re.findall(r"^export interface ((?!Beta)\w+Params)\b", text, re.M)]
        answers |= set(re.findall(r"\): (?:APIPromise|PagePromise)<(?:\w+, |Stream<)?(?:\w+\.)?(\w+)", text))
    declared = run(["node", "shapes.mjs", package, *names], cwd=TYPESCRIPT)
    return {name: keyed(declared, name) for name in names}, answers


def ours():
    """What this server reads and writes."""
    found = kit.shapes()
    streamed = {"oneOf": [found["objects"]["Event"], found["objects"]["Preview"]]}
    found["objects"] |= {"Streamed": streamed, "StreamedOfThread": streamed}
    return found


def differing(declared, known):
    """Every (place, what) in which the TypeScript SDK and this server differ."""
    found = set()
    for written, table, schemas in ((False, routes.REQUESTS, known["requests"]), (True, routes.OBJECTS, known["objects"])):
        comparison = Comparison(declared["types"], written=written)
        for name, (path, _) in table.items():
            shape, _ = from_schema(schemas[name], written)
            comparison.shapes(path.split(":")[1], declared["roots"][path], shape)
        found |= comparison.found
    for table, ours in ((routes.QUERIES, known["queries"]), (routes.FORMS, known["forms"])):
        for path, (name, _) in table.items():
            theirs, keys = keyed(declared, path), set(ours[name])
            found |= {(f"{path}.{key}", "only the SDK has it") for key in theirs - keys}
            found |= {(f"{path}.{key}", "only we have it") for key in keys - theirs}
    errors = Comparison(declared["types"])
    errors.shapes("ErrorType", declared["roots"][routes.ERRORS[0]], {"kind": "enum", "values": known["errors"]})
    return found | errors.found


def keyed(declared, path):
    """The names of what a call sends in its query, or in its form."""
    shape, name = declared["roots"][path], path.split(":")[1]
    fields = declared["types"][shape["name"]]["fields"] if shape["kind"] == "ref" else shape["fields"]
    names = fields.keys() - HEADERS - routes.IN_PATH.get(name, set())
    return names & routes.IN_QUERY.get(name, names)


def between(one, other):
    """Every (place, what) in which two versions of one SDK differ: `one` is the SDK of the words, `other` is we."""
    comparison = Comparison(one["types"], ours=other["types"])
    for root in one["roots"].keys() & other["roots"].keys():
        comparison.shapes(root.split(":")[1], one["roots"][root], other["roots"][root])
    return comparison.found
