"""Alerts about what a council's case system and the exchange differ in, as its last comparison told.

One for each difference of a plan. Plans that the exchange does not know have no id here and may be thousands at the first
comparison, so they are one alert with their number, told anew when there are more.
"""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from schemas.alerts import AlertKind, ClearedBecause
from services.notifier import store_comparisons
from services.notifier.store import Alert, Connection
from services.notifier.store_comparisons import Difference, NotHere
from services.shared.ids import new_id

KINDS = frozenset({AlertKind.DIFFERS, AlertKind.NOT_HERE})


async def find(connection: Connection, now: datetime, limit: int) -> list[Alert]:
    """At most ``limit`` differences that have no alert yet, and every council with plans that are not here."""
    differences = await store_comparisons.find_differences(connection, limit)
    not_here = await store_comparisons.read_not_here(connection)
    return [_differs(each, now) for each in differences] + [_not_here(each, now) for each in not_here.values()]


def _differs(found: Difference, now: datetime) -> Alert:
    return Alert(
        new_id(), AlertKind.DIFFERS, found.la_code, found.plan_id, None, None, None, None, found.since, now, about=found.kind
    )


def _not_here(found: NotHere, now: datetime) -> Alert:
    return Alert(
        new_id(), AlertKind.NOT_HERE, found.la_code, None, None, None, None, None, found.compared_at, now, count=found.count
    )


async def find_cleared(connection: Connection, alerts: Collection[Alert]) -> dict[UUID, ClearedBecause]:
    """Of these open alerts, those whose reason is gone."""
    if not alerts:
        return {}
    there = await store_comparisons.read_differences(connection, {each.plan_id for each in alerts if each.plan_id})
    not_here = await store_comparisons.read_not_here(connection)
    cleared: dict[UUID, ClearedBecause] = {}
    for alert in alerts:
        if alert.kind is AlertKind.DIFFERS:
            if (alert.plan_id, alert.la_code, alert.about) not in there:
                cleared[alert.alert_id] = ClearedBecause.AGREED
        elif alert.la_code not in not_here:
            cleared[alert.alert_id] = ClearedBecause.AGREED
        elif not_here[alert.la_code].count > (alert.count or 0):
            cleared[alert.alert_id] = ClearedBecause.MORE
    return cleared
