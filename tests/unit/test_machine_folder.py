"""The machine's data folder: formats, ports, who may start, what may be removed."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import psutil
import pytest

from services.cli.machine.errors import MachineError, UsageError
from services.cli.machine.folder import DataFolder
from services.cli.machine.keys import KeyRing
from services.cli.machine.ports import free_ports


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def new_folder(path: Path) -> DataFolder:
    folder = DataFolder(path / "home")
    folder.create()
    return folder


def set_format(folder: DataFolder, value: object) -> None:
    content = orjson.loads(folder.machine_file.read_bytes())
    folder.machine_file.write_bytes(orjson.dumps({**content, "format": value}))


@pytest.mark.parametrize(("found", "words"), [(0, "an older version"), (2, "a newer version"), ("x", "a newer version")])
def test_another_format_is_refused_in_one_sentence(tmp_path: Path, found: object, words: str) -> None:
    folder = new_folder(tmp_path)
    set_format(folder, found)
    with pytest.raises(MachineError) as refused:
        DataFolder(folder.path).create()
    assert words in str(refused.value)
    assert "ehcp down --wipe" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b"\xff\xfe"])
def test_a_broken_machine_file_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = new_folder(tmp_path)
    folder.machine_file.write_bytes(content)
    with pytest.raises(MachineError, match="cannot be read"):
        DataFolder(folder.path).create()


def test_a_file_in_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be read \(Not a directory\): name the data folder with --home"):
        DataFolder(tmp_path / "file").open()


def test_a_folder_with_other_things_in_it_is_neither_used_nor_wiped(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    folder = DataFolder(tmp_path)
    with pytest.raises(UsageError, match="holds other things"):
        folder.create()
    folder.wipe()
    assert (tmp_path / "thesis.txt").exists()


def test_ports_stay_the_same_over_restarts(tmp_path: Path) -> None:
    first = new_folder(tmp_path).choose_ports(["a", "b"], {}, print)
    again = DataFolder(tmp_path / "home")
    again.create()
    assert again.choose_ports(["a", "b"], {}, print) == first


def test_a_remembered_port_in_use_is_replaced_and_said(tmp_path: Path) -> None:
    folder, said = new_folder(tmp_path), list[str]()
    with taken_port() as port:
        folder.remembered.ports = {"a": port}
        chosen = folder.choose_ports(["a"], {}, said.append)
    assert chosen["a"] != port
    assert folder.remembered.ports == chosen
    [text] = said
    assert f"port {port} of a is in use" in text
    assert str(chosen["a"]) in text


def test_a_port_asked_for_in_use_is_refused(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    with taken_port() as port, pytest.raises(UsageError, match=f"Port {port}, asked for a, is in use"):
        folder.choose_ports(["a", "b"], {"a": port}, print)
    assert folder.remembered.ports == {}


def test_a_port_asked_for_is_taken_also_from_another_name(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    [port] = free_ports(1)
    folder.remembered.ports = {"b": port}
    chosen = folder.choose_ports(["a", "b"], {"a": port}, print)
    assert chosen["a"] == port
    assert chosen["b"] != port


@pytest.mark.parametrize("explicit", [{"c": 20_000}, {"a": 20_001, "b": 20_001}])
def test_ports_that_make_no_sense_are_refused(tmp_path: Path, explicit: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        new_folder(tmp_path).choose_ports(["a", "b"], explicit, print)


def test_only_one_supervisor_at_a_time(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    folder.take()
    other = DataFolder(folder.path)
    other.open()
    # This very process may take it again; another living one may not.
    other.take()
    other.remembered.supervisor_pid = os.getppid()
    other.remembered.supervisor_created = psutil.Process(os.getppid()).create_time()
    with pytest.raises(UsageError, match="already running"):
        other.take()


def test_a_process_id_used_again_by_another_process_is_no_supervisor(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    folder.remembered.supervisor_pid, folder.remembered.supervisor_created = os.getpid(), 1.0
    assert folder.supervisor() is None


def test_keys_are_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    ring = KeyRing(folder.keys)
    made = [ring.signing_key("token"), ring.master_key("council"), ring.webhook_secret("social-care")]
    before = [file.read_bytes() for file in made]
    password = ring.password("audit")
    again = KeyRing(folder.keys)
    assert [
        again.signing_key("token"),
        again.master_key("council"),
        again.webhook_secret("social-care"),
    ] == made
    assert [file.read_bytes() for file in made] == before
    assert again.password("audit") == password
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.keys.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.keys.stat().st_mode) == 0o700


def test_the_public_half_holds_no_private_key(tmp_path: Path) -> None:
    ring = KeyRing(new_folder(tmp_path).keys)
    assert "d" in orjson.loads(ring.signing_key("token").read_bytes())
    assert set(orjson.loads(ring.public_key_file("token").read_bytes())) >= {"kty", "crv", "x"}
    assert "d" not in orjson.loads(ring.public_key_file("token").read_bytes())
