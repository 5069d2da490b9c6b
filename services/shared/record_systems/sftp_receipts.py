"""Looks now and then whether a recipient's system has written a receipt into its SFTP folder, and has it read.

What a receipt proves, the adapter says when the delivery is asked for again (``sftp.py``); here it is only seen that there is
one, so that the outcome takes the one way that every outcome takes. A receipt that proved nothing is read again when it has
changed.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from services.shared.record_systems import sftp_files as files
from services.shared.record_systems.port import Recall, Recipient, RecordAwayError
from services.shared.record_systems.sftp import SftpServer, build_sftp
from services.shared.record_systems.systems import Builder, SystemSettings

log = structlog.get_logger()

LOOK_EVERY = 60.0
AT_ONCE = 1000
"""Deliveries looked after in one step; the rest follows."""
_Seen = tuple[UUID, int, int, int]
"""Share, seq, and when and how large its receipt was."""


class SftpReceipts:
    """One SFTP system's. ``lane`` is the name of its entry."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", server: SftpServer, lane: str, every: float = LOOK_EVERY) -> None:
        self._pool = pool
        self._server = server
        self.lane = lane
        self._every = every
        self._read: set[_Seen] = set()

    async def run(self) -> None:
        """Until cancelled; raises when the database fails, to be started again."""
        while True:
            await self.once()
            await asyncio.sleep(self._every)

    async def once(self) -> int:
        """Returns how many deliveries are to be asked for again."""
        found = 0
        after: UUID | None = None
        while rows := await self._waiting(after):
            after = rows[-1]["share_id"]
            by_folder: dict[str, list[Any]] = defaultdict(list)
            for row in rows:
                by_folder[files.folder(_recipient(row))].append(row)
            for each in by_folder.values():
                try:
                    found += await self._look(_recipient(each[0]), each)
                except RecordAwayError as error:
                    log.warning("receipts_not_looked_for", lane=self.lane, reason=str(error))
                    return found
        return found

    async def _look(self, recipient: Recipient, rows: Sequence[Any]) -> int:
        there = await self._server.receipts(recipient)
        new: dict[_Seen, Any] = {}
        for row in rows:
            if (state := there.get(f"{_receipt_name(row)}.json")) is not None:
                seen = (row["share_id"], row["seq"], *state)
                if seen not in self._read:
                    new[seen] = row
        if new:
            await self._pool.execute(
                "UPDATE delivery.delivery d SET next_attempt_at = now()"
                " FROM unnest($1::uuid[], $2::bigint[]) AS t (share_id, seq)"
                " WHERE d.share_id = t.share_id AND d.seq = t.seq AND d.next_attempt_at IS NULL"
                " AND d.state IN ('sent', 'waiting')",
                [seen[0] for seen in new], [seen[1] for seen in new],
            )  # fmt: skip
            self._read |= new.keys()
        return len(new)

    async def _waiting(self, after: UUID | None) -> list[asyncpg.Record]:
        return await self._pool.fetch(
            "SELECT share_id, seq, action, instruction, held_record FROM delivery.delivery"
            " WHERE lane = $1 AND next_attempt_at IS NULL AND (state = 'sent' OR (state = 'waiting' AND action = 'recall'))"
            " AND ($2::uuid IS NULL OR share_id > $2) ORDER BY share_id LIMIT $3",
            self.lane, after, AT_ONCE,
        )  # fmt: skip


class SftpSystems:
    """The SFTP systems of one subscriber, for its ``app.py``: builds them, and looks for their receipts."""

    def __init__(self) -> None:
        self._receipts: list[SftpReceipts] = []

    def builder(self, pool: "asyncpg.Pool[asyncpg.Record]") -> Builder:
        def build(settings: SystemSettings) -> SftpServer:
            server = build_sftp(settings)
            self._receipts.append(SftpReceipts(pool, server, settings.name))
            return server

        return build

    def work(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Endless loops by name."""
        return {f"receipts:{each.lane}": each.run for each in self._receipts}


def _receipt_name(row: Any) -> str:
    instruction = row["instruction"]
    if row["action"] == "recall":
        versions = tuple(UUID(each) for each in instruction["remove"])
        recall = Recall(row["share_id"], row["seq"], UUID(instruction["plan_id"]), _recipient(row), versions)
        return files.recalled_name(recall)
    return str(row["held_record"]).rpartition("/")[2]


def _recipient(row: Any) -> Recipient:
    code = row["instruction"]["recipient"]
    return Recipient(code["kind"], code["scheme"], code["value"], "")
