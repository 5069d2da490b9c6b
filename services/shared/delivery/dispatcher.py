"""Make parked instructions true: claim, read, deliver, and record attempt, state and receipt in one transaction.

One delivery in flight per share (the claim), one batch at a time per lane: a lane is one record system, so a dead one delays
nobody else. While a batch is with the record system the lane's next is claimed and read, and waits its turn. No connection is
held while a peer is called. The lease outlives the hard deadline, so a claim that is taken over has nothing in flight any
more; a dispatcher that lost its lease writes nothing.
"""

import asyncio
import functools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import structlog

from schemas.documents import ReadAnswer, ReadOutcome, Rendering
from schemas.receipts import Status
from services.shared.clock import Clock, utc_now
from services.shared.delivery import states, store, store_pauses, store_unanswered
from services.shared.delivery.breaker import Breaker
from services.shared.delivery.council import (
    BadRenderingError,
    Council,
    CouncilAwayError,
    Proofs,
    Proved,
    content_of,
    prove,
)
from services.shared.delivery.receipts import Draft, Receipts
from services.shared.delivery.store import Claimed, Result
from services.shared.ids import new_id
from services.shared.postgres.pool import transient
from services.shared.record_systems.port import (
    Awaiting,
    Collected,
    Content,
    Filed,
    Outcome,
    Recall,
    RecallOutcome,
    Recipient,
    RecordSystem,
    Refused,
    Removed,
    Retry,
    Sent,
    Withdrawal,
    Withdrawn,
    WithdrawOutcome,
)
from services.shared.record_systems.systems import Systems
from services.shared.waking import woken

log = structlog.get_logger()

PER_LANE = 100
HARD_DEADLINE_SECONDS = 90
"""For one batch, below the lease of ``store.LEASE_SECONDS``."""
AnyOutcome = Outcome | WithdrawOutcome | RecallOutcome
T = TypeVar("T", Content, Withdrawal, Recall)
Out = TypeVar("Out", Outcome, WithdrawOutcome, RecallOutcome)


@dataclass(frozen=True, slots=True)
class Conflict:
    """What is here is not what the council wants under this ``seq``: it must want again, higher."""

    reason: str = "the council wants a lower seq than is here"


@dataclass(frozen=True, slots=True)
class StillThere:
    """The right version is held; what had to go is gone now (``removed``), or still is not."""

    removal: "RecallOutcome"


class Restricted:
    """The council holds the plan back until a named person lifts that. No failure: it is asked for again, without noise."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The recipient's operator wants nothing delivered for a while. Removals are not held up by that."""

    reason: str


BY_ITSELF = "the subscriber itself"
"""Who paused a recipient whose record system wants nothing any more."""


class Answer(Enum):
    """Whether anybody answered."""

    NOT_ASKED = auto()
    SILENCE = auto()
    ANSWERED = auto()
    BACK = auto()
    """It answers again: what waited for that is tried now."""


