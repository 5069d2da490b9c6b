"""`ehcp dead-letters` against a subscriber's own routes, over HTTP, with its operator's token."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from services.cli.machine.folder import DataFolder
from services.cli.machine.ports import HOST
from services.cli.main import app as ehcp
from services.shared.dead_letters.api import make_dead_letters_router
from services.shared.identity.operator_token import OperatorToken
from services.shared.runtime import make_app
from tests.support.servers import RunningPostgres
from tests.support.serving import serving
from tests.support.subscriber import RNA, SubscriberStub, books, record_of, subscriber_on, wanted

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


@dataclass
class AtTheDoor:
    subscriber: SubscriberStub
    url: str
    token_file: Path
    stopped: set[str]

    async def ehcp(self, *arguments: str, token_file: Path | None = None) -> Result:
        words = ["dead-letters", *arguments, "--url", self.url, "--token-file", str(token_file or self.token_file)]
        return await asyncio.to_thread(CliRunner().invoke, ehcp, words, env={"EHCP_HOME": "/nowhere", "COLUMNS": "200"})

    async def answer(self, *arguments: str) -> Any:
        result = await self.ehcp(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest_asyncio.fixture
async def door(postgres_server: RunningPostgres, tmp_path: Path) -> AsyncIterator[AtTheDoor]:
    file = tmp_path / "token"
    file.write_text("a-token-of-thirty-two-characters-or-more\n")
    app, stopped = make_app("test"), {"ehcp.shares.health.v1"}
    async with subscriber_on(postgres_server, await books(postgres_server)) as subscriber:
        app.include_router(
            make_dead_letters_router(
                subscriber.pool, "delivery.dead_letter", subscriber.parking.handle, OperatorToken(file), lambda: stopped,
                stopped.discard,
            )
        )  # fmt: skip
        async with serving(app) as url:
            yield AtTheDoor(subscriber, url, file, stopped)


async def test_an_operator_sees_mends_and_closes_them(door: AtTheDoor) -> None:
    wish = wanted(RNA)
    await door.subscriber.parking.handle([record_of(wanted(RNA), value=b"{"), record_of(wanted(RNA), value=b"[")])
    good = record_of(wish)
    await door.subscriber.owner.execute(
        'INSERT INTO delivery.dead_letter (topic, partition, "offset", key, value, headers, reason)'
        " VALUES ($1, $2, $3, $4, $5, $6, 'not known by an older version')",
        good.topic, good.partition, good.offset, good.key, good.value, good.header_text(),
    )  # fmt: skip
    listed = await door.answer("list")
    bad, other, mended = [each["id"] for each in listed["dead_letters"]]
    assert listed["stopped_topics"] == ["ehcp.shares.health.v1"]
    shown = await door.ehcp("list")
    assert shown.exit_code == 0
    assert "not known by an older version" in shown.stdout
    assert (await door.ehcp("own", str(bad), "Ann")).exit_code == 0
    assert (await door.answer("list"))["dead_letters"][0]["owner"] == "Ann"
    assert json.loads((await door.ehcp("show", str(bad))).stdout)["reason"] == "the value is not JSON"
    would = await door.answer("replay", "--topic", "ehcp.shares.health.v1", "--dry-run")
    assert would == {"would_replay": 3, "reasons": {"the value is not JSON": 2, "not known by an older version": 1}}
    assert await door.subscriber.row(wish) is None
    again = await door.ehcp("replay", "--topic", "ehcp.shares.health.v1")
    assert again.exit_code == 1
    assert "1 put in again, 2 still refused" in again.stdout
    assert (await door.subscriber.row(wish))["seq"] == 1
    assert await door.answer("dismiss", str(bad), str(other)) == {"dismissed": [bad, other]}
    assert (await door.answer("list"))["dead_letters"] == []
    assert [each["id"] for each in (await door.answer("list", "--all"))["dead_letters"]] == [bad, other, mended]
    typo = await door.ehcp("resume", "ehcp.shares.helth.v1")
    assert (typo.exit_code, "Stopped: ehcp.shares.health.v1." in typo.output) == (1, True)
    assert (await door.ehcp("resume", "ehcp.shares.health.v1")).exit_code == 0
    assert door.stopped == set()
    for words in (("dismiss", str(bad), "999"), ("replay", "999"), ("replay", "999", "--dry-run")):
        nothing = await door.ehcp(*words)
        assert (nothing.exit_code, "Not open here:" in nothing.output, "Reason" in nothing.output) == (1, True, False)
    empty = await door.ehcp("list")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "There are no open dead letters.\n")


async def test_a_subscriber_of_the_machine_is_found_by_its_name(door: AtTheDoor, tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "machine")
    folder.create()
    folder.remembered.ports = {"health_subscriber": int(door.url.rpartition(":")[2])}
    folder.save()
    door.token_file.rename(folder.keys / "operator-health.token")

    async def ask(name: str) -> Result:
        words = ["dead-letters", "list", "--subscriber", name, "--home", str(folder.path)]
        return await asyncio.to_thread(CliRunner().invoke, ehcp, words)

    await door.subscriber.parking.handle([record_of(wanted(RNA), value=b"{")])
    found = await ask("health")
    assert found.exit_code == 0, found.output
    assert "the value is not JSON" in found.stdout
    nobody = await ask("helth")
    assert nobody.exit_code == 2
    assert "health, social-care, school, family" in nobody.output
    assert (await ask("school")).exit_code == 4


async def test_what_is_used_wrongly_is_said(door: AtTheDoor, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("another-token-of-thirty-two-characters-or-more")
    refused = await door.ehcp("list", token_file=wrong)
    assert refused.exit_code == 1
    assert "another-token" not in refused.output
    assert (await door.ehcp("list", token_file=tmp_path / "none")).exit_code == 2
    assert (await door.ehcp("replay")).exit_code == 2
    assert (await door.ehcp("show", "999")).exit_code == 1
    result = await asyncio.to_thread(CliRunner().invoke, ehcp, ["dead-letters", "list", "--url", door.url])
    assert result.exit_code == 2
    away = AtTheDoor(door.subscriber, f"http://{HOST}:1", door.token_file, set())
    assert (await away.ehcp("list")).exit_code == 4
