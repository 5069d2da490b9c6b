"""Change the directory and the sharing policies, by the interface or by the registry file.

Invariant: what is judged, written and queued goes together in one transaction that holds the directory alone, so two changes
never overlook each other, and every plan that a change touches is decided again. Every change is an act.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import structlog

from schemas.base import Channel
from schemas.directory import DatedCode, DirectoryRecipient
from schemas.manifest import sha256
from schemas.policy import SharingPolicy
from services.ehcp_publisher import policy as policies
from services.ehcp_publisher import store, store_directory
from services.ehcp_publisher.registry import Directory, Listed, ListedCode, Registry, RegistryError, listed
from services.ehcp_publisher.store import Act
from services.ehcp_publisher.store_events import queue_plans
from services.shared.clock import Clock, utc_now
from services.shared.identity.tokens import Caller
from services.shared.postgres.pool import council_transaction, transient
from services.shared.web.problems import FieldError, Problem

log = structlog.get_logger()
CHUNK = 500
"""Organisations written in one transaction; whoever decides shares waits that long at most."""
REGISTRY_FILE = "registry-file"
LONDON = ZoneInfo("Europe/London")
LOOK_SECONDS = 1.0


@dataclass(slots=True)
class _Chunk:
    """Lines that go into one transaction: no two of them about the same code, so that each is judged by what is committed."""

    lines: dict[int, DirectoryRecipient] = field(default_factory=dict)
    codes: set[tuple[str, str, str]] = field(default_factory=set)

    def takes(self, recipient: DirectoryRecipient) -> bool:
        return len(self.lines) < CHUNK and self.codes.isdisjoint(_places(recipient))

    def add(self, place: int, recipient: DirectoryRecipient) -> None:
        self.lines[place] = recipient
        self.codes |= _places(recipient)


class DirectoryChanges:
    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", councils: Sequence[str], directory: Directory, clock: Clock = utc_now
    ) -> None:
        self._pool = pool
        self._councils = councils
        self._directory = directory
        self._clock = clock

    def today(self) -> date:
        return self._clock().astimezone(LONDON).date()

    async def keep_up(self) -> None:
        """Endless: bring the directory in memory up to date, so that whoever decides rarely has to."""
        while True:
            await self.refresh()
            await asyncio.sleep(LOOK_SECONDS)

    async def refresh(self) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await store_directory.refresh(connection, self._directory)

    async def put(
        self, caller: Caller, recipients: Sequence[DirectoryRecipient | Problem], *, keep_delivery: bool = False
    ) -> list[dict[str, Any] | Problem]:
        """Add or replace organisations; one result for each, in order.

        ``keep_delivery``: they come from a register, which knows names, codes and dates; how a listed organisation is reached
        and whom it serves stays as it is.
        """
        results: dict[int, dict[str, Any] | Problem] = {}
        chunk = _Chunk()
        for place, recipient in enumerate(recipients):
            if isinstance(recipient, Problem):
                results[place] = recipient
                continue
            if not chunk.takes(recipient):
                results |= await self._put_chunk(caller, chunk, keep_delivery)
                chunk = _Chunk()
            chunk.add(place, recipient)
        results |= await self._put_chunk(caller, chunk, keep_delivery)
        await self.refresh()
        return [results[place] for place in range(len(recipients))]

    async def _put_chunk(self, caller: Caller, chunk: _Chunk, keep_delivery: bool) -> dict[int, dict[str, Any] | Problem]:
        try:
            async with council_transaction(self._pool, self._councils) as connection:
                revision = await store_directory.hold_alone(connection, self._directory)
                subscribers = await store_directory.subscribers(connection)
                results: dict[int, dict[str, Any] | Problem] = {}
                changes: list[_Change] = []
                kept = await self._delivery(connection, chunk) if keep_delivery else {}
                for place, sent in chunk.lines.items():
                    recipient = sent.model_copy(update=kept.get(place, {}))
                    change = _Change(recipient, listed(recipient), self._directory.get(listed(recipient).recipient_id))
                    problem = refusal(change.now, recipient, self._directory, subscribers)
                    results[place] = problem or {"result": change.result, "recipient_id": change.now.recipient_id}
                    if problem is None and change.result != "unchanged":
                        changes.append(change)
                await self._write(connection, caller.client_id, revision, changes, file=False)
                return results
        except Exception as error:
            if transient(error):
                raise
            log.exception("directory_not_changed", lines=len(chunk.lines))
            failed = Problem(500, "internal", "This line could not be stored", "Nothing of it was kept; send it again.")
            return dict.fromkeys(chunk.lines, failed)

    async def _delivery(self, connection: Any, chunk: _Chunk) -> dict[int, dict[str, Any]]:
        ids = {place: listed(recipient).recipient_id for place, recipient in chunk.lines.items()}
        found = await store_directory.delivery_of(connection, list(ids.values()))
        return {
            place: found[each] | {"channel": Channel(found[each]["channel"]), "areas": tuple(found[each]["areas"])}
            for place, each in ids.items()
            if each in found
        }

    async def _write(
        self, connection: Any, actor: str, revision: int, changes: Sequence["_Change"], *, file: bool
    ) -> None:  # fmt: skip
        if not changes:
            return
        # Before the codes are replaced: a share with somebody nobody had registered is found by the code alone.
        codes = sorted({code for each in changes if each.matters for code in each.codes})
        if codes:
            await queue_plans(connection, "directory", codes=codes)
            for la_code in _councils_that_name(self._directory.policies.values(), codes):
                await queue_plans(connection, "directory", la_code=la_code)
        await store_directory.write_recipients(
            connection, revision, {each.now.recipient_id: each.recipient for each in changes},
            {each.now.recipient_id: each.now.hash for each in changes}, file=file,
        )  # fmt: skip
        if elsewhere := [each.now.recipient_id for each in changes if each.before and "areas" in each.what]:
            await store_directory.keep_familiar(connection, revision, None, elsewhere)
        await store_directory.write_revision(connection, revision)
        await store.insert_acts(connection, [each.act(actor) for each in changes])

    async def put_policy(self, caller: Caller, policy: SharingPolicy) -> dict[str, Any]:
        """Raises :class:`Problem`. Every plan of the council is decided again."""
        async with council_transaction(self._pool, self._councils) as connection:
            revision = await store_directory.hold_alone(connection, self._directory)
            if problem := self.refusal_of_policy(policy):
                raise problem
            digest = policy_hash(policy)
            before = await store_directory.find_policy(connection, policy.la_code)
            answer = {"la_code": policy.la_code, "sha256": digest, "off": policy.off(self.today())}
            if before and before["sha256"] == digest:
                return answer | {"result": "unchanged", "revision": before["revision"], "plans_to_decide": 0}
            queued = await self._write_policy(connection, caller.client_id, revision, policy, digest, file=False)
        await self.refresh()
        return answer | {"result": "applied", "revision": revision, "plans_to_decide": queued}

    async def _write_policy(
        self, connection: Any, actor: str, revision: int, policy: SharingPolicy, digest: str, *, file: bool
    ) -> int:
        await store_directory.write_policy(connection, revision, policy, digest, actor, file=file)
        await store_directory.keep_familiar(connection, revision, policy.la_code, None)
        await store_directory.write_revision(connection, revision)
        details = {
            "revision": revision, "sha256": digest, "rules": [rule.rule for rule in policy.rules],
            "approval": str(policy.approval) if policy.approval else None,
        }  # fmt: skip
        await store.insert_acts(connection, [Act("policy_applied", actor, policy.la_code, details=details)])
        return await queue_plans(connection, "policy", la_code=policy.la_code)

    def refusal_of_policy(self, policy: SharingPolicy) -> Problem | None:
        """What only the directory can say of it."""
        unknown = [
            FieldError(f"rules/{place}/share_with/organisation", why, "register the organisation first, or correct the code")
            for place, _, why in policies.unknown_organisations(policy, self._directory, self.today())
        ]
        if not unknown:
            return None
        return Problem(
            422, "unknown-organisation", "The policy names an organisation that is not in the directory",
            "Nothing was changed.", unknown,
        )  # fmt: skip

    async def load_file(self, registry: Registry) -> None:
        """Take in what the registry file has new since it was last read: a file that did not change undoes nothing that was
        changed since by the interface. Raises ``RegistryError``."""
        async with council_transaction(self._pool, self._councils) as connection:
            revision = await store_directory.hold_alone(connection, self._directory)
            subscribers = await store_directory.subscribers(connection)
            known = await store_directory.file_hashes(connection)
            changes = []
            for place, recipient in enumerate(registry.recipients):
                now = listed(recipient)
                if known.get(now.recipient_id) == now.hash:
                    continue
                if problem := refusal(now, recipient, self._directory, subscribers):
                    where = f"recipients/{place}/{problem.errors[0].field}"
                    raise RegistryError(f"the registry file is wrong at {where}: {problem.errors[0].problem}")
                changes.append(_Change(recipient, now, self._directory.get(now.recipient_id)))
                self._directory.put(now)
            await self._write(connection, REGISTRY_FILE, revision, changes, file=True)
            for policy in registry.policies:
                digest = policy_hash(policy)
                before = await store_directory.find_policy(connection, policy.la_code, from_file=True)
                if before and before["sha256"] == digest:
                    continue
                if problem := self.refusal_of_policy(policy):
                    error = problem.errors[0]
                    raise RegistryError(f"the policy of {policy.la_code} is wrong at {error.field}: {error.problem}")
                self._directory.policies[policy.la_code] = policy
                await self._write_policy(connection, REGISTRY_FILE, revision, policy, digest, file=True)
        await self.refresh()


@dataclass(frozen=True, slots=True)
class _Change:
    recipient: DirectoryRecipient
    now: Listed
    before: Listed | None

    @property
    def result(self) -> str:
        if self.before is None:
            return "created"
        return "unchanged" if self.before.hash == self.now.hash else "changed"

    @property
    def what(self) -> list[str]:
        names = ("name", "codes", "subscriber", "channel", "areas", "successors")
        return [name for name in names if self.before is None or getattr(self.before, name) != getattr(self.now, name)]

    @property
    def matters(self) -> bool:
        """Whether a share may come, go or move by it."""
        return not {"codes", "subscriber", "channel", "areas"}.isdisjoint(self.what)

    @property
    def codes(self) -> set[str]:
        both = (*self.now.codes, *(self.before.codes if self.before else ()))
        return {f"{code.scheme}:{code.value}" for code in both}

    def act(self, actor: str) -> Act:
        details = {
            "recipient_id": self.now.recipient_id, "kind": self.now.kind, "codes": sorted(self.codes),
            "result": self.result, "what": self.what or ["contact or public key"], "subscriber": self.now.subscriber,
        }  # fmt: skip
        return Act("directory_changed", actor, details=details)


def refusal(now: Listed, recipient: DirectoryRecipient, directory: Directory, subscribers: frozenset[str]) -> Problem | None:
    """What is wrong with an organisation beside the others that are listed."""
    if recipient.subscriber is not None and recipient.subscriber not in subscribers:
        known = ", ".join(sorted(subscribers)) or "none"
        return _refused("subscriber", "no subscriber of this name is registered", f"send one of {known}, or leave it out")
    for place, code in enumerate(recipient.codes):
        for other in directory.with_code(code.scheme, code.value):
            if other.kind is now.kind and other.recipient_id != now.recipient_id:
                for taken in other.codes:
                    if _overlap(code, taken):
                        first = other.codes[0]
                        return _refused(
                            f"codes/{place}",
                            f"{code.scheme}:{code.value} is the code of {other.name} ({first.scheme}:{first.value}) "
                            f"{_period(taken)}",
                            f"end it there before {code.from_}, or correct this one; for the same organisation send "
                            f"{first.scheme}:{first.value} as its first code",
                        )
    return None


def policy_hash(policy: SharingPolicy) -> str:
    return sha256(policy.model_dump_json(by_alias=True, exclude_defaults=True).encode())


def _refused(field: str, problem: str, instead: str) -> Problem:
    return Problem(
        409, "directory-conflict", "The organisation does not fit the directory", f"{field}: {problem}",
        [FieldError(field, problem, instead)],
    )  # fmt: skip


def _overlap(code: DatedCode, taken: ListedCode) -> bool:
    same = (code.scheme, code.value) == (taken.scheme, taken.value)
    return same and code.from_ <= (taken.until or date.max) and taken.from_ <= (code.until or date.max)


def _period(code: ListedCode) -> str:
    return f"from {code.from_} to {code.until}" if code.until else f"from {code.from_}"


def _places(recipient: DirectoryRecipient) -> set[tuple[str, str, str]]:
    return {(recipient.kind, code.scheme, code.value) for code in recipient.codes}


def _councils_that_name(each_policy: Iterable[SharingPolicy], codes: Sequence[str]) -> set[str]:
    """Councils whose policy may lead to one of these organisations without a plan naming it."""
    return {
        policy.la_code
        for policy in each_policy
        for rule in policy.rules
        if (rule.share_with.organisation and str(rule.share_with.organisation) in codes)
        or (rule.share_with.of_council and any(code.startswith("la:") for code in codes))
    }
