"""Personal data at rest: opens with its own key in its own place, and in no other way."""

import base64
import os
from pathlib import Path
from uuid import uuid4

import pytest

from services.ehcp_publisher.keys import ChildKeys, wrap_new_council_key
from services.shared.sealing.sealing import SealError, new_key, read_master_key

TEXT = b"Rowan likes trains. " * 500
PLACE = f"version:{uuid4()}"


def test_what_was_sealed_opens_and_is_compressed_and_hidden() -> None:
    key = new_key()
    sealed = key.seal(TEXT, PLACE)
    assert key.open(sealed, PLACE) == TEXT
    assert len(sealed) < len(TEXT) / 10
    assert b"Rowan" not in sealed
    assert key.seal(TEXT, PLACE) != sealed, "a nonce of its own each time"


def test_nothing_at_all_can_be_sealed_too() -> None:
    key = new_key()
    assert key.open(key.seal(b"", PLACE), PLACE) == b""


def test_another_place_does_not_open() -> None:
    """One child's text pasted into another's row."""
    key = new_key()
    with pytest.raises(SealError):
        key.open(key.seal(TEXT, PLACE), f"version:{uuid4()}")


def test_another_key_does_not_open() -> None:
    with pytest.raises(SealError):
        new_key().open(new_key().seal(TEXT, PLACE), PLACE)


def test_altered_bytes_do_not_open() -> None:
    key = new_key()
    sealed = key.seal(TEXT, PLACE)
    for position in range(len(sealed)):
        altered = bytearray(sealed)
        altered[position] ^= 1
        with pytest.raises(SealError):
            key.open(bytes(altered), PLACE)


@pytest.mark.parametrize("length", [0, 5, 11, 12, 20, 27])
def test_what_is_cut_off_does_not_open(length: int) -> None:
    key = new_key()
    with pytest.raises(SealError):
        key.open(key.seal(TEXT, PLACE)[:length], PLACE)
    with pytest.raises(SealError):
        key.unwrap(key.wrap(new_key(), PLACE)[:length], PLACE)


def test_errors_and_keys_show_nothing_of_what_they_hold() -> None:
    key = new_key()
    assert repr(key) == str(key) == f"{key}" == "Key(…)"
    with pytest.raises(SealError) as refused:
        key.open(new_key().seal(TEXT, PLACE), PLACE)
    assert PLACE.split(":")[1] not in str(refused.value)


def test_wrapped_keys_open_under_their_wrapper_and_in_their_place_only() -> None:
    wrapper, key = new_key(), new_key()
    wrapped = wrapper.wrap(key, "child:1")
    assert wrapper.unwrap(wrapped, "child:1").bytes_ == key.bytes_
    assert key.bytes_ not in wrapped
    for other, place in [(wrapper, "child:2"), (new_key(), "child:1")]:
        with pytest.raises(SealError):
            other.unwrap(wrapped, place)


def test_a_childs_key_needs_the_councils_and_the_councils_the_master() -> None:
    master, child_id = new_key(), uuid4()
    councils = {la: wrap_new_council_key(master, la) for la in ("332", "333")}
    keys = ChildKeys(master, councils)
    key, wrapped = keys.new_child_key("332", child_id)
    again = ChildKeys(master, councils)
    assert again.child_key("332", child_id, wrapped).bytes_ == key.bytes_
    with pytest.raises(SealError):
        ChildKeys(master, councils).child_key("333", child_id, wrapped)
    with pytest.raises(SealError):
        ChildKeys(master, councils).child_key("332", uuid4(), wrapped)
    with pytest.raises(SealError):
        ChildKeys(new_key(), councils)
    with pytest.raises(SealError):
        ChildKeys(master, {"333": councils["332"]})


def test_lookups_are_equal_for_equal_values_under_one_master_only_and_hide_them() -> None:
    master = new_key()
    councils = {"332": wrap_new_council_key(master, "332")}
    one, two, other = ChildKeys(master, councils), ChildKeys(master, councils), ChildKeys(new_key(), {})
    found = one.lookup("nhs", "9434765919")
    assert found == two.lookup("nhs", "9434765919")
    assert found not in (one.lookup("nhs", "9434765870"), one.lookup("upn", "9434765919"), other.lookup("nhs", "9434765919"))
    assert one.lookup("nhs", None) is None


def test_master_key_file(tmp_path: Path) -> None:
    file, raw = tmp_path / "master.key", os.urandom(32)
    file.write_text(base64.b64encode(raw).decode() + "\n")
    assert read_master_key(file).bytes_ == raw
    for wrong in ("", "not base64!", base64.b64encode(raw[:31]).decode(), base64.b64encode(raw * 2).decode()):
        file.write_text(wrong)
        with pytest.raises(SealError):
            read_master_key(file)
    with pytest.raises(SealError, match="EHCP_MASTER_KEY_FILE"):
        read_master_key(tmp_path / "nowhere")
