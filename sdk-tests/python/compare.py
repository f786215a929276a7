"""Compares shapes: what the SDKs declare with what this server reads and writes. It gives differences as
(place, what) and judges none of them; `differences.toml` holds those that are meant.

A place is the SDK's name of a type and a field of it, so that what many types share is named once. A request is
compared in every respect: what the SDK may send has to be understood, and nothing else is. What the server writes
may be narrower than what the SDK reads: it may write always what may be absent, and never null.
"""

from dataclasses import dataclass, field

import routes

# Not in the body: headers, and what `routes` says of paths and queries, which the SDKs put among the parameters of a
# call.
HEADERS = {"betas", "workspace_id", "Anthropic-Worker-ID", "anthropic_worker_id"}


def from_schema(schema, written):
    """The shape of a JSON Schema without references. In what is `written`, a field that may be absent is absent
    instead of null."""
    if schema is True or schema == {}:
        return {"kind": "any"}, False
    if "const" in schema:
        return {"kind": "enum", "values": [schema["const"]]}, False
    if "enum" in schema:
        values = sorted(value for value in schema["enum"] if value is not None)
        return {"kind": "enum", "values": values}, None in schema["enum"]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            parts = [from_schema(one, written) for one in schema[key]]
            shapes = [shape for shape, _ in parts if shape["kind"] != "null"]
            null = any(maybe or shape["kind"] == "null" for shape, maybe in parts)
            return joined([with_common(schema, shape, written) for shape in shapes]), null
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds or []
    null = "null" in kinds and len(kinds) > 1
    kind = next((one for one in kinds if one != "null"), "null" if kinds else "any")
    if kind == "array":
        return {"kind": "array", "items": from_schema(schema.get("items", True), written)[0]}, null
    if kind == "object":
        return object_of(schema, written), null
    return {"kind": {"integer": "number"}.get(kind, kind)}, null


def with_common(schema, shape, written):
    """A variant with the fields that stand beside the union: a flattened enum."""
    if "properties" not in schema or shape["kind"] != "object":
        return shape
    return shape | {"fields": object_of(schema, written)["fields"] | shape["fields"]}


def object_of(schema, written):
    fields = {}
    for name, inner in schema.get("properties", {}).items():
        shape, null = from_schema(inner, written)
        required = name in schema.get("required", [])
        fields[name] = {"required": required, "nullable": null and (required or not written), "shape": shape}
    rest = schema.get("additionalProperties")
    return {"kind": "object", "fields": fields, "map": from_schema(rest, written)[0] if isinstance(rest, dict) else None}


def members(shape):
    return [one for part in shape["of"] for one in members(part)] if shape["kind"] == "union" else [shape]


def joined(shapes):
    """One shape for all of them; a text that may be anything swallows the texts by name."""
    parts = [one for shape in shapes for one in members(shape)]
    values = sorted({value for one in parts if one["kind"] == "enum" for value in one["values"]})
    rest = [one for one in parts if one["kind"] != "enum"]
    if values and not any(one["kind"] == "string" for one in rest):
        rest = [{"kind": "enum", "values": values}, *rest]
    return rest[0] if len(rest) == 1 else {"kind": "union", "of": rest}


def tag(shape):
    """The value of `type` that tells an object from others, if it has one."""
    kind = shape["fields"].get("type")
    values = kind["shape"].get("values", []) if kind else []
    return values[0] if len(values) == 1 and kind["required"] is not False else None


def merged(objects):
    """One object that is any of these."""
    names = {name for one in objects for name in one["fields"]}
    fields = {}
    for name in sorted(names):
        found = [one["fields"].get(name) for one in objects]
        there = [one for one in found if one]
        required = None if any(one["required"] is None for one in there) else all(one and one["required"] for one in found)
        fields[name] = {
            "required": required,
            "nullable": any(one["nullable"] for one in there),
            "shape": joined([one["shape"] for one in there]),
        }
    name = objects[0].get("name") if len(objects) == 1 else None
    return {"kind": "object", "name": name, "fields": fields, "map": next((o["map"] for o in objects if o["map"]), None)}


