"""Who of a family must be looked at by a second person before anything goes to them again. Pure.

Invariant: a parent whom an event took out of the family (the council knows of a court order, the case system does not) gets
nothing because a later version still names them; and another person under a known reference is not taken for the one who was
meant by it. Next: ``shares`` makes them wait, ``consequences`` and ``issuing`` keep the doubts with the plan.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from enum import StrEnum
from uuid import UUID

from schemas.plan import FamilyMember
from services.ehcp_publisher.registry import person_id
from services.shared.sealing.sealing import Key


class Doubt(StrEnum):
    TAKEN_OUT = "taken_out"
    ANOTHER_NAME = "another_name"


WHY = {
    Doubt.TAKEN_OUT: "an event took them out of the family, and they are named again",
    Doubt.ANOTHER_NAME: "the reference was another name's before; another person has a reference of their own",
}

_TITLES = frozenset({"mr", "mrs", "ms", "miss", "mx", "dr", "prof", "rev", "sir", "dame", "lady", "lord"})


def taken_out(plan_id: UUID, before: Iterable[FamilyMember], after: Iterable[FamilyMember]) -> dict[str, str]:
    """Those of ``before`` who are not in ``after``."""
    stay = {member.reference for member in after}
    return {
        str(person_id(plan_id, member.reference)): Doubt.TAKEN_OUT.value for member in before if member.reference not in stay
    }


def renamed(plan_id: UUID, before: Iterable[FamilyMember], after: Iterable[FamilyMember]) -> dict[str, str]:
    """Those of ``after`` whose reference was somebody's of another name before."""
    known = {member.reference: member.name for member in before}
    return {
        str(person_id(plan_id, member.reference)): Doubt.ANOTHER_NAME.value
        for member in after
        if member.reference in known and not same_name(known[member.reference], member.name)
    }


def opened(key: Key, family: Iterable[tuple[UUID, bytes]]) -> tuple[FamilyMember, ...]:
    """``family``: recipient id, and who it is, sealed."""
    return tuple(FamilyMember.model_validate_json(key.open(sealed, f"person:{id_}")) for id_, sealed in family)


def same_name(one: str, other: str) -> bool:
    """However it is written: case, accents, titles and the order of its words do not count."""
    return _words(one) == _words(other)


def _words(name: str) -> list[str]:
    letters = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(c if c.isalnum() else "" if unicodedata.combining(c) or c in "'\u2019." else " " for c in letters)
    return sorted(word for word in plain.split() if word not in _TITLES)


def doubted(doubts: Mapping[str, str], recipient_id: UUID) -> str | None:
    """Why a second person is asked about this member of the family."""
    found = doubts.get(str(recipient_id))
    return WHY[Doubt(found)] if found else None
