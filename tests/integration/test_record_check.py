"""Books against records and the council's list, on real PostgreSQL: what was lost behind our back is found and mended."""

import asyncio
import base64
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import prometheus_client
import pytest

from schemas.receipts import Status
from services.health_subscriber import mapping
from services.health_subscriber.fhir import FhirRecord
from services.shared.delivery import record_check, store_checks
from services.shared.delivery.differences import Difference
from services.shared.delivery.heartbeats import Heartbeats
from services.shared.delivery.record_check import RecordCheck
from services.shared.identity.receipts import signer
from services.shared.record_systems.port import Held, Recipient, RecordAwayError
from services.shared.record_systems.systems import Systems
from tests.support.contents import child, nhs_numbers
from tests.support.fhir_server import FhirServer
from tests.support.servers import RunningPostgres
from tests.support.subscriber import (
    PARENT,
    RNA,
    RXK,
    SCHOOL,
    SETTINGS,
    SubscriberStub,
    Wanted,
    subscriber_on,
    wanted,
    wanted_notice,
)
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


async def filed(subscriber: SubscriberStub, *wishes: Wanted) -> None:
    """All of them delivered."""
    subscriber.council.wants(*wishes)
    await subscriber.park(*wishes)
    async with subscriber.dispatching():
        await settled(subscriber)


async def settled(subscriber: SubscriberStub) -> None:
    async def none_due() -> bool:
        return not await subscriber.owner.fetchval("SELECT count(*) FROM delivery.delivery WHERE next_attempt_at IS NOT NULL")

    await until(none_due, within=60, what="everything is delivered")


async def mended(subscriber: SubscriberStub) -> None:
    async with subscriber.dispatching():
        await settled(subscriber)


def counted(difference: Difference) -> float:
    return prometheus_client.REGISTRY.get_sample_value(
        "ehcp_reconciliation_differences_total", {"difference": difference}
    ) or 0.0  # fmt: skip


async def test_what_the_record_holds_needs_nothing_and_is_looked_at_again_in_the_night(subscriber: SubscriberStub) -> None:
    wish = wanted()
    await filed(subscriber, wish)
    before = await subscriber.said(wish)
    assert (await subscriber.record_check().once()).checked == 0  # not yet: a server may show it only after a while
    await subscriber.owner.execute("UPDATE delivery.delivery SET check_at = now() - interval '1 second'")
    outcome = await subscriber.record_check().once()
    assert (outcome.checked, outcome.differences) == (1, Counter())
    assert await subscriber.said(wish) == before
    assert (await subscriber.record_check().once()).checked == 0
    due = (await subscriber.row(wish))["check_at"]
    assert 1 <= due.hour < 5
    assert (await subscriber.record_check().once(full=True)).checked == 1


async def test_a_copy_that_is_gone_is_said_and_filed_again(subscriber: SubscriberStub) -> None:
    wish = wanted()
    await filed(subscriber, wish)
    subscriber.rna.held.clear()
    before = counted(Difference.MISSING_FROM_RECORD)
    woken: list[bool] = []
    outcome = await subscriber.record_check(lambda: woken.append(True)).once(full=True)
    assert outcome.differences == {Difference.MISSING_FROM_RECORD: 1}
    assert counted(Difference.MISSING_FROM_RECORD) == before + 1
    assert woken
    await mended(subscriber)
    assert await subscriber.said(wish) == [(1, Status.FILED), (1, Status.FAILED), (1, Status.FILED)]
    assert (await subscriber.signed(wish))[1].reason == "it was found missing from the record; filing it again"
    assert subscriber.rna.delivered == [(wish.share_id, 1)] * 2
    assert (await subscriber.record_check().once(full=True)).differences == Counter()


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"version_id": UUID(int=9)}, Difference.STALE),
        ({"sha256": "0" * 64}, Difference.ALTERED),
        ({"intact": False}, Difference.ALTERED),
        ({"withdrawn": True}, Difference.ALTERED),
    ],
)
async def test_what_is_not_what_was_filed_is_filed_again(
    subscriber: SubscriberStub, change: dict[str, Any], difference: Difference
) -> None:
    wish = wanted()
    await filed(subscriber, wish)
    key = ("RNA", wish.plan_id)
    subscriber.rna.held[key] = replace(subscriber.rna.held[key], **change)
    assert (await subscriber.record_check().once(full=True)).differences == {difference: 1}
    await mended(subscriber)
    assert subscriber.rna.held[key] == Held(wish.version_id, wish.sha256, f"DocumentReference/{wish.version_id}")


