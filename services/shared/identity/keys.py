"""Ed25519 keys as JSON Web Keys (RFC 8037), read from files."""

from pathlib import Path

import orjson
from joserfc.jwk import OKPKey


class KeyFileError(Exception):
    """One sentence that says which setting names a file that is no key."""


def read_key(file: Path, setting: str) -> OKPKey:
    try:
        return OKPKey.import_key(orjson.loads(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{setting} must name a file with an Ed25519 JSON Web Key ({type(error).__name__})") from None