@dataclass
class Comparison:
    """One direction; `theirs` are the named types of the SDK, `ours` those of the other side."""

    theirs: dict
    ours: dict = field(default_factory=dict)
    written: bool = False
    found: set = field(default_factory=set)
    done: set = field(default_factory=set)

    def note(self, place, what):
        self.found.add((place, what))

    def resolved(self, shape, types):
        while shape["kind"] == "ref":
            shape = types[shape["name"]]
        if shape["kind"] == "union":
            return joined([self.resolved(one, types) for one in shape["of"]])
        return shape

    def shapes(self, place, theirs, ours):
        theirs, ours = self.resolved(theirs, self.theirs), self.resolved(ours, self.ours)
        if "any" in (theirs["kind"], ours["kind"]):
            if theirs["kind"] != ours["kind"] and not (self.written and theirs["kind"] == "any"):
                self.note(place, f"the SDK has {theirs['kind']}, we have {ours['kind']}")
            return
        theirs, ours = members(theirs), members(ours)
        self.texts(place, theirs, ours)
        for kind in ("number", "boolean", "array", "object"):
            one, other = ([m for m in side if m["kind"] == kind] for side in (theirs, ours))
            if bool(one) != bool(other):
                self.note(place, f"{'only the SDK' if one else 'only we'} may have: {kind}")
            elif one and kind == "array":
                self.shapes(f"{place}[]", joined([o["items"] for o in one]), joined([o["items"] for o in other]))
            elif one and kind == "object":
                self.variants(place, one, other)

    def texts(self, place, theirs, ours):
        open_, values = [any(m["kind"] == "string" for m in side) for side in (theirs, ours)], []
        for side in (theirs, ours):
            values.append({value for m in side if m["kind"] == "enum" for value in m["values"]})
        if open_[0] != open_[1] and (open_[0] or values[0]) and (open_[1] or values[1]):
            if not (self.written and open_[0]):
                self.note(place, "any text for the SDK, a list for us" if open_[0] else "a list for the SDK, any text for us")
        elif open_[0] != open_[1]:
            self.note(place, f"{'only the SDK' if open_[0] else 'only we'} may have: a text")
        elif not open_[0]:
            for value in values[0] - values[1]:
                self.note(place, f"value only of the SDK: {value}")
            for value in values[1] - values[0]:
                self.note(place, f"value only of ours: {value}")

    def variants(self, place, theirs, ours):
        tags, own = {tag(one): one for one in theirs}, {tag(one): one for one in ours}
        tagged = None not in tags and None not in own and len(tags) == len(theirs)
        if not tagged or len(own) != len(ours):
            return self.objects(place, merged(theirs), merged(ours))
        for name in tags.keys() - own.keys():
            self.note(place, f"variant only of the SDK: {name}")
        for name in own.keys() - tags.keys():
            self.note(place, f"variant only of ours: {name}")
        for name in tags.keys() & own.keys():
            self.objects(f"{place}<{name}>", tags[name], own[name])

    def objects(self, place, theirs, ours):
        place = theirs.get("name") or place
        key = (place, repr(ours))
        if key in self.done:
            return
        self.done.add(key)
        if bool(theirs["map"]) != bool(ours["map"]) and not (self.written and theirs["map"]):
            self.note(place, f"{'only the SDK' if theirs['map'] else 'only we'} may have further keys")
        elif theirs["map"] and ours["map"]:
            self.shapes(f"{place}.*", theirs["map"], ours["map"])
        beside = HEADERS | routes.IN_PATH.get(place, set()) | routes.IN_QUERY.get(place, set())
        names, known = theirs["fields"].keys() - beside, ours["fields"].keys() - beside
        for name in names - known:
            self.note(f"{place}.{name}", "only the SDK has it")
        for name in known - names:
            self.note(f"{place}.{name}", "only we have it")
        for name in names & known:
            self.fields(f"{place}.{name}", theirs["fields"][name], ours["fields"][name])

    def fields(self, place, theirs, ours):
        if theirs["required"] is None:
            pass  # a Python model says no more than that it may be absent or null
        elif ours["required"] is None:
            if theirs["required"] and not theirs["nullable"]:
                self.note(place, "always there for the one, absent or null for the other")
        else:
            if theirs["required"] and not ours["required"]:
                self.note(place, "required by the SDK, not by us")
            if ours["required"] and not theirs["required"] and not self.written:
                self.note(place, "required by us, not by the SDK")
            if ours["nullable"] and not theirs["nullable"]:
                self.note(place, "null for us, not for the SDK")
            if theirs["nullable"] and not ours["nullable"] and not self.written:
                self.note(place, "null for the SDK, not for us")
        self.shapes(place, theirs["shape"], ours["shape"])
