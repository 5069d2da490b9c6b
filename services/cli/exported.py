"""A plan that another exchange exported (`ehcp export`), taken in with its history.

Invariant: the version that was current there comes first, and the older ones after it, so that they are history from the
beginning: nobody is sent an old version, and the school that a child left years ago is not told where it is now. When one is
refused, none of those after it is sent. Last comes whose the plan was and which reviews were held there: the next is then due
when it should be. Sending the same again is harmless.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from pydantic import ValidationError

from schemas.export import PLAN_FILE, ExportedVersion, PlanExport, still_in_force
from schemas.lifecycle import PastReview, TakenOver, Transfer
from schemas.manifest import NotCanonicalError, section_hash
from services.cli.exchange import Content, Exchange, ProblemError, Row
from services.cli.machine.errors import UsageError
from services.cli.publishing import VersionFile, publish_version, read_version
from services.shared.law.counting import london_date

ARCHIVE = ".zip"
MAX_BYTES = 4 * 2**30
"""Of all files in an archive, unpacked."""
MAX_FILES = 10_000
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What reading a damaged archive raises."""


@dataclass(frozen=True, slots=True)
class TakenOut:
    """``versions`` as the new council's, in the order in which they are to be sent; ``described`` as the old one told it."""

    versions: list[VersionFile]
    described: PlanExport


@contextmanager
def unpacked(path: Path, council: str, case_reference: str | None) -> Iterator[TakenOut]:
    """What the archive holds; gone from the disk afterwards.

    Raises :class:`UsageError` where it is no export, or not as it was exported.
    """
    with TemporaryDirectory(prefix="ehcp-plan-") as folder:
        described, place = unpack(path, Path(folder))
        files = []
        for version in in_order(described):
            file = place / f"v{version.version}.json"
            files.append(handed_over(file, version, council, case_reference))
        yield TakenOut(files, described)


def unpack(path: Path, folder: Path) -> tuple[PlanExport, Path]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise UsageError(f"{path} holds more than a plan can have.")
            archive.extractall(folder)  # which leaves no file outside of the folder
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from error
    except BROKEN_ZIP as error:
        raise UsageError(f"{path} is no whole ZIP archive: export the plan again.") from error
    found = sorted(folder.glob(f"*/{PLAN_FILE}"))
    if len(found) != 1:
        raise UsageError(f"{path} is no exported plan: one folder with {PLAN_FILE} is needed.")
    try:
        return PlanExport.model_validate_json(found[0].read_bytes()), found[0].parent
    except ValidationError as error:
        raise UsageError(f"{path}: {PLAN_FILE} is not one that this version of the exchange reads.") from error


def in_order(described: PlanExport) -> list[ExportedVersion]:
    """The current one first. One of the same day goes before it: the later of two of one day is the current one."""
    standing = [version for version in described.versions if not version.recalled]
    today = next((each.issued_on for each in standing if each.version == described.current), None)
    return sorted(standing, key=lambda each: (each.issued_on != today, each.version))


def handed_over(file: Path, version: ExportedVersion, council: str, case_reference: str | None) -> VersionFile:
    """One version under its new council and reference, once it is seen to be what was exported."""
    try:
        submission: dict[str, Any] = orjson.loads(file.read_bytes())
        sections = submission["version"].get("sections", {})
        whole = {letter: section_hash(section) for letter, section in sections.items()} == version.sections
    except (OSError, orjson.JSONDecodeError, KeyError, AttributeError, TypeError, NotCanonicalError):
        whole = False
    if not whole or not same_files(read_version(file).content, version):
        raise UsageError(f"{file.name} or a file beside it is not as it was exported: export the plan again.")
    submission |= {"la_code": council} | ({"case_reference": case_reference} if case_reference else {})
    file.write_bytes(orjson.dumps(submission))
    return read_version(file)


def same_files(content: Content, version: ExportedVersion) -> bool:
    files = [content.document, *content.attachments]
    found = [file and hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return found == [version.document and version.document.sha256, *(entry.sha256 for entry in version.attachments)]


async def take_over(exchange: Exchange, taken: TakenOut, council: str, by: str | None = None) -> list[Row]:
    """The versions, and once all of them are there where they came from and which reviews were held there."""
    rows: list[Row] = []
    for version in taken.versions:
        row = await publish_version(exchange, version, council, by)
        rows.append(row | {"file": version.path.name})
        if row["result"] in ("refused", "held"):  # an older one must not become the current one meanwhile
            return rows
    if warning := still_in_force(taken.described.la_code, taken.described.state):
        rows[0] |= {"warnings": [*rows[0].get("warnings", ()), warning]}
    plan = next(row for row in rows if "plan_id" in row)
    return [*rows, await tell_past(exchange, taken.described, plan, council, by)]


async def tell_past(exchange: Exchange, described: PlanExport, plan: Row, council: str, by: str | None) -> Row:
    row: Row = {"file": PLAN_FILE, "case_reference": plan["case_reference"], "plan_id": plan["plan_id"]}
    event = orjson.dumps(taken_over(described, by or "import").model_dump(mode="json", exclude_none=True))
    try:
        answer = await exchange.record_event(f"case-system-{council}", plan["plan_id"], Content(event))
    except ProblemError as refused:
        return row | {"result": "refused", "answer": refused.problem, "problem": str(refused)}
    return row | {"result": answer["status"], "reviews": len(past_reviews(described)), "answer": answer}


def taken_over(described: PlanExport, by: str) -> TakenOver:
    transfers = [london_date(each.recorded_at) for each in described.events if isinstance(each.event, Transfer)]
    on = max(transfers, default=described.exported_on)
    return TakenOver(by=by, from_la_code=described.la_code, transferred_on=on, reviews=past_reviews(described))


def past_reviews(described: PlanExport) -> tuple[PastReview, ...]:
    """Those that were held. A meeting that still lies ahead is the new council's to arrange."""
    return tuple(
        PastReview(
            review=each.review, held_on=each.held_on, reported_on=each.reported_on, decision=each.decision,
            decided_on=each.decided_on,
        )
        for each in described.reviews
        if each.held_on is not None
    )  # fmt: skip
