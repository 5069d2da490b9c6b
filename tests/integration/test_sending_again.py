"""Instructions sent again by a person: how many to whom is said first, then they go out, in batches that a crash resumes."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import pytest_asyncio

from services.ehcp_publisher import sending_again, store_sending_again
from tests.support.command_line import ehcp, publisher_for_commands, told
from tests.support.publisher import Publisher, PublisherAtHand, problem, publisher_at_hand, reference, submission
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

TRUST_NAME = "The Dudley Group NHS Foundation Trust"
BY = {"by": "officer-7"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def publisher(postgres_server: RunningPostgres) -> AsyncIterator[PublisherAtHand]:
    async with publisher_at_hand(postgres_server) as at_hand:
        yield at_hand


@pytest_asyncio.fixture
async def plan(publisher: PublisherAtHand) -> str:
    """Its id; nothing of any other plan waits, and nothing is being sent."""
    await publisher.owner.execute("UPDATE publisher.sending_again SET ended_at = coalesce(ended_at, now())")
    return str((await publisher.issue(submission()))["plan_id"])


async def satisfied(publisher: Publisher, share_id: Any, seq: int = 1) -> None:
    """As audit does when a receipt came."""
    await publisher.owner.execute(
        "INSERT INTO audit.newest (share_id, la_code, seq, number, status, at, satisfied_seq)"
        " VALUES ($1, '332', $2, 1, 'filed', now(), $2)",
        share_id, seq,
    )  # fmt: skip


async def look(publisher: Publisher, client: str = "case-system-332", **choice: Any) -> httpx2.Response:
    return await publisher.post("/v1/send-again?dry_run=true", BY | choice, client)


async def begin(publisher: Publisher, **choice: Any) -> dict[str, Any]:
    answer = await publisher.post("/v1/send-again", BY | choice)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def state(publisher: Publisher, job_id: str) -> dict[str, Any]:
    answer = await publisher.http.get(f"/v1/send-again/{job_id}", headers=await publisher.headers())
    job: dict[str, Any] = answer.json()
    return job


async def test_how_many_to_whom_is_said_and_nothing_is_sent(publisher: PublisherAtHand, plan: str) -> None:
    shares = await publisher.shares(plan)
    before = len(await publisher.outbox(*[row["share_id"] for row in shares.values()]))
    found = (await look(publisher, plan_id=plan)).json()
    # All that have a subscriber, each a recipient of its own.
    served = {name: row for name, row in shares.items() if row["subscriber"]}
    assert (found["shares"], found["recipients"]) == (len(served), len(served))
    assert {(to["recipient"], to["subscriber"], to["shares"]) for to in found["to"]} == {
        (name, row["subscriber"], 1) for name, row in served.items()
    }
    assert (await look(publisher, share_id=str(shares[TRUST_NAME]["share_id"]))).json()["to"] == [
        {"recipient": TRUST_NAME, "subscriber": "health", "shares": 1}
    ]
    assert len(await publisher.outbox(*[row["share_id"] for row in shares.values()])) == before
    assert not await publisher.sending_again.step()
    # Who has a plan is not looked up without a trace, however the plan is named.
    reference_ = await publisher.owner.fetchval(
        "SELECT lower(case_reference) FROM publisher.plan WHERE plan_id = $1", UUID(plan)
    )
    assert (await look(publisher, case_reference=reference_)).json()["shares"] == len(served)
    assert (await publisher.acts(plan)).count("sending_again_counted") == 3


async def test_one_share_goes_out_as_it_was_with_the_mark_and_an_act(publisher: PublisherAtHand, plan: str) -> None:
    share_id = (await publisher.shares(plan))[TRUST_NAME]["share_id"]
    job = await begin(publisher, share_id=str(share_id))
    assert (job["state"], job["total"], job["sent"], job["by"]) == ("running", 1, 0, "officer-7")
    assert (await publisher.acts(plan))[-1] == "sending_again_begun"
    assert await publisher.sending_again.step()
    first, again = await publisher.owner.fetch(
        "SELECT topic, value, headers FROM publisher.outbox WHERE key = $1 ORDER BY id", str(share_id)
    )
    assert (again["topic"], again["value"]) == (first["topic"], first["value"])
    assert again["headers"]["ce_sentagain"] == job["job_id"]
    assert "ce_sentagain" not in first["headers"]
    done = await state(publisher, job["job_id"])
    assert (done["state"], done["sent"]) == ("done", 1)
    assert "sent_again" in await publisher.acts(plan)
    assert (await publisher.shares(plan))[TRUST_NAME]["seq"] == 1


async def test_what_is_satisfied_is_sent_only_when_that_is_wanted(publisher: PublisherAtHand, plan: str) -> None:
    share_id = (await publisher.shares(plan))[TRUST_NAME]["share_id"]
    await satisfied(publisher, share_id)
    choice = {"share_id": str(share_id)}
    assert (await look(publisher, **choice)).json()["shares"] == 0
    problem(await publisher.post("/v1/send-again", BY | choice), 404, "nothing-to-send")
    assert (await publisher.acts(plan))[-2:] == ["sending_again_counted"] * 2
    assert (await look(publisher, **choice, satisfied_too=True)).json()["shares"] == 1


async def test_a_recipient_a_subscriber_and_a_day_are_told_apart(publisher: PublisherAtHand, plan: str) -> None:
    trust: dict[str, Any] = {"recipient": {"scheme": "ods", "value": "RNA"}, "plan_id": plan}
    assert [to["recipient"] for to in (await look(publisher, **trust)).json()["to"]] == [TRUST_NAME]
    of_health = (await look(publisher, subscriber="health", plan_id=plan)).json()["to"]
    assert {to["subscriber"] for to in of_health} == {"health"}
    assert (await look(publisher, **trust, since="2020-01-01T00:00:00Z")).json()["shares"] == 1
    assert (await look(publisher, **trust, since="2099-01-01T00:00:00Z")).json()["shares"] == 0
    assert (await look(publisher, subscriber="nobody")).json()["shares"] == 0


async def test_a_council_sends_only_its_own(publisher: PublisherAtHand, plan: str) -> None:
    other = "case-system-333"
    assert (await look(publisher, other, plan_id=plan)).json()["shares"] == 0
    job = await begin(publisher, plan_id=plan)
    headers = await publisher.headers(other)
    for method in ("GET", "DELETE"):
        problem(await publisher.http.request(method, f"/v1/send-again/{job['job_id']}", headers=headers), 404, "no-job")
    listed = (await publisher.http.get("/v1/send-again", headers=headers)).json()["jobs"]
    assert job["job_id"] not in [each["job_id"] for each in listed]
    assert (await state(publisher, job["job_id"]))["state"] == "running"


async def test_it_goes_out_in_batches_and_a_crash_resumes(
    publisher: PublisherAtHand, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending_again, "BATCH", 2)
    shares = [row["share_id"] for row in (await publisher.shares(plan)).values() if row["subscriber"]]
    job = await begin(publisher, plan_id=plan)
    assert await publisher.sending_again.step()
    assert (await state(publisher, job["job_id"]))["sent"] == 2
    with monkeypatch.context() as broken:
        broken.setattr(store_sending_again, "save_progress", _dies)
        with pytest.raises(ConnectionResetError):
            await publisher.sending_again.step()
    # As another process would, after a restart: from the database alone.
    while await publisher.sending_again.step():
        pass
    done = await state(publisher, job["job_id"])
    assert (done["state"], done["sent"], done["total"]) == ("done", len(shares), len(shares))
    rows = await publisher.owner.fetch(
        "SELECT key, count(*) AS times FROM publisher.outbox WHERE headers ? 'ce_sentagain' AND key = ANY($1) GROUP BY key",
        [str(share_id) for share_id in shares],
    )
    assert {row["key"]: row["times"] for row in rows} == {str(share_id): 1 for share_id in shares}


async def _dies(*_: object, **__: object) -> None:
    raise ConnectionResetError


async def test_a_cancelled_one_sends_no_more(publisher: PublisherAtHand, plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending_again, "BATCH", 1)
    job = await begin(publisher, plan_id=plan)
    assert await publisher.sending_again.step()
    answer = await publisher.http.delete(f"/v1/send-again/{job['job_id']}", headers=await publisher.headers())
    assert (answer.json()["state"], answer.json()["sent"]) == ("cancelled", 1)
    acts = await publisher.owner.fetch("SELECT act FROM audit.pending WHERE details->>'job_id' = $1 ORDER BY id", job["job_id"])
    assert [row["act"] for row in acts] == ["sending_again_begun", "sent_again", "sending_again_cancelled"]
    assert not await publisher.sending_again.step()
    again = await publisher.http.delete(f"/v1/send-again/{job['job_id']}", headers=await publisher.headers())
    assert again.json() == answer.json()


async def test_a_recall_in_the_middle_of_it_is_what_goes_out_from_then_on(
    publisher: PublisherAtHand, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending_again, "BATCH", 1)
    job = await begin(publisher, plan_id=plan)
    assert await publisher.sending_again.step()
    version_id = await publisher.owner.fetchval("SELECT version_id FROM publisher.version WHERE plan_id = $1", UUID(plan))
    event = {"type": "recall", "version_id": str(version_id), "reason": "wrong_child", "aware_at": "2026-11-02T09:00:00Z"} | BY
    assert (await publisher.post(f"/v1/plans/{plan}/events", event)).status_code == 201
    while await publisher.sending_again.step():
        pass
    assert (await state(publisher, job["job_id"]))["state"] == "done"
    for name, share in (await publisher.shares(plan)).items():
        said = [(row["data"]["seq"], row["type"]) for row in await publisher.outbox(share["share_id"])]
        recalled = said.index((2, "ehcp.share.recalled.v1"))
        assert {type_ for _, type_ in said[recalled:]} == {"ehcp.share.recalled.v1"}, name


async def test_who_asks_the_feed_is_told_once(publisher: PublisherAtHand, plan: str) -> None:
    share = (await publisher.shares(plan))[TRUST_NAME]
    await satisfied(publisher, share["share_id"])
    await begin(publisher, share_id=str(share["share_id"]), satisfied_too=True)
    assert await publisher.sending_again.step()

    async def feed(client: str) -> list[str]:
        answer = await publisher.http.get("/v1/feed", headers=await publisher.headers(client))
        assert answer.status_code == 200
        return [each["sentagain"] for each in answer.json() if each["data"]["share_id"] == str(share["share_id"])]

    assert await feed("subscriber-school") == []
    assert len(await feed("subscriber-health")) == 1
    assert await feed("subscriber-health") == []


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        (BY, "it is not said which shares are meant"),
        ({"share_id": str(uuid4())}, "by"),
        (BY | {"recipient": {"scheme": "ods", "value": "not a code"}}, "ODS"),
        (BY | {"since": "2026-02-30T00:00:00Z"}, "since"),
        ({"by": " ", "plan_id": str(uuid4())}, "one line of text"),
    ],
)
async def test_what_does_not_say_enough_is_refused(publisher: PublisherAtHand, choice: dict[str, Any], says: str) -> None:
    answer = await publisher.post("/v1/send-again", choice)
    assert answer.status_code == 422
    assert says in answer.text


# --- the command ----------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(postgres_server: RunningPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Publisher]:
    async with publisher_for_commands(postgres_server, tmp_path_factory.mktemp("publisher")) as publisher:
        yield publisher


async def test_the_command_says_first_asks_and_follows(running: Publisher) -> None:
    case_reference = reference()
    plan_id = (await running.issue(submission(case_reference)))["plan_id"]
    shares = {name: row for name, row in (await running.shares(plan_id)).items() if row["subscriber"]}
    client = "case-system-332"
    words = ("send-again", case_reference, "--by", "officer-7")
    dry = await ehcp(running, client, *words, "--dry-run")
    assert f"{len(shares)} shares of {len(shares)} recipients" in dry.output
    assert TRUST_NAME in dry.stdout
    # Nobody answers the question: nothing is sent.
    assert (await ehcp(running, client, *words)).exit_code == 1
    assert await told(running, client, "send-again", "--list") == {"jobs": []}
    sent = await ehcp(running, client, *words, "--yes")
    assert sent.exit_code == 0, sent.output
    assert sent.stdout.endswith(f"{len(shares)} of {len(shares)} shares sent again\n")
    by_share = await told(running, client, "send-again", str(shares[TRUST_NAME]["share_id"]), "--by", "officer-7", "--yes")
    assert (by_share["state"], by_share["total"]) == ("done", 1)
    by_plan = await told(running, client, "send-again", plan_id, "--recipient", "ods:RNA", "--by", "officer-7", "--yes")
    assert by_plan["total"] == 1
    listed = (await told(running, client, "send-again", "--list"))["jobs"]
    assert [job["total"] for job in listed] == [1, 1, len(shares)]
    cancelled = await ehcp(running, client, "send-again", "--cancel", by_share["job_id"])
    assert cancelled.stdout == "1 of 1 share sent again\n"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--recipient", "ods:RNA"), 2, "--by NAME"),
        (("--recipient", "RNA", "--by", "x"), 2, "with its scheme"),
        (("--since", "yesterday", "--by", "x"), 2, "YYYY-MM-DD"),
        (("--cancel", "7"), 2, "--list"),
        (("--cancel", str(uuid4())), 1, "There is no such sending"),
        (("no-such-plan", "--by", "x", "--yes"), 1, "Your councils have no share of no-such-plan that waits"),
        (("--by", "x", "--yes"), 1, "it is not said which shares are meant"),
    ],
)
async def test_what_is_used_wrongly_is_one_sentence(running: Publisher, words: tuple[str, ...], code: int, says: str) -> None:
    result = await ehcp(running, "case-system-332", "send-again", *words)
    assert result.exit_code == code, result.output
    assert says in result.output
