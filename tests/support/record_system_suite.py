"""What must hold for every record system: inherited by the test of each adapter, against its real server.

A test class says what its channel can prove (the class attributes), how the other end is looked at without the adapter's code
(``files``) and what it does with what came (``answers``). Where the other end is a server, :class:`ServerSuite` breaks the line
to it; where it speaks HTTP, :class:`HttpSuite` spoils its answers too.
"""

import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from schemas.base import RecipientKind
from schemas.notices import Notice, NoticeKind
from services.cli.machine.ports import HOST
from services.shared.record_systems.port import (
    Awaiting,
    CannotBeAskedError,
    Collected,
    Content,
    Filed,
    HoldsNotices,
    Recall,
    RecordAwayError,
    RecordSystem,
    Refused,
    Removed,
    Retry,
    Sent,
    Withdrawal,
    Withdrawn,
)
from tests.support import fault_proxy
from tests.support.contents import RNA, content, decision, invitation, pdf
from tests.support.fault_proxy import FaultProxy, Request
from tests.support.line import Line

NOTICES = (
    invitation(),
    Notice(kind=NoticeKind.REVIEW_REPORT, happened_on=dt.date(2026, 9, 22), text="The review was held."),
    decision(),
    Notice(kind=NoticeKind.CEASE_NOTICE, happened_on=dt.date(2026, 11, 2), text="The council means to cease the plan."),
)
NOBODY = 1
"""A port at which nobody listens."""
PERSONAL = ("Hartley", "Rowan", "EHC-2019-0042")


@dataclass(frozen=True, slots=True)
class Says:
    """The kind of outcome by which a channel says that it is done."""

    delivered: type[Filed | Collected | Sent] = Filed
    withdrawn: type[Withdrawn | Retry] = Withdrawn
    recalled: type[Removed | Awaiting] = Removed


