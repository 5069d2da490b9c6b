"""When a subscriber is in trouble, and when an alert about it is cleared and why."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from schemas.alerts import AlertKind, ClearedBecause
from services.notifier.subscribers import Subscriber, Trouble, troubles, why_cleared

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
FIVE = timedelta(minutes=5)
TOPIC = "ehcp.shares.health.v1"


def heard(seconds_ago: int, *stopped: str) -> Subscriber:
    return Subscriber("health", NOW - timedelta(seconds=seconds_ago), frozenset(stopped))


@pytest.mark.parametrize(
    ("seconds_ago", "watching_for", "silent"),
    [(300, 86_400, False), (301, 86_400, True), (301, 300, False), (86_400, 0, False), (86_400, 301, True)],
)
def test_silent_after_five_minutes_of_which_somebody_listened(seconds_ago: int, watching_for: int, silent: bool) -> None:
    found = list(troubles([heard(seconds_ago)], NOW, NOW - timedelta(seconds=watching_for), FIVE))
    expected = [Trouble(AlertKind.SILENT, "health", None, NOW - timedelta(seconds=seconds_ago))]
    assert found == (expected if silent else [])


def test_each_stopped_topic_is_one_trouble() -> None:
    found = list(troubles([heard(10, TOPIC, "ehcp.receipts.health.v1"), heard(10)], NOW, LONG_AGO, FIVE))
    assert [(each.kind, each.about) for each in found] == [
        (AlertKind.STOPPED, "ehcp.receipts.health.v1"), (AlertKind.STOPPED, TOPIC),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "subscriber", "because"),
    [
        (AlertKind.SILENT, heard(301), None),
        (AlertKind.SILENT, heard(300), ClearedBecause.HEARD),
        (AlertKind.SILENT, None, ClearedBecause.SETTLED),
        (AlertKind.STOPPED, heard(10, TOPIC), None),
        (AlertKind.STOPPED, heard(86_400, TOPIC), None),
        (AlertKind.STOPPED, heard(10, "ehcp.receipts.health.v1"), ClearedBecause.RESUMED),
        (AlertKind.STOPPED, None, ClearedBecause.SETTLED),
    ],
)
def test_cleared(kind: AlertKind, subscriber: Subscriber | None, because: ClearedBecause | None) -> None:
    about = TOPIC if kind is AlertKind.STOPPED else None
    assert why_cleared(kind, about, subscriber, NOW, FIVE) is because


def test_each_paused_recipient_is_one_trouble_since_it_was_paused() -> None:
    paused = replace(heard(10), paused={"ods:RXK": NOW, "ods:RNA": LONG_AGO})
    assert list(troubles([paused], NOW, LONG_AGO, FIVE)) == [
        Trouble(AlertKind.PAUSED, "health", "ods:RNA", LONG_AGO),
        Trouble(AlertKind.PAUSED, "health", "ods:RXK", NOW),
    ]
    assert why_cleared(AlertKind.PAUSED, "ods:RNA", paused, NOW, FIVE) is None
    assert why_cleared(AlertKind.PAUSED, "ods:RZZ", paused, NOW, FIVE) is ClearedBecause.RESUMED


def test_each_record_system_that_is_away_is_one_trouble_and_so_is_the_document_api() -> None:
    away = replace(heard(10), away={"rna": LONG_AGO, "": NOW})
    assert list(troubles([away], NOW, LONG_AGO, FIVE)) == [
        Trouble(AlertKind.AWAY, "health", None, NOW), Trouble(AlertKind.AWAY, "health", "rna", LONG_AGO),
    ]  # fmt: skip
    assert why_cleared(AlertKind.AWAY, "rna", away, NOW, FIVE) is None
    assert why_cleared(AlertKind.AWAY, None, away, NOW, FIVE) is None
    assert why_cleared(AlertKind.AWAY, "rxk", away, NOW, FIVE) is ClearedBecause.HEARD


def test_what_a_person_must_see_in_the_records_is_a_trouble_and_what_mends_itself_is_none() -> None:
    since = NOW - timedelta(days=2)
    told = replace(
        heard(10),
        differences={"orphan": 1, "should_have_been_withdrawn": 1, "missing_from_record": 1},
        unasked_since=since,
        held=100,
    )
    found = list(troubles([told], NOW, LONG_AGO, FIVE))
    assert found == [
        Trouble(AlertKind.ORPHANED, "health", None, NOW),
        Trouble(AlertKind.NOT_ENDED, "health", None, NOW),
        Trouble(AlertKind.UNASKED, "health", None, since),
    ]
    for kind in (AlertKind.ORPHANED, AlertKind.NOT_ENDED, AlertKind.UNASKED):
        assert why_cleared(kind, None, told, NOW, FIVE) is None
        mended = replace(heard(10), differences={"altered": 1}, held=100)
        assert why_cleared(kind, None, mended, NOW, FIVE) is ClearedBecause.SETTLED


@pytest.mark.parametrize(
    ("found", "held", "told"),
    [(1, 2, False), (2, 2, False), (3, 30, True), (3, 31, False), (9, 91, False), (10, 718_838, True), (3, 0, True)],
)
def test_records_that_mend_themselves_are_told_of_when_they_are_many(found: int, held: int, told: bool) -> None:
    mended = {"missing_from_record": found, "altered": 1}
    emptied = replace(heard(10), differences=mended, held=held)
    trouble = Trouble(AlertKind.RECORDS_DIFFER, "health", "missing_from_record", NOW)
    assert list(troubles([emptied], NOW, LONG_AGO, FIVE)) == ([trouble] if told else []), "one for the kind, none for each copy"
    because = None if told else ClearedBecause.SETTLED
    assert why_cleared(AlertKind.RECORDS_DIFFER, "missing_from_record", emptied, NOW, FIVE) is because
    assert why_cleared(AlertKind.RECORDS_DIFFER, "stale", emptied, NOW, FIVE) is ClearedBecause.SETTLED