async def test_what_should_have_been_withdrawn_is_marked_again(subscriber: SubscriberStub) -> None:
    wish = wanted()
    gone = wish.next(withdrawn=True)
    await filed(subscriber, wish)
    await filed(subscriber, gone)
    key = ("RNA", wish.plan_id)
    assert (await subscriber.record_check().once(full=True)).differences == Counter()
    subscriber.rna.held[key] = replace(subscriber.rna.held[key], withdrawn=False)
    assert (await subscriber.record_check().once(full=True)).differences == {Difference.SHOULD_HAVE_BEEN_WITHDRAWN: 1}
    await mended(subscriber)
    assert subscriber.rna.held[key].withdrawn
    assert (await subscriber.said(wish))[-2:] == [(2, Status.FAILED), (2, Status.WITHDRAWN)]


async def test_what_was_recalled_and_is_there_again_is_removed_again(subscriber: SubscriberStub) -> None:
    wish = wanted()
    await filed(subscriber, wish)
    key = ("RNA", wish.plan_id)
    copy = subscriber.rna.held[key]
    await filed(subscriber, wish.recall())
    assert (await subscriber.record_check().once(full=True)).differences == Counter()
    subscriber.rna.held[key] = copy  # restored from the trust's backup
    assert (await subscriber.record_check().once(full=True)).differences == {Difference.SHOULD_HAVE_BEEN_WITHDRAWN: 1}
    await mended(subscriber)
    assert key not in subscriber.rna.held
    assert (await subscriber.signed(wish))[-1].status is Status.RECALLED


async def test_a_share_that_ended_is_not_mistaken_for_the_one_that_began_anew(subscriber: SubscriberStub) -> None:
    old = wanted()
    await filed(subscriber, old)
    await filed(subscriber, old.next(withdrawn=True))
    anew = replace(wanted(), plan_id=old.plan_id)
    await filed(subscriber, anew)
    assert (await subscriber.record_check().once(full=True)).differences == Counter()


async def test_silence_is_not_absence(subscriber: SubscriberStub) -> None:
    near, far = wanted(RXK), wanted(RNA)
    await filed(subscriber, near, far)
    subscriber.rna.held.clear()
    subscriber.rna.away = True
    outcome = await subscriber.record_check().once(full=True)
    assert (outcome.checked, outcome.not_asked, outcome.differences) == (1, ["rna"], Counter())
    assert await subscriber.said(far) == [(1, Status.FILED)]
    subscriber.rna.away = False
    assert (await subscriber.record_check().once(full=True)).differences == {Difference.MISSING_FROM_RECORD: 1}


async def test_a_copy_that_cannot_be_read_out_stays_due_and_stands_before_no_other(
    subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_check, "AT_ONCE", 2)
    wishes = [wanted() for _ in range(4)]
    await filed(subscriber, *wishes)
    broken, ask, tried = wishes[0].plan_id, subscriber.rna.holds, 0

    async def holds(recipient: Recipient, plans: Sequence[UUID]) -> dict[UUID, Held]:
        nonlocal tried
        tried += broken in plans
        if broken in plans:
            raise RecordAwayError("the record answered 500")
        return await ask(recipient, plans)

    subscriber.rna.holds = holds  # type: ignore[method-assign]
    for age, wish in enumerate(reversed(wishes), 30):  # the broken one has waited longest
        await subscriber.owner.execute(
            "UPDATE delivery.delivery SET check_at = now() - make_interval(hours => $2) WHERE share_id = $1", wish.share_id, age
        )
    check = subscriber.record_check()
    outcome = await check.once()
    assert (outcome.checked, outcome.not_asked, tried) == (3, [], 2)  # with another, and alone
    assert (await check.once()).checked == 0
    assert tried == 2
    beat = await Heartbeats(subscriber.pool, "health", signer(subscriber.key), tuple).beat()
    assert beat.unasked == 1  # a person hears of it after a day


async def test_nobody_is_asked_what_cannot_be_asked(subscriber: SubscriberStub) -> None:
    await filed(subscriber, wanted_notice())  # this record system has no question for notices
    await subscriber.park(wanted(PARENT))
    unopened = wanted(SCHOOL)
    await filed(subscriber, unopened)
    assert (await subscriber.record_check().once(full=True)).checked == 0


