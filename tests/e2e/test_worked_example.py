"""The worked example of the documentation: what it tells of Nia's plan is what happens, command by command."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.cli.machine.folder import DataFolder
from tests.e2e.exchange import running_exchange
from tests.support.services import REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]
PAGE = REPOSITORY / "docs" / "worked-example.md"
PRIMARY, OTHER_PRIMARY = "Limekiln Hill Primary School", "Glasshouse Lane Church of England Primary School"
BOARD, OTHER_BOARD = "NHS Black Country Integrated Care Board", "NHS COPPICE VALE INTEGRATED CARE BOARD"
TRUST, SOCIAL_CARE = "The Dudley Group NHS Foundation Trust", "Dudley Children's Social Care"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def told() -> AsyncIterator[str]:
    """What the program prints on an exchange of its own."""
    async with running_exchange() as exchange:
        home = DataFolder(exchange.folder / "home").path
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "deploy.sandbox.worked_example", cwd=REPOSITORY,
            env=os.environ | {"EHCP_HOME": str(home)}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 400)
        assert process.returncode == 0, err.decode()
        yield out.decode()


def held(told: str, step: str, thing: str = "plan") -> dict[str, tuple[str, str, str]]:
    """After one step: by recipient the version wanted, the version held, and the status."""
    (section,) = (each for each in re.split(r"^## ", told, flags=re.MULTILINE) if re.match(rf"\d+\. {step}\n", each))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| ")]
    return {recipient: (wanted, holds, status) for recipient, of, wanted, holds, status in rows if of == thing}


async def test_the_page_is_what_the_program_prints(told: str) -> None:
    assert told == PAGE.read_text()


async def test_the_first_plan_reaches_everyone(told: str) -> None:
    first = held(told, "The first plan")
    assert first[PRIMARY] == ("1", "1", "sent")
    assert first[BOARD] == ("1", "1", "sent")
    assert first[TRUST] == ("1", "1", "filed")
    assert first[SOCIAL_CARE] == ("1", "1", "filed")
    assert len(first) == 6  # and each parent for themselves


async def test_after_the_move_the_new_school_holds_the_plan_and_the_old_one_gets_no_more(told: str) -> None:
    moved = held(told, "Another school")
    assert moved[OTHER_PRIMARY] == ("1", "1", "sent")
    assert moved[PRIMARY] == ("–", "1", "withdrawn")


async def test_the_review_reaches_those_who_must_know(told: str) -> None:
    assert held(told, "A review is scheduled", "review invitation").keys() >= {OTHER_PRIMARY, BOARD, SOCIAL_CARE}
    assert OTHER_PRIMARY in held(told, "The review is held", "review report")
    assert OTHER_PRIMARY in held(told, "The council decides to amend", "review decision")
    assert PRIMARY not in held(told, "A review is scheduled", "review invitation")


async def test_the_amended_plan_replaces_the_first(told: str) -> None:
    amended = held(told, "The amended plan")
    assert amended[TRUST] == ("2", "2", "filed")
    assert amended[OTHER_PRIMARY] == ("2", "2", "sent")
    assert amended[PRIMARY] == ("–", "1", "withdrawn")


async def test_the_new_commissioning_body_takes_the_place_of_the_former(told: str) -> None:
    moved = held(told, "Another commissioning body")
    assert moved[OTHER_BOARD] == ("2", "2", "sent")
    assert moved[BOARD] == ("–", "2", "withdrawn")


async def test_notice_withdraws_nothing_and_the_end_withdraws_all(told: str) -> None:
    noticed, ceased = held(told, "Notice that the plan will cease"), held(told, "The plan ceases")
    assert noticed[TRUST] == ("2", "2", "filed")
    assert OTHER_PRIMARY in held(told, "Notice that the plan will cease", "cease notice")
    assert "The time for an appeal is not over" in told
    assert {status for _, _, status in ceased.values()} == {"withdrawn"}
    assert ceased[TRUST] == ("–", "2", "withdrawn")
