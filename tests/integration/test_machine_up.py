"""`ehcp` as a person uses it, on a machine of its own: up, status, who, sent, publish, doctor, down."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
import pytest_asyncio

from tests.support.servers import RunningKafka, running_postgres, server_folder

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.asyncio]

REPOSITORY = Path(__file__).resolve().parents[2]
PLANS = REPOSITORY / "deploy" / "sandbox" / "plans"
FIELDS = [
    "plan_id", "case_reference", "recipient", "recipient_kind", "notice", "version", "status", "reason", "record", "seconds",
    "failed_tries", "next_try_at",
]  # fmt: skip
OURS = ("DATABASE_URL", "KAFKA_", "EHCP_")


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def ehcp(*arguments: str, environment: Mapping[str, str] | None = None, within: float = 240) -> Outcome:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli.main", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**inherited, **(environment or {})},
        cwd=REPOSITORY,
    )
    try:
        async with asyncio.timeout(within):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode is not None
    return Outcome(process.returncode, out.decode(), err.decode())


def processes_of(home: Path) -> list[psutil.Process]:
    """Everything that runs for this data folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = [*(process.info["cmdline"] or ()), *(process.info["environ"] or {}).values()]
        if any(str(home) in word for word in words) and process.pid != os.getpid():
            found.append(process)
    return found


@dataclass(frozen=True, slots=True)
class Machine:
    home: Path
    first: Outcome

    async def __call__(self, *arguments: str) -> Outcome:
        return await ehcp(*arguments, "--home", str(self.home))

    def ports(self) -> dict[str, int]:
        ports: dict[str, int] = orjson.loads((self.home / "machine.json").read_bytes())["ports"]
        return ports


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def machine() -> AsyncIterator[Machine]:
    async with server_folder("up") as folder:
        home = folder / "home"
        try:
            first = await ehcp("up", "--detach", "--json", "--home", str(home))
            assert first.code == 0, first.err
            yield Machine(home, first)
        finally:
            await ehcp("down", "--home", str(home))


async def test_the_sample_plans_are_filed_and_shown(machine: Machine) -> None:
    rows = machine.first.json
    assert all(list(row) == FIELDS for row in rows)
    assert len({row["case_reference"] for row in rows}) == 30
    filed = [row for row in rows if row["recipient_kind"] == "trust" and row["status"] == "filed"]
    assert filed
    assert all(row["record"].startswith("DocumentReference/") and row["seconds"] >= 0 for row in filed)
    refused = {row["case_reference"]: row["reason"] for row in rows if row["status"] == "refused"}
    assert set(refused) == {"DUD-2023-0357", "SW-10888", "DUD-2026-0033"}
    assert all(refused.values())


async def test_status_shows_every_part_ready(machine: Machine) -> None:
    status = await machine("status", "--json")
    assert status.code == 0
    assert {part["state"] for part in status.json["parts"]} == {"ready"}
    assert {part["name"] for part in status.json["parts"]} >= {"postgres", "kafka", "fhir", "ehcp_publisher", "audit"}


async def test_the_log_of_a_detached_start_names_no_plan_and_no_recipient(machine: Machine) -> None:
    text = (machine.home / "logs" / "supervisor.log").read_text()
    assert "ready" in text
    for row in machine.first.json:
        assert row["case_reference"] not in text
        assert row["recipient"] not in text


async def test_a_killed_service_comes_back_and_status_says_so(machine: Machine) -> None:
    def part(status: Outcome) -> dict[str, Any]:
        return next(part for part in status.json["parts"] if part["name"] == "school_subscriber")

    before = part(await machine("status", "--json"))
    os.kill(before["pid"], signal.SIGKILL)
    async with asyncio.timeout(60):
        while True:
            after = part(await machine("status", "--json"))
            if after["state"] == "ready" and after["restarts"] == before["restarts"] + 1:
                break
    assert after["pid"] != before["pid"]
    assert after["last_exit"] == "killed by SIGKILL"


async def test_doctor_finds_all_well(machine: Machine) -> None:
    found = await machine("doctor", "--json")
    assert [finding for finding in found.json if not finding["well"]] == []
    assert found.code == 0