async def test_a_delivery_that_moved_on_while_it_was_looked_at_speaks_for_itself(subscriber: SubscriberStub) -> None:
    wish = wanted()
    await filed(subscriber, wish)
    subscriber.rna.held.clear()
    ask = subscriber.rna.holds

    async def overtaken(*arguments: Any) -> Any:
        await subscriber.park(wish.next(withdrawn=True))
        return await ask(*arguments)

    subscriber.rna.holds = overtaken  # type: ignore[method-assign, assignment]
    assert (await subscriber.record_check().once(full=True)).differences == Counter()
    assert (await subscriber.row(wish))["state"] == "waiting"
    assert Status.FAILED not in {status for _, status in await subscriber.said(wish)}


async def test_a_record_that_never_shows_what_it_files_is_written_to_ever_more_seldom(subscriber: SubscriberStub) -> None:
    wish = wanted()
    await filed(subscriber, wish)
    minutes = []
    for _ in range(7):
        subscriber.rna.held.clear()  # its index is broken
        await subscriber.owner.execute("UPDATE delivery.delivery SET check_at = now()")
        await subscriber.record_check().once()
        await mended(subscriber)
        waits = await subscriber.owner.fetchval("SELECT extract(epoch FROM check_at - now()) FROM delivery.delivery")
        minutes.append(round(waits / 60))
    assert minutes == [5, 25, 125, 625, 1440, 1440, 1440]
    # Once it shows it, all is as at the beginning.
    await subscriber.owner.execute("UPDATE delivery.delivery SET check_at = now()")
    await subscriber.record_check().once()
    subscriber.rna.held.clear()
    await subscriber.record_check().once(full=True)
    await mended(subscriber)
    assert await subscriber.owner.fetchval("SELECT check_at < now() + interval '6 minutes' FROM delivery.delivery")


async def test_a_record_that_is_slow_to_say_what_it_holds_holds_up_no_other(subscriber: SubscriberStub) -> None:
    slow, wish = wanted(RXK), wanted()
    await filed(subscriber, slow, wish)
    asked, ask = asyncio.Event(), subscriber.rxk.holds

    async def never(*arguments: Any) -> Any:
        asked.set()
        await asyncio.Event().wait()
        return await ask(*arguments)

    subscriber.rxk.holds = never  # type: ignore[method-assign, assignment]
    await subscriber.owner.execute("UPDATE delivery.delivery SET check_at = now()")
    check = subscriber.record_check()
    running = asyncio.create_task(check.run())
    try:
        await asyncio.wait_for(asked.wait(), 60)
        await until(lambda: _looked_at(subscriber, wish), within=60)
        subscriber.rna.held.clear()
        await subscriber.owner.execute("UPDATE delivery.delivery SET check_at = now() WHERE lane = 'rna'")
        check.look_now()
        await subscriber.until_said(wish, Status.FAILED, within=60)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _looked_at(subscriber: SubscriberStub, wish: Wanted) -> bool:
    later: bool = await subscriber.owner.fetchval(
        "SELECT check_at > now() FROM delivery.delivery WHERE share_id = $1", wish.share_id
    )
    return later


async def test_where_nobody_can_be_asked_it_goes_on_all_the_same(subscriber: SubscriberStub) -> None:
    by_hand = Systems(tuple(each for each in SETTINGS if each.kind == "manual"), {})
    check = RecordCheck(subscriber.pool, by_hand, subscriber.receipts, lambda: None)
    running = asyncio.create_task(check.run())
    done, _ = await asyncio.wait([running], timeout=0.1)
    running.cancel()
    assert not done


async def test_a_record_is_asked_no_faster_than_it_takes_deliveries(
    subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_check, "AT_ONCE", 2)
    await filed(subscriber, *(wanted() for _ in range(4)))
    monkeypatch.setattr(subscriber.systems, "per_minute", lambda _lane: 240)
    began = asyncio.get_running_loop().time()
    assert (await subscriber.record_check().once(full=True)).checked == 4
    assert asyncio.get_running_loop().time() - began >= 1


