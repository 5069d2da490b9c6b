"""`ehcp subscriber new`: what it makes, in a copy of the tree, passes its own tests and every check, and starts."""

import asyncio
import base64
import os
import shutil
import sys
from pathlib import Path

import orjson
import pytest
from joserfc.jwk import OKPKey
from typer.testing import CliRunner, Result

from services.cli.machine.kafka_access import load_access
from services.cli.machine.ports import free_ports
from services.cli.main import app
from tests.support.servers import RunningPostgres
from tests.support.services import REPOSITORY, RunningService
from tests.support.subscriber import books

pytestmark = pytest.mark.integration

SERVICE = "youth_offending_subscriber"
MADE = [
    f"services/{SERVICE}/__init__.py", f"services/{SERVICE}/app.py", f"services/{SERVICE}/mapping.py",
    f"services/{SERVICE}/record.py", f"tests/support/{SERVICE}_server.py", f"tests/contract/test_{SERVICE}.py",
    "docs/runbooks/youth-offending.md",
]  # fmt: skip


def new(tree: Path, name: str = "youth-offending", title: str = "Youth offending service", *more: str) -> Result:
    words = ["subscriber", "new", name, "--title", title, "--kind", "youth_offending_service", "--tree", str(tree), *more]
    return CliRunner().invoke(app, words)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source, with a new agency in it."""
    copy = tmp_path_factory.mktemp("tree")
    shutil.copy(REPOSITORY / "pyproject.toml", copy)
    for folder in ("services", "schemas", "deploy", "tests", "docs"):
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    made = new(copy)
    assert made.exit_code == 0, made.output
    for file in MADE:
        assert f"made {file}" in made.stdout
        assert (copy / file).is_file()
    return copy


async def passes(tree: Path, *command: str) -> None:
    """``command`` of this environment, in the copy."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / command[0]), *command[1:],
        cwd=tree, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()[-4000:]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_its_own_tests_pass_at_once(tree: Path) -> None:
    await passes(tree, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/contract/test_{SERVICE}.py")


@pytest.mark.slow
@pytest.mark.asyncio
async def test_it_passes_every_check(tree: Path) -> None:
    python = [file for file in MADE if file.endswith(".py")]
    await passes(tree, "ruff", "format", "--check", *python)
    await passes(tree, "ruff", "check", *python)
    await passes(tree, "lint-imports")
    await passes(tree, "mypy", *python)


def test_it_has_its_topics_its_account_and_nobody_elses(tree: Path) -> None:
    before, after = load_access(), load_access(tree / "deploy" / "kafka" / "topics.yaml")
    shares, receipts = "ehcp.shares.youth-offending.v1", "ehcp.receipts.youth-offending.v1"
    assert set(after.topics) - set(before.topics) == {shares, receipts}
    account = after.accounts[SERVICE]
    assert (account.group, account.reads, account.writes) == ("ehcp.youth-offending", (shares,), (receipts,))
    assert set(after.accounts["audit"].reads) - set(before.accounts["audit"].reads) == {receipts}
    assert set(after.accounts["ehcp_publisher"].writes) - set(before.accounts["ehcp_publisher"].writes) == {shares}
    assert {name: each for name, each in after.accounts.items() if name.endswith("_subscriber") and name != SERVICE} == {
        name: each for name, each in before.accounts.items() if name.endswith("_subscriber")
    }


@pytest.mark.asyncio
async def test_it_starts_and_is_ready(tree: Path, postgres_server: RunningPostgres, tmp_path: Path) -> None:
    owner_dsn = await books(postgres_server)
    key = orjson.dumps(OKPKey.generate_key("Ed25519").as_dict(private=True))
    entry = {"name": "record", "kind": "youth_offending", "url": "http://127.0.0.1:1", "token": "t", "allow_private": True}
    files = {
        "EHCP_CLIENT_KEY_FILE": key, "EHCP_RECEIPT_KEY_FILE": key, "EHCP_MASTER_KEY_FILE": base64.b64encode(os.urandom(32)),
        "EHCP_RECORD_SYSTEMS_FILE": orjson.dumps({"record_systems": [entry | {"recipients": "*"}]}),
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    environment = {
        "DATABASE_URL": postgres_server.dsn_as("health_subscriber", owner_dsn), "EHCP_FEED": "https",
        "EHCP_SUBSCRIBER": "youth-offending", "EHCP_COUNCIL_URL": "http://127.0.0.1:1", "EHCP_CLIENT_ID": "subscriber-yos",
        **{name: str(tmp_path / name) for name in files},
    }  # fmt: skip
    [port] = free_ports(1)
    service = RunningService(SERVICE, environment, port, tmp_path / "log", folder=tree)
    try:
        await service.start()
    finally:
        await service.stop()


def test_nothing_is_written_over(tree: Path, tmp_path: Path) -> None:
    again = new(tree)
    assert again.exit_code == 2
    assert "There is a subscriber youth-offending already" in again.output
    topics = tmp_path / "deploy" / "kafka" / "topics.yaml"
    topics.parent.mkdir(parents=True)
    topics.write_bytes((REPOSITORY / "deploy" / "kafka" / "topics.yaml").read_bytes())
    (tmp_path / "docs" / "runbooks").mkdir(parents=True)
    (tmp_path / "docs" / "runbooks" / "youth-offending.md").write_text("ours")
    before = topics.read_bytes()
    refused = new(tmp_path)
    assert refused.exit_code == 2
    assert "docs/runbooks/youth-offending.md" in refused.output
    assert topics.read_bytes() == before
    assert not (tmp_path / "services").exists()


def test_what_cannot_be_written_whole_is_not_begun(tmp_path: Path) -> None:
    topics = tmp_path / "deploy" / "kafka" / "topics.yaml"
    topics.parent.mkdir(parents=True)
    topics.write_bytes((REPOSITORY / "deploy" / "kafka" / "topics.yaml").read_bytes())
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "runbooks").write_text("a file where a folder belongs")
    before = topics.read_bytes()
    refused = new(tmp_path)
    assert refused.exit_code == 2
    assert "nothing was made" in refused.output
    assert topics.read_bytes() == before
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == {topics, tmp_path / "docs" / "runbooks"}


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    topics = tmp_path / "deploy" / "kafka" / "topics.yaml"
    topics.parent.mkdir(parents=True)
    topics.write_bytes((REPOSITORY / "deploy" / "kafka" / "topics.yaml").read_bytes())
    would = new(tmp_path, "youth-offending", "Youth offending service", "--dry-run")
    assert would.exit_code == 0
    assert all(f"would make {file}" in would.stdout for file in MADE)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [topics]


@pytest.mark.parametrize(
    ("name", "title", "says"),
    [
        ("Youth", "A title", "small letters"),
        ("../x", "A title", "small letters"),
        ("x" * 31, "A title", "at most 30"),
        ("health", "A title", "There is a subscriber health already"),
        ("advice", 'A "title"', "one line of letters"),
        ("advice", "A title\nof two", "one line of letters"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name: str, title: str, says: str) -> None:
    refused = new(REPOSITORY, name, title, "--dry-run")
    assert refused.exit_code == 2
    assert says in refused.output


def test_a_folder_that_is_no_tree_is_refused(tmp_path: Path) -> None:
    assert "is no source tree" in new(tmp_path).output
