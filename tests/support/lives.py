"""One plan's life over HTTP: what a council records of it, and what the publisher wrote for that."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import orjson

from tests.support.publisher import CASE_SYSTEM, Part, Publisher, part, problem, submission, version

OFFICER, ANOTHER = "officer-1", "officer-2"
PARENT = "parent M1"
PRIMARY_NAME, SECONDARY_NAME, NURSERY_NAME = (
    "Saltwells Brook Primary School", "Earls Keep High School", "Little Wrens Nursery School",
)  # fmt: skip
ICB_NAME, TRUST_NAME = "NHS Black Country Integrated Care Board", "The Dudley Group NHS Foundation Trust"
SOCIAL_CARE_NAME, VIRTUAL_SCHOOL_NAME = "Dudley Children's Social Care", "Dudley Virtual School"


def happened(type_: str, **fields: Any) -> dict[str, Any]:
    return {"type": type_, "by": OFFICER, **fields}


@dataclass(slots=True)
class Life:
    publisher: Publisher
    plan_id: str
    version_id: str
    sent: dict[str, Any]
    """What the first version was sent with."""
    client: str = CASE_SYSTEM

    async def post(
        self, type_: str, client: str | None = None, headers: Mapping[str, str | bytes] | None = None, **fields: Any
    ) -> Any:
        """The answer, whatever it is."""
        path = f"/v1/plans/{self.plan_id}/events"
        return await self.publisher.post(path, happened(type_, **fields), client or self.client, headers)

    async def record(self, type_: str, client: str | None = None, **fields: Any) -> dict[str, Any]:
        """Recorded for the first time; the answer's body."""
        answer = await self.post(type_, client, **fields)
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        assert body["status"] == "recorded"
        return body

    async def refused(self, status: int, slug: str, type_: str, client: str | None = None, **fields: Any) -> dict[str, Any]:
        """Refused, and nothing changed."""
        before = await self.revision()
        body = problem(await self.post(type_, client, **fields), status, slug)
        assert await self.revision() == before
        return body

    async def upload(self, type_: str, *files: Part, **fields: Any) -> httpx2.Response:
        event = part("event", orjson.dumps(happened(type_, **fields)))
        return await self.publisher.upload(event, *files, path=f"/v1/plans/{self.plan_id}/events")

    async def amend(self, issued_on: str = "2026-03-02", text: str = "Rowan likes buses.", **changes: Any) -> dict[str, Any]:
        return await self.publisher.amend(self.plan_id, version(issued_on, text, **changes), self.client)

    async def shown(self, client: str | None = None) -> dict[str, Any]:
        path, headers = f"/v1/plans/{self.plan_id}", await self.publisher.headers(client or self.client)
        answer = await self.publisher.http.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    # --- what it wrote ---

    async def revision(self) -> tuple[Any, ...]:
        row = await self.publisher.owner.fetchrow(
            "SELECT revision, state, restricted, la_code, (SELECT count(*) FROM publisher.plan_event e"
            " WHERE e.plan_id = p.plan_id), (SELECT sum(seq) FROM publisher.share s WHERE s.plan_id = p.plan_id)"
            " FROM publisher.plan p WHERE plan_id = $1", UUID(self.plan_id),
        )  # fmt: skip
        return tuple(row or ())

    async def shares(self) -> dict[str, Any]:
        """Of the plan, by the recipient's name."""
        rows = await self.publisher.owner.fetch(
            "SELECT s.*, r.name, r.kind, g.sections, g.sha256 FROM publisher.share s JOIN publisher.recipient r"
            " USING (recipient_id) JOIN publisher.rendering g USING (rendering_id) WHERE s.plan_id = $1"
            " AND s.notice_id IS NULL", UUID(self.plan_id),
        )  # fmt: skip
        assert len({row["name"] for row in rows}) == len(rows)
        return {row["name"]: row for row in rows}

    async def held(self) -> dict[str, tuple[str, int]]:
        """By recipient: what is wanted of it, and under which ``seq``."""
        return {name: (row["action"], row["seq"]) for name, row in (await self.shares()).items()}

    async def told(self) -> dict[str, set[str]]:
        """By kind of notice, who is to be told."""
        rows = await self.publisher.owner.fetch(
            "SELECT n.kind, array_agg(r.name) AS names FROM publisher.share s JOIN publisher.notice n USING (notice_id)"
            " JOIN publisher.recipient r USING (recipient_id) WHERE s.plan_id = $1 AND s.action = 'hold' GROUP BY 1",
            UUID(self.plan_id),
        )
        return {row["kind"]: set(row["names"]) for row in rows}

    async def instruction(self, name: str) -> dict[str, Any]:
        """The newest about the plan that went to the subscriber of this recipient."""
        share_id = (await self.shares())[name]["share_id"]
        last = (await self.publisher.outbox(share_id))[-1]
        return {**last["data"], "type": last["type"].removeprefix("ehcp.share.").removesuffix(".v1")}

    async def domain_events(self) -> list[str]:
        rows = await self.publisher.outbox(self.plan_id)
        return [row["type"].removeprefix("ehcp.").removesuffix(".v1") for row in rows]

    async def satisfy(self, name: str) -> None:
        """As audit does when the receipt for the newest instruction came."""
        await self.satisfied((await self.shares())[name])

    async def satisfied(self, share: Any) -> None:
        await self.publisher.owner.execute(
            "INSERT INTO audit.newest (share_id, la_code, seq, number, status, at, satisfied_seq)"
            " VALUES ($1, $2, $3, 1, 'filed', now(), $3) ON CONFLICT (share_id) DO UPDATE SET seq = excluded.seq,"
            " satisfied_seq = excluded.satisfied_seq", share["share_id"], share["la_code"], share["seq"],
        )  # fmt: skip
        await self.publisher.owner.execute(
            "INSERT INTO audit.receipt (share_id, number, la_code, seq, subscriber, status, satisfies, at, signed)"
            " VALUES ($1, $2, $3, $2, $4, 'filed', true, now(), '')",
            share["share_id"], share["seq"], share["la_code"], share["subscriber"],
        )  # fmt: skip

    async def pending(self, name: str) -> dict[str, Any]:
        """What the family's subscriber gets that still tries to read this person's one notice."""
        share_id = await self.publisher.owner.fetchval(
            "SELECT s.share_id FROM publisher.share s JOIN publisher.recipient r USING (recipient_id)"
            " WHERE s.plan_id = $1 AND s.notice_id IS NOT NULL AND r.name = $2", UUID(self.plan_id), name,
        )  # fmt: skip
        (line,) = await self.publisher.read("subscriber-family", (share_id, 2))
        return line

    async def read(self, client: str, *names: str) -> list[dict[str, Any]]:
        shares = await self.shares()
        return await self.publisher.read(client, *((shares[name]["share_id"], shares[name]["seq"]) for name in names))


async def begin(publisher: Publisher, **changes: Any) -> Life:
    """A plan for a parent, a primary school, the commissioning body, and the trust by policy. ``changes``: of the version."""
    return await begin_with(publisher, submission(version=version(**changes)))


async def begin_with(publisher: Publisher, sent: dict[str, Any]) -> Life:
    body = await publisher.issue(sent)
    return Life(publisher, body["plan_id"], body["version_id"], sent, f"case-system-{sent['la_code']}")


def unique() -> str:
    """A text like no other."""
    return f"Text {uuid4()}."


def yesterday(days: int = 1) -> str:
    """So many days ago: what the law counts from then is not late yet."""
    return str((datetime.now(UTC) - timedelta(days=days)).date())