class RecordSystemSuite:
    at_once = Says()
    """As soon as the adapter has done its part."""
    once_answered = Says()
    """When the other end has said what became of it; what a channel never learns stays as it was."""
    can_be_asked = True
    takes_away = True
    """A recall leaves nothing of it where it was put."""

    def version(self, **more: Any) -> Content:
        """One that the other end can take."""
        return content(**{"recipient": RNA} | more)

    async def bad(self) -> Content | None:
        """One that the other end cannot take, and is told so; None where there is no such thing."""
        return self.version(whose=content().child.model_copy(update={"nhs_number": None}))

    async def files(self, record: str) -> list[bytes]:
        """What the people at the other end find under an outcome's ``record``, the document first; nothing when it is gone."""
        raise NotImplementedError

    async def answers(self, *came: Content | Withdrawal | Recall) -> None:
        """The other end takes up what came and says what became of it. Where it answers at once there is nothing to do."""

    async def deliver(self, adapter: RecordSystem, *batch: Content) -> list[Any]:
        outcomes = await adapter.deliver(batch)
        done = (self.at_once.delivered, self.once_answered.delivered)
        assert [outcome for outcome in outcomes if type(outcome) not in done] == []
        await self.answers(*batch)
        return list(outcomes)

    async def test_no_work_is_no_trouble(self, adapter: RecordSystem) -> None:
        assert [await adapter.deliver([]), await adapter.withdraw([]), await adapter.recall([])] == [[], [], []]
        if self.can_be_asked:
            assert await adapter.holds(self.version().recipient, []) == {}

    async def test_what_is_delivered_is_there_byte_for_byte_once_and_proved(self, adapter: RecordSystem) -> None:
        wanted = self.version(document=pdf(), attachments=[("advice 1.pdf", pdf("one")), ("advice 2.pdf", pdf("two"))])
        [first], [again] = await adapter.deliver([wanted]), await adapter.deliver([wanted])
        assert type(first) is self.at_once.delivered
        assert again == first
        assert await self.files(first.record) == [pdf(), pdf("one"), pdf("two")]
        await self.answers(wanted)
        [proved], [same] = await adapter.deliver([wanted]), await adapter.deliver([wanted])
        assert type(proved) is self.once_answered.delivered
        assert same == proved
        if isinstance(proved, Filed):
            assert proved.sha256 == wanted.sha256
        if self.can_be_asked:
            held = (await adapter.holds(wanted.recipient, [wanted.plan_id]))[wanted.plan_id]
            assert (held.version_id, held.sha256, held.withdrawn, held.intact) == (
                wanted.version_id, wanted.sha256, False, True,
            )  # fmt: skip

    async def test_a_batch_is_answered_one_by_one_in_order_and_a_bad_one_harms_no_other(self, adapter: RecordSystem) -> None:
        batch = [self.version(document=pdf(str(n))) for n in range(10)]
        bad = await self.bad()
        outcomes = await adapter.deliver([*batch[:3], *([bad] if bad else []), *batch[3:]])
        if bad:
            refused = outcomes.pop(3)
            assert isinstance(refused, Refused | Retry)
            assert not [word for word in PERSONAL if word in refused.reason]
        for each, outcome in zip(batch, outcomes, strict=True):
            assert type(outcome) is self.at_once.delivered
            assert await self.files(outcome.record) == [each.document.data if each.document else b""]

    async def test_a_version_with_nothing_in_it_is_told_or_refused_and_harms_no_other(self, adapter: RecordSystem) -> None:
        empty, whole = self.version(sections={}), self.version(document=pdf())
        told, arrived = await adapter.deliver([empty, whole])
        assert isinstance(told, Refused | self.at_once.delivered)
        assert type(arrived) is self.at_once.delivered
        assert await self.files(arrived.record) == [pdf()]

    async def test_the_newest_version_stays_the_newest_whatever_comes_late(self, adapter: RecordSystem) -> None:
        first = self.version(document=pdf("first"))
        newer = following(first, document=pdf("newer"))
        await self.deliver(adapter, first)
        [held] = await self.deliver(adapter, newer)
        await adapter.deliver([first])
        assert await self.files(held.record) == [pdf("newer")]
        if self.can_be_asked:
            asked = await adapter.holds(first.recipient, [first.plan_id])
            assert asked[first.plan_id].version_id == newer.version_id

    async def test_notices_stand_side_by_side_with_the_plan_each_for_itself(self, adapter: RecordSystem) -> None:
        plan = self.version(document=pdf("plan"))
        told = [self.version(plan_id=plan.plan_id, whose=plan.child, notice=each, document=pdf(each.kind)) for each in NOTICES]
        records = [outcome.record for outcome in await self.deliver(adapter, plan, *told)]
        assert len(set(records)) == 5
        for each, record in zip((plan, *told), records, strict=True):
            assert (await self.files(record))[-1] == pdf(each.notice.kind if each.notice else "plan")
        await self.holds_beside(adapter, plan, *told)

        # The share of one of them ends, and another was wrong: the plan, and the others, are as they were.
        ended, wrong = withdrawal_of(told[0]), recall_of(told[1])
        [marked], [gone] = await adapter.withdraw([ended]), await adapter.recall([wrong])
        assert (type(marked), type(gone)) == (self.at_once.withdrawn, self.at_once.recalled)
        await self.answers(ended, wrong)
        if self.takes_away:
            assert await self.files(records[2]) == []
        for record in (*records[:2], *records[3:]):
            assert await self.files(record) != []
        await self.holds_beside(adapter, plan, *told[2:])

    async def holds_beside(self, adapter: RecordSystem, plan: Content, *told: Content) -> None:
        if not self.can_be_asked:
            return
        held = (await adapter.holds(plan.recipient, [plan.plan_id]))[plan.plan_id]
        assert (held.version_id, held.withdrawn) == (plan.version_id, False)
        if isinstance(adapter, HoldsNotices):
            notices = await adapter.holds_notices(plan.recipient, [uuid4(), *(each.version_id for each in told)])
            assert {id_: (each.sha256, each.withdrawn) for id_, each in notices.items()} == {
                each.version_id: (each.sha256, False) for each in told
            }

    async def test_a_withdrawn_copy_is_marked_and_stays_until_it_is_wanted_again(self, adapter: RecordSystem) -> None:
        wanted = self.version(document=pdf())
        [delivered] = await self.deliver(adapter, wanted)
        ended = withdrawal_of(wanted)
        [first] = await adapter.withdraw([ended])
        assert type(first) is self.at_once.withdrawn
        await self.answers(ended)
        for _ in range(2):
            [marked] = await adapter.withdraw([ended])
            assert type(marked) is self.once_answered.withdrawn
        assert await self.files(delivered.record) == [pdf()]
        if self.can_be_asked:
            assert (await adapter.holds(wanted.recipient, [wanted.plan_id]))[wanted.plan_id].withdrawn
            await adapter.deliver([wanted])  # the old message, late
            assert (await adapter.holds(wanted.recipient, [wanted.plan_id]))[wanted.plan_id].withdrawn
        await self.deliver(adapter, replace(wanted, seq=3, replaces=wanted.version_id))
        if self.can_be_asked:
            assert not (await adapter.holds(wanted.recipient, [wanted.plan_id]))[wanted.plan_id].withdrawn

    async def test_what_was_recalled_is_gone_by_proof_and_nothing_else_is(self, adapter: RecordSystem) -> None:
        right, other = self.version(document=pdf("right")), self.version(document=pdf("other"))
        wrong = following(right, document=pdf("another child's"))
        await self.deliver(adapter, right)
        [wrongly, elsewhere] = await self.deliver(adapter, wrong, other)
        recall = recall_of(wrong)
        [first] = await adapter.recall([recall])
        assert type(first) is self.at_once.recalled
        await self.answers(recall)
        [gone], [again] = await adapter.recall([recall]), await adapter.recall([recall])
        assert type(gone) is self.once_answered.recalled
        assert again == gone
        if self.takes_away:
            assert await self.files(wrongly.record) == []
        assert await self.files(elsewhere.record) == [pdf("other")]
        if self.can_be_asked:
            held = await adapter.holds(right.recipient, [right.plan_id, other.plan_id])
            assert wrong.version_id not in {each.version_id for each in held.values()}
            assert held[other.plan_id].version_id == other.version_id

        # Under the same instruction the right version is wanted again.
        [stands] = await self.deliver(adapter, replace(right, seq=recall.seq))
        assert await self.files(stands.record) == [pdf("right")]
        if self.can_be_asked:
            held = await adapter.holds(right.recipient, [right.plan_id])
            assert held[right.plan_id].version_id == right.version_id

    async def test_what_never_came_is_marked_and_removed_all_the_same(self, adapter: RecordSystem) -> None:
        never, neither = self.version(), self.version()
        ended, recall = withdrawal_of(never), recall_of(neither)
        [marked], [gone] = await adapter.withdraw([ended]), await adapter.recall([recall])
        assert (type(marked), type(gone)) == (self.at_once.withdrawn, self.at_once.recalled)
        await self.answers(ended, recall)
        [marked], [gone] = await adapter.withdraw([ended]), await adapter.recall([recall])
        assert (type(marked), type(gone)) == (self.once_answered.withdrawn, self.once_answered.recalled)

    async def test_of_many_plans_it_names_those_that_it_holds(self, adapter: RecordSystem) -> None:
        if not self.can_be_asked:
            with pytest.raises(CannotBeAskedError):
                await adapter.holds(self.version().recipient, [uuid4()])
            return
        there = [self.version() for _ in range(3)]
        await self.deliver(adapter, *there)
        asked = [uuid4() for _ in range(60)]
        for each, at in zip(there, (0, 30, 60), strict=True):
            asked.insert(at, each.plan_id)
        held = await adapter.holds(there[0].recipient, asked)
        assert {plan: each.sha256 for plan, each in held.items()} == {each.plan_id: each.sha256 for each in there}

    async def test_two_kinds_of_one_code_are_two_records(self, adapter: RecordSystem) -> None:
        """A trust and its CAMHS, or a council's social care and its youth offending service."""
        one = self.version(document=pdf("one's"))
        sharing = replace(one.recipient, kind=RecipientKind.YOUTH_OFFENDING_SERVICE)
        other = self.version(
            recipient=sharing, plan_id=one.plan_id, version_id=one.version_id, whose=one.child, document=pdf("other's")
        )
        [ones, others] = await self.deliver(adapter, one, other)
        await adapter.deliver([one])
        assert (await self.files(ones.record), await self.files(others.record)) == ([pdf("one's")], [pdf("other's")])
        if self.can_be_asked:
            for each in (one, other):
                assert (await adapter.holds(each.recipient, [each.plan_id]))[each.plan_id].sha256 == each.sha256
        recall = recall_of(other)
        await adapter.recall([recall])
        await self.answers(recall)
        await adapter.recall([recall])
        assert await self.files(ones.record) == [pdf("one's")]
        if self.can_be_asked:
            assert await adapter.holds(sharing, [one.plan_id]) == {}
            assert (await adapter.holds(one.recipient, [one.plan_id]))[one.plan_id].sha256 == one.sha256


