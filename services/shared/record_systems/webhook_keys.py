"""Signatures of webhooks as Standard Webhooks 1.0 has them: ``v1`` (HMAC-SHA256, a shared secret) and ``v1a`` (Ed25519).

A message carries one signature for each of our keys, so that a key, or the kind of key, can be changed without a gap: the
receiver takes the message when one fits. Who has only our public key cannot pretend to be us. What a receiver says to us,
signed in the same way, is checked with the shared secrets and with its own public keys.
"""

import base64
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from standardwebhooks import Webhook

TOLERANCE = 300
"""Seconds that two clocks may differ, as in the standard's own libraries."""


class SigningKey(Protocol):
    def sign(self, msg_id: str, timestamp: datetime, data: str) -> str:
        """One word of ``webhook-signature``."""
        ...


@dataclass(frozen=True, slots=True)
class _PrivateKey:
    key: Ed25519PrivateKey

    def sign(self, msg_id: str, timestamp: datetime, data: str) -> str:
        signature = self.key.sign(_signed_bytes(msg_id, str(int(timestamp.timestamp())), data.encode()))
        return "v1a," + base64.b64encode(signature).decode()


@dataclass(frozen=True, slots=True)
class Keys:
    """``signing`` signs what we say; each of ``theirs`` says whether a receiver signed (id, timestamp, body, word)."""

    signing: tuple[SigningKey, ...]
    theirs: tuple[Callable[[str, str, bytes, str], bool], ...]


def keys_of(secret: str, their_keys: Sequence[str] = ()) -> Keys:
    """``secret``: ``whsec_…`` (shared) or ``whsk_…`` (our Ed25519 private key), or several parted by spaces while one is
    changed. ``their_keys``: ``whpk_…``, public keys of the receiver. Raises ``ValueError``."""
    signing: list[SigningKey] = []
    theirs: list[Callable[[str, str, bytes, str], bool]] = []
    for each in secret.split():
        if each.startswith("whsk_"):
            # 32 bytes, or as some libraries write it with the 32 of the public key behind.
            seed = _decoded(each.removeprefix("whsk_"))
            if len(seed) not in (32, 64):
                raise ValueError("its whsk_ key must be the base64 of an Ed25519 private key of 32 bytes")
            signing.append(_PrivateKey(Ed25519PrivateKey.from_private_bytes(seed[:32])))
        # Standard Webhooks: 24 to 64 bytes of secret. A shorter one is a password, not a key.
        elif each.startswith("whsec_") and 24 <= len(_decoded(each.removeprefix("whsec_"))) <= 64:
            shared = Webhook(each)
            signing.append(shared)
            theirs.append(_signed_with(shared))
        else:
            raise ValueError("its secret must be whsec_ and the base64 of 24 to 64 random bytes, or whsk_ and an Ed25519 key")
    if not signing:
        raise ValueError("it needs a secret")
    for each in their_keys:
        raw = _decoded(each.removeprefix("whpk_"))
        if not each.startswith("whpk_") or len(raw) != 32:
            raise ValueError("its public_keys must be whpk_ and the base64 of an Ed25519 public key")
        theirs.append(_signed_by(Ed25519PublicKey.from_public_bytes(raw)))
    return Keys(tuple(signing), tuple(theirs))


def signed(message_id: str, signed_part: str, keys: Keys, now: datetime) -> dict[str, str]:
    """The three headers of a message. ``signed_part`` is the body; for a request without one, its query."""
    at = now.astimezone(UTC).replace(microsecond=0)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(key.sign(message_id, at, signed_part) for key in keys.signing),
    }


def is_signed(headers: Mapping[str, str], signed_part: bytes, keys: Keys, now: datetime) -> bool:
    """Whether the receiver signed this, now. Any header may be missing or nonsense."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 15):
        return False
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE:
        return False
    words = headers.get("webhook-signature", "").split()
    return any(fits(message_id, timestamp, signed_part, word) for word in words[:20] for fits in keys.theirs)


def _signed_with(shared: Webhook) -> Callable[[str, str, bytes, str], bool]:
    def fits(message_id: str, timestamp: str, body: bytes, word: str) -> bool:

        try:
            expected = shared.sign(message_id, datetime.fromtimestamp(int(timestamp), UTC), body.decode())
        except UnicodeDecodeError:
            return False
        return hmac.compare_digest(expected.encode(), word.encode())

    return fits


def _signed_by(public: Ed25519PublicKey) -> Callable[[str, str, bytes, str], bool]:
    def fits(message_id: str, timestamp: str, body: bytes, word: str) -> bool:
        version, _, signature = word.partition(",")
        if version != "v1a":
            return False
        try:
            public.verify(_decoded(signature), _signed_bytes(message_id, timestamp, body))
        except InvalidSignature:
            return False
        return True

    return fits


def _signed_bytes(message_id: str, timestamp: str, body: bytes) -> bytes:
    return f"{message_id}.{timestamp}.".encode() + body


def _decoded(encoded: str) -> bytes:
    """Nothing where it is no base64."""
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        return b""