async def test_500_silent_losses_in_a_real_record_are_all_found_in_one_reconciliation(
    postgres_server: RunningPostgres, database: str, tmp_path: Path
) -> None:
    """Through the trust's own door: deleted, marked as filed in error, the file replaced."""
    with FhirServer(tmp_path / "fhir") as server:
        record = FhirRecord(server.base("RNA"))
        async with subscriber_on(postgres_server, database, rna=record) as subscriber, httpx2.AsyncClient() as trust:
            numbers = list(itertools.islice(nhs_numbers(), 520))
            await asyncio.gather(*(_admitted(trust, server, numbers[n::8]) for n in range(8)))
            wishes = [replace(wanted(), whose=child(nhs_number=number)) for number in numbers]
            await filed(subscriber, *wishes)
            assert _documents(server) == 520
            lost = random.sample(wishes, 500)
            address = server.base("RNA")
            kinds = {"delete": 170, "error": 170, "alter": 160}
            doom = [kind for kind, count in kinds.items() for _ in range(count)]

            async def lose(wish: Wanted, kind: str) -> None:
                plan = f"{mapping.PLAN}|{wish.plan_id}"
                found = (await trust.get(f"{address}/DocumentReference", params={"identifier": plan})).json()
                [resource] = [entry["resource"] for entry in found["entry"]]
                here = f"{address}/DocumentReference/{resource['id']}"
                if kind == "delete":
                    answer = await trust.delete(here)
                elif kind == "error":
                    answer = await trust.put(here, json=resource | {"status": "entered-in-error"})
                else:
                    file = resource["content"][0]["attachment"]["url"]
                    data = base64.b64encode(b"%PDF-1.7 of somebody else").decode()
                    changed = {"resourceType": "Binary", "id": file.rpartition("/")[2], "contentType": "application/pdf",
                               "data": data}  # fmt: skip
                    answer = await trust.put(f"{address}/{file}", json=changed)
                assert answer.is_success, answer.text

            for n in range(10):
                await asyncio.gather(*(lose(wish, kind) for wish, kind in list(zip(lost, doom, strict=True))[n::10]))

            outcome = await subscriber.record_check().once(full=True)

            assert outcome.checked == 520
            assert outcome.differences == {Difference.MISSING_FROM_RECORD: 340, Difference.ALTERED: 160}
            await mended(subscriber)
            ends: Counter[tuple[Status, ...]] = Counter()
            for wish in wishes:
                ends[tuple(status for _, status in await subscriber.said(wish))] += 1
            again = (Status.FILED, Status.FAILED)
            # What the trust's own people say was filed in error is theirs to look at: it is refused, which is an alert.
            assert ends == {(Status.FILED,): 20, (*again, Status.FILED): 330, (*again, Status.REFUSED): 170}
            assert _documents(server) == 350
            assert (await subscriber.record_check().once(full=True)).differences == Counter()
        await record.close()


async def test_a_fhir_server_that_was_emptied_is_filled_again(
    postgres_server: RunningPostgres, database: str, tmp_path: Path
) -> None:
    with FhirServer(tmp_path / "fhir") as server:
        record = FhirRecord(server.base("RNA"))
        async with subscriber_on(postgres_server, database, rna=record) as subscriber:
            numbers = ["9434765919", "9434765870", "9990000018"]
            wishes = [replace(wanted(), whose=child(nhs_number=number)) for number in numbers]
            _admit(server, numbers)
            told = replace(wanted_notice(plan_id=wishes[0].plan_id), whose=wishes[0].whose)
            await filed(subscriber, *wishes)
            await filed(subscriber, told)
            assert (_documents(server), _notices(server)) == (3, 1)
            assert (await subscriber.record_check().once(full=True)).differences == Counter()
            server.kill()
            for file in (tmp_path / "fhir").rglob("*.sqlite*"):
                file.unlink()
            outcome = await subscriber.record_check().once(full=True)
            assert (outcome.checked, outcome.not_asked) == (0, ["rna"])
            server.start()
            _admit(server, numbers)
            assert _documents(server) == 0

            outcome = await subscriber.record_check().once(full=True)
            assert outcome.differences == {Difference.MISSING_FROM_RECORD: 4}
            await mended(subscriber)

            assert (_documents(server), _notices(server)) == (3, 1)
            for wish in [*wishes, told]:
                assert await subscriber.said(wish) == [(1, Status.FILED), (1, Status.FAILED), (1, Status.FILED)]
        await record.close()


def _admit(server: FhirServer, numbers: list[str]) -> None:
    for number in numbers:
        assert httpx2.post(f"{server.base('RNA')}/Patient", json=_patient(number)).status_code == 201


def _patient(number: str) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": number}],
        "name": [{"family": "Hartley", "given": ["Rowan"]}],
        "birthDate": "2014-05-06",
    }


async def _admitted(trust: httpx2.AsyncClient, server: FhirServer, numbers: Sequence[str]) -> None:
    for number in numbers:
        answer = await trust.post(f"{server.base('RNA')}/Patient", json=_patient(number))
        assert answer.status_code == 201


def _documents(server: FhirServer) -> int:
    answer = httpx2.get(f"{server.base('RNA')}/DocumentReference", params={"_summary": "count", "status": "current"})
    return int(answer.json()["total"])


