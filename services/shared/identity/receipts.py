"""Sign and verify receipts: compact JWS (RFC 7515) with Ed25519 over the canonical JSON of the receipt.

Ed25519 is deterministic, so the same receipt signed twice is the same bytes. Built on ``cryptography`` directly: on the hot
path of every receipt the JOSE library's generality costs more than the signature itself (see ``tests/bench``).
"""

import base64
from collections.abc import Callable

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc.jwk import OKPKey
from pydantic import ValidationError

from schemas.manifest import canonical
from schemas.receipts import Receipt

_HEADER = orjson.dumps({"alg": "Ed25519", "typ": "ehcp-receipt+jwt"})


class ReceiptError(Exception):
    """Not a receipt, or not signed by this key."""


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(data: bytes) -> bytes:
    return base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)


def signer(key: OKPKey) -> Callable[[Receipt], bytes]:
    private = key.private_key
    if not isinstance(private, Ed25519PrivateKey):
        raise ReceiptError("EHCP_RECEIPT_KEY_FILE must hold a private Ed25519 key")
    header = _encode(_HEADER)

    def sign(receipt: Receipt) -> bytes:
        signed = header + b"." + _encode(canonical(receipt.model_dump(mode="json")))
        return signed + b"." + _encode(private.sign(signed))

    return sign


def verify(token: bytes, key: OKPKey) -> Receipt:
    """Raises :class:`ReceiptError` with a reason that holds nothing of the input."""
    public = key.public_key
    if not isinstance(public, Ed25519PublicKey):
        raise ReceiptError("the subscriber's key is not Ed25519")
    signed, _, signature = token.rpartition(b".")
    header, _, payload = signed.partition(b".")
    try:
        if orjson.loads(_decode(header)).get("alg") not in ("Ed25519", "EdDSA"):
            raise ReceiptError("not signed with Ed25519")
        public.verify(_decode(signature), signed)
        return Receipt.model_validate_json(_decode(payload))
    except InvalidSignature:
        raise ReceiptError("the signature is not this subscriber's") from None
    except ValidationError:
        raise ReceiptError("the payload is not a receipt") from None
    except (ValueError, AttributeError):
        raise ReceiptError("not a compact JWS") from None
