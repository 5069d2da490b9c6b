"""Ed25519 keys as JSON Web Keys (RFC 8037), read from files and from the registry."""

from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

ALGORITHM = "Ed25519"
"""Of every signature in the exchange."""
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""How RFC 7523 names a client assertion."""


class KeyFileError(Exception):
    """One sentence that says which setting names a file that is no key."""


def import_key(jwk: Any) -> OKPKey:
    """Raises ``ValueError`` for anything that is no Ed25519 key; its message holds nothing of it."""
    try:
        key = OKPKey.import_key(jwk)
        if isinstance(key.public_key, Ed25519PublicKey):
            return key
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        pass
    raise ValueError("it is not an Ed25519 JSON Web Key")


def read_key(file: Path, setting: str) -> OKPKey:
    try:
        return import_key(orjson.loads(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{setting} must name a file with an Ed25519 JSON Web Key ({type(error).__name__})") from None
