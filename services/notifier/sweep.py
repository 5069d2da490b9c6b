"""Compare what should be with what is, every few seconds: raise what is wrong, clear what is right again.

Invariant: an alert, its event for ``ehcp.alerts.v1``, its notices to the channels and its act are one transaction; nothing here
calls out. From here the relay and :mod:`services.notifier.messages` take it on.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from prometheus_client import Counter

from schemas.alerts import AlertCleared, AlertKind, AlertRaised, ClearedBecause, CouncilAlertCleared, CouncilAlertRaised
from schemas.comparison import DifferenceKind
from schemas.events import EventType
from schemas.manifest import canonical
from services.notifier import clocks, comparisons, missed, recalls, store, store_recalls, store_subscribers, subscribers
from services.notifier.store import Alert
from services.shared.ids import new_id
from services.shared.kafka import cloudevents
from services.shared.postgres.pool import council_transaction

log = structlog.get_logger()

TOPIC = "ehcp.alerts.v1"
RAISE_AT_ONCE = 1_000
CHECK_AT_ONCE = 5_000
PLANS_AT_ONCE = 1_000
"""Looked at for their clocks in each round, going round all plans: a council's in seconds, England's within the hour."""
FIRST = UUID(int=0)
TYPES = {
    AlertRaised: EventType.ALERT_RAISED, AlertCleared: EventType.ALERT_CLEARED,
    CouncilAlertRaised: EventType.COUNCIL_ALERT_RAISED, CouncilAlertCleared: EventType.COUNCIL_ALERT_CLEARED,
}  # fmt: skip

RAISED = Counter("ehcp_notifier_alerts_raised", "Alerts raised, by kind", ["kind"])
CLEARED = Counter("ehcp_notifier_alerts_cleared", "Alerts cleared, by kind", ["kind"])


class Sweep:
    """``channels`` are the names of those that are to tell of every alert."""

    def __init__(self, pool: store.Pool, channels: Collection[str], silent_after: timedelta = timedelta(minutes=5)) -> None:
        self._pool = pool
        self._channels = channels
        self._silent_after = silent_after
        self._watching_since: datetime | None = None
        self._checked = FIRST
        self._looked_at = FIRST

    async def run_once(self) -> bool:
        """One round. True when there may be more to raise at once.

        Open alerts are looked at a page at a time, going round: many of them make clearing later, not the sweep slower.
        """
        councils = await store.read_councils(self._pool)
        async with council_transaction(self._pool, councils) as connection:
            now = await store.lock_sweep(connection)
            if now is None:
                return False
            of_shares = await self._find_of_shares(connection, now)
            of_plans, looked_at = await self._find_of_plans(connection, now)
            differing = await comparisons.find(connection, now, RAISE_AT_ONCE)
            of_recalls = await self._find_of_recalls(connection, now)
            of_subscribers = await self._find_of_subscribers(connection, now)
            found = [*of_shares, *of_plans, *differing, *of_recalls, *of_subscribers]
            raised = await self._raise(connection, now, found)
            cleared, checked = await self._clear(connection, now)
        self._checked, self._looked_at = checked, looked_at
        _tell(raised, cleared)
        return max(len(of_shares), len(differing)) >= RAISE_AT_ONCE

    async def _find_of_shares(self, connection: store.Connection, now: datetime) -> list[Alert]:
        found = await store.find_troubled(connection, RAISE_AT_ONCE)
        if not found:
            return []
        return [
            Alert(
                new_id(), kind, share.la_code, share.plan_id, share.share_id, share.seq, share.recipient_kind,
                share.subscriber, share.due_at, now,
            )
            for share in (await store.read_wanted(connection, found)).values()
            for kind in sorted(missed.troubles(share, now))
        ]  # fmt: skip

    async def _find_of_plans(self, connection: store.Connection, now: datetime) -> tuple[list[Alert], UUID]:
        """Returns what is wrong on this page of plans, alerted or not, and where to go on next time."""
        page = await store.find_plans(connection, self._looked_at, PLANS_AT_ONCE)
        found = [
            Alert(
                new_id(), trouble.kind, plan.la_code, plan.plan_id, None, None, None, None, trouble.due_at, now, trouble.clock,
                trouble.reference, trouble.review,
            )
            for plan in (await store.read_plans(connection, page)).values()
            for trouble in clocks.troubles(plan, now)
        ]  # fmt: skip
        return found, page[-1] if len(page) == PLANS_AT_ONCE else FIRST

    async def _find_of_recalls(self, connection: store.Connection, now: datetime) -> list[Alert]:
        """One for each recall that somebody has not answered, at the level of this moment, alerted or not."""
        found = await store_recalls.read_recalls(connection, await store_recalls.find_open(connection))
        return [
            Alert(
                new_id(), AlertKind.RECALL, each.la_code, each.plan_id, None, None, None, None, each.report_by, now,
                reference=each.reference, recall_id=each.recall_id, level=recalls.level(each, now),
                outstanding=each.outstanding,
            )
            for each in found.values()
        ]  # fmt: skip

    async def _find_of_subscribers(self, connection: store.Connection, now: datetime) -> list[Alert]:
        """What is wrong with subscribers, alerted or not, for each council that they deliver for."""
        self._watching_since = self._watching_since or now
        known = await store_subscribers.read_subscribers(connection)
        troubles = list(subscribers.troubles(known.values(), now, self._watching_since, self._silent_after))
        if not troubles:
            return []
        served = await store_subscribers.read_served(connection, {each.subscriber for each in troubles})
        return [
            Alert(
                new_id(), each.kind, la_code, None, None, None, None, each.subscriber, each.since, now, about=each.about
            )
            for each in troubles
            for subscriber, la_code in sorted(served)
            if subscriber == each.subscriber
        ]  # fmt: skip

    async def _clear_of_subscribers(
        self, connection: store.Connection, now: datetime, alerts: Sequence[Alert]
    ) -> dict[UUID, ClearedBecause]:
        """Of these open alerts, those whose reason is gone."""
        if not alerts:
            return {}
        known = await store_subscribers.read_subscribers(connection)
        served = await store_subscribers.read_served(connection, {each.subscriber for each in alerts if each.subscriber})
        found = {}
        for alert in alerts:
            subscriber = known.get(alert.subscriber or "") if (alert.subscriber, alert.la_code) in served else None
            because = subscribers.why_cleared(alert.kind, alert.about, subscriber, now, self._silent_after)
            if because is not None:
                found[alert.alert_id] = because
        return found

    async def _raise(self, connection: store.Connection, now: datetime, alerts: Sequence[Alert]) -> list[Alert]:
        """Returns those that were not open yet."""
        if not alerts:
            return []
        new = await store.insert_alerts(connection, alerts)
        alerts = [alert for alert in alerts if alert.alert_id in new]
        await store.insert_notices(connection, self._channels, alerts, "raised")
        await store.insert_events(connection, [_event(raised_event(alert), now) for alert in alerts])
        details = [{"kind": alert.kind, "alert_id": alert.alert_id, "due_at": alert.due_at} for alert in alerts]
        await store.insert_acts(connection, "alert_raised", alerts, details)
        return alerts

    async def _clear(self, connection: store.Connection, now: datetime) -> tuple[list[Alert], UUID]:
        """Returns the alerts cleared and where to go on next time."""
        page = await store.find_open(connection, self._checked, CHECK_AT_ONCE)
        cleared: list[tuple[Alert, ClearedBecause]] = []
        differing = await comparisons.find_cleared(connection, [each for each in page if each.kind in comparisons.KINDS])
        of_subscribers = [each for each in page if each.kind in subscribers.KINDS]
        heard = await self._clear_of_subscribers(connection, now, of_subscribers)
        shares = await store.read_wanted(connection, {each.share_id for each in page if each.share_id})
        of_plans = {each.plan_id for each in page if each.plan_id and not each.share_id and not each.recall_id}
        plans = await store.read_plans(connection, of_plans)
        recalled = await store_recalls.read_recalls(connection, {each.recall_id for each in page if each.recall_id})
        for alert in page:
            because: ClearedBecause | None
            if alert.share_id is not None:
                because = missed.why_cleared(alert.kind, shares.get(alert.share_id), now)
            elif alert.kind in comparisons.KINDS:
                because = differing.get(alert.alert_id)
            elif alert.recall_id is not None:
                because = recalls.why_cleared(alert.level or 0, recalled.get(alert.recall_id), now)
            elif alert.kind in subscribers.KINDS:
                because = heard.get(alert.alert_id)
            else:
                assert alert.plan_id is not None
                because = clocks.why_cleared(alert.trouble, plans.get(alert.plan_id), now)
            if because is not None:
                cleared.append((alert, because))
        if cleared:
            alerts = [alert for alert, _ in cleared]
            await store.clear_alerts(connection, [(alert.alert_id, because) for alert, because in cleared])
            await store.insert_notices(connection, self._channels, alerts, "cleared")
            events = [_event(cleared_event(alert, because, now), now) for alert, because in cleared]
            await store.insert_events(connection, events)
            details = [{"kind": a.kind, "alert_id": a.alert_id, "because": because} for a, because in cleared]
            await store.insert_acts(connection, "alert_cleared", alerts, details)
        return [alert for alert, _ in cleared], page[-1].alert_id if len(page) == CHECK_AT_ONCE else FIRST


def raised_event(alert: Alert) -> AlertRaised | CouncilAlertRaised:
    if alert.plan_id is None:
        return CouncilAlertRaised(
            alert_id=alert.alert_id, kind=alert.kind, la_code=alert.la_code, count=alert.count,
            subscriber=alert.subscriber, about=alert.about, since=alert.due_at, raised_at=alert.raised_at,
        )  # fmt: skip
    return AlertRaised(
        alert_id=alert.alert_id, kind=alert.kind, la_code=alert.la_code, plan_id=alert.plan_id, share_id=alert.share_id,
        seq=alert.seq, recipient_kind=alert.recipient_kind, subscriber=alert.subscriber, clock=alert.clock,
        reference=alert.reference, difference=DifferenceKind(alert.about) if alert.about else None,
        recall_id=alert.recall_id, level=alert.level, outstanding=dict(alert.outstanding) if alert.outstanding else None,
        due_at=alert.due_at, raised_at=alert.raised_at,
    )  # fmt: skip


def cleared_event(alert: Alert, because: ClearedBecause, now: datetime) -> AlertCleared | CouncilAlertCleared:
    raised = raised_event(alert)
    model = AlertCleared if isinstance(raised, AlertRaised) else CouncilAlertCleared
    return model(**dict(raised), cleared_at=now, because=because)


def _event(data: AlertRaised | CouncilAlertRaised, now: datetime) -> store.Event:
    headers = cloudevents.headers(TYPES[type(data)], f"/councils/{data.la_code}", now)
    key = str(data.plan_id) if isinstance(data, AlertRaised) else data.la_code
    return store.Event(TOPIC, key, headers, canonical(data.model_dump(mode="json")))


def _tell(raised: Sequence[Alert], cleared: Sequence[Alert]) -> None:
    for alert in raised:
        RAISED.labels(alert.kind.value).inc()
    for alert in cleared:
        CLEARED.labels(alert.kind.value).inc()
    if raised or cleared:
        log.info("sweep_changed_alerts", raised=len(raised), cleared=len(cleared))
