"""Sign and verify what a subscriber states (receipts, heartbeats, what a record holds): compact JWS (RFC 7515) with Ed25519
over canonical JSON.

Ed25519 is deterministic, so the same receipt signed twice is the same bytes. Built on ``cryptography`` directly: on the hot
path of every receipt the JOSE library's generality costs more than the signature itself (see ``tests/bench``).
"""

import base64
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypeVar

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc.jwk import OKPKey
from pydantic import ValidationError

from schemas.heartbeats import Heartbeat
from schemas.holdings import Holding
from schemas.manifest import canonical
from schemas.receipts import Receipt

Statement: TypeAlias = Receipt | Heartbeat | Holding
"""Whatever a subscriber signs."""
_TYPES: dict[type[Statement], str] = {
    Receipt: "ehcp-receipt+jwt", Heartbeat: "ehcp-heartbeat+jwt", Holding: "ehcp-holding+jwt",
}  # fmt: skip
"""``typ`` of each, so that nothing signed as the one can be taken for the other."""


class ReceiptError(Exception):
    """Not a receipt, or not signed by this key."""


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(data: bytes) -> bytes:
    return base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)


def signer(key: OKPKey) -> Callable[[Statement], bytes]:
    private = key.private_key
    if not isinstance(private, Ed25519PrivateKey):
        raise ReceiptError("EHCP_RECEIPT_KEY_FILE must hold a private Ed25519 key")
    headers = {kind: _encode(orjson.dumps({"alg": "Ed25519", "typ": typ})) for kind, typ in _TYPES.items()}

    def sign(statement: Statement) -> bytes:
        signed = headers[type(statement)] + b"." + _encode(canonical(statement.model_dump(mode="json")))
        return signed + b"." + _encode(private.sign(signed))

    return sign


def verify(token: bytes, key: OKPKey) -> Receipt:
    """Raises :class:`ReceiptError` with a reason that holds nothing of the input."""
    header, payload = _verified(token, key)
    # Whoever builds a subscriber of their own may leave ``typ`` out of a receipt; of the others it must be there.
    if header.get("typ") in (_TYPES[Heartbeat], _TYPES[Holding]):
        raise ReceiptError("the payload is not a receipt")
    return _read(Receipt, payload, "a receipt")


RACE = timedelta(minutes=5)
"""A receipt is verified before it is stored: its key may be replaced in between."""


def held(valid_from: datetime | None, valid_until: datetime | None, received_at: datetime) -> bool:
    """Whether a key held when the council took a receipt in; None on a side that has no end, or none that is known."""
    return (valid_from is None or valid_from <= received_at) and (valid_until is None or received_at <= valid_until + RACE)


def words(token: bytes) -> Receipt:
    """What a receipt says that was verified when it came, and whose signature nobody looks at now."""
    return Receipt.model_validate_json(_decode(token.split(b".")[1]))


def verify_heartbeat(token: bytes, key: OKPKey) -> Heartbeat:
    """Raises :class:`ReceiptError` with a reason that holds nothing of the input."""
    return _of_type(Heartbeat, token, key, "a heartbeat")


def verify_holding(token: bytes, key: OKPKey) -> Holding:
    """Raises :class:`ReceiptError` with a reason that holds nothing of the input."""
    return _of_type(Holding, token, key, "an answer about a record")


Model = TypeVar("Model", Receipt, Heartbeat, Holding)


def _of_type(model: type[Model], token: bytes, key: OKPKey, name: str) -> Model:
    header, payload = _verified(token, key)
    if header.get("typ") != _TYPES[model]:
        raise ReceiptError(f"the payload is not {name}")
    return _read(model, payload, name)


def _read(model: type[Model], payload: bytes, name: str) -> Model:
    try:
        return model.model_validate_json(payload)
    except ValidationError:
        raise ReceiptError(f"the payload is not {name}") from None


def _verified(token: bytes, key: OKPKey) -> tuple[dict[str, Any], bytes]:
    """Header and payload, the signature proved."""
    public = key.public_key
    if not isinstance(public, Ed25519PublicKey):
        raise ReceiptError("the subscriber's key is not Ed25519")
    signed, _, signature = token.rpartition(b".")
    encoded, _, payload = signed.partition(b".")
    try:
        header = orjson.loads(_decode(encoded))
        if header.get("alg") not in ("Ed25519", "EdDSA"):
            raise ReceiptError("not signed with Ed25519")
        public.verify(_decode(signature), signed)
        return header, _decode(payload)
    except InvalidSignature:
        raise ReceiptError("the signature is not this subscriber's") from None
    except (ValueError, AttributeError):
        raise ReceiptError("not a compact JWS") from None
