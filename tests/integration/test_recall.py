"""What must not be there: recall and release on real PostgreSQL, what stands in for them while people act, and what the council
holds back. And what stands beside the plan: notices."""

import asyncio
from dataclasses import dataclass, replace
from datetime import date
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from schemas.receipts import Status
from services.shared.delivery import breaker
from services.shared.delivery.differences import Difference
from services.shared.identity.tokens import Caller, CallerKind
from services.shared.record_systems.inbox_api import make_inbox_router
from services.shared.record_systems.manual import make_manual_router
from services.shared.record_systems.port import Awaiting, RecallOutcome, Refused, Retry
from services.shared.record_systems.recalls_api import make_recalls_router
from services.shared.runtime import make_app
from tests.support.contents import child, decision, invitation
from tests.support.openapi import Documented
from tests.support.subscriber import (
    NOBODY,
    PARENT,
    RNA,
    SCHOOL,
    SubscriberStub,
    Wanted,
    soon,
    wanted,
    wanted_notice,
)
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


async def lives(subscriber: SubscriberStub, *wishes: Wanted) -> None:
    """Each wish in turn, delivered before the next comes."""
    ends = {Status.FILED, Status.SENT, Status.RECALLED, Status.RELEASED, Status.WITHDRAWN}
    async with subscriber.dispatching() as dispatcher:
        for wish in wishes:
            subscriber.council.wants(wish)
            await subscriber.park(wish)
            dispatcher.wake()
            await subscriber.until_said_one_of(wish, ends)


async def right_beside_wrong(subscriber: SubscriberStub, outcome: RecallOutcome | Retry) -> tuple[Wanted, Wanted]:
    """A version that was filed, and the next, parked, which wants it removed; the record system says ``outcome`` to that."""
    wrong = wanted()
    right = replace(wrong.next(), remove=(wrong.version_id,))
    await lives(subscriber, wrong)
    subscriber.council.wants(right)
    subscriber.rna.decide_recall = lambda _: outcome
    await subscriber.park(right)
    return wrong, right


@dataclass
class Pages:
    """A subscriber's own pages, as one caller asks for them."""

    http: httpx2.AsyncClient

    async def get(self, path: str) -> httpx2.Response:
        return await self.http.get(path)

    async def post(self, path: str, body: dict[str, Any]) -> httpx2.Response:
        return await self.http.post(path, json=body)


def pages(subscriber: SubscriberStub, caller: Caller) -> Pages:
    async def verifier() -> Caller:
        return caller

    app = make_app("A subscriber")
    app.include_router(make_inbox_router(subscriber.pool, subscriber.inbox_keys, subscriber.receipts, verifier))  # type: ignore[arg-type]
    app.include_router(make_manual_router(subscriber.pool, subscriber.receipts, verifier))  # type: ignore[arg-type]
    app.include_router(make_recalls_router(subscriber.pool, subscriber.receipts, verifier))  # type: ignore[arg-type]
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://subscriber.test")
    http.event_hooks = {"request": [], "response": [Documented(app.openapi()).check]}
    return Pages(http)


def reader(subscriber: SubscriberStub, client_id: str = "school-office") -> Pages:
    return pages(subscriber, Caller(client_id, CallerKind.RECIPIENT, recipient="urn:993201"))


def officer(subscriber: SubscriberStub, la_code: str = "332") -> Pages:
    return pages(subscriber, Caller("officer", CallerKind.OPERATOR, la_codes=frozenset({la_code})))


# --- notices ------------------------------------------------------------------------------------------------------------


async def test_notices_are_filed_each_for_itself_beside_the_plan(subscriber: SubscriberStub) -> None:
    plan = wanted()
    one, two = wanted_notice(plan_id=plan.plan_id), replace(wanted_notice(plan_id=plan.plan_id), notice=decision())
    await lives(subscriber, plan, one, two, plan.next())
    delivered = [content for batch in subscriber.rna.batches for content in batch]
    assert [(each.notice.kind if each.notice else None, each.version) for each in delivered] == [
        (None, 1), ("review_invitation", 1), ("review_decision", 1), (None, 2),
    ]  # fmt: skip
    assert [each.replaces for each in delivered] == [None, None, None, plan.version_id]
    receipt = (await subscriber.signed(two))[-1]
    assert (receipt.status, receipt.version_id, receipt.sha256) == (Status.FILED, two.version_id, two.sha256)


