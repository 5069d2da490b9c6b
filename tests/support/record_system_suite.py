"""What must hold for every record system that proves filing: inherited by the test of each adapter, against its real server.

The test gives two fixtures: ``adapter``, on a server that is empty, and ``nobody``, the same adapter where nobody listens.
"""

from typing import Any
from uuid import uuid4

import pytest

from services.shared.record_systems.port import (
    Content,
    Filed,
    Recall,
    RecordAwayError,
    RecordSystem,
    Removed,
    Retry,
    Withdrawal,
    Withdrawn,
)
from tests.support.contents import RNA, content, invitation, pdf


class RecordSystemSuite:
    recipient = RNA
    """One whom the test's server serves."""

    def version(self, **more: Any) -> Content:
        return content(recipient=self.recipient, **more)

    async def test_what_is_filed_is_held_under_its_hash(self, adapter: RecordSystem) -> None:
        wanted = self.version(document=pdf(), attachments=[("advice.pdf", pdf("advice"))])
        [filed] = await adapter.deliver([wanted])
        assert isinstance(filed, Filed)
        assert filed.sha256 == wanted.sha256
        held = (await adapter.holds(self.recipient, [wanted.plan_id]))[wanted.plan_id]
        assert (held.version_id, held.sha256, held.withdrawn) == (wanted.version_id, wanted.sha256, False)

    async def test_the_same_again_is_the_same_record(self, adapter: RecordSystem) -> None:
        wanted = self.version()
        [first] = await adapter.deliver([wanted])
        [second] = await adapter.deliver([wanted])
        assert isinstance(first, Filed)
        assert second == first

    async def test_a_batch_is_answered_one_by_one_in_order(self, adapter: RecordSystem) -> None:
        batch = [self.version() for _ in range(20)]
        outcomes = await adapter.deliver(batch)
        assert [outcome.sha256 for outcome in outcomes if isinstance(outcome, Filed)] == [each.sha256 for each in batch]
        assert len(await adapter.holds(self.recipient, [each.plan_id for each in batch])) == 20

    async def test_the_newest_version_is_held_whatever_comes_late(self, adapter: RecordSystem) -> None:
        first = self.version(seq=1)
        newer = self.version(
            seq=2, version=2, plan_id=first.plan_id, share_id=first.share_id, replaces=first.version_id
        )  # fmt: skip
        for each in (first, newer, first):
            await adapter.deliver([each])
        held = (await adapter.holds(self.recipient, [first.plan_id]))[first.plan_id]
        assert held.version_id == newer.version_id

    async def test_a_withdrawn_copy_is_marked_and_stays(self, adapter: RecordSystem) -> None:
        wanted = self.version()
        await adapter.deliver([wanted])
        [marked] = await adapter.withdraw([Withdrawal(wanted.share_id, 2, wanted.plan_id, self.recipient)])
        assert isinstance(marked, Withdrawn)
        held = await adapter.holds(self.recipient, [wanted.plan_id])
        assert held[wanted.plan_id].withdrawn

    async def test_a_withdrawal_of_what_never_came_is_done(self, adapter: RecordSystem) -> None:
        [marked] = await adapter.withdraw([Withdrawal(uuid4(), 1, uuid4(), self.recipient)])
        assert isinstance(marked, Withdrawn)

    async def test_what_was_recalled_is_there_no_more(self, adapter: RecordSystem) -> None:
        wanted, other = self.version(), self.version()
        await adapter.deliver([wanted, other])
        [gone] = await adapter.recall([Recall(wanted.share_id, 2, wanted.plan_id, self.recipient, (wanted.version_id,))])
        assert isinstance(gone, Removed)
        assert set(await adapter.holds(self.recipient, [wanted.plan_id, other.plan_id])) == {other.plan_id}

    async def test_what_was_never_there_is_removed_too(self, adapter: RecordSystem) -> None:
        [gone] = await adapter.recall([Recall(uuid4(), 2, uuid4(), self.recipient, (uuid4(),))])
        assert isinstance(gone, Removed)

    async def test_a_notice_stands_beside_the_plan(self, adapter: RecordSystem) -> None:
        plan = self.version()
        notice = self.version(plan_id=plan.plan_id, notice=invitation())
        outcomes = await adapter.deliver([plan, notice])
        assert [type(outcome) for outcome in outcomes] == [Filed, Filed]
        assert (await adapter.holds(self.recipient, [plan.plan_id]))[plan.plan_id].version_id == plan.version_id

    async def test_a_plan_that_it_does_not_hold_is_absent(self, adapter: RecordSystem) -> None:
        assert await adapter.holds(self.recipient, [uuid4()]) == {}

    async def test_where_nobody_answers_everything_is_tried_again_and_nothing_is_known(self, nobody: RecordSystem) -> None:
        outcomes = [
            *await nobody.deliver([self.version(), self.version()]),
            *await nobody.withdraw([Withdrawal(uuid4(), 1, uuid4(), self.recipient)]),
            *await nobody.recall([Recall(uuid4(), 1, uuid4(), self.recipient, (uuid4(),))]),
        ]
        assert len(outcomes) == 4
        assert all(isinstance(outcome, Retry) and outcome.away for outcome in outcomes)
        with pytest.raises(RecordAwayError):
            await nobody.holds(self.recipient, [uuid4()])
