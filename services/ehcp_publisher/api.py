"""HTTP in: versions and events from councils, documents and share lists for subscribers.

No rules here; see ``issuing``, ``events``, ``overview`` and ``reads``.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeVar
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from schemas.base import FROM_OUTSIDE
from schemas.documents import ReadRequest
from schemas.lifecycle import PLAN_EVENT, CommissionerChanged, EventLine, PlanEvent
from schemas.plan import PlanSubmission, VersionLine, VersionSubmission
from services.ehcp_publisher.documents import MAX_BYTES as MAX_FILE_BYTES
from services.ehcp_publisher.documents import Received, receive_attachment, receive_document
from services.ehcp_publisher.events import Events
from services.ehcp_publisher.export import Export
from services.ehcp_publisher.idempotency import Answer, Once
from services.ehcp_publisher.issuing import Issuing, Result, Submission
from services.ehcp_publisher.overview import Overview
from services.ehcp_publisher.reads import MAX_READS, Reads
from services.shared.identity.tokens import Caller, CallerKind, Verifier
from services.shared.json import dumps, json_answer
from services.shared.postgres.pool import transient
from services.shared.web.problems import FieldError, Problem, invalid

log = structlog.get_logger()
Model = TypeVar("Model", bound=BaseModel)

MAX_BODY = 512 * 2**20
"""Bytes of one request: a document and its attachments of 25 MiB each, or a batch."""
MAX_FILES = 60
MAX_LINES = 10_000
MAX_LINE_BYTES = 8 * 2**20
CHUNK = 100
"""Lines issued in one transaction."""
OPEN = ("gaps", "flags", "confirmations")
_TEMPLATE = "a PDF in the part 'document', the JSON in the part 'submission', other files in parts 'attachment'"


def make_router(
    issuing: Issuing, events: Events, overview: Overview, exporting: Export, reads: Reads, verifier: Verifier, pool: Any
) -> APIRouter:  # fmt: skip
    router = APIRouter(prefix="/v1")
    CallerOf = Annotated[Caller, Depends(verifier)]

    @router.post("/plans", status_code=201, summary="Issue the first version of a plan")
    async def first_version(
        request: Request, caller: CallerOf, idempotency_key: Annotated[str | None, Header(max_length=200)] = None
    ) -> Response:
        caller.must_be(CallerKind.CASE_SYSTEM, CallerKind.OPERATOR)
        received = await _receive(request)
        first = parse(PlanSubmission, received.json)
        caller.must_act_for(first.la_code)
        submission = Submission(
            first.version, first=first, document=received.document, attachments=received.attachments, by=first.by
        )
        return await _answer(caller, "POST /v1/plans", idempotency_key, received, partial(_issue_one, submission, caller))

    @router.post("/plans/{plan_id}/versions", status_code=201, summary="Issue a further version")
    async def further_version(
        plan_id: UUID, request: Request, caller: CallerOf,
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    ) -> Response:  # fmt: skip
        caller.must_be(CallerKind.CASE_SYSTEM, CallerKind.OPERATOR)
        received = await _receive(request)
        further = parse(VersionSubmission, received.json)
        submission = Submission(
            further.version, plan_id, document=received.document, attachments=received.attachments, by=further.by
        )
        route = f"POST /v1/plans/{plan_id}/versions"
        return await _answer(caller, route, idempotency_key, received, partial(_issue_one, submission, caller))

    async def _issue_one(submission: Submission, caller: Caller, once: Once | None) -> Answer:
        (result,) = await issuing.issue(caller, [submission], once)
        if isinstance(result, Problem):
            raise result
        return result

    async def _answer(
        caller: Caller, route: str, key: str | None, received: _Received, do: Callable[[Once | None], Awaitable[Answer]]
    ) -> Response:
        once = Once(caller.client_id, route, key, received.hash) if key else None
        answer = await (once.answer(pool, lambda: do(once)) if once else do(None))
        return json_answer(answer.body, answer.status)

    @router.post("/plans/{plan_id}/events", status_code=201, summary="Record what happened to a plan")
    async def event(
        plan_id: UUID, request: Request, caller: CallerOf,
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    ) -> Response:  # fmt: skip
        """Cease notice, cease, re-opening, transfer, corrections, changes around the child, reviews, recall and more.

        A subscriber that delivers to the plan's commissioning body may tell of one thing: a change of that body (reg 16).
        """
        caller.must_be(CallerKind.CASE_SYSTEM, CallerKind.OPERATOR, CallerKind.SUBSCRIBER)
        if caller.kind is CallerKind.SUBSCRIBER:
            caller = await events.for_commissioner(caller, plan_id)
        received = await _receive(request, "event")
        happened: PlanEvent = parse(PLAN_EVENT, received.json, "event")
        if caller.kind is CallerKind.SUBSCRIBER and not isinstance(happened, CommissionerChanged):
            raise Problem(
                403, "not-allowed", "This client may not do this", "A subscriber tells of commissioner_changed alone."
            )
        recorded = partial(events.record, caller, plan_id, happened, received.document, received.attachments)
        return await _answer(caller, f"POST /v1/plans/{plan_id}/events", idempotency_key, received, recorded)

    @router.get("/plans", summary="The council's plans, paged")
    async def plans(
        caller: CallerOf, after: UUID | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 500,
        case_reference: Annotated[str | None, Query(max_length=100)] = None,
    ) -> Response:  # fmt: skip
        """With `case_reference`, only the plan that has it, of each of the council's own."""
        caller.must_be(CallerKind.CASE_SYSTEM, CallerKind.OPERATOR)
        page = await overview.plans(caller, after, limit, case_reference=case_reference)
        gone = await overview.transferred(caller) if after is None and case_reference is None else []
        following = page[-1]["plan_id"] if len(page) == limit else None
        return json_answer({"plans": page, "next": following, "transferred": gone})

    @router.get("/plans/{plan_id}", summary="One plan with its history")
    async def plan(plan_id: UUID, caller: CallerOf) -> Response:
        caller.must_be(CallerKind.CASE_SYSTEM, CallerKind.OPERATOR)
        return json_answer(await overview.plan(caller, plan_id))

    @router.get("/plans/{plan_id}/export", summary="One plan with its versions and files, for a council elsewhere")
    async def export(plan_id: UUID, caller: CallerOf) -> Response:
        """A ZIP archive that `ehcp publish` takes in another exchange. Recalled versions are left out."""
        caller.must_be(CallerKind.CASE_SYSTEM, CallerKind.OPERATOR)
        name, archive = await exporting.export(caller, plan_id)
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return StreamingResponse(archive, headers=headers, media_type="application/zip")

    def list_open(what: str) -> None:
        @router.get(f"/{what}", name=what, summary=f"Open {what.replace('gaps', 'share gaps')} of the council's plans, paged")
        async def open_(
            caller: CallerOf, after_plan: UUID | None = None, after_name: str = "",
            limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
        ) -> Response:  # fmt: skip
            caller.must_be(CallerKind.CASE_SYSTEM, CallerKind.OPERATOR)
            page = await overview.open(caller, what, (after_plan, after_name) if after_plan else None, limit)
            last = page[-1] if len(page) == limit else None
            following = last and {"after_plan": last["plan_id"], "after_name": last["name"]}
            return json_answer({what: page, "next": following})

    for what in OPEN:
        list_open(what)

    @router.post("/batch", summary="Issue many versions: NDJSON in, one answer per line out")
    async def batch(request: Request, caller: CallerOf, render: bool = True) -> Response:
        """Each line is a first version (as for /v1/plans), ``{"plan_id": …, "version": …}`` or ``{"plan_id": …, "event": …}``.

        A repeated line is harmless, so the whole batch may be sent again. ``render=false`` makes no PDF: recipients get
        the sections alone.
        """
        caller.must_be(CallerKind.CASE_SYSTEM, CallerKind.OPERATOR)
        answers: list[bytes] = []
        chunk: list[bytes] = []
        async for line in _lines(request):
            chunk.append(line)
            if len(chunk) == CHUNK:
                answers += await _issue_lines(caller, chunk, len(answers), render)
                chunk = []
            if len(answers) + len(chunk) > MAX_LINES:
                raise Problem(
                    413, "too-many-lines", "Too many lines in one batch",
                    f"At most {MAX_LINES}; the first {len(answers)} were taken in. Repeating them is harmless.",
                )  # fmt: skip
        answers += await _issue_lines(caller, chunk, len(answers), render)
        return Response(b"".join(answers), media_type="application/x-ndjson")

    async def _issue_lines(caller: Caller, lines: list[bytes], before: int, render: bool) -> list[bytes]:
        results: list[Result | None] = [None] * len(lines)
        submissions: dict[int, Submission] = {}

        async def issue() -> None:
            for index, result in zip(submissions, await issuing.issue(caller, list(submissions.values())), strict=True):
                results[index] = result
            submissions.clear()

        for index, line in enumerate(lines):
            await asyncio.sleep(0)  # a subscriber that reads meanwhile waits for one line, not for all
            try:
                match _line(caller, line, render):
                    case Submission() as submission:
                        submissions[index] = submission
                    case EventLine() as happened:
                        await issue()  # an event concerns what was sent before it
                        results[index] = await events.record(caller, happened.plan_id, happened.event)
            except Problem as problem:
                results[index] = problem
            except Exception as error:  # whatever it is, it is this line's own: the others go through
                if transient(error):
                    raise
                log.exception("event_failed")
                results[index] = Problem(500, "internal", "This event could not be stored", "Nothing was kept; send it again.")
        await issue()
        return [_line_answer(before + index + 1, result) for index, result in enumerate(results)]

    @router.post("/documents/read", summary="Read renderings by (share, seq): NDJSON, one line each")
    async def documents(request: Request, caller: CallerOf) -> Response:
        caller.must_be(CallerKind.SUBSCRIBER)
        wanted = parse(ReadRequest, await request.body()).reads
        if len(wanted) > MAX_READS:
            raise Problem(413, "too-many-reads", "Too many reads at once", f"At most {MAX_READS} in one request.")
        lines = reads.read(caller.client_id, caller.subscriber or "", wanted)
        # The first line is made before the answer begins, so that a failure to authorise is still an error status.
        first = await anext(lines, None)

        async def body() -> AsyncIterator[bytes]:
            if first is not None:
                yield first
            async for line in lines:
                yield line

        return StreamingResponse(body(), media_type="application/x-ndjson")

    @router.get("/shares", summary="The calling subscriber's own shares, paged")
    async def shares(
        caller: CallerOf,
        after: UUID | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
        unanswered: bool = False,
    ) -> Response:
        caller.must_be(CallerKind.SUBSCRIBER)
        page = await reads.list_shares(caller.subscriber or "", after, limit, unanswered=unanswered)
        following = page[-1]["share_id"] if len(page) == limit else None
        return json_answer({"shares": page, "next": following})

    return router


