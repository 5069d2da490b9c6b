"""How two JSON Schemas differ in what they allow: narrower, wider, or both. For :mod:`schemas.compatibility`.

Structural, not a proof: it compares keyword by keyword, and alternatives (``anyOf``) pair by pair. Where it cannot tell, it
says both, so that no change is taken for harmless because nobody thought of it. Titles, descriptions and examples do not count.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Effect(StrEnum):
    NARROWER = "narrower"
    """Something that was allowed no longer is."""
    WIDER = "wider"
    """Something is allowed that was not, or is no longer promised."""
    VALUE_ADDED = "value added"
    """Wider by a new value of a list of values."""


@dataclass(frozen=True, slots=True)
class Difference:
    where: str
    """The way to it, joined by ``/``; ``[]`` for the members of a list, ``{}`` for those of an object of any names."""
    effect: Effect
    what: str


Schema = Mapping[str, Any]

_AT_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_AT_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_PARTS = {"items": "/[]", "propertyNames": "/{}", "x-jws-payload": ""}
"""Keywords that hold one schema, and how the way to it reads."""
_JUDGED = frozenset(
    {"$ref", "type", "enum", "const", "anyOf", "oneOf", "allOf", "properties", "required", "additionalProperties"}
) | {"default", *_PARTS, *_AT_LEAST, *_AT_MOST}
_SAYS_NOTHING = frozenset(
    {"$id", "$schema", "$defs", "components", "title", "description", "examples", "deprecated", "discriminator"}
)


def differences(old: Schema, new: Schema, old_root: Schema, new_root: Schema) -> list[Difference]:
    """``…_root`` are the documents that references (``#/…``) lead into. Each difference once."""
    return list(dict.fromkeys(_Comparison(old_root, new_root).schemas(old, new, "")))


class _Comparison:
    def __init__(self, old_root: Schema, new_root: Schema) -> None:
        self._old_root = old_root
        self._new_root = new_root
        self._under_way: set[tuple[str, str]] = set()

    def schemas(self, old: Any, new: Any, where: str) -> Iterator[Difference]:
        names = old.get("$ref", "") if isinstance(old, dict) else "", new.get("$ref", "") if isinstance(new, dict) else ""
        if names in self._under_way:
            return  # a schema that holds itself
        if all(names):
            self._under_way.add(names)
        try:
            olds, news = _alternatives(old, self._old_root), _alternatives(new, self._new_root)
            if len(olds) == len(news) == 1:
                yield from self._keywords(olds[0], news[0], where)
            else:
                yield from self._pairs(olds, news, where)
        finally:
            self._under_way.discard(names)

    def _pairs(self, olds: Sequence[Any], news: Sequence[Any], where: str) -> Iterator[Difference]:
        """Each old alternative beside the new one that is the same, or else looks most like it."""
        left_old, left_new = list(olds), list(news)
        for alike in (self._same, _named_alike, _of_one_type):
            for old in list(left_old):
                new = next((new for new in left_new if alike(old, new)), None)
                if new is not None:
                    left_old.remove(old)
                    left_new.remove(new)
                    yield from self._keywords(old, new, where)
        for old in left_old:
            yield Difference(where, Effect.NARROWER, f"{_name(old)} is not allowed any more")
        for new in left_new:
            yield Difference(where, Effect.WIDER, f"{_name(new)} is allowed now")

    def _same(self, old: Any, new: Any) -> bool:
        return not any(self._keywords(old, new, ""))

    def _keywords(self, old: Any, new: Any, where: str) -> Iterator[Difference]:
        if old is False or new is False:
            if old != new:
                yield Difference(where, Effect.NARROWER if new is False else Effect.WIDER, "whether anything is allowed")
            return
        yield from _types(old, new, where)
        yield from _values(old, new, where)
        yield from _limits(old, new, where)
        if None not in (old.get("default"), new.get("default")) and old["default"] != new["default"]:
            yield from _both(where, f"what is meant when it is left out changed from {old['default']} to {new['default']}")
        for keyword in sorted((old.keys() | new.keys()) - _JUDGED - _SAYS_NOTHING):
            if not keyword.startswith("x-"):
                yield from _equal(keyword, old, new, where)
        yield from self._conditions(old, new, where)
        yield from self._objects(old, new, where)
        for keyword, place in _PARTS.items():
            if keyword in old or keyword in new:
                yield from self.schemas(old.get(keyword, {}), new.get(keyword, {}), f"{where}{place}".lstrip("/"))

    def _objects(self, old: Schema, new: Schema, where: str) -> Iterator[Difference]:
        before, after = old.get("properties", {}), new.get("properties", {})
        must, must_now = set(old.get("required", ())), set(new.get("required", ()))
        gone: set[str] = set()
        for name in before:
            place = f"{where}/{name}".lstrip("/")
            if name in after:
                yield from self.schemas(before[name], after[name], place)
            elif new.get("additionalProperties") is False:
                yield Difference(place, Effect.NARROWER, "the field is refused now")
            else:
                gone.add(name)
                yield Difference(place, Effect.WIDER, "the field is gone")
        for name in sorted(after.keys() - before.keys()):
            if old.get("additionalProperties") is False:
                yield Difference(f"{where}/{name}".lstrip("/"), Effect.WIDER, "the field is allowed now")
        for name in sorted(must - must_now - gone):
            yield Difference(f"{where}/{name}".lstrip("/"), Effect.WIDER, "it may be left out now")
        for name in sorted(must_now - must):
            yield Difference(f"{where}/{name}".lstrip("/"), Effect.NARROWER, "it must be sent now")
        others, others_now = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if others != others_now:
            if isinstance(others, dict) and isinstance(others_now, dict):
                yield from self.schemas(others, others_now, f"{where}/{{}}".lstrip("/"))
            elif others_now is False:
                yield Difference(where, Effect.NARROWER, "unknown fields are refused now")
            elif others is False:
                yield Difference(where, Effect.WIDER, "unknown fields are allowed now")
            else:
                yield Difference(where, Effect.WIDER if others_now is True else Effect.NARROWER, "what unknown fields hold")

    def _conditions(self, old: Schema, new: Schema, where: str) -> Iterator[Difference]:
        """``allOf`` as the contract uses it: *if this field has this value, then …*. Anything else is compared whole."""
        before, after = _by_condition(old), _by_condition(new)
        for key in sorted(before.keys() | after.keys()):
            if key in before and key in after:
                if before[key] != after[key]:
                    yield from self.schemas(before[key].get("then", {}), after[key].get("then", {}), where)
            elif key in after and self._possible(after[key], old, self._old_root):
                yield Difference(where, Effect.NARROWER, "a further condition holds")
            elif key in before and self._possible(before[key], new, self._new_root):
                yield Difference(where, Effect.WIDER, "a condition does not hold any more")

    def _possible(self, condition: Schema, schema: Schema, root: Schema) -> bool:
        """Whether ``schema`` lets the condition's *if* be true at all: of a new value nothing was said before."""
        for name, wanted in condition.get("if", {}).get("properties", {}).items():
            allowed = resolved(schema.get("properties", {}).get(name, {}), root).get("enum")
            if "const" in wanted and allowed is not None and wanted["const"] not in allowed:
                return False
        return True


def _alternatives(schema: Any, root: Schema) -> list[Any]:
    """The schema without references, split where it says *any of* or names several types."""
    schema = resolved(schema, root)
    for keyword in ("anyOf", "oneOf"):
        if isinstance(schema, dict) and keyword in schema:
            rest = {key: value for key, value in schema.items() if key != keyword}
            return [
                each if each is False else {**rest, **each} for part in schema[keyword] for each in _alternatives(part, root)
            ]
    if isinstance(schema, dict) and isinstance(schema.get("type"), list):
        return [{**schema, "type": each} for each in schema["type"]]
    return [schema]


def resolved(schema: Any, root: Schema) -> Any:
    """``True`` is ``{}``: everything. What stands beside a reference holds too."""
    if schema is True:
        return {}
    while isinstance(schema, dict) and "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def _named_alike(old: Any, new: Any) -> bool:
    """Of one type, with the same fixed values (a discriminator) or, without any, the same title."""
    return _of_one_type(old, new) and _face(old) == _face(new)


def _face(schema: Schema) -> object:
    fixed = {name: each["const"] for name, each in schema.get("properties", {}).items() if "const" in each}
    return fixed or schema.get("title")


def _of_one_type(old: Any, new: Any) -> bool:
    return old is not False and new is not False and old.get("type") == new.get("type")


def _name(schema: Any) -> str:
    if schema is False:
        return "nothing"
    type_ = str(schema.get("type") or "another value")
    return str(schema.get("title", type_)) if type_ == "object" else type_


def _both(where: str, what: str) -> Iterator[Difference]:
    yield Difference(where, Effect.NARROWER, what)
    yield Difference(where, Effect.WIDER, what)


def _types(old: Schema, new: Schema, where: str) -> Iterator[Difference]:
    before, after = old.get("type"), new.get("type")
    if before == after:
        return
    what = f"its type was {before or 'any'} and is {after or 'any'}"
    if before is None or (before, after) == ("number", "integer"):
        yield Difference(where, Effect.NARROWER, what)
    elif after is None or (before, after) == ("integer", "number"):
        yield Difference(where, Effect.WIDER, what)
    else:
        yield from _both(where, what)


def _values(old: Schema, new: Schema, where: str) -> Iterator[Difference]:
    before, after = _allowed(old), _allowed(new)
    if before is None and after is not None:
        yield Difference(where, Effect.NARROWER, "only certain values are allowed now")
    elif before is not None and after is None:
        yield Difference(where, Effect.WIDER, "any value is allowed now")
    elif before is not None and after is not None:
        for value in before:
            if value not in after:
                yield Difference(where, Effect.NARROWER, f"the value {json.dumps(value)} is gone")
        for value in after:
            if value not in before:
                yield Difference(where, Effect.VALUE_ADDED, f"the value {json.dumps(value)} is new")


def _allowed(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _limits(old: Schema, new: Schema, where: str) -> Iterator[Difference]:
    for keywords, sign in ((_AT_LEAST, 1), (_AT_MOST, -1)):
        for keyword in keywords:
            before, after = old.get(keyword), new.get(keyword)
            if before == after:
                continue
            stricter = before is None or (after is not None and sign * after > sign * before)
            what = f"{keyword} was {'not set' if before is None else before} and is {'not set' if after is None else after}"
            yield Difference(where, Effect.NARROWER if stricter else Effect.WIDER, what)


def _equal(keyword: str, old: Schema, new: Schema, where: str) -> Iterator[Difference]:
    """A keyword whose values have no order that could be judged, such as a pattern."""
    if keyword not in old:
        yield Difference(where, Effect.NARROWER, f"{keyword} is demanded now: {json.dumps(new[keyword])}")
    elif keyword not in new:
        yield Difference(where, Effect.WIDER, f"{keyword} is not demanded any more")
    elif old[keyword] != new[keyword]:
        yield from _both(where, f"{keyword} was {json.dumps(old[keyword])} and is {json.dumps(new[keyword])}")


def _by_condition(schema: Schema) -> dict[str, Any]:
    return {json.dumps(each.get("if", each), sort_keys=True): each for each in schema.get("allOf", ())}
