"""What is read off a subscriber's topic: the whole wish, or one reason why it is none."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import EventType
from services.shared.delivery.handlers import UnreadableError, read_instruction
from services.shared.delivery.states import Action, Wish
from services.shared.json import dumps
from tests.support.subscriber import PARENT, Wanted, wanted

REQUESTED, WITHDRAWN = EventType.SHARE_REQUESTED, EventType.SHARE_WITHDRAWN


def changed(wish: Wanted, **changes: Any) -> bytes:
    return orjson.dumps(orjson.loads(wish.instruction) | changes)


def without(wish: Wanted, field: str) -> bytes:
    data = orjson.loads(wish.instruction)
    del data[field]
    return orjson.dumps(data)


def test_a_wish_to_hold() -> None:
    wish = wanted(seq=4)
    read = read_instruction(REQUESTED, wish.instruction)
    assert (read.share_id, read.plan_id, read.version_id) == (wish.share_id, wish.plan_id, wish.version_id)
    assert read.wish == Wish(4, Action.HOLD, wish.sha256)
    assert read.recipient == wish.recipient


def test_a_withdrawal() -> None:
    wish = wanted(PARENT).next(withdrawn=True)
    read = read_instruction(WITHDRAWN, wish.instruction)
    assert (read.share_id, read.plan_id, read.version_id) == (wish.share_id, wish.plan_id, None)
    assert read.wish == Wish(2, Action.WITHDRAW, None)
    assert read.recipient == PARENT


def test_what_is_kept_reads_back_as_the_same_instruction() -> None:
    for wish in (wanted(), wanted().next(withdrawn=True)):
        read = read_instruction(wish.type, wish.instruction)
        assert read_instruction(wish.type, dumps(read.data)) == read


def test_fields_of_a_newer_minor_version_are_ignored_and_not_kept() -> None:
    wish = wanted()
    read = read_instruction(REQUESTED, changed(wish, urgency="today", deep=[[[{"a": "\0"}]]]))
    assert read == read_instruction(REQUESTED, wish.instruction)


@pytest.mark.parametrize("type_", ["", "ehcp.share.requested.v2", "ehcp.plan.finalised.v1", "ehcp.receipt.v1", "\ufffd"])
def test_another_type_is_none(type_: str) -> None:
    with pytest.raises(UnreadableError, match="ce_type names no instruction"):
        read_instruction(type_, wanted().instruction)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"\xff\xfe", b"{", b"{}}", b"null x", b'{"a": \xc3\x28}', b"[" * 5000 + b"]" * 5000, b'{"a": "\x00"}',
        b'"\\ud800"', b"\x00\x01\x02", b'{"seq": NaN}', b"1e999",
    ],
)  # fmt: skip
def test_what_is_no_json_is_said_so(value: bytes) -> None:
    with pytest.raises(UnreadableError, match=r"^the value is not JSON$"):
        read_instruction(REQUESTED, value)


@pytest.mark.parametrize("value", [b"null", b"1", b'"text"', b"[]", b"{}", b"true"])
def test_json_that_is_no_instruction(value: bytes) -> None:
    for type_ in (REQUESTED, WITHDRAWN):
        with pytest.raises(UnreadableError):
            read_instruction(type_, value)


@pytest.mark.parametrize(
    "field",
    [
        "share_id", "seq", "la_code", "plan_id", "recipient", "version_id", "version", "issued_on", "sha256",
        "requested_at", "due_at", "dataref",
    ],
)  # fmt: skip
def test_a_wish_to_hold_needs_every_field(field: str) -> None:
    with pytest.raises(UnreadableError, match=rf"^{field}: Field required$"):
        read_instruction(REQUESTED, without(wanted(), field))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"seq": 0}, "seq"),
        ({"seq": -1}, "seq"),
        ({"seq": 2**53}, "seq"),
        ({"seq": 2**63}, "seq"),
        ({"seq": 1.5}, "seq"),
        ({"seq": "many"}, "seq"),
        ({"version": 2**31}, "version"),
        ({"share_id": "no-uuid"}, "share_id"),
        ({"sha256": "A" * 64}, "sha256"),
        ({"sha256": "a" * 63}, "sha256"),
        ({"sha256": None}, "sha256"),
        ({"requested_at": "2026-09-01T09:00:00"}, "requested_at"),
        ({"due_at": "tomorrow"}, "due_at"),
        ({"issued_on": "2026-02-30"}, "issued_on"),
        ({"recipient": {"kind": "trust", "scheme": "ods"}}, "recipient/value"),
        ({"recipient": {"kind": "pirate", "scheme": "ods", "value": "RNA"}}, "recipient/kind"),
        ({"recipient": {"kind": "trust", "scheme": "phone", "value": "RNA"}}, "recipient/scheme"),
        ({"sections": ["Z"]}, "sections/0"),
        ({"remove": ["x"]}, "remove/0"),
    ],
)
def test_the_reason_names_the_field_and_repeats_nothing_of_the_input(changes: dict[str, Any], where: str) -> None:
    marked = changes | {"la_code": "SECRET-9434765919"}
    with pytest.raises(UnreadableError) as refused:
        read_instruction(REQUESTED, changed(wanted(), **marked))
    assert str(refused.value).startswith(f"{where}: ")
    assert "9434765919" not in str(refused.value)


@pytest.mark.parametrize("field", ["la_code", "dataref"])
@pytest.mark.parametrize("text", ["\0", "a\0b"])
def test_a_text_that_no_database_holds_is_refused(field: str, text: str) -> None:
    with pytest.raises(UnreadableError, match=r"^a text holds a NUL character, which cannot be stored$"):
        read_instruction(REQUESTED, changed(wanted(), **{field: text}))


def test_a_recipient_that_no_database_holds_is_refused() -> None:
    wish = wanted()
    code = wish.recipient.model_copy(update={"value": "R\0A"})
    for each in (replace(wish, recipient=code), replace(wish, recipient=code).next(withdrawn=True)):
        with pytest.raises(UnreadableError, match=r"^a text holds a NUL character"):
            read_instruction(each.type, each.instruction)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([REQUESTED, WITHDRAWN, "", "x"]), st.binary(max_size=60) | json_values.map(str).map(str.encode))
def test_whatever_comes_the_answer_is_an_instruction_or_a_reason(type_: str, value: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_instruction(type_, value)


@given(st.sampled_from(["share_id", "seq", "recipient", "sha256", "due_at", "sections", "remove", "la_code"]), json_values)
def test_one_wrong_field_never_breaks_the_reader(field: str, value: Any) -> None:
    try:
        data = changed(wanted(), **{field: value})
    except TypeError:
        return  # an integer that the writer refuses too
    with suppress(UnreadableError):
        assert b"\\u0000" not in dumps(read_instruction(REQUESTED, data).data)
