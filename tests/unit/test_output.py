"""What the command line writes for spreadsheets, and what it reads of archives that are damaged."""

import io
import zipfile
from pathlib import Path

import pytest
from rich.console import Console

from services.cli import breach_pack, exported, output
from services.cli.machine.errors import UsageError
from services.cli.output import csv_of, print_table
from services.shared.identity.signed_documents import SignedDocumentError


@pytest.mark.parametrize("word", ["=1+1", "+44", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_another_s_words_are_no_formula_in_a_spreadsheet(word: str) -> None:
    [_, row] = csv_of(["reason", "count"], [{"reason": word, "count": -1}]).split("\r\n", 1)
    assert row.lstrip('"').startswith(f"'{word[0]}")
    assert row.endswith(",-1\r\n"), "numbers stay numbers"


def damaged() -> bytes:
    """The bytes of its one file no longer unpack."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("pack.json", b'{"document": {}}' * 100)
    data = bytearray(file.getvalue())
    begin = 30 + len("pack.json")
    data[begin : begin + 4] = b"\xff\xff\xff\xff"
    return bytes(data)


def test_a_damaged_breach_pack_is_said_to_be_one() -> None:
    with pytest.raises(SignedDocumentError, match="damaged"):
        breach_pack.opened(damaged())


def test_a_damaged_export_is_said_to_be_one(tmp_path: Path) -> None:
    file = tmp_path / "plan.zip"
    file.write_bytes(damaged())
    with pytest.raises(UsageError, match="no whole ZIP archive"):
        exported.unpack(file, tmp_path)


def test_on_a_narrow_terminal_every_row_becomes_lines_and_nothing_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {"agency": "Agency", "current": "Current", "absent": "Absent"}
    rows = [{"agency": "Sandwell and West Birmingham Hospitals", "current": 46, "absent": 3}]
    monkeypatch.setattr(output, "out", Console(width=30))
    print_table(columns, rows, ("absent",))
    told = capsys.readouterr()
    assert told.out == "Sandwell and West Birmingham Hospitals\n  Current: 46\n  Absent: 3\n"
    assert "Too narrow" not in told.err


def test_a_list_without_rows_is_a_sentence_and_no_heading(capsys: pytest.CaptureFixture[str]) -> None:
    print_table({"id": "Id"}, [], empty="There are no open dead letters.")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "There are no open dead letters.\n")
