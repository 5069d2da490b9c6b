"""A notice, ready to be written: its text, document and attachments sealed before the transaction that sends it.

Invariant: a notice is immutable, so its one rendering is the whole of it, and its manifest names every byte. Next: ``events``
writes it and works out who is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from schemas.lifecycle import LeftOut, Told
from schemas.manifest import Manifest, canonical, sha256
from schemas.notices import Notice
from services.ehcp_publisher import store, store_events
from services.ehcp_publisher.documents import Received
from services.ehcp_publisher.registry import Directory, person_id
from services.ehcp_publisher.shares import Wanted
from services.ehcp_publisher.store import ALL_SECTIONS, KnownPlan, NewRendering
from services.ehcp_publisher.store_events import NewNotice
from services.ehcp_publisher.wishes import Thing
from services.shared.ids import new_id
from services.shared.postgres.pool import Row
from services.shared.sealing.sealing import Key
from services.shared.web.problems import FieldError, Problem


@dataclass(frozen=True, slots=True)
class Sealed:
    notice: NewNotice
    rendering: NewRendering
    attachments: tuple[bytes, ...]
    thing: Thing
    """What its recipients are to hold."""

    async def write(self, connection: Any, left_out: tuple[Row, ...], waiting: tuple[UUID, ...]) -> None:
        await store_events.insert_notice(connection, replace(self.notice, left_out=left_out, waiting=waiting))
        await store.insert_renderings(connection, [self.rendering])
        owner, la_code = self.notice.notice_id, self.notice.la_code
        rows = [(owner, place, la_code, data) for place, data in enumerate(self.attachments)]
        await store.insert_attachments(connection, rows)


def stored(row: Row, notice_id: UUID, key: Key) -> tuple[Notice, Thing]:
    """A notice that was written before, opened, and what its recipients are to hold."""
    notice = Notice.model_validate_json(key.open(row["body"], f"notice:{notice_id}"))
    thing = Thing(notice_id, row["rendering_id"], row["sha256"], 1, row["happened_on"], notice=notice.kind)
    return notice, thing


def seal(plan: KnownPlan, key: Key, notice: Notice, document: Received | None, attachments: Sequence[Received]) -> Sealed:
    notice_id, rendering_id = new_id(), new_id()
    name = f"{plan.case_reference}-{notice.kind}.pdf".replace("/", "-")
    entry = document and document.entry(name)
    entries = tuple(each.entry() for each in attachments)
    manifest = Manifest(
        plan_id=plan.plan_id, version_id=notice_id, issued_on=notice.happened_on, notice=notice.hash(), document=entry,
        attachments=entries,
    ).canonical()  # fmt: skip
    body = canonical(notice.model_dump(mode="json", exclude_none=True))
    row = NewNotice(
        notice_id, plan.plan_id, plan.la_code, notice.kind, notice.happened_on, key.seal(body, f"notice:{notice_id}")
    )
    rendering = NewRendering(
        rendering_id, None, notice_id, plan.la_code, ALL_SECTIONS, sha256(manifest), manifest,
        key.seal(document.data, f"document:{rendering_id}") if document else None,
        len(body) + sum(each.size for each in entries) + (entry.size if entry else 0), plan.identity_revision, typeset=False,
    )  # fmt: skip
    files = tuple(key.seal(each.data, f"attachment:{notice_id}:{place}") for place, each in enumerate(attachments))
    thing = Thing(notice_id, rendering_id, rendering.sha256, 1, notice.happened_on, notice=notice.kind)
    return Sealed(row, rendering, files, thing)


def left_out(plan_id: UUID, event: Told, told: Sequence[Wanted], directory: Directory) -> tuple[Row, ...]:
    """Of those who would be told, whom the event leaves out: id, name and the reason. Raises :class:`Problem` where it names
    somebody who would not be told anyway: with a mistyped code the notice would go to the very one who must not have it."""
    found: dict[UUID, str] = {}
    for place, each in enumerate(event.not_to):
        meant = [wanted.recipient for wanted in told if _is_meant(plan_id, each, wanted, directory)]
        if not meant:
            raise Problem(
                422, "not-told", "Somebody is left out who would not be told", "Nothing was recorded, and nobody was told.",
                [FieldError(f"event/not_to/{place}", "nobody who is told of this has this reference or code",
                            f"one of: {', '.join(_as_named(wanted) for wanted in told)}" if told else "nobody is told of it")],
            )  # fmt: skip
        found |= {recipient.recipient_id: recipient.name for recipient in meant}
    return tuple({"recipient_id": str(key), "who": who, "reason": event.not_to_reason} for key, who in found.items())


def _is_meant(plan_id: UUID, each: LeftOut, wanted: Wanted, directory: Directory) -> bool:
    recipient, code = wanted.recipient, each.organisation
    if code is None:
        return recipient.recipient_id == person_id(plan_id, each.member or "")
    # Whichever of its codes is said.
    listed = {known.recipient_id for known in directory.with_code(code.scheme, code.value)}
    return recipient.recipient_id in listed or (recipient.scheme, recipient.value) == (code.scheme, code.value)


def _as_named(wanted: Wanted) -> str:
    return wanted.member.reference if wanted.member else f"{wanted.recipient.scheme}:{wanted.recipient.value}"
