"""Keys of councils and children, unwrapped once and kept in memory; lookups of identifiers through keyed hashes."""

from collections import OrderedDict
from uuid import UUID

from services.shared.sealing.sealing import Key, new_key

_KEPT = 10_000


class ChildKeys:
    """A child's key is wrapped by the council's, the council's by the master key."""

    def __init__(self, master: Key, wrapped_council_keys: dict[str, bytes]) -> None:
        self._councils = {la: master.unwrap(wrapped, f"council:{la}") for la, wrapped in wrapped_council_keys.items()}
        self._lookup = master.derive("lookup")
        self._children: OrderedDict[UUID, Key] = OrderedDict()

    def new_child_key(self, la_code: str, child_id: UUID) -> tuple[Key, bytes]:
        """A fresh key, and itself wrapped for the database."""
        key = new_key()
        return key, self._councils[la_code].wrap(key, f"child:{child_id}")

    def child_key(self, la_code: str, child_id: UUID, wrapped: bytes) -> Key:
        key = self._children.get(child_id)
        if key is None:
            key = self._children[child_id] = self._councils[la_code].unwrap(wrapped, f"child:{child_id}")
            if len(self._children) > _KEPT:
                self._children.popitem(last=False)
        return key

    def lookup(self, purpose: str, value: str | None) -> bytes | None:
        return self._lookup.lookup(purpose, value) if value else None


def wrap_new_council_key(master: Key, la_code: str) -> bytes:
    return master.wrap(new_key(), f"council:{la_code}")
