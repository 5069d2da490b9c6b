"""Keys and passwords of the embedded machine: made once, kept in `keys/`, readable by this user alone.

A file that is there is never written again: everything sealed or signed before stays readable.
"""

import base64
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from joserfc.jwk import OKPKey

from services.cli.machine.folder import write_private

JsonWebKey = dict[str, Any]


class KeyRing:
    """Files by name; each method returns the file, made if it was missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def signing_key(self, name: str) -> Path:
        """A private Ed25519 JSON Web Key."""

        def make() -> bytes:
            return orjson.dumps(OKPKey.generate_key("Ed25519").as_dict(private=True))

        return self._once(f"{name}.jwk", make)

    def public_key_file(self, name: str) -> Path:
        """The public half in a file of its own, for services that must not have the private one."""
        return self._once(f"{name}.public.jwk", lambda: orjson.dumps(self.public_key(name)))

    def public_key(self, name: str) -> JsonWebKey:
        key = OKPKey.import_key(orjson.loads(self.signing_key(name).read_bytes()))
        return dict(key.as_dict(private=False))

    def master_key(self, name: str) -> Path:
        """32 random bytes, base64."""
        return self._once(f"{name}.master", lambda: base64.b64encode(secrets.token_bytes(32)))

    def webhook_secret(self, name: str) -> Path:
        """As Standard Webhooks writes them: `whsec_` and base64."""
        return self._once(f"{name}.whsec", lambda: b"whsec_" + base64.b64encode(secrets.token_bytes(32)))

    def operator_token(self, subscriber: str) -> Path:
        """What the operator of a subscriber shows it."""
        return self._once(f"operator-{subscriber}.token", lambda: secrets.token_urlsafe(32).encode())

    def password(self, name: str) -> str:
        return self._once(f"{name}.password", lambda: secrets.token_urlsafe(24).encode()).read_text()

    def _once(self, name: str, make: Callable[[], bytes]) -> Path:
        file = self.folder / name
        if not file.exists():
            write_private(file, make())
        return file
