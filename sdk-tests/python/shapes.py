"""Prints the shapes that the installed `anthropic` declares, read from its models and parameters by introspection:
`python shapes.py MODULE:NAME…` prints one JSON in the form that `sdk-tests/typescript/shapes.mjs` describes. It runs
in the environment of any version of the SDK and needs nothing but the SDK.

A model of the Python SDK says `Optional[X] = None` for what may be absent and for what may be null; such a field
has `required: null`.
"""

import collections.abc
import datetime
import importlib
import json
import re
import sys
import types as python_types
import typing

import typing_extensions
from pydantic import BaseModel

NOTHING = type(None)
# A method renames these before it sends them.
RANGE = re.compile("^(created_at)_([gl]te?)$")


class Shapes:
    def __init__(self):
        self.types = {}

    def of(self, kind):
        """The shape of a type; null is left to whoever holds it."""
        kind, _ = bare(kind)
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Literal, typing_extensions.Literal):
            return {"kind": "enum", "values": sorted(args)}
        if origin in (typing.Union, python_types.UnionType):
            return self.union([one for one in args if one is not NOTHING])
        if origin in (list, collections.abc.Iterable, collections.abc.Sequence) or "Sequence" in str(origin):
            return {"kind": "array", "items": self.of(args[0])}
        if origin in (dict, collections.abc.Mapping):
            return {"kind": "object", "fields": {}, "map": self.of(args[1])}
        if typing_extensions.is_typeddict(kind) or (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return self.named(kind)
        if kind is bool:
            return {"kind": "boolean"}
        if kind in (int, float):
            return {"kind": "number"}
        if kind in (str, datetime.datetime):
            return {"kind": "string"}
        return {"kind": "any"}

    def union(self, members):
        shapes = [self.of(one) for one in members]
        values = sorted({value for one in shapes if one["kind"] == "enum" for value in one["values"]})
        rest = [one for one in shapes if one["kind"] != "enum"]
        plain = any(one["kind"] == "string" for one in rest)
        parts = ([{"kind": "enum", "values": values}] if values and not plain else []) + rest
        distinct = list({json.dumps(one, sort_keys=True): one for one in parts}.values())
        return distinct[0] if len(distinct) == 1 else {"kind": "union", "of": distinct}

    def named(self, kind):
        name = kind.__name__
        if name not in self.types:
            self.types[name] = None  # a type that holds itself finds this
            fields = self.params(kind) if typing_extensions.is_typeddict(kind) else self.model(kind)
            self.types[name] = {"kind": "object", "name": name, "fields": fields, "map": None}
        return {"kind": "ref", "name": name}

    def params(self, kind):
        fields = {}
        for name, hint in typing_extensions.get_type_hints(kind, include_extras=True).items():
            value, wrappers = bare(hint)
            required = typing_extensions.Required in wrappers if not kind.__total__ else True
            shape = {"required": required, "nullable": nullable(value), "shape": self.of(value)}
            fields[RANGE.sub(r"\1[\2]", name)] = shape
        return fields

    def model(self, kind):
        fields = {}
        for name, field in kind.model_fields.items():
            maybe = nullable(field.annotation)
            required = None if maybe else True
            fields[field.alias or name] = {"required": required, "nullable": maybe, "shape": self.of(field.annotation)}
        return fields


def bare(kind):
    """A type without `Required`, `Annotated` and the like, and which of those it had."""
    wrappers = []
    while True:
        origin = typing.get_origin(kind)
        if origin in (typing_extensions.Annotated, typing_extensions.Required, typing_extensions.NotRequired):
            wrappers.append(origin)
            kind = typing.get_args(kind)[0]
        elif isinstance(kind, typing_extensions.TypeAliasType):
            kind = kind.__value__
        else:
            return kind, wrappers


def nullable(kind):
    kind, _ = bare(kind)
    return kind is NOTHING or NOTHING in typing.get_args(kind)


def load(path):
    """The type behind `MODULE:NAME`, both inside of `anthropic.types.beta`."""
    module, name = path.split(":")
    return getattr(importlib.import_module(".".join(filter(None, ("anthropic.types.beta", module)))), name)


def main():
    shapes, roots = Shapes(), {}
    for path in sys.argv[1:]:
        roots[path] = shapes.of(load(path))
    json.dump({"roots": roots, "types": shapes.types}, sys.stdout)


if __name__ == "__main__":
    main()
