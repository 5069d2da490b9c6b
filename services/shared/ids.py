"""Opaque identifiers. UUIDv7: random to an outsider, in order of time to an index. UUIDv8: worked out from something else."""

from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    return uuid_utils.compat.uuid7()


def derived_id(digest: bytes) -> UUID:
    """The same for the same digest (at least 16 bytes); RFC 9562 version 8."""
    number = int.from_bytes(digest[:16]) & ~(0xF000 << 64 | 0xC000 << 48)
    return UUID(int=number | 0x8000 << 64 | 0x8000 << 48)