@dataclass(frozen=True, slots=True)
class _Received:
    """What came in, whichever way: the JSON and the files."""

    json: bytes
    document: Received | None
    attachments: tuple[Received, ...]

    @property
    def hash(self) -> str:
        """Over all parts, for idempotency; a multipart boundary differs at every try and does not count."""
        digest = hashlib.sha256(self.json)
        for file in (self.document, *self.attachments):
            digest.update(file.sha256.encode() if file else b"-")
        return digest.hexdigest()


class _InMemory(MultiPartParser):
    """Files never touch the disk: there, they would be the one copy that is not sealed."""

    spool_max_size = MAX_BODY


async def _receive(request: Request, name: str = "submission") -> _Received:
    """``name``: the part of multipart/form-data that holds the JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return _Received(await _json(request), None, ())
    if kind != "multipart/form-data":
        raise Problem(415, "media-type", "Unknown content type", "Send application/json, or multipart/form-data: " + _TEMPLATE)
    parser = _InMemory(request.headers, request.stream(), max_files=MAX_FILES, max_fields=5, max_part_size=MAX_LINE_BYTES)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise _broken(error.message) from None
    try:
        return await _parts(form, name)
    finally:
        await form.close()


async def _json(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_LINE_BYTES:
            raise _submission_too_large()
    return bytes(body)


async def _parts(form: FormData, name: str) -> _Received:
    template = _TEMPLATE.replace("submission", name)
    unknown = form.keys() - {name, "document", "attachment"}
    if unknown:
        raise Problem(422, "unknown-part", "Unknown part", "Send " + template)
    submissions, documents = form.getlist(name), form.getlist("document")
    if not submissions:
        raise Problem(
            422, f"no-{name}", f"The part '{name}' is missing", "Send " + template,
            [FieldError(name, "missing", f"the {name} as JSON" if name == "event" else "the plan version as JSON")],
        )  # fmt: skip
    if len(submissions) > 1:
        raise Problem(422, name, f"Send one {name}", f"There are several parts '{name}'.")
    if len(documents) > 1 or any(isinstance(document, str) for document in documents):
        raise Problem(422, "document", "Send one document, as a file", "Further files go in parts 'attachment'.")
    attachments = form.getlist("attachment")
    if any(isinstance(attachment, str) for attachment in attachments):
        raise Problem(422, "attachment", "Send attachments as files", "A part 'attachment' has no filename.")
    (submission,) = submissions
    text = submission.encode() if isinstance(submission, str) else await submission.read(MAX_LINE_BYTES + 1)
    if len(text) > MAX_LINE_BYTES:
        raise _submission_too_large()
    received = [await _file(document, receive_document) for document in documents if isinstance(document, UploadFile)]
    return _Received(
        text,
        received[0] if received else None,
        tuple([await _file(each, receive_attachment) for each in attachments if isinstance(each, UploadFile)]),
    )


async def _file(file: UploadFile, receive: Callable[[str, bytes], Received]) -> Received:
    """Judged beside the event loop; one byte more than allowed is enough to refuse it."""
    data = await file.read(MAX_FILE_BYTES + 1)
    return await asyncio.to_thread(receive, file.filename or "", data)


def _submission_too_large() -> Problem:
    return Problem(413, "too-large", "The submission is too large", f"At most {MAX_LINE_BYTES // 2**20} MiB of JSON.")


def _broken(message: str) -> Problem:
    """From the parser's own words, which hold nothing of the input."""
    if message.startswith("Too many"):
        return Problem(422, "too-many-parts", "There are too many parts", f"At most {MAX_FILES} files in one request.")
    if message.startswith("Part exceeded"):
        return _submission_too_large()
    return Problem(400, "malformed", "This is not multipart/form-data", f"{message.rstrip('.')}. Send {_TEMPLATE}")


