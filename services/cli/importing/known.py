"""The exchange's own plans, to look up by case reference while an extract is walked; on disk, since there may be many."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Self

import orjson

from services.cli.exchange import Row


class KnownPlans:
    """``await KnownPlans.read(exchange.plans())``."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute(
            "CREATE TABLE plan (la_code TEXT, case_reference TEXT COLLATE NOCASE, plan BLOB, seen INT DEFAULT 0,"
            " PRIMARY KEY (la_code, case_reference)) WITHOUT ROWID"
        )
        self._db.execute(
            "CREATE TABLE gone (la_code TEXT, case_reference TEXT COLLATE NOCASE, until TEXT,"
            " PRIMARY KEY (la_code, case_reference)) WITHOUT ROWID"
        )

    @classmethod
    async def read(cls, plans: AsyncIterator[Row]) -> Self:
        known = cls()
        async for plan in plans:
            known.add(plan)
        return known

    def add(self, plan: Row) -> None:
        values = (plan["la_code"], plan["case_reference"], orjson.dumps(plan))
        self._db.execute("INSERT OR REPLACE INTO plan (la_code, case_reference, plan) VALUES (?, ?, ?)", values)

    def add_transferred(self, row: Row) -> None:
        values = (row["la_code"], row["case_reference"], row["until"])
        self._db.execute("INSERT OR REPLACE INTO gone (la_code, case_reference, until) VALUES (?, ?, ?)", values)

    def transferred_on(self, la_code: str, case_reference: str) -> str | None:
        """Since when another council of the exchange has the plan."""
        found = self._db.execute(
            "SELECT until FROM gone WHERE la_code = ? AND case_reference = ?", (la_code, case_reference)
        ).fetchone()
        return found and str(found[0])

    def find(self, la_code: str, case_reference: str) -> Row | None:
        found = self._db.execute(
            "UPDATE plan SET seen = 1 WHERE la_code = ? AND case_reference = ? RETURNING plan", (la_code, case_reference)
        ).fetchall()
        return orjson.loads(found[0][0]) if found else None

    def unseen(self) -> Iterator[Row]:
        """Plans that nobody looked for, in the order of their references."""
        for (plan,) in self._db.execute("SELECT plan FROM plan WHERE seen = 0 ORDER BY la_code, case_reference"):
            yield orjson.loads(plan)
