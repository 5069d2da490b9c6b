"""When a share is in trouble, and when an alert about it is cleared and why."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from schemas.alerts import AlertKind, ClearedBecause
from schemas.base import RecipientKind
from schemas.receipts import Status
from services.notifier.missed import Wanted, troubles, why_cleared

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
MISSED, REFUSED, UNDELIVERABLE = AlertKind.MISSED, AlertKind.REFUSED, AlertKind.UNDELIVERABLE

WAITING = Wanted(
    uuid4(), uuid4(), "332", RecipientKind.TRUST, "health", seq=2, withdrawn=False, due_at=NOW + timedelta(days=1),
    satisfied_seq=0, told_seq=None, told=None,
)  # fmt: skip
OVERDUE = replace(WAITING, due_at=NOW - timedelta(seconds=1))
FILED = replace(WAITING, satisfied_seq=2, told_seq=2, told=Status.FILED)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (WAITING, set()),
        (replace(WAITING, due_at=NOW), set()),
        (OVERDUE, {MISSED}),
        # Silence, failure, and an answer to the former version are all the same to the clock.
        (replace(OVERDUE, told_seq=2, told=Status.FAILED), {MISSED}),
        (replace(OVERDUE, satisfied_seq=1, told_seq=1, told=Status.FILED), {MISSED}),
        (replace(OVERDUE, told_seq=2, told=Status.SENT), {MISSED}),
        (replace(FILED, due_at=NOW - timedelta(days=9)), set()),
        (replace(FILED, satisfied_seq=0, told=Status.FAILED, due_at=NOW - timedelta(days=9)), {MISSED}),
        (replace(WAITING, told_seq=2, told=Status.REFUSED), {REFUSED}),
        (replace(OVERDUE, told_seq=2, told=Status.REFUSED), {REFUSED, MISSED}),
        (replace(WAITING, told_seq=1, told=Status.REFUSED), set()),
        (replace(WAITING, subscriber=None), {UNDELIVERABLE}),
        (replace(OVERDUE, subscriber=None), {UNDELIVERABLE, MISSED}),
        (replace(OVERDUE, subscriber=None, withdrawn=True), set()),
        (replace(OVERDUE, withdrawn=True), {MISSED}),
        # The family of a child who died.
        (replace(OVERDUE, silent=True, told_seq=2, told=Status.REFUSED), set()),
        (replace(WAITING, silent=True, subscriber=None), set()),
    ],
)
def test_troubles(share: Wanted, expected: set[AlertKind]) -> None:
    assert troubles(share, NOW) == expected


@pytest.mark.parametrize(
    ("kind", "share", "because"),
    [
        (MISSED, OVERDUE, None),
        (MISSED, FILED, ClearedBecause.SATISFIED),
        (MISSED, WAITING, ClearedBecause.NOT_DUE),
        (MISSED, None, ClearedBecause.GONE),
        (MISSED, replace(OVERDUE, silent=True), ClearedBecause.SETTLED),
        (REFUSED, replace(WAITING, told_seq=2, told=Status.REFUSED), None),
        (REFUSED, replace(WAITING, seq=3, told_seq=2, told=Status.REFUSED), ClearedBecause.NOT_REFUSED),
        (REFUSED, replace(WAITING, told_seq=2, told=Status.FAILED), ClearedBecause.NOT_REFUSED),
        (REFUSED, FILED, ClearedBecause.SATISFIED),
        (UNDELIVERABLE, replace(WAITING, subscriber=None), None),
        (UNDELIVERABLE, WAITING, ClearedBecause.DELIVERABLE),
        (UNDELIVERABLE, replace(WAITING, subscriber=None, withdrawn=True), ClearedBecause.DELIVERABLE),
    ],
)
def test_why_cleared(kind: AlertKind, share: Wanted | None, because: ClearedBecause | None) -> None:
    assert why_cleared(kind, share, NOW) == because
