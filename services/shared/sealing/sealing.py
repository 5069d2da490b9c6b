"""Personal data at rest: zstd, then AES-256-GCM, under a key per child, wrapped by a key per council, wrapped by a master.

Destroying a child's wrapped key makes every copy of that child's data here unreadable. The associated data binds a sealed
value to its place, so that one child's text pasted into another's row does not open. Lookups go through keyed hashes.
"""

import base64
import hashlib
import hmac
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE = 12
_MAX_PLAIN = 256 * 1024 * 1024


class SealError(Exception):
    """A sealed value does not open: wrong key, wrong place, or altered bytes."""


class _Zstd(threading.local):
    """Contexts are dear to make, a third of the time of compressing a plan, and not for two threads at once."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=3)
        self.decompressor = zstandard.ZstdDecompressor()


_ZSTD = _Zstd()


def pack(plain: bytes) -> bytes:
    """Compress, for :meth:`Key.seal_packed`."""
    return _ZSTD.compressor.compress(plain)


@dataclass(frozen=True, slots=True)
class Key:
    """A 256-bit key. ``repr`` never shows it."""

    bytes_: bytes

    def __repr__(self) -> str:
        return "Key(…)"

    def seal(self, plain: bytes, place: str) -> bytes:
        """Compress and encrypt. ``place`` is the associated data, e.g. ``version.text:<version_id>``."""
        return self.seal_packed(pack(plain), place)

    def seal_packed(self, packed: bytes, place: str) -> bytes:
        """As :meth:`seal`, for what :func:`pack` gave: one text for several readers is compressed once."""
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(self.bytes_).encrypt(nonce, packed, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        try:
            packed = AESGCM(self.bytes_).decrypt(sealed[:_NONCE], sealed[_NONCE:], place.encode())
        except (InvalidTag, ValueError):  # the latter for what is too short to be sealed
            raise SealError(f"the value sealed for {place.split(':')[0]} does not open with this key") from None
        return _ZSTD.decompressor.decompress(packed, max_output_size=_MAX_PLAIN)

    def wrap(self, key: "Key", place: str) -> bytes:
        """Encrypt another key under this one."""
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(self.bytes_).encrypt(nonce, key.bytes_, place.encode())

    def unwrap(self, wrapped: bytes, place: str) -> "Key":
        try:
            return Key(AESGCM(self.bytes_).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], place.encode()))
        except (InvalidTag, ValueError):
            raise SealError(f"the key for {place.split(':')[0]} does not open: is this the right master key?") from None

    def derive(self, purpose: str) -> "Key":
        return Key(HKDF(hashes.SHA256(), 32, None, purpose.encode()).derive(self.bytes_))

    def lookup(self, purpose: str, value: str) -> bytes:
        """A keyed hash to find a row by a value that is not stored in the clear."""
        return hmac.new(self.bytes_, f"{purpose}\0{value}".encode(), hashlib.sha256).digest()


def new_key() -> Key:
    return Key(AESGCM.generate_key(256))


def read_master_key(file: Path) -> Key:
    """The key provider of a single machine: a file that holds base64 of 32 bytes. Raises ``SealError``."""
    try:
        raw = base64.b64decode(file.read_text().strip(), validate=True)
    except (OSError, ValueError) as error:
        raise SealError(f"the master key file cannot be read ({type(error).__name__}): set EHCP_MASTER_KEY_FILE") from None
    if len(raw) != 32:
        raise SealError("the master key file must hold base64 of 32 bytes")
    return Key(raw)