async def test_what_is_kept_is_for_this_user_alone(machine: Machine) -> None:
    open_to_others = [path for path in machine.home.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    # A folder that is closed to others closes what is in it.
    reachable = [
        path
        for path in open_to_others
        if all(parent.stat().st_mode & 0o001 for parent in path.parents if machine.home in parent.parents)
    ]
    assert reachable == []


async def test_who_answers_by_case_reference_and_by_plan(machine: Machine) -> None:
    by_reference = await machine("who", "DUD-2018-0066", "--json")
    assert by_reference.code == 0
    plan_id = by_reference.json[0]["plan_id"]
    assert (await machine("who", plan_id, "--json")).json == by_reference.json
    unknown = await machine("who", "DUD-0000-0000")
    assert unknown.code == 1
    assert "No plan of your councils has the case reference DUD-0000-0000" in unknown.err


async def test_an_officer_records_that_a_plan_was_sent(machine: Machine) -> None:
    async def share() -> dict[str, Any]:
        holders = (await machine("who", "DUD-2019-0091", "--json")).json
        [found] = [holder for holder in holders if holder["recipient_kind"] == "parent"]
        return dict(found)

    before = await share()
    assert before["status"] == "waiting"
    record = ("sent", before["share_id"], "--on", "2026-01-12", "--how", "post", "--by", "A. Officer", "--note", "Signed for")
    rehearsed = await machine(*record, "--dry-run")
    assert rehearsed.code == 0
    assert (await share())["status"] == "waiting"
    assert "restricted" not in rehearsed.out
    by = ("--by", "officer-1")
    assert (await machine("record", "restrict", before["plan_id"], "--reason", "hidden_address", *by)).code == 0
    recorded = await machine(*record)
    assert recorded.code == 0, recorded.err
    assert "the plan is restricted, and `ehcp who` says to send nothing" in recorded.out
    async with asyncio.timeout(60):
        while (await share())["status"] != "sent":
            await asyncio.sleep(0.1)
    assert (await share())["held_record"].endswith("recorded by A. Officer; the plan was restricted then; note: Signed for")
    assert (await machine("record", "lift", before["plan_id"], "--reason", "hidden_address", *by)).code == 0


async def test_coverage_is_counted_beside_the_share_gaps(machine: Machine) -> None:
    found = (await machine("coverage", "--la", "332", "--json")).json
    assert found["la_codes"] == ["332"]
    assert {"trust", "school", "parent"} <= {each["recipient_kind"] for each in found["kinds"]}
    assert sum(found["proof"].values()) == found["active"] == sum(each["active"] for each in found["kinds"])
    shown = await machine("coverage", "--agency", "trust")
    assert shown.code == 0, shown.err
    assert "active shares are satisfied" in shown.out
    wrong = await machine("coverage", "--agency", "owl")
    assert wrong.code == 2
    assert "--agency is one of adult_health, adult_social_care, " in wrong.err


async def test_publishing_again_changes_nothing(machine: Machine) -> None:
    again = await machine("publish", str(PLANS / "332" / "DUD-2018-0066"), "--json")
    assert again.code == 0, again.err
    assert [(row["version"], row["result"]) for row in again.json] == [(1, "unchanged"), (2, "unchanged")]


async def test_publishing_for_another_council_is_refused(machine: Machine) -> None:
    file = PLANS / "332" / "DUD-2018-0066" / "v1.json"
    refused = await machine("publish", str(file), "--council", "333")
    assert refused.code == 1
    assert "may not act for this council" in refused.out


async def test_publishing_what_is_not_there_is_wrong_use(machine: Machine) -> None:
    missing = await machine("publish", "nowhere")
    assert (missing.code, missing.err.strip()) == (2, "There is no nowhere.")


async def test_a_second_up_is_refused_and_disturbs_nothing(machine: Machine) -> None:
    before = (await machine("status", "--json")).json
    second = await machine("up")
    assert second.code == 2
    assert "already running" in second.err
    after = (await machine("status", "--json")).json
    assert after["phase"] == "ready"
    assert [part["pid"] for part in after["parts"]] == [part["pid"] for part in before["parts"]]


async def test_down_leaves_no_process_and_up_finds_its_ports_again(machine: Machine) -> None:
    ports = machine.ports()
    stopped = await machine("down")
    assert stopped.code == 0, stopped.err
    assert processes_of(machine.home) == []
    assert (await machine("status")).code == 4
    assert (await machine("who", "DUD-2018-0066")).code == 4
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", ports["audit"]))
        squatter.listen()
        again = await machine("up", "--detach", "--json")
    assert again.code == 0, again.err
    assert f"port {ports['audit']} of audit is in use" in (machine.home / "logs" / "supervisor.log").read_text()
    moved = machine.ports()
    assert moved.pop("audit") != ports.pop("audit")
    assert moved == ports
    assert {row["plan_id"] for row in again.json} == {row["plan_id"] for row in machine.first.json}


async def test_wipe_removes_the_folder(machine: Machine) -> None:
    rehearsed = await machine("down", "--wipe", "--dry-run")
    assert str(machine.home) in rehearsed.out
    assert (machine.home / "machine.json").exists()
    assert (await machine("down", "--wipe")).code == 0
    assert not machine.home.exists()
    assert processes_of(machine.home) == []
    assert (await machine("down")).code == 0


async def test_a_port_asked_for_and_in_use_is_wrong_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = await ehcp("up", "--home", str(tmp_path / "home"), "--port", f"ehcp_publisher={port}")
    assert refused.code == 2
    assert refused.err.strip().splitlines()[-1] == (
        f"Port {port}, asked for ehcp_publisher, is in use: stop what uses it, or ask for another."
    )


async def test_a_folder_of_an_older_version_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "machine.json").write_text('{"format": 0}')
    for command in (("up",), ("status",), ("who", "X"), ("migrate",)):
        refused = await ehcp(*command, "--home", str(home))
        assert refused.code == 4
        assert "was made by an older version (format 0, this one reads 1)" in refused.err


async def test_without_network_the_first_start_says_so_in_one_sentence(tmp_path: Path) -> None:
    """The jars are nowhere on this machine, and nothing answers where they would come from."""
    away = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), "http://127.0.0.1:9")
    environment = {**away, "M2_REPO": str(tmp_path / "m2"), "JGO_CONFIG_FILE": str(tmp_path / "none")}
    refused = await ehcp("up", "--home", str(tmp_path / "home"), environment=environment, within=120)
    assert refused.code == 4
    assert "could not be fetched" in refused.err.strip().splitlines()[-1]
    assert "Check the network or the proxy" in refused.err


async def test_engines_of_ones_own_are_used(kafka_server: RunningKafka) -> None:
    # A PostgreSQL of its own: the roles of the tests' shared one would get other passwords.
    async with running_postgres() as postgres, server_folder("own") as folder:
        environment = {"DATABASE_URL": postgres.admin_dsn(), **kafka_server.admin_login.environment()}
        home = str(folder / "home")
        done = await ehcp("up", "--once", "--no-samples", "--json", "--home", home, environment=environment)
    assert done.code == 0, done.err
    assert done.json == []
    assert "using the server of DATABASE_URL" in done.err
    assert "using the cluster of KAFKA_BOOTSTRAP_SERVERS" in done.err
    assert "audit: ready" in done.err
