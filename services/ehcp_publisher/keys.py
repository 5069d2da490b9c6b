"""Keys of councils and children, unwrapped once and kept in memory; lookups of identifiers through keyed hashes."""

import unicodedata
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import date
from functools import lru_cache
from hashlib import blake2b
from itertools import repeat
from uuid import UUID

from schemas.plan import Child
from services.shared.ids import derived_id
from services.shared.sealing.sealing import Key, new_key

_KEPT = 10_000


def _short(key: bytes, value: str) -> int:
    """A keyed hash as ``bigint`` has it."""
    return int.from_bytes(blake2b(value.encode(), key=key, digest_size=8).digest(), signed=True)


@lru_cache(100_000)
def _short_of_pair(key: bytes, pair: tuple[str, str]) -> int:
    """Kept, since texts of one council have most words in common."""
    return _short(key, " ".join(pair))


class ChildKeys:
    """A child's key is wrapped by the council's, the council's by the master key."""

    def __init__(self, master: Key, wrapped_council_keys: dict[str, bytes]) -> None:
        self._councils = {la: master.unwrap(wrapped, f"council:{la}") for la, wrapped in wrapped_council_keys.items()}
        self._lookup = master.derive("lookup")
        self._names = master.derive("names")
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

    def rewrap(self, from_: str, to: str, child_id: UUID, wrapped: bytes) -> bytes:
        """The child's key, for the council that takes the plan over."""
        return self._councils[to].wrap(self.child_key(from_, child_id, wrapped), f"child:{child_id}")

    def name_lookup(self, child: Child) -> bytes | None:
        """By full name and date of birth, however the name is written: case, accents, hyphens and spaces do not count."""
        letters = unicodedata.normalize("NFKD", f"{child.given_names} {child.family_name}").casefold()
        name = "".join(letter for letter in letters if letter.isalnum())
        return self.lookup("name", f"{name}:{child.date_of_birth}")

    def plan_id(self, la_code: str, case_reference: str) -> UUID:
        """The same when a council that was restored from a backup makes the plan once more."""
        return derived_id(self._lookup.lookup("plan", f"{la_code}:{case_reference.upper()}"))

    def name_key(self, pair: tuple[str, str]) -> int:
        """By a given and a family name alone. 64 bits do: two names with one key are told apart by :meth:`born_key`."""
        return _short_of_pair(self._names.bytes_, pair)

    def name_keys(self, pairs: Iterable[tuple[str, str]]) -> Iterator[int]:
        """:meth:`name_key` of each."""
        return map(_short_of_pair, repeat(self._names.bytes_), pairs)

    def born_key(self, pair: tuple[str, str], born: date) -> int:
        return _short(self._names.bytes_, f"{' '.join(pair)}:{born}")

    def lookup(self, purpose: str, value: str | None) -> bytes | None:
        return self._lookup.lookup(purpose, value) if value else None


def wrap_new_council_key(master: Key, la_code: str) -> bytes:
    return master.wrap(new_key(), f"council:{la_code}")