@dataclass(slots=True)
class _Claim:
    """One batch of one lane."""

    claim_id: UUID
    leased_until: float
    """By the event loop's clock, taken before the database began the lease."""
    began: datetime
    """The attempt: when the record system was called, until then when it was claimed."""
    lane: str = ""
    pauses: Mapping[str, Paused] = field(default_factory=dict)
    """By recipient."""
    ahead: bool = True
    """Its turn has not come, or it is not all read: no further batch of the lane is claimed."""


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class Dispatcher:
    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        council: Council,
        systems: Systems,
        receipts: Receipts,
        instance: str,
        clock: Clock = utc_now,
    ) -> None:
        self._pool = pool
        self._council = council
        self._systems = systems
        self._receipts = receipts
        self._instance = instance
        self._clock = clock
        self._wake = asyncio.Event()
        self._batches: set[asyncio.Task[None]] = set()
        self._ahead: set[str] = set()
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """By lane: whose turn it is at the record system, first come, first served."""
        self._breakers: dict[str, Breaker] = defaultdict(Breaker)
        self._paced: dict[str, float] = {}
        """By lane: until when it has had as much as it takes, by the event loop's clock."""

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled; raises when the database fails, to be started again."""
        await self._settle()
        async with self._pool.acquire() as connection:
            await store.release(connection, self._instance)
        while True:
            self._wake.clear()
            if not await self._claim_and_start():
                await woken(self._wake, await self._until_next())

    async def _settle(self) -> None:
        """Let batches of an earlier, failed run come to their end before their claims are given back."""
        if self._batches:
            await asyncio.wait(self._batches)

    async def _claim_and_start(self) -> bool:
        claim = _Claim(new_id(), _loop_time() + store.LEASE_SECONDS, self._clock())
        async with self._pool.acquire() as connection:
            claimed = await store.claim(
                connection,
                claim.claim_id,
                self._instance,
                self._busy(),
                PER_LANE,
                self._systems.at_once(PER_LANE),
                self._resting(),
            )
            if claimed:
                claim.pauses = {row["recipient"]: Paused(_said(row)) for row in await store_pauses.paused(connection)}
        lanes: dict[str, list[Claimed]] = {}
        for each in claimed:
            lanes.setdefault(each.lane, []).append(each)
        for lane, batch in lanes.items():
            of_lane = replace(claim, lane=lane)
            task = asyncio.create_task(self._deliver(batch, of_lane), name=f"lane:{lane}")
            self._ahead.add(lane)
            if seconds := self._systems.seconds_each(lane):
                self._paced[lane] = max(_loop_time(), self._paced.get(lane, 0.0)) + seconds * len(batch)
            self._batches.add(task)
            task.add_done_callback(functools.partial(self._delivered, of_lane))
        return bool(claimed)

    def _delivered(self, claim: _Claim, task: "asyncio.Task[None]") -> None:
        self._batches.discard(task)
        self._let_next(claim)
        self.wake()
        if not task.cancelled() and (error := task.exception()) is not None:
            # The claim runs out by itself and the batch is delivered again; say why it did not end.
            log.error("batch_not_recorded", lane=claim.lane, reason=type(error).__name__, exc_info=error)

    def _let_next(self, claim: _Claim) -> None:
        """The lane's next batch may be claimed."""
        if claim.ahead:
            claim.ahead = False
            self._ahead.discard(claim.lane)
            self.wake()

    def _busy(self) -> list[str]:
        """Lanes that nothing is claimed for: a batch is ahead, or it has had its measure."""
        now = _loop_time()
        return [*self._ahead, *(lane for lane, until in self._paced.items() if until > now)]

    def _resting(self) -> list[str]:
        """Lanes where nobody answered just now."""
        now = _loop_time()
        return [lane for lane, each in self._breakers.items() if each.rests(now)]

    async def _until_next(self) -> float:
        async with self._pool.acquire() as connection:
            due = await store.next_due(connection, [*self._busy(), *self._resting()])
        if due is None:
            return 1.0
        return min(max((due - self._clock()).total_seconds(), 0.02), 1.0)

    async def _deliver(self, batch: list[Claimed], claim: _Claim) -> None:
        system = self._systems.system(claim.lane)
        batch = await self._remove(system, batch, claim)
        batch = await self._leave_paused(batch, claim)
        if withdrawals := [each for each in batch if each.action == states.Action.WITHDRAW]:
            await self._withdraw(system, withdrawals, claim)
        holds = await self._move([each for each in batch if each.action == states.Action.HOLD], claim)
        while holds:
            holds = await self._hold(system, holds, claim)

    async def _hold(self, system: RecordSystem | None, batch: list[Claimed], claim: _Claim) -> list[Claimed]:
        """Deliver what one answer of the document API holds; returns the rest."""
        try:
            answers = await self._council.read([(each.share_id, each.seq) for each in batch])
        except CouncilAwayError as error:
            away = Retry(str(error), away=True)
            await self._finish(claim, [(each, away, None) for each in batch], said=[away], place=store_unanswered.COUNCIL)
            return []
        outcomes: list[tuple[Claimed, AnyOutcome | Conflict | Restricted | Paused, str | None]] = []
        contents: list[tuple[Claimed, Content]] = []
        proofs = Proofs()
        for each in batch:
            if (answer := answers.get(each.share_id)) is not None:
                judged = _judge(each, answer, proofs)
                if isinstance(judged, Content):
                    contents.append((each, judged))
                else:
                    outcomes.append((each, judged, None))
        rest = [each for each in batch if each.share_id not in answers]
        done = await self._in_turn(system.deliver if system else None, contents, claim, last=not rest)
        paused = await self._paused_by_itself([out for _, out in done], claim)
        outcomes += [(each, _put_off(out, paused), content.sha256) for (each, content), out in done]
        await self._finish(claim, outcomes, said=[out for _, out in done], council_answered=True)
        return rest

    async def _withdraw(self, system: RecordSystem | None, batch: list[Claimed], claim: _Claim) -> None:
        """Also where nothing is known to be held: a copy may be there that a crash kept us from recording."""
        marks = [(each, _withdrawal(each)) for each in batch]
        done = await self._in_turn(system.withdraw if system else None, marks, claim, last=False)
        paused = await self._paused_by_itself([out for _, out in done], claim)
        await self._finish(
            claim, [(each, _put_off(out, paused), None) for (each, _), out in done], said=[out for _, out in done]
        )

    async def _paused_by_itself(self, said: Sequence[AnyOutcome], claim: _Claim) -> Paused | None:
        """A record system that wants nothing any more is left alone, also by the next process: only a person knows where its
        recipients take plans now. Written before the outcomes are: a crash between the two leaves the pause."""
        gone = next((each for each in said if isinstance(each, Refused) and each.disabled), None)
        if gone is None:
            return None
        async with self._pool.acquire() as connection, connection.transaction():
            recipients = await store_pauses.pause_lane(connection, claim.lane, gone.reason, BY_ITSELF)
        if recipients:
            log.error("record_system_disabled", lane=claim.lane, reason=gone.reason, recipients=len(recipients))
        return Paused(f"paused by {BY_ITSELF}: {gone.reason}")

    async def _remove(self, system: RecordSystem | None, batch: list[Claimed], claim: _Claim) -> list[Claimed]:
        """What must not be there goes first; returns what is left to do.

        Where only people can remove it, or the record system will not, the right version does not wait for them: it is
        delivered, and the share satisfied only once the removal is proved too. Where nobody answers, neither could be done.
        """
        doomed = [each for each in batch if each.instruction["remove"] and each.removed_seq != each.seq]
        if not doomed:
            return batch
        recalls = [(each, _recall(each)) for each in doomed]
        removed = await self._in_turn(system.recall if system else None, recalls, claim, last=False)
        done = [((each, recall), await self._remove_before(each, recall, out, claim)) for (each, recall), out in removed]
        onwards: list[Claimed] = [each for each in batch if each not in doomed]
        ended: list[tuple[Claimed, AnyOutcome | StillThere, str | None]] = []
        for (each, _), out in done:
            if each.action == states.Action.HOLD and states.holds_now(Status(each.state), each.held_seq, each.seq):
                ended.append((each, StillThere(out), each.held_sha256))
            elif isinstance(out, Removed) and each.action != states.Action.RECALL:
                onwards.append(replace(each, removed_seq=each.seq, removal=out))
            elif each.action == states.Action.HOLD and not (isinstance(out, Retry) and out.away):
                onwards.append(replace(each, removal=out))
            else:
                ended.append((each, out, None))
        await self._finish(claim, ended, said=[out for _, out in removed])
        return onwards

    async def _remove_before(
        self, each: Claimed, recall: Recall, here: RecallOutcome | Retry, claim: _Claim
    ) -> RecallOutcome | Retry:
        """It goes from wherever this share was held before too, whatever is said here; removed is what is gone from all."""
        said: list[RecallOutcome | Retry] = [here]
        for lane in each.former_lanes:
            system = self._systems.system(lane)
            if system is None:
                said.append(Awaiting(f"a copy may lie in {lane}, which this subscriber has no longer"))
                continue
            for _, before in await self._call(system.recall, [(each, replace(recall, record=None))], claim):
                match before:
                    case Removed():
                        said.append(Removed(f"{lane}: {before.record}"))
                    case Retry():  # it says nothing of the record system that serves it now
                        said.append(replace(before, away=False))
                    case _:
                        said.append(before)
        # What is to be tried again goes before what people must do: they are asked all the same.
        for kind in (Retry, Refused, Awaiting):
            if (first := next((out for out in said if isinstance(out, kind)), None)) is not None:
                return first
        return Removed("; ".join(out.record for out in said if isinstance(out, Removed)))

    async def _move(self, batch: list[Claimed], claim: _Claim) -> list[Claimed]:
        """Nothing is put into a record system that does not serve its recipient, or not any more; returns the rest.

        What must be removed lies where it was held, so it goes before its share moves on.
        """
        stay: list[Claimed] = []
        moved: list[tuple[Claimed, str]] = []
        ended: list[tuple[Claimed, AnyOutcome, str | None]] = []
        for each in batch:
            recipient = _recipient(each)
            lane = self._systems.lane_of(str(recipient))
            if lane == claim.lane:
                stay.append(each)
            elif lane is None:
                ended.append((each, Refused(f"this subscriber has no record system for {recipient}"), None))
            elif each.removal is not None and not isinstance(each.removal, Removed):
                ended.append((each, Retry(f"{lane} serves it now; it waits for what must be removed here"), None))
            else:
                moved.append((each, lane))
        if moved:
            by_hand = [lane for _, lane in moved if self._systems.is_manual(lane)]
            async with self._pool.acquire() as connection, connection.transaction():
                done = await store.move(connection, claim.claim_id, moved, by_hand)
                waiting = [
                    Draft(each.share_id, each.seq, Status.WAITING, UUID(each.instruction["version_id"]))
                    for each, lane in moved if each.share_id in done and lane in by_hand
                ]  # fmt: skip
                await self._receipts.write(connection, waiting)
            log.info("recipients_moved", lane=claim.lane, shares=len(done))
            self.wake()
        if ended:
            await self._finish(claim, ended)
        return stay

    async def _leave_paused(self, batch: list[Claimed], claim: _Claim) -> list[Claimed]:
        """Put off what is for a recipient that is paused, and tell the council; returns the rest."""
        put_off = [(each, paused) for each in batch if (paused := claim.pauses.get(str(_recipient(each))))]
        if not put_off:
            return batch
        await self._finish(claim, [(each, paused, None) for each, paused in put_off])
        if claim.lane in self._paced:  # the record system got none of them: others of the lane need not wait for that
            self._paced[claim.lane] -= self._systems.seconds_each(claim.lane) * len(put_off)
            self.wake()
        return [each for each in batch if str(_recipient(each)) not in claim.pauses]

    async def _in_turn(
        self,
        call: Callable[[Sequence[T]], Awaitable[Sequence[Out]]] | None,
        batch: Sequence[tuple[Claimed, T]],
        claim: _Claim,
        *,
        last: bool,
    ) -> list[tuple[tuple[Claimed, T], Out | Retry]]:
        """As :meth:`_call`, when the lane's earlier batch has left the record system. ``last``: of this batch."""
        async with self._turns[claim.lane]:
            claim.began = self._clock()
            if last:
                self._let_next(claim)
            return await self._call(call, batch, claim)

    async def _call(
        self,
        call: Callable[[Sequence[T]], Awaitable[Sequence[Out]]] | None,
        batch: Sequence[tuple[Claimed, T]],
        claim: _Claim,
    ) -> list[tuple[tuple[Claimed, T], Out | Retry]]:
        """One outcome for each; those that another process has taken over meanwhile are left out."""
        if call is None:
            return [(each, Retry("the record system of this lane is not configured")) for each in batch]
        if _loop_time() + HARD_DEADLINE_SECONDS > claim.leased_until:
            ours = await self._renewed(claim)
            batch = [each for each in batch if each[0].share_id in ours]
        if not batch:
            return []
        try:
            async with asyncio.timeout(HARD_DEADLINE_SECONDS):
                done: Sequence[Out | Retry] = await call([item for _, item in batch])
        except TimeoutError:
            done = [Retry(f"the record system took longer than {HARD_DEADLINE_SECONDS} s", away=True)] * len(batch)
        except Exception as error:
            if transient(error):
                log.warning("record_system_away", reason=type(error).__name__)
                done = [Retry(f"the record system is away ({type(error).__name__})", away=True)] * len(batch)
            elif len(batch) > 1:  # one that breaks the adapter must not hold up the others
                return [outcome for each in batch for outcome in await self._call(call, [each], claim)]
            else:
                log.exception("record_system_failed", share_id=str(batch[0][0].share_id))
                done = [Retry(f"the adapter failed ({type(error).__name__})")]
        return list(zip(batch, done, strict=True))

    async def _renewed(self, claim: _Claim) -> set[UUID]:
        """A call that begins now must end within the lease, or two could be in flight for one share."""
        leased_until = _loop_time() + store.LEASE_SECONDS
        async with self._pool.acquire() as connection:
            ours = await store.renew(connection, claim.claim_id)
        claim.leased_until = leased_until
        return ours

    async def _finish(
        self,
        claim: _Claim,
        outcomes: Sequence[tuple[Claimed, AnyOutcome | Conflict | Restricted | Paused | StillThere, str | None]],
        *,
        said: Sequence[AnyOutcome] = (),
        place: str | None = None,
        council_answered: bool = False,
    ) -> None:
        """Write it, and go on trying while the database is away: what was filed must not wait for the lease to run out.

        ``said``: of ``outcomes``, what came of asking at ``place``, the record system where it is not another.
        """
        now = self._clock()
        results, drafts = [], []
        for each, outcome, sha in outcomes:
            result, draft = record(each, outcome, sha, now)
            results.append(result)
            drafts.append(draft)
        answer = self._answers(claim.lane, said)
        put_off = {each.share_id: str(_recipient(each)) for each, outcome, _ in outcomes if isinstance(outcome, Paused)}
        wait = 0.1
        while True:
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    still = await store_pauses.still_paused(connection, set(put_off.values())) if put_off else set[str]()
                    resumed = {share_id for share_id, code in put_off.items() if code not in still}
                    written = [
                        replace(each, paused=False, next_attempt_at=now) if each.share_id in resumed else each
                        for each in results
                    ]
                    mine = await store.finish(connection, claim.claim_id, claim.began, written) - resumed
                    if answer is Answer.BACK and (again := await store.hasten_lane(connection, claim.lane)):
                        log.info("record_system_back", lane=claim.lane, tried_again=again)
                    await self._note(connection, claim.lane if place is None else place, answer, said, council_answered)
                    await self._receipts.write(connection, [draft for draft in drafts if draft.share_id in mine])
                    # Evidence that came meanwhile could not know what this attempt removed.
                    late = {each.share_id for each in written if each.removal} - mine
                    await self._receipts.say_removed(connection, sorted(late))
                return
            except Exception as error:
                if not transient(error) or self._clock() - now > timedelta(seconds=store.LEASE_SECONDS):
                    raise
                await asyncio.sleep(wait)
                wait = min(wait * 2, 2)

    @staticmethod
    async def _note(connection: Any, place: str, answer: "Answer", said: Sequence[AnyOutcome], council_answered: bool) -> None:
        if answer is Answer.SILENCE:
            await store_unanswered.note(connection, place, next(each.reason for each in said if isinstance(each, Retry)))
        heard = [place] if answer in (Answer.ANSWERED, Answer.BACK) else []
        if council_answered:
            heard.append(store_unanswered.COUNCIL)
        if heard:
            await store_unanswered.forget(connection, heard)

    def _answers(self, lane: str, said: Sequence[AnyOutcome]) -> "Answer":
        """Learn from what was ``said`` to a batch whether anybody answers there."""
        if not said:
            return Answer.NOT_ASKED
        silent = [each for each in said if isinstance(each, Retry) and each.away]
        # An adapter may refuse by itself what nobody need be asked about: beside silence that is no answer.
        refused = [each for each in said if isinstance(each, Refused)] if silent else []
        if len(silent) + len(refused) < len(said):
            return Answer.BACK if self._breakers[lane].answered() else Answer.ANSWERED
        rest = self._breakers[lane].nobody_answered(_loop_time(), max(each.after or 0.0 for each in silent))
        log.warning("record_system_left_alone", lane=lane, seconds=round(rest), reason=silent[0].reason)
        return Answer.SILENCE


def _judge(
    each: Claimed, answer: ReadAnswer, prove: Callable[[Rendering], Proved] = prove
) -> Content | Retry | Refused | Conflict | Restricted:
    match answer.outcome:
        case ReadOutcome.OK if (rendering := answer.rendering) is not None:
            who, named = rendering.recipient, each.instruction["recipient"]
            if (who.kind, who.scheme, who.value) != (named["kind"], named["scheme"], named["value"]):
                # Nothing but the instruction says whose record system this lane is.
                return Conflict("the council wants this for another recipient than the instruction names")
            try:
                return content_of(rendering, each.share_id, each.seq, each.instruction["sha256"], _replaces(each), prove)
            except BadRenderingError as error:
                return Retry(str(error))
        case ReadOutcome.OK:
            return Retry("the document API's answer for this share cannot be read")
        case ReadOutcome.STALE if (answer.current_seq or 0) < each.seq:
            return Conflict()
        case ReadOutcome.STALE | ReadOutcome.WITHDRAWN:
            return Retry("a newer instruction is on its way")
        case ReadOutcome.HELD:
            return Restricted()
        case _:
            return Refused("the council does not know this share")


def _replaces(each: Claimed) -> UUID | None:
    """The version held so far; not one that was removed, and none for a notice, which stands for itself."""
    if each.instruction.get("notice") or str(each.held_version_id) in each.instruction["remove"]:
        return None
    return each.held_version_id