async def test_a_notice_that_was_changed_on_its_way_is_never_delivered(subscriber: SubscriberStub) -> None:
    wish = wanted_notice()
    rendering = wish.rendering.model_dump(mode="json")
    rendering["notice"]["text"] += " Come alone."
    subscriber.council.answers = lambda _share, _seq: {"outcome": "ok", "current_seq": 1, "rendering": rendering}
    await subscriber.park(wish)
    async with subscriber.dispatching():
        receipt = await subscriber.until_said(wish, Status.FAILED)
    assert receipt.reason == "the notice's hash is not the manifest's"
    assert subscriber.rna.batches == []


async def test_a_notice_is_listed_and_opened_in_the_inbox(subscriber: SubscriberStub) -> None:
    plan, told = wanted(SCHOOL), wanted_notice(SCHOOL)
    await lives(subscriber, plan, told)
    school = reader(subscriber)
    items = (await school.get("/v1/inbox")).json()["items"]
    assert {each["share_id"]: each["notice"] for each in items} == {
        str(plan.share_id): None, str(told.share_id): "review_invitation",
    }  # fmt: skip
    item = (await school.get(f"/v1/inbox/{told.share_id}")).json()
    assert item["notice"]["text"] == invitation().text
    assert item["notice"]["meeting_on"] == "2026-09-21"
    opened = (await subscriber.signed(told))[-1]
    assert (opened.status, opened.version_id) == (Status.OPENED, told.version_id)


async def test_an_officer_sends_a_notice_as_a_plan(subscriber: SubscriberStub) -> None:
    told = wanted_notice(PARENT)
    await subscriber.park(told)
    [row] = (await officer(subscriber).get("/v1/deliveries?state=awaiting")).json()["deliveries"]
    assert (row["notice"], row["action"], row["remove"]) == ("review_invitation", "hold", [])
    body = {"seq": 1, "sent_on": "2026-09-02", "how": "post", "by": "T. Okafor"}
    assert (await officer(subscriber).post(f"/v1/deliveries/{told.share_id}/sent", body)).status_code == 200
    assert await subscriber.said(told) == [(1, Status.WAITING), (1, Status.SENT)]


# --- recall -------------------------------------------------------------------------------------------------------------


async def test_a_recall_is_removed_and_proved_and_leaves_nothing_held(subscriber: SubscriberStub) -> None:
    wish = wanted()
    gone = wish.recall()
    await lives(subscriber, wish, gone)
    [recall] = subscriber.rna.recalls
    assert (recall.share_id, recall.seq, recall.plan_id) == (wish.share_id, 2, wish.plan_id)
    assert (recall.recipient.value, recall.versions) == ("RNA", (wish.version_id,))
    assert recall.record == f"DocumentReference/{wish.version_id}"
    receipt = (await subscriber.signed(wish))[-1]
    assert (receipt.status, receipt.version_id, receipt.record) == (Status.RECALLED, wish.version_id, "1 entry removed")
    row = await subscriber.row(wish)
    assert (row["state"], row["held_seq"], row["held_version_id"], row["held_sha256"]) == ("recalled", 2, None, None)
    assert row["next_attempt_at"] is None
    # The old message, late: it is answered and never delivered.
    await subscriber.park(wish)
    assert (await subscriber.signed(wish))[-1].status is Status.SUPERSEDED
    assert subscriber.rna.delivered == [(wish.share_id, 1)]


@pytest.mark.parametrize(("outcome", "status"), [(Retry("away"), Status.FAILED), (Refused("no"), Status.REFUSED)])
async def test_a_recall_that_is_not_proved_is_not_over(subscriber: SubscriberStub, outcome: Any, status: Status) -> None:
    wish = wanted()
    gone = wish.recall()
    await lives(subscriber, wish)
    subscriber.rna.decide_recall = lambda _: outcome
    await subscriber.park(gone)
    async with subscriber.dispatching():
        await subscriber.until_said(gone, status)
    row = await subscriber.row(wish)
    assert (row["state"], row["held_seq"], row["held_version_id"]) == (status, 1, wish.version_id)
    assert (row["next_attempt_at"] is not None) == (status is Status.FAILED)


async def test_the_wrong_version_goes_first_and_the_right_one_is_held_only_then(subscriber: SubscriberStub) -> None:
    right = wanted()
    wrong = right.next()
    await lives(subscriber, right, wrong)
    again = replace(right, seq=3, remove=(wrong.version_id,))
    subscriber.council.wants(again)
    subscriber.rna.decide_recall = lambda _: Retry("away", away=True)
    await subscriber.park(again)
    async with subscriber.dispatching() as dispatcher:
        failed = await subscriber.until_said(again, Status.FAILED)
        assert subscriber.rna.delivered[2:] == []
        subscriber.rna.decide_recall = None
        await subscriber.make_due(again)
        dispatcher.wake()
        filed = await subscriber.until_said(again, Status.FILED)
    assert failed.reason == "away"
    assert filed.version_id == right.version_id
    assert subscriber.rna.delivered[2:] == [(right.share_id, 3)]
    assert subscriber.rna.batches[-1][0].replaces is None
    assert (await subscriber.row(right))["removed_seq"] == 3


