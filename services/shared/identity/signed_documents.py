"""Sign and verify documents that leave the exchange for people: an inspector's sample, a breach pack.

A signed document is one JSON file: the document as anyone can read it, and beside it a detached compact JWS (RFC 7515,
appendix F) with Ed25519 over the document's canonical JSON (RFC 8785). So it is verified offline, years later, with the
council's public key and any JOSE library. ``typ`` names the kind: a document of one kind never passes for another.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc.jwk import OKPKey

from schemas.manifest import NotCanonicalError, canonical
from services.shared.identity.keys import ALGORITHM, KeyFileError, import_key, read_key


class SignedDocumentError(Exception):
    """One sentence: why this is no document that the council signed. Nothing of its content."""


@dataclass(frozen=True, slots=True)
class Verified:
    kind: str
    document: dict[str, Any]
    fingerprint: str
    """Of the key that signed: to be compared with the one that the council has published."""


class DocumentSigner:
    """With the council's key for documents, which signs nothing else."""

    def __init__(self, key: OKPKey) -> None:
        """Raises ``ValueError`` for a key that cannot sign."""
        private = key.private_key
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError("a private Ed25519 key is needed to sign documents")
        self._private = private
        self._public: dict[str, Any] = dict(key.as_dict(private=False))

    def sign(self, kind: str, document: dict[str, Any]) -> dict[str, Any]:
        """``document``: strings, integers, booleans, null, lists and objects, as :func:`canonical` takes them."""
        header = _encode(orjson.dumps({"alg": ALGORITHM, "typ": _typ(kind), "kid": fingerprint(self._public)}))
        signature = self._private.sign(header + b"." + _encode(canonical(document)))
        jws = f"{header.decode()}..{_encode(signature).decode()}"
        return {"kind": kind, "document": document, "signature": {"jws": jws, "key": self._public}}


def read_signer(file: Path, setting: str) -> DocumentSigner:
    """Raises :class:`KeyFileError`."""
    try:
        return DocumentSigner(read_key(file, setting))
    except ValueError:
        raise KeyFileError(f"{setting} must name a file with a private Ed25519 JSON Web Key") from None


def verify(data: bytes, key: OKPKey | None = None) -> Verified:
    """Whether the document is as it was signed. Raises :class:`SignedDocumentError`.

    ``key``: the council's, from elsewhere than the document. Without it the key in the document is taken, which proves that
    nothing was changed since and nothing about who signed: somebody must compare the fingerprint.
    """
    try:
        signed = orjson.loads(data)
        kind, document, signature = signed["kind"], signed["document"], signed["signature"]
        encoded, nothing, mark = signature["jws"].split(".")
        header = orjson.loads(_decode(encoded))
        if nothing or header["alg"] != ALGORITHM or header["typ"] != _typ(kind):
            raise SignedDocumentError("The signature is of another kind of document.")
        public = key or import_key(signature["key"])
        message = encoded.encode() + b"." + _encode(canonical(document))
        mark = _decode(mark)
        verifier = public.public_key
        assert isinstance(verifier, Ed25519PublicKey)
    except (ValueError, TypeError, KeyError, AttributeError, NotCanonicalError):
        raise SignedDocumentError("This is no signed document of the exchange.") from None
    try:
        verifier.verify(mark, message)
    except InvalidSignature:
        other = key is not None and fingerprint(signature.get("key")) != fingerprint(key.as_dict(private=False))
        why = "it was signed with another key than the one given" if other else "it was changed after it was signed"
        raise SignedDocumentError(f"The signature does not fit: {why}.") from None
    return Verified(kind, document, fingerprint(public.as_dict(private=False)))


def fingerprint(key: Any) -> str:
    """SHA-256 thumbprint (RFC 7638) of an Ed25519 JSON Web Key, in hexadecimal, in groups that people can compare."""
    members = {name: key.get(name) if isinstance(key, dict) else None for name in ("crv", "kty", "x")}
    digest = hashlib.sha256(orjson.dumps(members, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return " ".join(digest[start : start + 8] for start in range(0, 64, 8))


def _typ(kind: str) -> str:
    return f"ehcp-{kind}+jws"


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
