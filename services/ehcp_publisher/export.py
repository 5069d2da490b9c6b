"""A plan as one archive, for a council outside this exchange (SEND Regulations 2014 reg 15).

It is in the layout that ``ehcp publish`` takes, with all versions that may leave, and what happened to the plan.

Invariant: the export is an act in the ledger before a byte is sent, under the plan's lock, so that it and a restriction cannot
cross. Nothing is written to a disk here: the archive is made while it is sent, one version at a time.
"""

import io
import re
import zipfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from schemas.export import PLAN_FILE, EarlierCouncil, ExportedEvent, ExportedReview, ExportedVersion, PlanExport, still_in_force
from schemas.lifecycle import PLAN_EVENT, PlanState
from schemas.manifest import Manifest
from schemas.plan import PlanSubmission
from services.ehcp_publisher import store, store_export, versions
from services.ehcp_publisher.deciding import Deciding
from services.ehcp_publisher.overview import Overview, no_such_plan
from services.ehcp_publisher.store import Act, KnownPlan
from services.ehcp_publisher.versions import Issued
from services.shared.identity.tokens import Caller
from services.shared.postgres.pool import Row, council_transaction
from services.shared.web.problems import Problem

_LEAVES = (PlanState.LIVE, PlanState.CEASING, PlanState.TRANSFERRED)
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class _Known:
    """Everything but the versions' texts and files."""

    plan: KnownPlan
    current: Issued
    manifests: dict[UUID, Row]
    events: list[Row]


class Export:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", deciding: Deciding, overview: Overview) -> None:
        self._pool = pool
        self._deciding = deciding
        self._overview = overview

    async def export(self, caller: Caller, plan_id: UUID) -> tuple[str, AsyncIterator[bytes]]:
        """The archive's name and its bytes. Raises :class:`Problem`."""
        history = await self._overview.plan(caller, plan_id)
        known = await self._begin(caller, plan_id)
        name = _NOT_IN_A_NAME.sub("-", known.plan.case_reference)
        return f"{name}.zip", self._archive(known, name, self._described(known, history))

    async def _begin(self, caller: Caller, plan_id: UUID) -> _Known:
        async with council_transaction(self._pool, caller.la_codes) as connection:
            plan = (await store.lock_plans(connection, [plan_id])).get(plan_id)
            if plan is None:
                raise await no_such_plan(connection, plan_id)
            if plan.restricted is not None:
                raise Problem(409, "restricted", "The plan is restricted", "Nothing leaves until a named person lifts it.")
            if waiting := [each for each in plan.versions if each.waits]:
                raise Problem(
                    409, "version-held", "A version of the plan is held",
                    f"Version {waiting[-1].number} waits for a second person: it is released or rejected first.",
                )  # fmt: skip
            current = versions.current(plan.versions)
            if plan.state not in _LEAVES or current is None:
                raise Problem(
                    409, "not-in-this-state", f"The plan is {plan.state}",
                    "A plan that is in force, or was transferred to a council outside this exchange, is exported.",
                )  # fmt: skip
            manifests = await store_export.read_manifests(connection, plan_id)
            events = await store_export.read_events(connection, plan_id)
            await store.insert_acts(connection, [Act("exported", caller.client_id, plan.la_code, plan_id, current.version_id)])
        return _Known(plan, current, manifests, events)

    def _described(self, known: _Known, history: Row) -> PlanExport:
        plan, key = known.plan, self._deciding.key_of(known.plan)
        opened = [
            (row["recorded_at"], key.open(row["data"], f"event:{plan.plan_id}:{row['revision']}")) for row in known.events
        ]
        return PlanExport(
            exported_on=self._deciding.today(), plan_id=plan.plan_id, la_code=plan.la_code, case_reference=plan.case_reference,
            state=plan.state, current=known.current.number,
            versions=tuple(_version(each, known.manifests[each.version_id]["manifest"]) for each in _in_order(plan.versions)),
            events=tuple(ExportedEvent(recorded_at=at, event=PLAN_EVENT.validate_json(data)) for at, data in opened),
            reviews=tuple(ExportedReview.model_validate(row) for row in history["reviews"]),
            earlier_councils=tuple(EarlierCouncil.model_validate(row) for row in history["custody"]),
            warning=still_in_force(plan.la_code, plan.state),
        )  # fmt: skip

    async def _archive(self, known: _Known, folder: str, described: PlanExport) -> AsyncIterator[bytes]:
        out = _Pieces()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{folder}/{PLAN_FILE}", described.model_dump_json(by_alias=True, exclude_none=True, indent=2))
            for version in _in_order(known.plan.versions):
                if not version.may_leave:
                    continue
                submission, document, attachments = await self._read(known, version)
                archive.writestr(f"{folder}/v{version.number}.json", submission)
                yield out.take()
                if document is not None:
                    # What is in a PDF is compressed already.
                    archive.writestr(f"{folder}/v{version.number}.pdf", document, zipfile.ZIP_STORED)
                    yield out.take()
                for place, (name, data) in enumerate(attachments, 1):
                    # Each in a numbered folder: two may have one name, and their order is part of the version.
                    path = f"{folder}/v{version.number}.attachments/{place:02}/{name}"
                    archive.writestr(path, data, zipfile.ZIP_STORED)
                    yield out.take()
        yield out.take()

    async def _read(self, known: _Known, issued: Issued) -> tuple[str, bytes | None, list[tuple[str, bytes]]]:
        """A version's submission and its files, opened."""
        plan, row = known.plan, known.manifests[issued.version_id]
        async with council_transaction(self._pool, [plan.la_code]) as connection:
            body = await store.read_body(connection, issued.version_id)
            sealed = await store_export.read_document(connection, row["rendering_id"])
            attached = (await store.read_attachments(connection, [issued.version_id])).get(issued.version_id, [])
        key = self._deciding.key_of(plan)
        version = self._deciding.version_of(plan, issued.version_id, body)
        if issued == known.current:
            # Shares follow from what arrives: the school that the child has left must not be told again.
            around = self._deciding.circumstances_of(plan, version)
            version = version.model_copy(update=dict(around))
        submission = PlanSubmission(
            la_code=plan.la_code, case_reference=plan.case_reference, child=self._deciding.child_of(plan), version=version
        )
        document = key.open(sealed, f"document:{row['rendering_id']}") if sealed else None
        entries = Manifest.model_validate(row["manifest"]).attachments
        files = [
            (entry.name, key.open(data, f"attachment:{issued.version_id}:{i}"))
            for i, (entry, data) in enumerate(zip(entries, attached, strict=True))
        ]
        return submission.model_dump_json(by_alias=True, exclude_none=True, indent=2), document, files


def _version(issued: Issued, manifest: Row) -> ExportedVersion:
    contained = Manifest.model_validate(manifest)
    return ExportedVersion(
        version_id=issued.version_id, version=issued.number, issued_on=issued.issued_on, recalled=issued.recalled,
        sections=contained.sections, document=contained.document, attachments=contained.attachments,
    )  # fmt: skip


def _in_order(known: Sequence[Issued]) -> list[Issued]:
    return sorted((each for each in known if each.may_leave or each.recalled), key=lambda each: each.number)


class _Pieces(io.RawIOBase):
    """Where the archive is written, and taken from while it grows. Not seekable, so nothing is written twice."""

    def __init__(self) -> None:
        super().__init__()
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken
