"""An inbox as its organisation reads it: the list, an item, its files. Opening one is evidence, and becomes a receipt.

A reader sees its own organisation's inbox only, and each opening is kept with who opened it. Opened means that the text or
the document was fetched, not that it was listed. Access ends with the share, from the moment at which the instruction is here,
before anything else is done about it: what was withdrawn stays in the list and can be read no more (what the organisation took
over into its own records stays under its own rules); what was recalled, or is served from elsewhere now, is not even listed.
"""

import base64
import contextlib
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import orjson
from fastapi import APIRouter, Depends, Query, Response

from schemas.answers import InboxAcknowledged, InboxItem, InboxPage
from schemas.evidence import Acknowledgement
from schemas.receipts import Status
from services.shared.delivery import evidence
from services.shared.delivery.receipts import Draft, Receipts
from services.shared.identity.tokens import Caller, CallerKind, Verifier
from services.shared.json import json_answer
from services.shared.record_systems.inbox import InboxKeys
from services.shared.web.openapi import gives_file, refuses
from services.shared.web.problems import Problem

_GONE = """(i.content IS NULL OR coalesce(d.action IN ('recall', 'release'), false)
             OR coalesce(d.instruction->'remove' ? i.version_id::text, false))"""


def make_inbox_router(
    pool: "asyncpg.Pool[asyncpg.Record]", keys: InboxKeys, receipts: Receipts, verifier: Verifier
) -> APIRouter:
    router = APIRouter(prefix="/v1/inbox")
    CallerOf = Annotated[Caller, Depends(verifier)]

    @router.get("", name="inbox", response_model=InboxPage, summary="What is in the calling organisation's inbox")
    async def listed(caller: CallerOf, after: UUID | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Response:
        caller.must_be(CallerKind.RECIPIENT)
        rows = await pool.fetch(
            "SELECT i.share_id, i.seq, i.plan_id, i.version_id, i.notice, i.arrived_at, i.opened_at, i.opened_by,"
            " i.acknowledged_at, i.acknowledged_by, i.withdrawn_at"
            " FROM delivery.inbox i LEFT JOIN delivery.delivery d USING (share_id)"
            f" WHERE i.recipient = $1 AND ($2::uuid IS NULL OR i.share_id > $2) AND NOT {_GONE} ORDER BY i.share_id LIMIT $3",
            caller.recipient, after, limit,
        )  # fmt: skip
        following = rows[-1]["share_id"] if len(rows) == limit else None
        return json_answer({"items": [dict(row) for row in rows], "next": following}, private=True)

    ended: dict[int | str, Any] = {
        410: refuses("It was taken back, is elsewhere now, or is no longer shared with this organisation.")
    }

    @router.get("/{share_id}", response_model=InboxItem, responses=ended, summary="Read one item: this opens it")
    async def item(share_id: UUID, caller: CallerOf) -> Response:
        content = await _open(share_id, caller)
        for file in content["files"]:
            del file["data"]
        return json_answer(content | {"share_id": share_id}, private=True)

    @router.get(
        "/{share_id}/files/{position}", summary="Read one file of an item: this opens it", response_class=Response,
        responses=ended | {200: {"description": "The file, in its own media type.", "content": gives_file()}},
    )  # fmt: skip
    async def file(share_id: UUID, position: int, caller: CallerOf) -> Response:
        files = (await _open(share_id, caller))["files"]
        if not 0 <= position < len(files):
            raise Problem(404, "no-file", "There is no such file", f"This item has {len(files)} files, from 0.")
        headers = {"Content-Disposition": "inline", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(base64.b64decode(files[position]["data"]), 200, headers, files[position]["media_type"])

    not_now: dict[int | str, Any] = ended | {
        409: refuses("`not-opened`: nobody has opened this version. `newer-version`: another one is here now.")
    }

    @router.post(
        "/{share_id}/acknowledged",
        response_model=InboxAcknowledged,
        responses=not_now,
        summary="A named person states that this version was read; the council is told",
    )
    async def acknowledged(share_id: UUID, statement: Acknowledgement, caller: CallerOf) -> Response:
        async with pool.acquire() as connection, connection.transaction():
            row = await _item(connection, share_id, caller)
            if statement.seq != row["seq"]:
                raise Problem(
                    409, "newer-version", "Another version is here now", f"Open it; it is the one of seq {row['seq']}."
                )
            if row["opened_at"] is None:
                raise Problem(409, "not-opened", "Nobody has opened this version", "Open it first: what was not read is not.")
            first = await connection.fetchrow(
                "UPDATE delivery.inbox SET acknowledged_at = now(), acknowledged_by = $2"
                " WHERE share_id = $1 AND acknowledged_at IS NULL RETURNING acknowledged_at, acknowledged_by",
                share_id, statement.by,
            )  # fmt: skip
            # Of a version that is not the wanted one any more there is nothing to tell.
            if first and row["state"] == Status.OPENED and row["wanted_seq"] == row["seq"]:
                said = Draft(
                    share_id, row["seq"], Status.OPENED, row["version_id"], row["sha256"], f"inbox/{share_id}",
                    f"acknowledged by {statement.by}", opened_by=row["opened_by"],
                )  # fmt: skip
                await receipts.write(connection, [said])
        stands = first or row
        answer = {name: stands[name] for name in ("acknowledged_at", "acknowledged_by")}
        return json_answer({"share_id": share_id, "seq": row["seq"], **answer}, private=True)

    async def _item(connection: Any, share_id: UUID, caller: Caller) -> Any:
        """Its row, locked. Raises :class:`Problem` where this caller may not read it now."""
        caller.must_be(CallerKind.RECIPIENT)
        # The delivery's row first, as the dispatcher and the evidence do, so that no two wait for each other.
        await connection.execute("SELECT FROM delivery.delivery WHERE share_id = $1 FOR UPDATE", share_id)
        row = await connection.fetchrow(
            f"SELECT i.*, d.seq AS wanted_seq, d.state, {_GONE} AS gone,"
            " i.withdrawn_at IS NOT NULL OR coalesce(d.action = 'withdraw', false) AS ended"
            " FROM delivery.inbox i LEFT JOIN delivery.delivery d USING (share_id)"
            " WHERE i.share_id = $1 AND i.recipient = $2 FOR UPDATE OF i",
            share_id, caller.recipient,
        )  # fmt: skip
        if row is None:
            raise Problem(404, "no-item", "There is no such item", "It is not in this organisation's inbox.")
        if row["ended"] and not row["gone"]:
            raise Problem(
                410, "share-ended", "Access to this item has ended",
                "The council no longer shares it with this organisation. What was kept of it stays under your own rules.",
            )  # fmt: skip
        if row["gone"]:
            raise Problem(410, "item-ended", "This item is no longer here", "The council took it back, or it is elsewhere now.")
        return row

    async def _open(share_id: UUID, caller: Caller) -> dict[str, Any]:
        """The act of opening is committed before a byte is sent."""
        async with pool.acquire() as connection, connection.transaction():
            row = await _item(connection, share_id, caller)
            await connection.execute(
                "INSERT INTO delivery.inbox_opening (share_id, version_id, reader) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                share_id, row["version_id"], caller.client_id,
            )  # fmt: skip
            await connection.execute(
                "UPDATE delivery.inbox SET opened_at = coalesce(opened_at, now()), opened_by = coalesce(opened_by, $2)"
                " WHERE share_id = $1",
                share_id, caller.client_id,
            )  # fmt: skip
            # A newer version may be parked but not here yet; this copy is read all the same, and is no evidence for it.
            with contextlib.suppress(evidence.EvidenceRefusedError):
                await evidence.record(connection, receipts, share_id, row["seq"], Status.OPENED, opened_by=caller.client_id)
            sealed_for = row["sealed_for"] or row["recipient"]
            key = (await keys.of(connection, [sealed_for]))[sealed_for]
        content: dict[str, Any] = orjson.loads(key.open(row["content"], f"inbox:{share_id}:{row['seq']}"))
        return content | {"withdrawn_at": row["withdrawn_at"]}

    return router
