"""How many of the shares that should be held are proved to be, by kind of recipient and by strength of the proof. Pure.

Active is every share of a plan that is to be held now; notices are not among them. A share counts once, by the newest word for
the version that is wanted: *sent* is never shown as filed. Satisfied is what is strong enough for the recipient's channel. Who
is involved and has no share is no share at all, so coverage is honest only beside the share gaps.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from schemas.base import RecipientKind


class Proof(BaseModel):
    """Shares by what is proved of the version that is wanted; together they are the active ones."""

    filed: int = 0
    opened: int = 0
    collected: int = 0
    sent: int = 0
    waiting: int = 0
    """Nothing is said of it yet."""
    failed: int = 0
    """It will be tried again."""
    refused: int = 0
    superseded: int = 0
    """Its subscriber has a newer instruction, and has not said what became of it."""
    undeliverable: int = 0
    """Nobody delivers to the recipient."""


class _Counted(BaseModel):
    active: int
    satisfied: int
    coverage: float | None
    """Satisfied ÷ active; null where nothing is active."""
    proof: Proof


class CoverageOfKind(_Counted):
    recipient_kind: RecipientKind


class Coverage(_Counted):
    la_codes: list[str]
    plans: int
    """In force."""
    share_gaps: int
    """Somebody involved in a plan who has no share, of whatever kind."""
    plans_with_gaps: int
    kinds: list[CoverageOfKind]
    """Those of which some share is active, by name."""


def coverage(la_codes: Iterable[str], rows: Iterable[Mapping[str, Any]], beside: Mapping[str, Any]) -> Coverage:
    """``rows``: shares counted by kind, proof and whether they are satisfied. ``beside``: plans and share gaps."""
    proofs: dict[str, Counter[str]] = {}
    satisfied: Counter[str] = Counter()
    for row in rows:
        proofs.setdefault(row["recipient_kind"], Counter())[row["proof"]] += row["shares"]
        satisfied[row["recipient_kind"]] += row["shares"] if row["satisfied"] else 0
    kinds = [
        CoverageOfKind(recipient_kind=RecipientKind(kind), **_counted(proofs[kind], satisfied[kind])) for kind in sorted(proofs)
    ]
    everything = _counted(sum(proofs.values(), Counter()), satisfied.total())
    return Coverage(la_codes=sorted(la_codes), kinds=kinds, **beside, **everything)


def _counted(proof: Counter[str], satisfied: int) -> dict[str, Any]:
    active = proof.total()
    return {
        "active": active, "satisfied": satisfied, "coverage": round(satisfied / active, 4) if active else None,
        "proof": Proof(**proof),
    }  # fmt: skip
