"""What an import remembers of a run that was broken off."""

from datetime import date
from pathlib import Path

import pytest

from services.cli.importing.plans import Version
from services.cli.importing.progress import Progress
from services.cli.importing.tables import Ref
from services.cli.output import RefusedError

REF = Ref("plans", "1", "", 0, 0, 2)
EXCHANGE = "http://council.test"


def version(text: bytes = b"{}", document: Path | None = None) -> Version:
    return Version(date(2026, 2, 10), text, document, (), REF)


def test_what_was_answered_is_known_after_a_kill_and_forgotten_after_the_end(tmp_path: Path) -> None:
    file = tmp_path / "set.import" / "progress.sqlite"
    progress = Progress(file, EXCHANGE)
    progress.note([(version(), "issued")])
    assert file.parent.stat().st_mode & 0o777 == 0o700
    progress.close(ended=False)
    again = Progress(file, EXCHANGE)
    assert again.answered(version())
    assert not again.answered(version(b'{"other": 1}'))
    again.close(ended=True)
    assert not file.parent.exists()


def test_another_exchange_or_another_document_is_another_matter(tmp_path: Path) -> None:
    file = tmp_path / "progress.sqlite"
    document = tmp_path / "plan.pdf"
    document.write_bytes(b"%PDF-1")
    progress = Progress(file, EXCHANGE)
    progress.note([(version(document=document), "issued")])
    document.write_bytes(b"%PDF-1.7")
    assert not progress.answered(version(document=document))
    progress.note([(version(), "issued")])
    progress.close(ended=False)
    other = Progress(file, "http://elsewhere.test")
    assert not other.answered(version())
    other.close(ended=True)


def test_two_imports_of_one_extract_at_a_time_are_one_too_many(tmp_path: Path) -> None:
    first = Progress(tmp_path / "progress.sqlite", EXCHANGE, patience=0.1)
    with pytest.raises(RefusedError, match="does another import of this extract run"):
        Progress(tmp_path / "progress.sqlite", EXCHANGE, patience=0.1)
    first.close(ended=False)


def test_a_damaged_file_costs_nothing_but_sending_again(tmp_path: Path) -> None:
    file = tmp_path / "progress.sqlite"
    file.write_bytes(b"this is no database, and it is long enough to be looked at as one" * 20)
    progress = Progress(file, EXCHANGE)
    assert not progress.answered(version())
    progress.close(ended=True)
