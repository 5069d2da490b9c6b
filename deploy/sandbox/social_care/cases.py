"""The case system's database (SQLite): messages taken in once, every version kept, and which of them is current.

Invariants: a message is answered only after it is on disk; the same message gets the same answer again; of one share, the
version of the highest ``seq`` is current whatever came last, so that an older one never becomes current; where a plan's share
was made anew, the newer share counts. A withdrawn copy is marked and kept; a recalled one loses its text and files, and an
older message does not bring it back. A notice is a case note of its own beside the plan.
"""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from deploy.sandbox.social_care.received import Instruction, ReceivedPlan, ReceivedRecall
from schemas.manifest import sha256

_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    webhook_id TEXT PRIMARY KEY, body_sha256 TEXT NOT NULL, answer BLOB NOT NULL, received_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS share (
    number INTEGER PRIMARY KEY AUTOINCREMENT, share_id TEXT NOT NULL UNIQUE, recipient TEXT NOT NULL, plan_id TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS version (
    record INTEGER PRIMARY KEY AUTOINCREMENT, recipient TEXT NOT NULL, plan_id TEXT NOT NULL, version_id TEXT NOT NULL,
    sha256 TEXT NOT NULL, version INTEGER NOT NULL, issued_on TEXT NOT NULL, case_reference TEXT NOT NULL,
    child BLOB NOT NULL, sections BLOB NOT NULL, notice BLOB, filed_at TEXT NOT NULL,
    removed_at TEXT,
    UNIQUE (recipient, plan_id, version_id, sha256)
);
CREATE TABLE IF NOT EXISTS file (
    record INTEGER NOT NULL REFERENCES version, position INTEGER NOT NULL, role TEXT NOT NULL, name TEXT NOT NULL,
    media_type TEXT NOT NULL, sha256 TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (record, position)
);
-- record is null for a withdrawal
CREATE TABLE IF NOT EXISTS instruction (
    share INTEGER NOT NULL REFERENCES share, seq INTEGER NOT NULL, record INTEGER REFERENCES version,
    PRIMARY KEY (share, seq)
);
CREATE TABLE IF NOT EXISTS recall (
    share INTEGER NOT NULL REFERENCES share, version_id TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (share, version_id)
);
-- Of each plan, the newest share: its newest version, and whether a withdrawal came after it.
DROP VIEW IF EXISTS current;
CREATE VIEW current AS
SELECT s.recipient, s.plan_id, s.share_id, held.seq, held.record,
       EXISTS (SELECT 1 FROM instruction w WHERE w.share = s.number AND w.seq > held.seq) AS withdrawn
FROM share s
JOIN instruction held ON held.share = s.number AND held.seq =
    (SELECT max(seq) FROM instruction i WHERE i.share = s.number AND i.record IS NOT NULL)
JOIN version v ON v.record = held.record AND v.removed_at IS NULL
WHERE s.number = (SELECT max(t.number) FROM share t JOIN instruction i ON i.share = t.number AND i.record IS NOT NULL
                  JOIN version n ON n.record = i.record AND n.notice IS NULL
                  WHERE t.recipient = s.recipient AND t.plan_id = s.plan_id);
"""


class ConflictError(Exception):
    """This id, or this turn of this share, is already taken by something else."""


@dataclass(frozen=True, slots=True)
class Holding:
    plan_id: str
    version_id: str
    sha256: str
    record: str
    withdrawn: bool


class Cases:
    """One database file; one writer at a time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(folder / "cases.sqlite3", check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        # FULL: what was answered must survive a power cut; with NORMAL the last commits of a WAL may not.
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._add_columns()
        self._db.executescript(_SCHEMA)

    def _add_columns(self) -> None:
        """A folder that an earlier version of this program made lacks what came later."""
        there = {row["name"] for row in self._db.execute("PRAGMA table_info(version)")}
        for column in ("notice BLOB", "removed_at TEXT"):
            if there and column.split()[0] not in there:
                self._db.execute(f"ALTER TABLE version ADD COLUMN {column}")

    def close(self) -> None:
        self._db.close()

    def ping(self) -> None:
        """Raises when the database does not answer."""
        self._rows("SELECT 1")

    def answered(self, webhook_id: str, body: bytes) -> bytes | None:
        """The answer that this message got before. Raises :class:`ConflictError` when the id came with another body."""
        with self._lock:
            return self._answered(webhook_id, body)

    def file(self, webhook_id: str, body: bytes, plan: ReceivedPlan) -> bytes:
        """Keeps a version; returns the answer, which is on disk with it. Raises :class:`ConflictError`."""
        return self._take(webhook_id, body, plan.instruction, plan)

    def withdraw(self, webhook_id: str, body: bytes, instruction: Instruction) -> bytes:
        """Marks the copy; a version of a lower ``seq`` that comes later stays history."""
        return self._take(webhook_id, body, instruction, None)

    def remove(self, webhook_id: str, body: bytes, recall: ReceivedRecall) -> bytes:
        """Text and files of these versions are gone; returns the statement of it. Raises :class:`ConflictError`."""
        return self._once(webhook_id, body, lambda: self._remove(recall))

    def notices(self) -> list[dict[str, Any]]:
        """Every notice that is here."""
        rows = self._rows("SELECT * FROM version WHERE notice IS NOT NULL AND removed_at IS NULL ORDER BY record")
        return [
            {
                "recipient": row["recipient"], "plan_id": row["plan_id"], "case_reference": row["case_reference"],
                "record": _name(row["record"]), "notice_id": row["version_id"], "sha256": row["sha256"],
                **orjson.loads(row["notice"]),
            }
            for row in rows
        ]  # fmt: skip

    def holdings(self, recipient: str, plans: Sequence[UUID]) -> list[Holding]:
        """What is current of these plans."""
        marks = ", ".join("?" * len(plans))
        rows = self._rows(
            "SELECT c.plan_id, v.version_id, v.sha256, v.record, c.withdrawn FROM current c JOIN version v USING (record)"
            f" WHERE c.recipient = ? AND c.plan_id IN ({marks})",
            recipient, *map(str, plans),
        )  # fmt: skip
        return [Holding(r["plan_id"], r["version_id"], r["sha256"], _name(r["record"]), bool(r["withdrawn"])) for r in rows]

    def overview(self) -> list[dict[str, Any]]:
        """Every plan with its current version, and how many versions are kept."""
        rows = self._rows(
            "SELECT c.*, v.*, (SELECT count(*) FROM file f WHERE f.record = v.record) AS files,"
            " (SELECT count(*) FROM version o WHERE (o.recipient, o.plan_id) = (c.recipient, c.plan_id)) AS kept"
            " FROM current c JOIN version v USING (record) ORDER BY c.recipient, v.case_reference"
        )
        return [
            {
                "recipient": row["recipient"], "plan_id": row["plan_id"], "case_reference": row["case_reference"],
                "record": _name(row["record"]), "version_id": row["version_id"], "version": row["version"],
                "issued_on": row["issued_on"], "seq": row["seq"], "sha256": row["sha256"], "files": row["files"],
                "sections": sorted(orjson.loads(row["sections"])), "versions_kept": row["kept"],
                "withdrawn": bool(row["withdrawn"]), "filed_at": row["filed_at"],
            }
            for row in rows
        ]  # fmt: skip

    def _rows(self, statement: str, *values: object) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def _answered(self, webhook_id: str, body: bytes) -> bytes | None:
        row = self._db.execute("SELECT * FROM message WHERE webhook_id = ?", (webhook_id,)).fetchone()
        if row is None:
            return None
        if row["body_sha256"] != sha256(body):
            raise ConflictError("this webhook-id came before with another body")
        return bytes(row["answer"])

    def _take(self, webhook_id: str, body: bytes, instruction: Instruction, plan: ReceivedPlan | None) -> bytes:
        return self._once(webhook_id, body, lambda: self._keep(instruction, plan))

    def _once(self, webhook_id: str, body: bytes, act: Callable[[], bytes]) -> bytes:
        """What ``act`` answers, or what it answered when this message came before."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                # Again inside the transaction: the same message may be here twice at once.
                answer = self._answered(webhook_id, body)
                if answer is None:
                    answer = act()
                    self._db.execute("INSERT INTO message VALUES (?, ?, ?, ?)", (webhook_id, sha256(body), answer, _now()))
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            return answer

    def _keep(self, instruction: Instruction, plan: ReceivedPlan | None) -> bytes:
        share = self._share(instruction)
        before = self._db.execute("SELECT * FROM instruction WHERE share = ? AND seq = ?", (share, instruction.seq)).fetchone()
        record = self._version(plan, share) if plan else None
        if before is None:
            self._db.execute("INSERT INTO instruction VALUES (?, ?, ?)", (share, instruction.seq, record))
        elif before["record"] != record:
            raise ConflictError("this seq of this share came before with something else")
        if plan is None:
            held = self._db.execute(
                "SELECT record FROM instruction WHERE share = ? AND record IS NOT NULL ORDER BY seq DESC", (share,)
            ).fetchone()
            return orjson.dumps({"record": _name(held["record"]) if held else ""})
        newest = self._db.execute("SELECT max(seq) FROM instruction WHERE share = ?", (share,)).fetchone()[0]
        if plan.notice:
            return orjson.dumps({"record": _name(record), "sha256": plan.sha256})
        held = self._current(instruction)
        current = held is not None and held["record"] == record and newest == instruction.seq
        return orjson.dumps({"record": _name(record), "sha256": plan.sha256, "current": current})

    def _current(self, instruction: Instruction) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute(
            "SELECT * FROM current WHERE recipient = ? AND plan_id = ?", (instruction.recipient, str(instruction.plan_id))
        ).fetchone()
        return row

    def _share(self, instruction: Instruction) -> int:
        mine = (str(instruction.share_id), instruction.recipient, str(instruction.plan_id))
        self._db.execute("INSERT INTO share (share_id, recipient, plan_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", mine)
        row = self._db.execute("SELECT * FROM share WHERE share_id = ?", mine[:1]).fetchone()
        if (row["recipient"], row["plan_id"]) != mine[1:]:
            raise ConflictError("this share is of another plan or recipient")
        return int(row["number"])

    def _remove(self, recall: ReceivedRecall) -> bytes:
        instruction, versions = recall.instruction, [str(each) for each in recall.versions]
        share = self._share(instruction)
        marks = ", ".join("?" * len(versions))
        records = [
            int(row["record"])
            for row in self._db.execute(
                f"SELECT record FROM version WHERE recipient = ? AND plan_id = ? AND version_id IN ({marks})",
                (instruction.recipient, str(instruction.plan_id), *versions),
            )
        ]
        for record in records:
            self._db.execute("DELETE FROM file WHERE record = ?", (record,))
            self._db.execute(
                "UPDATE version SET child = '{}', sections = '{}', case_reference = '', removed_at = ?,"
                " notice = CASE WHEN notice IS NULL THEN NULL ELSE '{}' END WHERE record = ?",
                (_now(), record),
            )
        self._db.executemany(
            "INSERT INTO recall VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)",
            [(share, version, instruction.seq) for version in versions],
        )
        where = ", ".join(_name(record) for record in records)
        return orjson.dumps({"removed": versions, "removed_at": _now(), "record": where or "none was here"})

    def _version(self, plan: ReceivedPlan, share: int) -> int:
        identity = (plan.instruction.recipient, str(plan.instruction.plan_id), str(plan.version_id), plan.sha256)
        row = self._db.execute(
            "SELECT * FROM version WHERE (recipient, plan_id, version_id, sha256) = (?, ?, ?, ?)", identity
        ).fetchone()
        recalled = self._db.execute(
            "SELECT seq FROM recall WHERE share = ? AND version_id = ?", (share, str(plan.version_id))
        ).fetchone()
        if recalled is not None and plan.instruction.seq <= recalled["seq"]:
            raise ConflictError("this version was recalled; an older message does not bring it back")
        told = (plan.case_reference, orjson.dumps(plan.child), orjson.dumps(plan.sections))
        if row is None:
            record = self._db.execute(
                "INSERT INTO version (recipient, plan_id, version_id, sha256, version, issued_on, case_reference, child,"
                " sections, notice, filed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *identity, plan.version, plan.issued_on, *told, orjson.dumps(plan.notice) if plan.notice else None, _now(),
                ),
            ).lastrowid  # fmt: skip
        else:
            record = row["record"]
            newest = self._db.execute("SELECT max(seq) FROM instruction WHERE share = ?", (share,)).fetchone()[0] or 0
            if plan.instruction.seq > newest:
                # The same version again, with a later turn: what is known of the child may have been corrected.
                self._db.execute(
                    "UPDATE version SET case_reference = ?, child = ?, sections = ?, notice = ?, removed_at = NULL"
                    " WHERE record = ?",
                    (*told, orjson.dumps(plan.notice) if plan.notice else None, record),
                )
            if row["removed_at"] is None:
                return int(record)
        self._db.executemany(
            "INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(record, n, f.role, f.name, f.media_type, f.sha256, f.data) for n, f in enumerate(plan.files)],
        )
        return int(record or 0)


def _name(record: int | None) -> str:
    """The case system's own id of what it holds."""
    return f"SC-{record or 0:06d}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