def following(before: Content, **more: Any) -> Content:
    """The next version of the same plan for the same recipient."""
    given: dict[str, Any] = {
        "share_id": before.share_id, "plan_id": before.plan_id, "recipient": before.recipient, "whose": before.child,
        "seq": before.seq + 1, "version": before.version + 1, "replaces": before.version_id,
    }  # fmt: skip
    return content(**given | more)


def withdrawal_of(each: Content) -> Withdrawal:
    return Withdrawal(each.share_id, each.seq + 1, each.plan_id, each.recipient)


def recall_of(each: Content) -> Recall:
    return Recall(each.share_id, each.seq + 1, each.plan_id, each.recipient, (each.version_id,))


class ServerSuite(RecordSystemSuite):
    """For a channel whose other end is a server on a port."""

    def port(self) -> int:
        """Of the server."""
        raise NotImplementedError

    def at(self, port: int, *, timeout: float = 15) -> Any:
        """The adapter, of a server at this port of this machine."""
        raise NotImplementedError

    @asynccontextmanager
    async def reaching(self, port: int, **more: Any) -> AsyncIterator[RecordSystem]:
        made: RecordSystem = self.at(port, **more)
        try:
            yield made
        finally:
            await made.close()

    @pytest_asyncio.fixture
    async def adapter(self) -> AsyncIterator[RecordSystem]:
        async with self.reaching(self.port()) as made:
            yield made

    async def test_where_nobody_answers_everything_is_tried_again_and_nothing_is_known(self) -> None:
        one = self.version()
        async with self.reaching(NOBODY) as nobody:
            outcomes = [
                *await nobody.deliver([self.version(recipient=one.recipient) for _ in range(10)]),
                *await nobody.withdraw([withdrawal_of(one)]),
                *await nobody.recall([recall_of(one)]),
            ]
            # Where it keeps books, it knows that there is nothing to mark or to remove, and asks nobody.
            assert [outcome for outcome in outcomes[:10] if not (isinstance(outcome, Retry) and outcome.away)] == []
            assert not any(isinstance(outcome, Removed) for outcome in outcomes)
            with pytest.raises(RecordAwayError):
                await nobody.holds(one.recipient, [one.plan_id])

    @pytest.mark.parametrize("how", ["reset", "dead"])
    async def test_a_line_that_breaks_costs_a_try_and_no_version(self, how: str) -> None:
        batch = [self.version(document=Random(n).randbytes(20_000)) for n in range(5)]  # whoever compresses it
        async with Line(self.port()) as line:
            if how == "dead":
                line.go_dead()
            else:
                line.cut_after = 10_000
            async with self.reaching(line.port, timeout=1) as hasty:
                outcomes = await hasty.deliver(batch)
            assert [outcome for outcome in outcomes if not (isinstance(outcome, Retry) and outcome.away)] == []
            line.heal()
            async with self.reaching(line.port) as patient:
                arrived = await self.deliver(patient, *batch)
        for each, outcome in zip(batch, arrived, strict=True):
            assert await self.files(outcome.record) == [each.document.data if each.document else b""]


