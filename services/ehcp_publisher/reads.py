"""The document API: what a subscriber reads when it delivers, by (share, ``seq``), authorised at read time.

Invariant: a read locks the share, writes its act and commits before a byte is sent; a withdrawal takes the same lock, so the
two cannot cross. Renderings are immutable, so their bytes are read after the commit, outside the transaction.
"""

import base64
from collections.abc import AsyncIterator, Sequence, Set
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from schemas.base import RecipientKind
from schemas.documents import ReadOutcome, Wanted
from schemas.manifest import Manifest
from schemas.plan import FamilyMember
from services.ehcp_publisher import store, store_handover
from services.ehcp_publisher.child_details import details_for
from services.ehcp_publisher.keys import ChildKeys
from services.ehcp_publisher.store import ALL_SECTIONS, Act
from services.ehcp_publisher.versions import stored_sections
from services.shared.json import dumps
from services.shared.postgres.pool import council_transaction

MAX_READS = 200
MAX_BYTES = 32 * 1024 * 1024
"""Beyond this the rest of an answer is ``later``, so that one answer never fills the reader's memory."""

PIECE_BYTES = 256 * 1024
"""Sent at once: a piece for each line costs more than the line."""


class Reads:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", keys: ChildKeys, councils: Sequence[str]) -> None:
        self._pool = pool
        self._keys = keys
        self._councils = list(councils)

    async def read(self, client_id: str, subscriber: str, reads: Sequence[Wanted]) -> AsyncIterator[bytes]:
        """NDJSON lines, one for each read, in order; several lines at once where they are short."""
        answers, allowed = await self._authorise(client_id, subscriber, reads)
        renderings, shares, attachments = await self._fetch(allowed)
        given: dict[tuple[UUID, frozenset[str]], UUID] = {}
        lines = bytearray()
        for wanted, answer in zip(reads, answers, strict=True):
            if answer["outcome"] == ReadOutcome.OK:
                row = renderings[allowed[wanted.share_id]["rendering_id"]]
                own = self._own(row, shares[wanted.share_id])
                details = details_for(RecipientKind(own["recipient"]["kind"]))
                first = given.setdefault((row["rendering_id"], details), wanted.share_id)
                # A plan's recipients mostly come in one request: its text is opened and sent once for all of them.
                if first == wanted.share_id:
                    # A rendering of some sections has no advice, though another one of the version may be asked for beside it.
                    files = attachments[row["thing_id"]] if row["manifest"].get("attachments") else []
                    answer["rendering"] = self._open(row, files, details) | own
                else:
                    answer["again"] = {"share_id": first} | own
            lines += dumps(answer) + b"\n"
            if len(lines) > PIECE_BYTES:
                yield bytes(lines)
                lines.clear()
        yield bytes(lines)

    async def _authorise(
        self, client_id: str, subscriber: str, reads: Sequence[Wanted]
    ) -> tuple[list[dict[str, Any]], dict[UUID, Any]]:
        answers: list[dict[str, Any]] = []
        allowed: dict[UUID, Any] = {}
        acts: list[Act] = []
        room = MAX_BYTES
        counted: set[UUID] = set()
        async with council_transaction(self._pool, self._councils) as connection:
            shares = await store.lock_reads(connection, subscriber, [each.share_id for each in reads])
            for wanted in reads:
                share = shares.get(wanted.share_id)
                outcome = _outcome(share, wanted.seq)
                size = 0 if share is None or share["rendering_id"] in counted else share["size"]
                if outcome is ReadOutcome.OK and room < size and allowed:
                    outcome = ReadOutcome.LATER
                if share is not None and outcome is ReadOutcome.OK:
                    room -= size
                    counted.add(share["rendering_id"])
                    allowed[wanted.share_id] = share
                    acts.append(
                        Act("read", client_id, share["la_code"], share["plan_id"], share["thing_id"],
                            wanted.share_id, wanted.seq, {"subscriber": subscriber})
                    )  # fmt: skip
                current = share["seq"] if share else None
                answers.append({"share_id": wanted.share_id, "seq": wanted.seq, "outcome": outcome, "current_seq": current})
            await store.insert_acts(connection, acts)
        return answers, allowed

    async def _fetch(self, allowed: dict[UUID, Any]) -> tuple[dict[UUID, Any], dict[UUID, Any], dict[UUID, list[bytes]]]:
        if not allowed:
            return {}, {}, {}
        async with council_transaction(self._pool, self._councils) as connection:
            renderings = await store.read_renderings(connection, [row["rendering_id"] for row in allowed.values()])
            shares = await store.read_instructions(connection, [(s, row["seq"]) for s, row in allowed.items()])
            owners = [row["thing_id"] for row in renderings.values() if row["manifest"].get("attachments")]
            attachments = await store.read_attachments(connection, owners) if owners else {}
        return renderings, shares, attachments

    def _open(self, row: Any, attachments: list[bytes], details: Set[str]) -> dict[str, Any]:
        """What every recipient of a rendering gets alike that reads the same ``details`` of the child."""
        key = self._keys.child_key(row["la_code"], row["child_id"], row["wrapped_key"])
        manifest = Manifest.model_validate(row["manifest"])
        sections, notice = b"{}", b"null"
        if row["notice_id"]:
            notice = key.open(row["body"], f"notice:{row['notice_id']}")
        else:
            sections = stored_sections(key.open(row["body"], f"version:{row['thing_id']}"))
        if not row["notice_id"] and row["sections"] != ALL_SECTIONS:
            sections = dumps({k: v for k, v in orjson.loads(sections).items() if k in manifest.sections})
        child = orjson.loads(key.open(row["identity"], f"child:{row['child_id']}"))
        document = None
        if manifest.document and row["document"]:
            document = _file(manifest.document, key.open(row["document"], f"document:{row['rendering_id']}"))
        return {
            "plan_id": row["plan_id"], "case_reference": row["case_reference"],
            "council": {"la_code": row["la_code"], "name": row["council"], "ods_code": row["ods_code"]},
            "version_id": row["thing_id"], "version": row["number"], "issued_on": row["issued_on"],
            "child": {name: value for name, value in child.items() if name in details and value is not None},
            "sections": orjson.Fragment(sections), "notice": orjson.Fragment(notice), "manifest": row["manifest"],
            "sha256": row["sha256"],
            "document": document,
            "attachments": [
                _file(entry, key.open(data, f"attachment:{row['thing_id']}:{i}"))
                for i, (entry, data) in enumerate(zip(manifest.attachments, attachments, strict=True))
            ],
        }  # fmt: skip

    def _own(self, row: Any, share: Any) -> dict[str, Any]:
        """What is this recipient's alone."""
        instruction = orjson.loads(share["data"])
        recipient = instruction["recipient"] | {"name": share["name"]}
        if share["person"]:
            key = self._keys.child_key(row["la_code"], row["child_id"], row["wrapped_key"])
            member = FamilyMember.model_validate_json(key.open(share["person"], f"person:{share['recipient_id']}"))
            recipient |= {"name": member.name, "email": member.email, "address": member.address}
        return {"recipient": recipient, "changed_sections": instruction["changed_sections"]}

    async def list_shares(self, subscriber: str, after: UUID | None, limit: int, *, unanswered: bool) -> list[dict[str, Any]]:
        """A page of the subscriber's own shares, from which it can rebuild itself."""
        async with council_transaction(self._pool, self._councils) as connection:
            rows = await store.list_shares(connection, subscriber, after, limit, unanswered)
            rows += await store_handover.list_told(connection, subscriber, after, limit, unanswered=unanswered)
        return [
            {"share_id": row["share_id"], "seq": row["seq"], "type": row["type"], "instruction": orjson.loads(row["data"])}
            for row in sorted(rows, key=lambda row: row["share_id"])[:limit]
        ]


def _outcome(share: Any, seq: int) -> ReadOutcome:
    if share is None:
        return ReadOutcome.UNKNOWN
    if share["seq"] != seq:
        return ReadOutcome.STALE
    if share["action"] != "hold":
        return ReadOutcome.WITHDRAWN
    return ReadOutcome.HELD if share["restricted"] else ReadOutcome.OK


def _file(entry: Any, data: bytes) -> dict[str, str]:
    return {
        "name": entry.name, "media_type": entry.media_type, "sha256": entry.sha256,
        "data": base64.b64encode(data).decode(),
    }  # fmt: skip
