"""Opaque identifiers. UUIDv7: random to an outsider, in order of time to an index."""

from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    return uuid_utils.compat.uuid7()