NOT_THIS = f"<html>{PERSONAL[1]} {PERSONAL[0]} is not known here</html>".encode()
FAULTS: dict[str, fault_proxy.Fault] = {
    **{str(code): fault_proxy.status(code, NOT_THIS, "text/html") for code in (401, 403, 404, 409, 413, 422, 500, 502)},
    "429": fault_proxy.status(429, Retry_After="7"),
    "503": fault_proxy.status(503, NOT_THIS, "text/html"),
    "a page": fault_proxy.status(200, NOT_THIS, "text/html"),
    "nothing": fault_proxy.status(200),
    "cut off": fault_proxy.truncated,
    "lost": fault_proxy.lost_answer,
    "reset": fault_proxy.reset,
}


class HttpSuite(ServerSuite):
    """For a channel that speaks HTTP."""

    refuses = frozenset({"413", "422"})
    """What the same bytes would meet again for ever."""

    def stages(self) -> dict[str, Callable[[Request], bool]]:
        """The requests that a delivery is made of; the last are those that carry it."""
        return {"writing": lambda request: request.method in ("POST", "PUT")}

    @pytest_asyncio.fixture
    async def proxy(self) -> AsyncIterator[FaultProxy]:
        async with FaultProxy(self.port()) as running:
            yield running

    @pytest_asyncio.fixture
    async def behind(self, proxy: FaultProxy) -> AsyncIterator[RecordSystem]:
        """The adapter behind the proxy."""
        async with self.reaching(proxy.port) as made:
            yield made

    def writing(self) -> Callable[[Request], bool]:
        return list(self.stages().values())[-1]

    @pytest.mark.parametrize("name", FAULTS)
    async def test_a_fault_is_judged_and_then_it_arrives_once(self, behind: RecordSystem, proxy: FaultProxy, name: str) -> None:
        for stage in self.stages().values():
            wanted = self.version(document=pdf(name))
            proxy.spoil(FAULTS[name], stage)
            [outcome] = await behind.deliver([wanted])
            assert isinstance(outcome, Refused if name in self.refuses else Retry), outcome
            assert not [word for word in PERSONAL if word in outcome.reason]
            if isinstance(outcome, Retry):
                assert outcome.after == (7 if name == "429" else None)
            proxy.heal()
            [arrived] = await self.deliver(behind, wanted)
            assert await self.files(arrived.record) == [pdf(name)]

    async def test_a_peer_that_asks_for_an_hour_gets_it(self, behind: RecordSystem, proxy: FaultProxy) -> None:
        at = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        proxy.spoil(fault_proxy.status(503, Retry_After=at.strftime("%a, %d %b %Y %H:%M:%S GMT")))
        [outcome] = await behind.deliver([self.version()])
        assert isinstance(outcome, Retry)
        assert outcome.after is not None
        assert 3000 < outcome.after <= 3600

    async def test_one_that_meets_a_fault_takes_nobody_with_it(self, behind: RecordSystem, proxy: FaultProxy) -> None:
        for fault in (fault_proxy.status(500), fault_proxy.status(422), fault_proxy.reset):
            batch = [self.version(document=pdf(str(n))) for n in range(4)]
            proxy.spoil(fault, self.writing(), times=1)
            outcomes = await behind.deliver(batch)
            assert sum(type(outcome) is self.at_once.delivered for outcome in outcomes) == 3, outcomes
            proxy.heal()

    async def test_an_end_that_is_not_proved_is_tried_again_and_silence_is_not_absence(
        self, behind: RecordSystem, proxy: FaultProxy
    ) -> None:
        wanted, wrong = self.version(document=pdf()), self.version(document=pdf("wrong"))
        await self.deliver(behind, wanted, wrong)
        ended, recall = withdrawal_of(wanted), recall_of(wrong)
        for name in ("404", "500", "a page", "lost"):
            proxy.spoil(FAULTS[name])
            outcomes = [*await behind.withdraw([ended]), *await behind.recall([recall])]
            assert [type(outcome) for outcome in outcomes] == [Retry, Retry], (name, outcomes)
            with pytest.raises(RecordAwayError):
                await behind.holds(wanted.recipient, [wanted.plan_id])
            proxy.heal()
        [marked], [gone] = await behind.withdraw([ended]), await behind.recall([recall])
        assert (type(marked), type(gone)) == (self.at_once.withdrawn, self.at_once.recalled)

    async def test_nothing_goes_to_another_address_or_through_a_proxy_of_the_environment(
        self, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wanted = self.version()
        async with FaultProxy(self.port()) as elsewhere:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, f"http://{HOST}:{elsewhere.port}")
            for name in ("NO_PROXY", "no_proxy"):
                monkeypatch.setenv(name, "")
            async with self.reaching(proxy.port) as behind:
                for status in (301, 302, 303, 307, 308):
                    proxy.spoil(fault_proxy.status(status, Location=f"http://{HOST}:{elsewhere.port}/"))
                    [outcome] = await behind.deliver([wanted])
                    assert isinstance(outcome, Retry)
                    proxy.heal()
                [outcome] = await behind.deliver([wanted])
                assert type(outcome) is self.at_once.delivered
            assert elsewhere.requests == []

    async def test_what_everybody_on_the_way_can_see_names_nobody(self, behind: RecordSystem, proxy: FaultProxy) -> None:
        wanted = self.version(document=pdf(size=2_000_000))
        await self.deliver(behind, wanted)
        if self.can_be_asked:
            await behind.holds(wanted.recipient, [wanted.plan_id])
        await behind.withdraw([withdrawal_of(wanted)])
        await behind.recall([recall_of(wanted)])
        seen = "\n".join(f"{request.path} {request.headers}" for request in proxy.requests)
        assert not [word for word in (*PERSONAL, wanted.child.nhs_number or "") if word and word in seen]
