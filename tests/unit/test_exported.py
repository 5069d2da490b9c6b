"""An exported plan: in which order its versions go, and what is no export at all."""

import zipfile
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from schemas.export import ExportedVersion, PlanExport
from services.cli.exported import in_order, unpacked
from services.cli.machine.errors import UsageError

PLAN = UUID("01920000-0000-7000-8000-000000000001")


def exported(current: int, *days: str, recalled: int = 0) -> PlanExport:
    """Versions 1, 2, … of these days."""
    versions = tuple(
        ExportedVersion(
            version_id=UUID(int=number), version=number, issued_on=date.fromisoformat(day), recalled=number == recalled
        )
        for number, day in enumerate(days, 1)
    )
    values: dict[str, Any] = {"events": (), "reviews": (), "earlier_councils": ()}
    return PlanExport(
        exported_on=date(2026, 1, 5), plan_id=PLAN, la_code="332", case_reference="DUD-1", state="transferred",
        current=current, versions=versions, **values,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "order"),
    [
        (exported(3, "2023-05-01", "2024-05-01", "2025-05-01"), [3, 1, 2]),
        (exported(1, "2025-05-01", "2024-05-01"), [1, 2]),  # an older one that came in late
        (exported(2, "2024-05-01", "2025-05-01", "2025-09-01", recalled=3), [2, 1]),
        # Of two of one day the later one is current; sent first, it would become history.
        (exported(3, "2024-05-01", "2025-05-01", "2025-05-01"), [2, 3, 1]),
    ],
)
def test_the_current_version_goes_before_its_history(plan: PlanExport, order: list[int]) -> None:
    assert [version.version for version in in_order(plan)] == order


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as error, unpacked(path, "333", None):
        pass
    return str(error.value)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "plan.zip"
    assert "cannot be read" in refused(file)
    file.write_bytes(b"PK\x03\x04 cut off")
    assert "no whole ZIP archive" in refused(file)


def test_an_archive_without_a_plan_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "photos.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("holiday/1.txt", "beach")
    assert "one folder with plan.json is needed" in refused(file)


def test_a_plan_of_a_later_format_is_not_guessed_at(tmp_path: Path) -> None:
    file = tmp_path / "plan.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("DUD-1/plan.json", '{"format": "ehcp.plan-export.v2"}')
    assert "not one that this version of the exchange reads" in refused(file)


def test_nothing_is_written_outside_of_its_own_folder(tmp_path: Path) -> None:
    file = tmp_path / "plan.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../escaped.json", "{}")
        archive.writestr(f"{tmp_path}/absolute.json", "{}")
    refused(file)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.zip"]