def _notices(server: FhirServer) -> int:
    answer = httpx2.get(f"{server.base('RNA')}/Communication", params={"_summary": "count", "status": "completed"})
    return int(answer.json()["total"])


async def test_a_notice_s_end_says_nothing_of_the_plan(postgres_server: RunningPostgres, database: str, tmp_path: Path) -> None:
    with FhirServer(tmp_path / "fhir") as server:
        record = FhirRecord(server.base("RNA"))
        async with subscriber_on(postgres_server, database, rna=record) as subscriber:
            plan = wanted()
            told, wrong = wanted_notice(plan_id=plan.plan_id), wanted_notice(plan_id=plan.plan_id)
            _admit(server, ["9434765919"])
            await filed(subscriber, plan, told, wrong)
            await filed(subscriber, told.next(withdrawn=True), wrong.recall())
            outcome = await subscriber.record_check().once(full=True)
            assert (outcome.checked, outcome.differences) == (3, Counter())
        await record.close()


# --- the council's list -------------------------------------------------------------------------------------------------


async def test_an_instruction_that_never_came_is_counted_and_delivered(subscriber: SubscriberStub) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    before = counted(Difference.NEVER_ARRIVED)
    await subscriber.reconcile().once(full=False)
    assert counted(Difference.NEVER_ARRIVED) == before + 1
    await mended(subscriber)
    assert await subscriber.said(wish) == [(1, Status.FILED)]


async def test_a_newer_instruction_that_never_came_is_stale(subscriber: SubscriberStub) -> None:
    wish = wanted()
    await filed(subscriber, wish)
    subscriber.council.wants(wish.next())
    before = counted(Difference.STALE)
    await subscriber.reconcile().once(full=True)
    assert counted(Difference.STALE) == before + 1


async def test_a_share_that_the_council_does_not_know_is_an_orphan(subscriber: SubscriberStub) -> None:
    known, unknown = wanted(), wanted()
    await filed(subscriber, known, unknown)
    del subscriber.council.shares[unknown.share_id]
    before = counted(Difference.ORPHAN)
    await subscriber.reconcile().once(full=True)
    assert counted(Difference.ORPHAN) == before  # the list may have been read before it was wanted
    await subscriber.owner.execute("UPDATE delivery.delivery SET parked_at = now() - interval '1 day'")
    await subscriber.reconcile().once(full=True)
    assert counted(Difference.ORPHAN) == before + 1
    assert (await subscriber.row(unknown))["state"] == "filed"


async def test_all_orphans_are_counted_however_many(subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_checks, "UNLISTED", 3)
    wishes = [wanted() for _ in range(8)]
    await subscriber.park(*wishes)
    await subscriber.owner.execute("UPDATE delivery.delivery SET parked_at = now() - interval '1 day'")
    await subscriber.reconcile().once(full=True)
    beat = await Heartbeats(subscriber.pool, "health", signer(subscriber.key), tuple).beat()
    assert beat.differences == {"orphan": 8}


async def test_the_council_hears_with_every_heartbeat_what_was_found_and_what_could_not_be_asked(
    subscriber: SubscriberStub,
) -> None:
    gone, changed, unknown, unasked = (wanted() for _ in range(4))
    await filed(subscriber, gone, changed, unknown, unasked)
    beats = Heartbeats(subscriber.pool, "health", signer(subscriber.key), tuple)
    assert (await beats.beat()).differences == {}
    del subscriber.rna.held["RNA", gone.plan_id]
    held = subscriber.rna.held["RNA", changed.plan_id]
    subscriber.rna.held["RNA", changed.plan_id] = replace(held, intact=False)
    del subscriber.council.shares[unknown.share_id]
    await subscriber.owner.execute("UPDATE delivery.delivery SET parked_at = now() - interval '1 day'")
    for _ in range(2):  # found twice is one difference
        await subscriber.record_check().once(full=True)
        await subscriber.reconcile().once(full=True)
    since = await subscriber.owner.fetchval(
        "UPDATE delivery.delivery SET check_at = now() - interval '2 days' WHERE share_id = $1 RETURNING check_at",
        unasked.share_id,
    )
    beat = await Heartbeats(subscriber.pool, "health", signer(subscriber.key), tuple).beat()
    assert beat.differences == {"missing_from_record": 1, "altered": 1, "orphan": 1}
    assert (beat.unasked, beat.unasked_since) == (1, since)
    await subscriber.owner.execute("UPDATE delivery.difference SET found_at = now() - interval '26 hours'")
    assert (await beats.beat()).differences == {}
