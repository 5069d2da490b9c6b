"""Canonical bytes and hashes: equal to the reference library of RFC 8785 for what is allowed; all else is refused."""

import math
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from schemas.manifest import Manifest, NotCanonicalError, canonical, section_hash, sha256, without_empty
from schemas.plan import Item, Section

# Every character that JSON can carry; a lone surrogate is no character.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
keys = st.text(st.characters(max_codepoint=127), max_size=10)
allowed = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=30,
)


@given(allowed)
def test_canonical_is_rfc_8785(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(allowed)
def test_canonical_reads_back_and_is_stable(value: Any) -> None:
    assert canonical(orjson.loads(canonical(value))) == canonical(value)


@given(st.floats())
def test_floats_are_refused_wherever_they_hide(number: float) -> None:
    for value in (number, [number], {"a": number}, {"a": [{"b": (number,)}]}, [[], {}, [1, "x", number]]):
        with pytest.raises(NotCanonicalError):
            canonical(value)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        math.inf,
        2**53,
        -(2**53),
        10**30,
        {"é": 1},
        {1: "a"},
        "\ud800",
        {"a": "\udfff"},
        b"bytes",
        {1, 2},
        object(),
    ],
    ids=lambda value: repr(value).partition(" at ")[0],
)
def test_what_has_no_agreed_bytes_is_refused(value: Any) -> None:
    with pytest.raises(NotCanonicalError):
        canonical(value)


def test_known_bytes() -> None:
    """By hand, from the rules of RFC 8785, sections 3.2.2 and 3.2.3."""
    value = {"b": [True, None, -0, 20], "a": 'é"\\\n\u0007/€', "A": {}, "": 1}
    assert canonical(value) == '{"":1,"A":{},"a":"é\\"\\\\\\n\\u0007/€","b":[true,null,0,20]}'.encode()


@given(allowed)
def test_without_empty_leaves_nothing_empty_in_objects(value: Any) -> None:
    def members(part: Any) -> None:
        if isinstance(part, dict):
            for member in part.values():
                assert member is not None
                assert member not in ("", [], {})
                members(member)
        elif isinstance(part, list):
            for member in part:
                members(member)

    lean = without_empty(value)
    members(lean)
    assert without_empty(lean) == lean


def test_false_and_zero_are_content() -> None:
    assert without_empty({"a": False, "b": 0, "c": None, "d": "", "e": [], "f": {"g": None}}) == {"a": False, "b": 0}


def test_a_float_in_a_section_is_refused_even_when_it_is_zero() -> None:
    for number in (0.0, 1.5):
        with pytest.raises(NotCanonicalError):
            section_hash({"text": "x", "weight": number})


@given(texts.filter(str.strip), st.lists(texts.filter(str.strip), max_size=3))
def test_a_model_and_its_json_have_one_hash(text: str, serves: list[str]) -> None:
    plain = text.replace("\0", "").strip() or "x"
    refs = tuple("B" + str(n) for n, _ in enumerate(serves, 1))
    section = Section(text=plain, items=(Item(ref="E1", text=plain, serves=refs),))
    assert section_hash(section) == section_hash(orjson.loads(section.model_dump_json()))
    assert section_hash(section) == section_hash(orjson.loads(section.model_dump_json(exclude_defaults=True)))


@pytest.mark.parametrize("text", ['a:""b', "x:[]", "y:{}", "is:null", 'ends with a quote:"', "plain"])
@pytest.mark.parametrize("provider", ["", None, "the school"])
def test_what_looks_empty_in_a_model_hashes_as_its_json_does(text: str, provider: str | None) -> None:
    section = Section(text=text, items=(Item(ref="F1", text=text, provider=provider),))
    item = {"ref": "F1", "text": text} | ({"provider": provider} if provider else {})
    assert section_hash(section) == sha256(rfc8785.dumps({"text": text, "items": [item]}))


@given(texts.filter(str.strip), texts.filter(str.strip))
def test_different_texts_have_different_hashes(one: str, other: str) -> None:
    assert (section_hash({"text": one}) == section_hash({"text": other})) == (one == other)


def test_a_manifest_keeps_and_hashes_what_it_does_not_know() -> None:
    raw: dict[str, Any] = {
        "plan_id": "019c5a10-7b1e-7c44-9d0e-3f1a2b3c4d5e",
        "version_id": "019c5a10-7b20-7a01-8c11-0a1b2c3d4e5f",
        "issued_on": "2026-02-13",
        "sections": {"A": "0" * 64},
    }
    manifest = Manifest.model_validate(raw)
    assert manifest.canonical() == rfc8785.dumps(raw)
    newer = Manifest.model_validate(raw | {"language": "en", "document": None})
    assert newer.canonical() == rfc8785.dumps(raw | {"language": "en"})
    assert newer.hash() != manifest.hash()