def record(
    each: Claimed, outcome: AnyOutcome | Conflict | Restricted | Paused | StillThere, sha256: str | None, now: datetime
) -> tuple[Result, Draft]:
    """What an outcome leaves in the books, and what it says to the council. Pure."""
    version = UUID(each.instruction["version_id"]) if each.action == states.Action.HOLD else each.held_version_id
    held_version = None if isinstance(outcome, Removed) else version
    removal = outcome.removal if isinstance(outcome, StillThere) else each.removal
    if isinstance(outcome, Awaiting):
        removal = outcome
    if each.action == states.Action.RECALL:
        version = UUID(each.instruction["remove"][0])
    where = outcome.record if isinstance(outcome, Filed | Collected | Sent | Withdrawn | Removed) else None
    held = isinstance(outcome, Filed | Collected | Sent | Withdrawn | Removed)
    proof = outcome.sha256 if isinstance(outcome, Filed) else sha256
    reason: str | None
    match outcome:
        case Conflict():
            status, reason = Status.CONFLICT, outcome.reason
        case Restricted():
            status, reason = Status.WAITING, "the plan is restricted at the council"
        case Paused():
            status, reason = Status.WAITING, outcome.reason
        case StillThere():
            status, reason, where = Status(each.state), None, each.held_record
        case _:
            status = states.status_of(outcome)
            reason = outcome.reason if isinstance(outcome, Retry | Refused) else None
    if isinstance(outcome, Filed) and outcome.warning:
        reason = outcome.warning
    if reason is None and removal is not None and not isinstance(removal, Removed):
        why = removal.record if isinstance(removal, Awaiting) else removal.reason
        reason = f"what was recalled is still there: {why}"
    next_try = None
    waits = outcome if isinstance(outcome, Retry | Restricted) else removal
    if isinstance(waits, Retry | Restricted) and not isinstance(outcome, Paused):
        asked = waits.after if isinstance(waits, Retry) else None
        next_try = now + timedelta(seconds=states.back_off(each.attempts + 1, asked))
    result = Result(
        each.share_id, each.seq, status, reason, where or None, held, held_version, proof if held else None, next_try,
        removed=any(isinstance(each, Removed) for each in (outcome, removal)) or each.removed_seq == each.seq,
        removal=next((each.record for each in (outcome, removal) if isinstance(each, Removed)), None),
        away=isinstance(outcome, Retry) and outcome.away, paused=isinstance(outcome, Paused),
    )  # fmt: skip
    draft = Draft(
        each.share_id, each.seq, status, version, proof if held or isinstance(outcome, StillThere) else None,
        where or None, reason, next_try,
        each.attempts if isinstance(outcome, Paused) else each.attempts + 1,
    )  # fmt: skip
    return result, draft


def _withdrawal(each: Claimed) -> Withdrawal:
    return Withdrawal(each.share_id, each.seq, UUID(each.instruction["plan_id"]), _recipient(each))


def _recall(each: Claimed) -> Recall:
    versions = tuple(UUID(version) for version in each.instruction["remove"])
    record = each.held_record if each.held_version_id in versions else None
    return Recall(each.share_id, each.seq, UUID(each.instruction["plan_id"]), _recipient(each), versions, record)


def _put_off(outcome: Out, paused: Paused | None) -> Out | Paused:
    return paused if paused and isinstance(outcome, Refused) and outcome.disabled else outcome


def _said(pause: Any) -> str:
    return f"paused by {pause['paused_by']} since {pause['paused_at']:%Y-%m-%d %H:%M} UTC: {pause['reason']}"


def _recipient(each: Claimed) -> Recipient:
    code = each.instruction["recipient"]
    return Recipient(code["kind"], code["scheme"], code["value"], "")