async def test_a_removal_that_was_proved_is_not_asked_for_again_while_the_right_version_is_stuck(
    subscriber: SubscriberStub,
) -> None:
    wish = replace(wanted(), remove=(uuid4(),))
    subscriber.council.wants(wish)
    subscriber.rna.decide = lambda _: Retry("slow")
    await subscriber.park(wish)
    async with subscriber.dispatching() as dispatcher:
        await subscriber.until_said(wish, Status.FAILED)
        subscriber.rna.decide = None
        await subscriber.make_due(wish)
        dispatcher.wake()
        await subscriber.until_said(wish, Status.FILED)
    assert len(subscriber.rna.recalls) == 1


async def test_a_withdrawal_may_name_what_is_still_to_be_removed(subscriber: SubscriberStub) -> None:
    wish = wanted()
    gone = replace(wish.next(withdrawn=True), remove=(wish.version_id,))
    await lives(subscriber, wish, gone)
    assert len(subscriber.rna.recalls) == len(subscriber.rna.withdrawals) == 1
    assert (await subscriber.signed(wish))[-1].status is Status.WITHDRAWN


async def test_a_recalled_version_that_is_wanted_again_is_delivered_again(subscriber: SubscriberStub) -> None:
    wish = wanted()
    await lives(subscriber, wish, wish.recall(), replace(wish, seq=3))
    assert subscriber.rna.delivered == [(wish.share_id, 1), (wish.share_id, 3)]
    assert [each.replaces for batch in subscriber.rna.batches for each in batch] == [None, None]