def parse(model: type[Model] | TypeAdapter[Model], body: bytes, within: str | None = None) -> Model:
    """Raises :class:`Problem`: 400 when it is no JSON, 422 when it does not fit. ``within`` begins the names of fields."""
    try:
        read = model.validate_json if isinstance(model, TypeAdapter) else model.model_validate_json
        return read(body, context=FROM_OUTSIDE)
    except ValidationError as error:
        errors = error.errors(include_input=False, include_url=False)
        errors = [each | {"loc": (within, *each["loc"])} for each in errors] if within else errors
        if errors[0]["type"] == "json_invalid":
            where = str(errors[0].get("ctx", {}).get("error", "")).partition(" at ")
            raise Problem(
                400, "malformed", "This is not JSON",
                f"{where[0]}{' at ' + where[2] if where[2] else ''}. Send JSON in UTF-8.".lstrip(". "),
            ) from None  # fmt: skip
        raise invalid(errors) from None


def _line(caller: Caller, line: bytes, render: bool) -> Submission | EventLine:
    if len(line) > MAX_LINE_BYTES:
        raise Problem(413, "too-large", "The line is too large", f"At most {MAX_LINE_BYTES // 2**20} MiB in one line.")
    # Which of the three a line is shows in its keys; a cheap look spares parsing the text twice.
    if b'"event"' in line[:200] and b'"version"' not in line[:200]:
        return parse(EventLine, line)
    if b'"plan_id"' in line[:200] or (b'"case_reference"' not in line and b'"plan_id"' in line):
        further = parse(VersionLine, line)
        return Submission(further.version, further.plan_id, render=render, by=further.by)
    first = parse(PlanSubmission, line)
    caller.must_act_for(first.la_code)
    return Submission(first.version, first=first, render=render, by=first.by)


def _line_answer(number: int, result: Result | None) -> bytes:
    match result:
        case Answer(status, body):
            answer = body | {"line": number, "status": status, "result": body["status"]}
        case Problem():
            answer = {"line": number, "status": result.status, "problem": result.as_json()}
        case _:
            raise AssertionError("every line has a result")
    return dumps(answer) + b"\n"


async def _lines(request: Request) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in request.stream():
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
        # One line that is too large is refused by itself; what is beyond the limit need not be kept for that.
        rest = rest[: MAX_LINE_BYTES + 1]
    if rest.strip():
        yield rest
