"""No value changes sides unseen: what one schema takes and the other does not is always told as a difference.

Random pairs of small schemas, and every value of a small world. The one exception is meant: a new optional field of an open
object formally forbids what nobody can have sent on purpose.
"""

from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas.differences import Effect, differences

TEXTS = ("", "a", "bb")
NUMBERS = (0, 1, 2)
PLAIN: tuple[Any, ...] = (*TEXTS, *NUMBERS, 0.5, None, True)
LISTS: tuple[Any, ...] = ([], ["a"], [1], ["a", 1], [None])
OBJECTS: tuple[Any, ...] = tuple(
    {name: value for name, value in zip("abc", values, strict=True) if value != "absent"}
    for values in product(("absent", "a", 1, None), ("absent", "bb", 2), ("absent", 1))
)
VALUES = (*PLAIN, *LISTS, *OBJECTS, {"a": {"b": 1}}, {"a": {"b": "bb"}}, {"a": []}, {"a": ["a"]})

limits = st.dictionaries(st.sampled_from(["minLength", "maxLength"]), st.integers(0, 2), max_size=2)
bounds = st.dictionaries(st.sampled_from(["minimum", "maximum"]), st.integers(0, 2), max_size=2)
leaves = st.one_of(
    limits.map(lambda given: {"type": "string"} | given),
    st.tuples(st.sampled_from(["integer", "number"]), bounds).map(lambda pair: {"type": pair[0]} | pair[1]),
    st.lists(st.sampled_from([*TEXTS, *NUMBERS]), min_size=1, max_size=3, unique=True).map(lambda values: {"enum": values}),
    st.sampled_from(TEXTS).map(lambda value: {"const": value}),
    st.just({"type": "null"}),
    st.just({}),
)


def compound(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    objects = st.builds(
        lambda properties, required, closed: {
            "type": "object", "properties": properties, "required": sorted(required),
            **({"additionalProperties": False} if closed else {}),
        },
        st.dictionaries(st.sampled_from("ab"), inner, max_size=2), st.sets(st.sampled_from("ab"), max_size=1), st.booleans(),
    )  # fmt: skip
    lists = st.tuples(inner, st.dictionaries(st.sampled_from(["minItems", "maxItems"]), st.integers(0, 2), max_size=1)).map(
        lambda pair: {"type": "array", "items": pair[0]} | pair[1]
    )
    unions = st.lists(inner, min_size=2, max_size=3).map(lambda parts: {"anyOf": parts})
    return st.one_of(objects, lists, unions)


schemas = st.recursive(leaves, compound, max_leaves=5)


def knows(schema: Any, value: Any) -> bool:
    """Whether an open object of ``schema`` names every field of ``value``: others are not the contract's."""
    if not isinstance(schema, dict):
        return True
    if "anyOf" in schema:
        return all(knows(part, value) for part in schema["anyOf"])
    if isinstance(value, dict) and schema.get("type") == "object":
        properties = schema["properties"]
        return all(name in properties and knows(properties[name], each) for name, each in value.items())
    if isinstance(value, dict):
        return not schema or "type" in schema
    return True


@settings(deadline=None)
@given(schemas, schemas)
def test_what_is_no_longer_taken_is_told_as_narrower_and_what_is_newly_taken_as_wider(old: Any, new: Any) -> None:
    told = {each.effect for each in differences(old, new, {}, {})}
    takes, takes_now = Draft202012Validator(old).is_valid, Draft202012Validator(new).is_valid
    for value in VALUES:
        if takes(value) and not takes_now(value) and knows(old, value):
            assert Effect.NARROWER in told, (old, new, value)
        if takes_now(value) and not takes(value):
            assert {Effect.WIDER, Effect.VALUE_ADDED} & told, (old, new, value)


@settings(deadline=None)
@given(schemas)
def test_a_schema_does_not_differ_from_itself(schema: Any) -> None:
    assert differences(schema, schema, {}, {}) == []
