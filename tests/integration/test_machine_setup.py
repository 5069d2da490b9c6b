"""`make setup`: nothing to do when all is current, one sentence when there is no network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.machine import fhir
from services.cli.machine.errors import MachineError

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
NOWHERE = "http://127.0.0.1:9"


def test_setup_is_silent_and_does_nothing_when_current() -> None:
    command = [sys.executable, "deploy/setup_environment.py"]  # all that `make setup` runs
    subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)
    stamp = REPOSITORY / ".venv" / "ready"
    before = stamp.stat().st_mtime_ns
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stamp.stat().st_mtime_ns == before


def test_setup_without_network_is_one_sentence_and_leaves_no_stamp(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    for name in ("deploy/setup_environment.py", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    done = subprocess.run(
        [sys.executable, "deploy/setup_environment.py"],
        cwd=tmp_path,
        env={**environment, "PIP_INDEX_URL": NOWHERE, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("No package index could be reached")
    assert "run `make setup` again" in last
    assert not (tmp_path / ".venv" / "ready").exists()


def test_packages_of_the_fhir_server_without_network_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(fhir.SERVER / name, tmp_path / name)
    monkeypatch.setattr(fhir, "SERVER", tmp_path)
    monkeypatch.setenv("npm_config_registry", NOWHERE)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    with pytest.raises(MachineError, match=r"could not be fetched.*npm registry") as refused:
        fhir.install_packages(lambda _text: None)
    assert "EHCP_FHIR_URL" in str(refused.value)
    assert not (tmp_path / "node_modules" / ".installed").exists()


def test_locks_hold_hashes_and_no_addresses() -> None:
    for name in ("requirements.lock", "deploy/kafka/jgo.lock.toml", "deploy/sandbox/fhir/package-lock.json"):
        text = (REPOSITORY / name).read_text()
        assert "://" not in text, name
        assert any(sign in text for sign in ("--hash=sha256:", "sha256 = ", '"integrity": "sha512-')), name
