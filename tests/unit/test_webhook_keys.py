"""Signatures of webhooks: both kinds, both directions, and everything that is none."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks import Webhook

from services.shared.record_systems.webhook_keys import is_signed, keys_of, signed

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(b"a" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"b" * 32).decode()
OURS = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
THEIRS = Ed25519PrivateKey.from_private_bytes(b"t" * 32)


def private(key: Ed25519PrivateKey) -> str:
    return "whsk_" + base64.b64encode(key.private_bytes_raw()).decode()


def public(key: Ed25519PrivateKey) -> str:
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return "whpk_" + base64.b64encode(raw).decode()


def test_a_v1a_signature_is_ed25519_over_id_time_and_body() -> None:
    headers = signed("m-1", '{"a":1}', keys_of(private(OURS)), NOW)
    version, _, signature = headers["webhook-signature"].partition(",")
    assert version == "v1a"
    assert headers["webhook-timestamp"] == "1795338000"
    OURS.public_key().verify(base64.b64decode(signature), b'm-1.1795338000.{"a":1}')
    with pytest.raises(InvalidSignature):
        OURS.public_key().verify(base64.b64decode(signature), b'm-1.1795338000.{"a":2}')


def test_while_the_kind_of_key_is_changed_there_is_one_signature_for_each() -> None:
    headers = signed("m-1", "{}", keys_of(f"{SECRET} {private(OURS)} {OTHER}"), datetime.now(UTC))
    assert [word.partition(",")[0] for word in headers["webhook-signature"].split()] == ["v1", "v1a", "v1"]
    # Libraries that know the one kind only pass over the other.
    for secret in (SECRET, OTHER):
        Webhook(secret).verify("{}", headers)


def test_a_private_key_written_with_its_public_key_behind_is_the_same_key() -> None:
    both = OURS.private_bytes_raw() + base64.b64decode(public(OURS).removeprefix("whpk_"))
    long = keys_of("whsk_" + base64.b64encode(both).decode())
    assert signed("m", "x", long, NOW) == signed("m", "x", keys_of(private(OURS)), NOW)


@pytest.mark.parametrize("signer", [SECRET, OTHER, private(THEIRS)])
def test_what_a_receiver_signed_is_known_by_any_of_its_keys(signer: str) -> None:
    keys = keys_of(f"{SECRET} {OTHER} {private(OURS)}", [public(THEIRS)])
    headers = signed("f-1", "share=1&seq=2", keys_of(signer), NOW)
    assert is_signed(headers, b"share=1&seq=2", keys, NOW)
    assert is_signed(headers, b"share=1&seq=2", keys, NOW + timedelta(seconds=299))


def test_our_own_private_key_is_not_the_receiver_s() -> None:
    keys = keys_of(f"{private(OURS)}", [public(THEIRS)])
    assert not is_signed(signed("f-1", "q", keys_of(private(OURS)), NOW), b"q", keys, NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook-id": "f-2"}, {"webhook-id": ""}, {"webhook-timestamp": "1795338001"}, {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "9" * 16}, {"webhook-timestamp": "-1"}, {"webhook-timestamp": "٤٢"},
        {"webhook-signature": ""}, {"webhook-signature": "v1,"}, {"webhook-signature": "v1a,AAAA"},
        {"webhook-signature": "v1a,***"}, {"webhook-signature": "v1,é"}, {"webhook-signature": "v2,AAAA"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("signer", [SECRET, private(THEIRS)])
def test_anything_else_is_no_signature(changes: dict[str, Any], signer: str) -> None:
    keys = keys_of(SECRET, [public(THEIRS)])
    assert not is_signed(signed("f-1", "q", keys_of(signer), NOW) | changes, b"q", keys, NOW)


@pytest.mark.parametrize("signer", [SECRET, private(THEIRS)])
def test_another_part_or_another_time_is_not_what_was_signed(signer: str) -> None:
    keys, headers = keys_of(SECRET, [public(THEIRS)]), signed("f-1", "q", keys_of(signer), NOW)
    assert not is_signed(headers, b"r", keys, NOW)
    assert not is_signed(headers, b"\xff", keys, NOW)
    for away in (timedelta(seconds=301), timedelta(seconds=-301)):
        assert not is_signed(headers, b"q", keys, NOW + away)
    assert not is_signed({}, b"q", keys, NOW)


@pytest.mark.parametrize(
    ("secret", "their_keys"),
    [
        ("whsk_", []), ("whsk_AAAA", []), (public(OURS), []), ("whsec_AAAA", []), ("", []), (SECRET, [private(THEIRS)]),
        (SECRET, ["whpk_AAAA"]), (SECRET, [public(THEIRS).removeprefix("whpk_")]), (f"{SECRET} nonsense", []),
    ],
)  # fmt: skip
def test_what_is_no_key_is_refused_and_not_repeated(secret: str, their_keys: list[str]) -> None:
    with pytest.raises(ValueError, match=r"secret|whsk_|public_keys") as raised:
        keys_of(secret, their_keys)
    assert "AAAA" not in str(raised.value)
