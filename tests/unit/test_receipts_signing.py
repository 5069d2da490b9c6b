"""Receipts are signed by the subscriber: nobody else can make one, and nobody can change one."""

import base64
import warnings
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey

from schemas.manifest import canonical
from schemas.receipts import HostedBy, Receipt, Status
from services.shared.identity.receipts import ReceiptError, signer, verify

KEY = OKPKey.generate_key("Ed25519")
RECEIPT = Receipt(
    number=1795176000000000,
    subscriber="health",
    hosted_by=HostedBy.AGENCY,
    share_id=UUID("0192f000-0000-7000-8000-000000000001"),
    seq=3,
    status=Status.FILED,
    version_id=UUID("0192f000-0000-7000-8000-000000000002"),
    sha256="ab" * 32,
    record="DocumentReference/1",
    at=datetime(2026, 11, 20, 12, 0, tzinfo=UTC),
)
SIGNED = signer(KEY)(RECEIPT)
HEADER, PAYLOAD, SIGNATURE = SIGNED.split(b".")


def part(value: Any) -> bytes:
    return base64.urlsafe_b64encode(value if isinstance(value, bytes) else orjson.dumps(value)).rstrip(b"=")


def signed(header: Any, payload: Any) -> bytes:
    """By the right key, whatever it says."""
    text = part(header) + b"." + part(payload)
    private = KEY.private_key
    assert isinstance(private, Ed25519PrivateKey)
    return text + b"." + part(private.sign(text))


def test_what_was_signed_is_read_again() -> None:
    assert verify(SIGNED, KEY) == RECEIPT
    public = OKPKey.import_key(KEY.as_dict(private=False))
    assert verify(SIGNED, public) == RECEIPT


def test_the_same_receipt_is_the_same_bytes() -> None:
    """A receipt that is sent again is compared byte for byte."""
    again = Receipt.model_validate_json(RECEIPT.model_dump_json())
    assert signer(KEY)(again) == SIGNED


def test_it_is_a_jws_as_others_understand_it() -> None:
    read = jws.deserialize_compact(SIGNED, KEY, algorithms=["Ed25519"])
    assert read.payload == canonical(RECEIPT.model_dump(mode="json"))
    assert read.headers() == {"alg": "Ed25519", "typ": "ehcp-receipt+jwt"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "EdDSA" is the older name, which we still take
        for name in ("Ed25519", "EdDSA"):
            theirs = jws.serialize_compact({"alg": name}, RECEIPT.model_dump_json(), KEY, algorithms=[name])
            assert verify(theirs.encode(), KEY) == RECEIPT


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (signer(OKPKey.generate_key("Ed25519"))(RECEIPT), "signature"),
        (b".".join([HEADER, part(RECEIPT.model_dump(mode="json") | {"seq": 4}), SIGNATURE]), "signature"),
        (b".".join([part({"alg": "Ed25519"}), PAYLOAD, SIGNATURE]), "signature"),
        (b".".join([HEADER, PAYLOAD, part(bytes(64))]), "signature"),
        (b".".join([HEADER, PAYLOAD, b""]), "signature"),
        (b".".join([part({"alg": "none"}), PAYLOAD, b""]), "not signed with Ed25519"),
        (b".".join([part({"alg": "HS256"}), PAYLOAD, SIGNATURE]), "not signed with Ed25519"),
        (b".".join([part({"alg": ["Ed25519"]}), PAYLOAD, SIGNATURE]), "not signed with Ed25519"),
        (b".".join([part([]), PAYLOAD, SIGNATURE]), "compact JWS"),
        (b".".join([part(b"[" * 100_000), PAYLOAD, SIGNATURE]), "compact JWS"),
        (b"", "compact JWS"),
        (b"..", "compact JWS"),
        (b"\xff\xfe\x00", "compact JWS"),
        (b"%%%.%%%.%%%", "compact JWS"),
        (SIGNED[:-1] + b"!", "compact JWS"),
        (PAYLOAD, "compact JWS"),
    ],
)
def test_forged_or_no_receipt(token: bytes, reason: str) -> None:
    with pytest.raises(ReceiptError, match=reason):
        verify(token, KEY)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000,
        RECEIPT.model_dump(mode="json") | {"seq": 0},
        RECEIPT.model_dump(mode="json") | {"number": 2**53},
        RECEIPT.model_dump(mode="json") | {"status": "eaten by the dog"},
        RECEIPT.model_dump(mode="json") | {"record": None},
        RECEIPT.model_dump(mode="json") | {"status": "refused"},
        RECEIPT.model_dump(mode="json") | {"at": "2026-11-20T12:00:00"},
    ],
)  # fmt: skip
def test_rightly_signed_but_no_receipt_and_the_reason_repeats_nothing_of_it(payload: Any) -> None:
    with pytest.raises(ReceiptError) as refused:
        verify(signed({"alg": "Ed25519"}, payload), KEY)
    assert str(refused.value) == "the payload is not a receipt"


def test_a_newer_subscriber_may_say_more() -> None:
    more = RECEIPT.model_dump(mode="json") | {"mood": "cheerful"}
    assert verify(signed({"alg": "Ed25519"}, more), KEY) == RECEIPT


def test_only_ed25519_keys_sign_and_verify() -> None:
    with pytest.raises(ReceiptError, match="private"):
        signer(OKPKey.import_key(KEY.as_dict(private=False)))
    with pytest.raises(ReceiptError, match="Ed25519"):
        verify(SIGNED, OKPKey.generate_key("X25519"))
    with pytest.raises(ReceiptError, match="Ed25519"):
        verify(SIGNED, ECKey.generate_key("P-256"))  # type: ignore[arg-type]