async def test_a_recall_does_not_wait_until_a_silent_record_system_is_asked_again(
    subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it answers now, the recall itself finds out: each once, and the council hears what came of it."""
    monkeypatch.setattr(breaker, "FIRST_REST_SECONDS", 3600.0)
    monkeypatch.setattr(breaker, "LONGEST_REST_SECONDS", 3600.0)
    wrong, also_wrong, other = wanted(), wanted(), wanted()
    subscriber.council.wants(wrong, also_wrong, other)
    await subscriber.park(wrong, also_wrong)
    async with subscriber.dispatching() as dispatcher:
        for wish in (wrong, also_wrong):
            await subscriber.until_said(wish, Status.FILED, within=60)
        subscriber.rna.decide = lambda _: Retry("the record is not reachable", away=True)
        subscriber.rna.decide_recall = lambda _: Retry("the record is not reachable", away=True)
        await subscriber.park(other)
        dispatcher.wake()
        await subscriber.until_said(other, Status.FAILED, within=60)
        recall = wrong.recall()
        await subscriber.park(recall)
        dispatcher.wake()
        failed = await subscriber.until_said(recall, Status.FAILED, within=60)
        assert (failed.reason, failed.remaining) == ("the record is not reachable", (wrong.version_id,))
        # It answers again, and nobody knows yet: the next recall is the one that finds out, and the first is hurried.
        subscriber.rna.decide = subscriber.rna.decide_recall = None
        await subscriber.park(also_wrong.recall())
        dispatcher.wake()
        await subscriber.until_said(also_wrong.recall(), Status.RECALLED, within=60)
        await subscriber.until_said(recall, Status.RECALLED, within=60)
    assert [each.seq for each in subscriber.rna.recalls if each.share_id == recall.share_id] == [2, 2]


async def test_a_recall_while_the_wrong_version_is_sent_again_is_the_last_word(subscriber: SubscriberStub) -> None:
    wrong = wanted()
    recall = wrong.recall()
    subscriber.council.wants(wrong)
    subscriber.rna.gate.clear()
    await subscriber.park(wrong)
    async with subscriber.dispatching() as dispatcher:
        await subscriber.until_in_flight()
        await subscriber.park(recall)
        await subscriber.send_again(wrong)  # it overtook the recall on its way
        subscriber.rna.gate.set()
        dispatcher.wake()
        await subscriber.until_said(recall, Status.RECALLED, within=60)
        await subscriber.send_again(wrong, recall)
    row = await subscriber.row(recall)
    assert (row["seq"], row["state"], row["held_version_id"], row["next_attempt_at"]) == (2, "recalled", None, None)
    assert subscriber.rna.held == {}
    assert len(subscriber.rna.delivered) == 1


async def test_where_only_people_can_remove_it_their_word_ends_it(subscriber: SubscriberStub) -> None:
    wish = wanted()
    gone = wish.recall()
    await lives(subscriber, wish)
    subscriber.rna.decide_recall = lambda _: Awaiting("asked to destroy it")
    await subscriber.park(gone)
    async with subscriber.dispatching():
        await subscriber.until_said(gone, Status.WAITING)
    trust = pages(subscriber, Caller("records-office", CallerKind.RECIPIENT, recipient="ods:RNA"))
    [open_] = (await trust.get("/v1/recalls")).json()["recalls"]
    assert (open_["share_id"], open_["seq"], open_["remove"]) == (str(wish.share_id), 2, [str(wish.version_id)])
    address = f"/v1/recalls/{wish.share_id}/removed"
    body = {"seq": 2, "removed_on": "2026-11-20", "how": "destroyed", "by": "Health records office"}
    assert (await reader(subscriber).post(address, body)).status_code == 404
    assert (await reader(subscriber).get("/v1/recalls")).json()["recalls"] == []
    assert (await trust.post(address, body | {"removed_on": "2999-01-01"})).status_code == 422
    answer = (await trust.post(address, body)).json()
    assert (answer["status"], answer["recorded"]) == ("recalled", True)
    receipt = (await subscriber.signed(wish))[-1]
    assert receipt.status is Status.RECALLED
    assert receipt.record == "destroyed on 2026-11-20, recorded by Health records office"
    assert (await trust.get("/v1/recalls")).json()["recalls"] == []


@pytest.mark.parametrize("outcome", [Awaiting("asked to destroy it"), Refused("not ours"), Retry("it answered 500")])
async def test_the_right_version_does_not_wait_for_people_to_remove_the_wrong_one_and_both_are_proved(
    subscriber: SubscriberStub, outcome: Any
) -> None:
    wrong, right = await right_beside_wrong(subscriber, outcome)
    trust = pages(subscriber, Caller("records-office", CallerKind.RECIPIENT, recipient="ods:RNA"))
    async with subscriber.dispatching():
        filed = await subscriber.until_said(right, Status.FILED)
    assert (filed.version_id, filed.remaining, filed.removed) == (right.version_id, (wrong.version_id,), ())
    assert filed.reason is not None
    assert filed.reason.startswith("what was recalled is still there: ")
    assert subscriber.rna.delivered[1:] == [(right.share_id, 2)]
    [open_] = (await trust.get("/v1/recalls")).json()["recalls"]
    assert (open_["state"], open_["remove"]) == ("filed", [str(wrong.version_id)])
    body = {"seq": 2, "removed_on": "2026-11-20", "how": "destroyed", "by": "Health records office"}
    answer = (await trust.post(f"/v1/recalls/{right.share_id}/removed", body)).json()
    assert (answer["status"], answer["recorded"]) == ("held", True)
    said = (await subscriber.signed(right))[-1]
    assert (said.status, said.version_id, said.sha256, said.record) == (
        Status.FILED, right.version_id, right.sha256, filed.record,
    )  # fmt: skip
    assert (said.remaining, said.removed) == ((), (wrong.version_id,))
    assert said.removal == "destroyed on 2026-11-20, recorded by Health records office"
    assert (await trust.get("/v1/recalls")).json()["recalls"] == []
    row = await subscriber.row(right)
    assert (row["state"], row["next_attempt_at"], row["held_version_id"]) == ("filed", None, right.version_id)
    # What was stated stands for the versions that come after it, and is not asked for again.
    later = replace(right.next(), remove=(wrong.version_id,))
    subscriber.council.wants(later)
    await subscriber.park(later)
    async with subscriber.dispatching():
        last = await subscriber.until_said(later, Status.FILED)
    assert (last.version_id, last.remaining, last.removed, last.removal) == (
        later.version_id, (), (wrong.version_id,), said.removal,
    )  # fmt: skip
    assert len(subscriber.rna.recalls) == 1


@pytest.mark.parametrize("outcome", [Awaiting("asked to destroy it"), Refused("not ours"), Retry("it answered 500")])
async def test_the_right_version_that_is_lost_is_filed_again_while_the_wrong_one_is_still_to_go(
    subscriber: SubscriberStub, outcome: Any
) -> None:
    wrong, right = await right_beside_wrong(subscriber, outcome)
    async with subscriber.dispatching() as dispatcher:
        await subscriber.until_said(right, Status.FILED)
        subscriber.rna.held.clear()
        await subscriber.owner.execute("UPDATE delivery.delivery SET check_at = now() - interval '1 second'")
        async with asyncio.timeout(30):  # it comes to an end, although the removal is still being tried
            checked = await subscriber.record_check(dispatcher.wake).once()
        assert checked.differences == {Difference.MISSING_FROM_RECORD: 1}

        async def filed_again() -> bool:
            return len(subscriber.rna.delivered) == 3

        await until(filed_again, within=60, what="the right version is filed again")

        async def said_again() -> bool:
            return [status for _, status in await subscriber.said(right)][-2:] == [Status.FAILED, Status.FILED]

        await until(said_again, within=60, what="that it is filed again is said")
    last = (await subscriber.signed(right))[-1]
    assert (last.version_id, last.remaining) == (right.version_id, (wrong.version_id,))


async def test_silence_about_removals_alone_is_silence(subscriber: SubscriberStub) -> None:
    _, right = await right_beside_wrong(subscriber, Retry("it answered 500"))
    async with subscriber.dispatching() as dispatcher:
        await subscriber.until_said(right, Status.FILED)
        subscriber.rna.decide_recall = lambda _: Retry("nobody answered", away=True)
        await subscriber.make_due(right)
        dispatcher.wake()

        async def tried() -> bool:
            return len(subscriber.rna.recalls) == 2

        await until(tried, within=60, what="the removal is tried again")

        async def left_alone() -> bool:
            return dispatcher._breakers["rna"].away == 1

        await until(left_alone, within=60, what="the record system is left alone")


async def test_a_removal_that_failed_is_tried_again_beside_the_right_version_which_is_not_delivered_twice(
    subscriber: SubscriberStub,
) -> None:
    _, right = await right_beside_wrong(subscriber, Retry("it answered 500"))
    async with subscriber.dispatching() as dispatcher:
        first = await subscriber.until_said(right, Status.FILED)
        assert first.next_try_at is not None
        await subscriber.make_due(right)
        dispatcher.wake()

        async def tried_again() -> bool:  # and written down: else what comes of it would put the next one off
            return bool((await subscriber.row(right))["attempts"] == 2)

        await until(tried_again, within=60)
        assert len(subscriber.rna.recalls) == 2
        subscriber.rna.decide_recall = None
        await subscriber.make_due(right)
        dispatcher.wake()

        async def proved() -> Any:
            last = (await subscriber.signed(right))[-1]
            return last if last.removed else None

        last = await until(proved)
    assert (last.status, last.record, last.sha256, last.remaining) == (Status.FILED, first.record, right.sha256, ())
    assert last.removal == "1 entry removed"
    assert subscriber.rna.delivered[1:] == [(right.share_id, 2)]
    assert (await subscriber.row(right))["next_attempt_at"] is None


async def test_what_is_wanted_again_after_its_removal_must_be_removed_again(subscriber: SubscriberStub) -> None:
    wrong = wanted()
    right = replace(wrong.next(), remove=(wrong.version_id,))
    back = replace(wrong, seq=3)
    gone = replace(right, seq=4)
    await lives(subscriber, wrong, right, back, gone)
    assert [each.seq for each in subscriber.rna.recalls] == [2, 4]
    last = (await subscriber.signed(gone))[-1]
    assert (last.removed, last.removal) == ((wrong.version_id,), "1 entry removed")


# --- recall: the inbox --------------------------------------------------------------------------------------------------


async def test_access_to_a_recalled_item_ends_at_once_and_those_who_had_opened_it_say_when_nothing_is_left(
    subscriber: SubscriberStub,
) -> None:
    wish = wanted(SCHOOL)
    gone = wish.recall()
    await lives(subscriber, wish)
    for name in ("school-office", "senco", "school-office"):
        assert (await reader(subscriber, name).get(f"/v1/inbox/{wish.share_id}")).status_code == 200
    await subscriber.park(gone)
    # Nothing has been dispatched yet.
    answer = await reader(subscriber).get(f"/v1/inbox/{wish.share_id}")
    assert (answer.status_code, answer.json()["title"]) == (410, "This item is no longer here")
    assert (await reader(subscriber).get("/v1/inbox")).json()["items"] == []
    async with subscriber.dispatching():
        told = await subscriber.until_said(gone, Status.WAITING)
    assert told.reason is not None
    assert told.reason.startswith(
        "what was recalled is still there: removed from the inbox, but had been opened by school-office at "
    )
    assert ", senco at " in told.reason
    assert await subscriber.owner.fetchval("SELECT content FROM delivery.inbox WHERE share_id = $1", wish.share_id) is None

    # What was opened may have been printed: it ends when the school says that nothing is left.
    [asked] = (await reader(subscriber).get("/v1/recalls")).json()["recalls"]
    assert (asked["share_id"], asked["state"]) == (str(wish.share_id), "waiting")
    statement = {"seq": 2, "how": "destroyed", "removed_on": "2026-09-03", "by": "Mrs Green, SENCO"}
    answer = await reader(subscriber).post(f"/v1/recalls/{wish.share_id}/removed", statement)
    assert answer.json()["status"] == "recalled"
    receipt = (await subscriber.signed(wish))[-1]
    assert (receipt.status, receipt.record) == (Status.RECALLED, "destroyed on 2026-09-03, recorded by Mrs Green, SENCO")
    assert (await reader(subscriber).get("/v1/recalls")).json()["recalls"] == []


async def test_a_named_person_acknowledges_what_was_opened_and_the_council_is_told(subscriber: SubscriberStub) -> None:
    wish = wanted(SCHOOL)
    await lives(subscriber, wish)
    school, path = reader(subscriber, "senco"), f"/v1/inbox/{wish.share_id}/acknowledged"
    statement = {"seq": 1, "by": "Mrs Green, SENCO"}
    assert (await school.post(path, statement)).json()["type"] == "urn:ehcp:problem:not-opened"
    await school.get(f"/v1/inbox/{wish.share_id}")
    answer = (await school.post(path, statement)).json()
    assert answer["acknowledged_by"] == "Mrs Green, SENCO"
    # What was said first stands, and is told once.
    assert (await reader(subscriber).post(path, statement | {"by": "Mr Brown"})).json() == answer
    said = await subscriber.signed(wish)
    assert [each.reason for each in said if each.status is Status.OPENED] == [None, "acknowledged by Mrs Green, SENCO"]
    assert (said[-1].version_id, said[-1].sha256, said[-1].opened_by) == (wish.version_id, wish.sha256, "senco")
    [item] = (await school.get("/v1/inbox")).json()["items"]
    assert (item["opened_by"], item["acknowledged_by"]) == ("senco", "Mrs Green, SENCO")


async def test_a_newer_version_is_opened_and_acknowledged_anew_and_none_after_access_has_ended(
    subscriber: SubscriberStub,
) -> None:
    wish = wanted(SCHOOL)
    newer = wish.next()
    await lives(subscriber, wish)
    school, path = reader(subscriber), f"/v1/inbox/{wish.share_id}/acknowledged"
    await school.get(f"/v1/inbox/{wish.share_id}")
    assert (await school.post(path, {"seq": 1, "by": "Mrs Green"})).status_code == 200
    await lives(subscriber, newer)
    [item] = (await school.get("/v1/inbox")).json()["items"]
    assert (item["seq"], item["opened_at"], item["acknowledged_at"]) == (2, None, None)
    assert (await school.post(path, {"seq": 1, "by": "Mrs Green"})).json()["type"] == "urn:ehcp:problem:newer-version"
    another = pages(subscriber, Caller("other", CallerKind.RECIPIENT, recipient="urn:993202"))
    assert (await another.post(path, {"seq": 2, "by": "Mr Black"})).status_code == 404
    await school.get(f"/v1/inbox/{wish.share_id}")
    await subscriber.park(newer.next(withdrawn=True))
    assert (await school.post(path, {"seq": 2, "by": "Mrs Green"})).status_code == 410


async def test_an_item_that_nobody_had_opened_says_so(subscriber: SubscriberStub) -> None:
    wish = wanted(SCHOOL)
    await lives(subscriber, wish, wish.recall())
    assert (await subscriber.signed(wish))[-1].record == "removed from the inbox; was never opened"


async def test_a_wrong_version_is_out_of_reach_while_the_right_one_is_on_its_way(subscriber: SubscriberStub) -> None:
    right = wanted(SCHOOL)
    wrong = right.next()
    await lives(subscriber, right, wrong)
    await reader(subscriber).get(f"/v1/inbox/{right.share_id}")
    again = replace(right, seq=3, remove=(wrong.version_id,))
    await subscriber.park(again)
    assert (await reader(subscriber).get(f"/v1/inbox/{right.share_id}")).status_code == 410
    await lives(subscriber, again)
    item = (await reader(subscriber).get(f"/v1/inbox/{right.share_id}")).json()
    assert item["version"] == 1
    opened = (await subscriber.signed(right))[-1]
    # It had been read, and may have been printed: that it is gone is for the school to say.
    assert (opened.status, opened.removal) == (Status.OPENED, None)


async def test_access_ends_with_the_share_and_the_list_says_so(subscriber: SubscriberStub) -> None:
    wish = wanted(SCHOOL)
    gone = wish.next(withdrawn=True)
    await lives(subscriber, wish)
    await subscriber.park(gone)
    # Nothing has been dispatched yet.
    answer = await reader(subscriber).get(f"/v1/inbox/{wish.share_id}")
    assert (answer.status_code, answer.json()["title"]) == (410, "Access to this item has ended")
    await lives(subscriber, gone)
    [item] = (await reader(subscriber).get("/v1/inbox")).json()["items"]
    assert item["withdrawn_at"] is not None
    assert (await reader(subscriber).get(f"/v1/inbox/{wish.share_id}/files/0")).status_code == 410
    again = replace(wish, seq=3)
    await lives(subscriber, again)
    assert (await reader(subscriber).get(f"/v1/inbox/{wish.share_id}")).status_code == 200


# --- recall: by hand ----------------------------------------------------------------------------------------------------


async def test_a_recalled_letter_waits_until_an_officer_records_its_end(subscriber: SubscriberStub) -> None:
    wish = wanted(PARENT)
    gone = wish.recall()
    await subscriber.park(wish)
    sent = {"seq": 1, "sent_on": "2026-09-02", "how": "post", "by": "T. Okafor"}
    await officer(subscriber).post(f"/v1/deliveries/{wish.share_id}/sent", sent)
    await subscriber.park(gone)
    [row] = (await officer(subscriber).get("/v1/deliveries?state=awaiting")).json()["deliveries"]
    assert (row["action"], row["remove"]) == ("recall", [str(wish.version_id)])
    address = f"/v1/deliveries/{wish.share_id}/removed"
    body = {"seq": 2, "removed_on": "2026-11-20", "how": "returned", "by": "T. Okafor"}
    assert (await officer(subscriber).post(address, body | {"seq": 1})).status_code == 409
    assert (await officer(subscriber).post(address, body | {"how": "eaten"})).status_code == 422
    assert (await officer(subscriber).post(address, body | {"removed_on": "2999-01-01"})).status_code == 422
    assert (await officer(subscriber, "333").post(address, body)).status_code == 404
    assert (await officer(subscriber).post(f"/v1/deliveries/{wish.share_id}/sent", sent | {"seq": 2})).status_code == 409
    answer = (await officer(subscriber).post(address, body)).json()
    assert (answer["status"], answer["recorded"]) == ("recalled", True)
    assert not (await officer(subscriber).post(address, body)).json()["recorded"]
    receipt = (await subscriber.signed(wish))[-1]
    assert (receipt.status, receipt.record) == (Status.RECALLED, "returned on 2026-11-20, recorded by T. Okafor")
    assert (await officer(subscriber).get("/v1/deliveries?state=awaiting")).json()["deliveries"] == []


@pytest.mark.parametrize("back_first", [True, False])
async def test_a_letter_is_sent_and_the_wrong_one_is_back_in_whichever_order(
    subscriber: SubscriberStub, back_first: bool
) -> None:
    wrong = uuid4()
    wish = replace(wanted(PARENT), remove=(wrong,))
    await subscriber.park(wish)
    address = f"/v1/deliveries/{wish.share_id}"
    sent = {"seq": 1, "sent_on": "2026-09-02", "how": "post", "by": "T. Okafor", "note": "Signed for"}
    body = {"seq": 1, "removed_on": "2026-11-20", "how": "destroyed", "by": "T. Okafor"}
    if back_first:
        assert (await officer(subscriber).post(f"{address}/removed", body)).json()["status"] == "waiting"
        waiting = (await subscriber.signed(wish))[-1]
        assert (waiting.status, waiting.removed) == (Status.WAITING, (wrong,))
        assert (await officer(subscriber).post(f"{address}/sent", sent)).status_code == 200
    else:
        assert (await officer(subscriber).post(f"{address}/sent", sent)).status_code == 200
        assert (await subscriber.signed(wish))[-1].remaining == (wrong,)
        [row] = (await officer(subscriber).get("/v1/deliveries?state=awaiting")).json()["deliveries"]
        assert (row["state"], row["remove"]) == ("sent", [str(wrong)])
        assert (await officer(subscriber).post(f"{address}/removed", body)).json()["status"] == "held"
    said = (await subscriber.signed(wish))[-1]
    assert (said.status, said.removed, said.remaining) == (Status.SENT, (wrong,), ())
    assert said.record == "sent by post on 2026-09-02, recorded by T. Okafor; note: Signed for"
    assert said.removal == "destroyed on 2026-11-20, recorded by T. Okafor"
    assert (await officer(subscriber).get("/v1/deliveries?state=awaiting")).json()["deliveries"] == []


async def test_nothing_to_remove_is_said(subscriber: SubscriberStub) -> None:
    wish = wanted(PARENT)
    await subscriber.park(wish)
    body = {"seq": 1, "removed_on": "2026-11-20", "how": "destroyed", "by": "T. Okafor"}
    answer = await officer(subscriber).post(f"/v1/deliveries/{wish.share_id}/removed", body)
    assert answer.status_code == 409
    assert "names nothing to remove" in answer.json()["detail"]


# --- released -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipient", [RNA, SCHOOL, PARENT, NOBODY])
async def test_a_released_share_is_left_alone(subscriber: SubscriberStub, recipient: Any) -> None:
    wish = wanted(recipient)
    over = wish.release()
    await subscriber.park(wish)
    if recipient in (RNA, SCHOOL):
        await lives(subscriber, wish)
    await subscriber.park(over)
    assert (await subscriber.said(wish))[-1] == (2, Status.RELEASED)
    row = await subscriber.row(wish)
    assert (row["state"], row["next_attempt_at"]) == ("released", None)
    assert (subscriber.rna.withdrawals, subscriber.rna.recalls) == ([], [])
    await subscriber.park(wish)
    assert (await subscriber.row(wish))["state"] == "released"


async def test_who_was_released_reads_elsewhere(subscriber: SubscriberStub) -> None:
    wish = wanted(SCHOOL)
    await lives(subscriber, wish)
    await subscriber.park(wish.release())
    assert (await reader(subscriber).get(f"/v1/inbox/{wish.share_id}")).status_code == 410
    assert (await reader(subscriber).get("/v1/inbox")).json()["items"] == []


async def test_a_delivery_in_flight_when_the_share_is_released_changes_nothing_about_it(subscriber: SubscriberStub) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    subscriber.rna.gate.clear()
    await subscriber.park(wish)
    async with subscriber.dispatching():
        await subscriber.until_in_flight()
        await subscriber.park(wish.release())
        subscriber.rna.gate.set()
        await subscriber.until_said(wish, Status.FILED)
    row = await subscriber.row(wish)
    assert (row["state"], row["held_seq"], row["next_attempt_at"]) == ("released", 1, None)


# --- restricted at the council ------------------------------------------------------------------------------------------


async def test_what_the_council_holds_back_waits_without_noise_and_is_delivered_when_it_is_lifted(
    subscriber: SubscriberStub,
) -> None:
    wish = wanted()
    subscriber.council.wants(replace(wish, restricted=True))
    await subscriber.park(wish)
    async with subscriber.dispatching() as dispatcher:
        receipt = await subscriber.until_said(wish, Status.WAITING)
        assert receipt.reason == "the plan is restricted at the council"
        assert receipt.next_try_at is not None
        assert soon(receipt.next_try_at, 5)
        assert subscriber.rna.batches == []
        # As after some hours.
        await subscriber.owner.execute("UPDATE delivery.delivery SET next_attempt_at = now() + interval '10 hours'")
        subscriber.council.wants(wish)
        await subscriber.park(wish)  # lifted: the council puts its instruction out again
        dispatcher.wake()
        await subscriber.until_said(wish, Status.FILED)
    assert Status.FAILED not in {status for _, status in await subscriber.said(wish)}


async def test_a_repeat_hurries_nothing_that_failed(subscriber: SubscriberStub) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    subscriber.rna.decide = lambda _: Retry("away", after=3600)
    await subscriber.park(wish)
    async with subscriber.dispatching():
        await subscriber.until_said(wish, Status.FAILED)
    before = (await subscriber.row(wish))["next_attempt_at"]
    await subscriber.park(wish)
    assert (await subscriber.row(wish))["next_attempt_at"] == before


# --- the child's identity corrected -------------------------------------------------------------------------------------


async def test_an_unchanged_version_under_a_higher_seq_is_delivered_anew(subscriber: SubscriberStub) -> None:
    wish = wanted()
    corrected = replace(wish, seq=2, whose=child(nhs_number="9990000018"))
    assert corrected.sha256 == wish.sha256
    await lives(subscriber, wish, corrected)
    assert [content.child.nhs_number for batch in subscriber.rna.batches for content in batch] == ["9434765919", "9990000018"]
    assert await subscriber.said(wish) == [(1, Status.FILED), (2, Status.FILED)]


async def test_a_reader_sees_the_corrected_child_and_opens_it_anew(subscriber: SubscriberStub) -> None:
    wish = wanted(SCHOOL)
    await lives(subscriber, wish)
    await reader(subscriber).get(f"/v1/inbox/{wish.share_id}")
    corrected = replace(wish, seq=2, whose=child(family_name="Hartley-Reed", date_of_birth=date(2014, 6, 5)))
    await lives(subscriber, corrected)
    row = await subscriber.row(wish)
    assert (row["state"], row["held_seq"]) == ("sent", 2)
    item = (await reader(subscriber).get(f"/v1/inbox/{wish.share_id}")).json()
    assert (item["child"]["family_name"], item["child"]["date_of_birth"]) == ("Hartley-Reed", "2014-06-05")
    assert (await subscriber.signed(wish))[-1].seq == 2
