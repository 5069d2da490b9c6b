"""Hands plan versions from files to the publisher, as a council's case system would.

Files are as in `deploy/sandbox/plans`: `v1.json`, `v2.json` … are submissions; `v1.pdf` beside one is its document and
`v1.attachments/` its attachments, in the order of their paths; an `.ndjson` file is a batch. Versions of one plan go in their
order, plans side by side.
Sending the same again is harmless, so a broken run is simply repeated.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from schemas.base import FROM_OUTSIDE
from schemas.plan import PlanSubmission
from schemas.refusals import sentences
from services.cli.exchange import Content, Exchange, ProblemError, Row
from services.cli.machine.errors import UsageError
from services.cli.output import RefusedError

VERSION_FILE = re.compile(r"v(\d+)\.json")
PLANS_AT_A_TIME = 4
# Answers of the publisher that mean: this very version is there already.
ALREADY_THERE = "same-text"
PLAN_EXISTS = "plan-exists"


@dataclass(frozen=True, slots=True)
class VersionFile:
    path: Path
    number: int
    content: Content


def collect(path: Path, document: Path | None = None) -> list[list[VersionFile]]:
    """The version files under a path, grouped by plan, each group in order. Raises UsageError when there are none."""
    if path.is_file():
        return [[read_version(path, document)]]
    if not path.is_dir():
        raise UsageError(f"There is no {path}.")
    if document is not None:
        raise UsageError("--document belongs to one file, not to a folder.")
    groups: dict[Path, list[VersionFile]] = {}
    for file in path.rglob("*.json"):
        if VERSION_FILE.fullmatch(file.name):
            groups.setdefault(file.parent, []).append(read_version(file))
    if not groups:
        raise UsageError(f"{path} has no files named v1.json, v2.json, … (one folder per plan).")
    return [sorted(groups[folder], key=lambda version: version.number) for folder in sorted(groups)]


def read_version(file: Path, document: Path | None = None) -> VersionFile:
    match = VERSION_FILE.fullmatch(file.name)
    beside = file.with_suffix(".pdf")
    attachments = file.with_name(f"{file.stem}.attachments")
    return VersionFile(
        file,
        int(match[1]) if match else 0,
        Content(
            file.read_bytes(),
            document or (beside if beside.exists() else None),
            tuple(sorted(path for path in attachments.rglob("*") if path.is_file())),
        ),
    )


def check(version: VersionFile) -> Row:
    """Judges a file against the contract without sending it."""
    try:
        submission = PlanSubmission.model_validate_json(version.content.submission, context=FROM_OUTSIDE)
    except ValidationError as error:
        return {
            "file": str(version.path),
            "result": "refused",
            "problem": f"{version.path.name}: {'; '.join(sentences(error))}",
        }
    return {
        "file": str(version.path),
        "case_reference": submission.case_reference,
        "la_code": submission.la_code,
        "result": "valid",
    }


async def publish_all(
    exchange: Exchange, plans: Sequence[Sequence[VersionFile]], council: str | None, done: Callable[[Row], None],
    by: str | None = None,
) -> list[Row]:  # fmt: skip
    """Issues every version, in the name of the officer `by`; `done` is told of each answer. A refused version does not stop
    the others."""
    places = asyncio.Semaphore(PLANS_AT_A_TIME)

    async def publish_plan(versions: Sequence[VersionFile]) -> list[Row]:
        async with places:
            rows = []
            for version in versions:
                row = await publish_version(exchange, version, council, by)
                rows.append(row)
                done(row)
            return rows

    results = await asyncio.gather(*(publish_plan(versions) for versions in plans))
    return [row for rows in results for row in rows]


async def publish_version(exchange: Exchange, version: VersionFile, council: str | None, by: str | None = None) -> Row:
    """One version: as the first of a plan, or, when the publisher says that the plan exists, as a further one."""
    row: Row = {"file": str(version.path)}
    try:
        version = replace(version, content=replace(version.content, submission=in_name_of(version.content.submission, by)))
        submission = submission_of(version)
        row["case_reference"] = submission.get("case_reference")
        la_code = council or submission.get("la_code")
        if not isinstance(la_code, str):
            raise RefusedError(
                f"{version.path} does not say whose plan it is: write la_code, or name the council with --council."
            )
        client_id = f"case-system-{la_code}"
        try:
            if "plan_id" in submission:
                content = further(version.content, submission)
                answer = await exchange.issue_further(client_id, submission["plan_id"], content)
            else:
                answer = await exchange.issue_first(client_id, version.content)
        except ProblemError as problem:
            if problem.kind != PLAN_EXISTS or "plan_id" not in problem.problem:
                raise
            content = further(version.content, submission)
            answer = await exchange.issue_further(client_id, problem.problem["plan_id"], content)
    except ProblemError as problem:
        if problem.kind == ALREADY_THERE:
            return {**row, **problem.problem, "result": "unchanged"}
        return {**row, "result": "refused", "problem": str(problem), "answer": problem.problem}
    except RefusedError as error:
        return {**row, "result": "refused", "problem": str(error)}
    return {**row, **answer, "result": answer.get("status", "issued")}


def submission_of(version: VersionFile) -> dict[str, Any]:
    try:
        submission = orjson.loads(version.content.submission)
    except orjson.JSONDecodeError as error:
        raise RefusedError(f"{version.path} is not JSON: {error}.") from error
    if not isinstance(submission, dict):
        raise RefusedError(f"{version.path} is not a submission: a JSON object is needed.")
    return submission


def in_name_of(submission: bytes, by: str | None) -> bytes:
    """A version, or a line of a batch, with the officer who issues it. An event has its own; what is no JSON stays as it is."""
    if by is None:
        return submission
    try:
        content = orjson.loads(submission)
    except orjson.JSONDecodeError:
        return submission
    if not isinstance(content, dict) or "event" in content:
        return submission
    return orjson.dumps(content | {"by": by})


def further(content: Content, submission: dict[str, Any]) -> Content:
    """The same version as a further one of its plan: only `version` is sent, and who issued it."""
    only_version = {name: submission[name] for name in ("version", "by") if name in submission}
    return Content(orjson.dumps(only_version), content.document, content.attachments)
