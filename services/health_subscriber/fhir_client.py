"""Speaks FHIR R4 over HTTP and turns whatever a server does wrong into one :class:`FhirError` with an outcome.

Invariants: nothing that names a child is ever in an address (searches go in a body), in an error or in a log; redirects
are not followed and pages of results only within the server's own address, so that no record leaves for another host;
a server's own words (``diagnostics``) are never repeated, since they quote what was sent. Relies on what the R4 standard
promises and asks the server's CapabilityStatement for what it leaves open. Used by :mod:`services.health_subscriber.fhir`.
"""

import asyncio
import base64
import binascii
import ipaddress
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx2
import orjson
import structlog

from services.shared.clock import Clock, utc_now
from services.shared.record_systems.guarded_http import retry_after
from services.shared.record_systems.port import Refused, Retry

log = structlog.get_logger()

Resource = dict[str, Any]

FHIR_JSON = "application/fhir+json"
_HEADERS = {
    "Accept": FHIR_JSON,
    # HAPI answers a repeated search from a cache for up to a minute; after a write that would be the state before it.
    "Cache-Control": "no-cache",
    # A server that ignores a search parameter answers with everybody's records.
    "Prefer": "handling=strict",
}
_BATCH_ENTRIES = 40
_BATCH_BYTES = 4 * 1024 * 1024
_ALONE_BYTES = 1024 * 1024
"""A larger file is read by itself and raw: inside a Bundle it would be base64 inside JSON."""
_PAGES = 50
ASK_AGAIN = timedelta(days=1)


class FhirError(Exception):
    """A request failed. ``unreachable``: no answer at all, so that further requests now would only wait."""

    def __init__(self, outcome: Retry | Refused, *, unreachable: bool = False) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome
        self.unreachable = unreachable


class ChangedMeanwhileError(FhirError):
    """Somebody changed what the transaction was fenced on. Read again and decide again."""


@dataclass(frozen=True, slots=True)
class Search:
    type: str
    parameters: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A Binary's bytes. ``url`` as a record gives it: relative to the server's address, or below it."""

    url: str
    media_type: str
    size: int
    """As expected, to choose how to read it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search matched, all pages."""

    resources: list[Resource]


@dataclass(frozen=True, slots=True)
class FileRead:
    """A Binary's bytes; None when there is no such file."""

    data: bytes | None


Answer = Found | FileRead | FhirError


@dataclass(frozen=True, slots=True)
class Capabilities:
    assign_binary_ids: bool
    """A client may choose the id of a new Binary (``updateCreate``)."""
    batch: bool
    """Several reads in one request."""


class FhirClient:
    """One server. At most ``concurrency`` requests at a time; each is given up after ``timeout`` seconds."""

    def __init__(
        self,
        url: str,
        *,
        auth: httpx2.Auth | None = None,
        timeout: float = 15.0,
        concurrency: int = 8,
        clock: Clock = utc_now,
    ) -> None:
        self._base = httpx2.URL(url.rstrip("/"))
        _check_address(self._base)
        self._timeout = timeout
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrency)
        self._capabilities: Capabilities | None = None
        self._ask_at: datetime | None = None
        """When the server is asked again what it can do; None is now."""
        self.unfit: str | None = "it has not been asked yet what it can do"
        """Why nothing can be filed there, as far as the last answer, or its lack, says; None where all is well."""
        self._http = httpx2.AsyncClient(
            auth=auth,
            headers=_HEADERS,
            timeout=timeout,
            follow_redirects=False,
            # A proxy that the environment happens to name must not see a child's record.
            trust_env=False,
            # Plain http:// goes to this machine only; reading all authorities for it takes longer than a plan.
            verify=self._base.scheme == "https" or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def capabilities(self) -> Capabilities:
        """What the server says of itself: read before anything else, once a day, and after every outage, since a server that
        was away may come back as another. Raises FhirError where that will not do."""
        if self._capabilities is None or self._ask_at is None or self._clock() >= self._ask_at:
            self._capabilities = await self.ask()
        return self._capabilities

    @property
    def known(self) -> Capabilities:
        """As they were read last; somebody has asked before."""
        assert self._capabilities is not None
        return self._capabilities

    async def ask(self) -> Capabilities:
        """Read it now. Raises FhirError."""
        try:
            statement = _resource(await self._send("GET", "metadata"), "CapabilityStatement")
            _check_statement(statement)
        except FhirError as error:
            self._judged(error.outcome.reason)
            raise
        rests = [each for each in statement.get("rest") or [] if each.get("mode") == "server"]
        interactions = {each.get("code") for rest in rests for each in rest.get("interaction") or []}
        binaries = [each for rest in rests for each in rest.get("resource") or [] if each.get("type") == "Binary"]
        self._capabilities = Capabilities(
            assign_binary_ids=any(each.get("updateCreate") is True for each in binaries),
            batch="batch" in interactions,
        )
        self._ask_at = self._clock() + ASK_AGAIN
        self._judged(None)
        return self._capabilities

    def _judged(self, unfit: str | None) -> None:
        if unfit != self.unfit:
            if unfit is None:
                log.info("fhir_server_fit", host=self._base.host)
            else:
                log.warning("fhir_server_unfit", host=self._base.host, reason=unfit)
        self.unfit = unfit

    async def read(self, wanted: Sequence[Search | ReadFile]) -> list[Answer]:
        """Answers in order, each what was found or what went wrong; never raises for what the server did.

        Few requests for many reads where the server takes batches.
        """
        try:
            together = (await self.capabilities()).batch
        except FhirError as error:
            return [error] * len(wanted)
        answers: dict[int, Answer] = {}
        alone = [n for n, each in enumerate(wanted) if not together or _goes_alone(each)]
        batches = _batches([n for n in range(len(wanted)) if n not in set(alone)], wanted)

        async def one(n: int) -> None:
            answers[n] = await self._read_one(wanted[n])

        async def batch(numbers: list[int]) -> None:
            answers.update(zip(numbers, await self._read_batch([wanted[n] for n in numbers]), strict=True))

        await asyncio.gather(*(one(n) for n in alone), *(batch(numbers) for numbers in batches))
        return [answers[n] for n in range(len(wanted))]

    async def transaction(self, bundle: Resource) -> None:
        """Post a transaction Bundle. Raises FhirError; whether it was carried out is then not known, so read again."""
        response = await self._send("POST", "", json=bundle, headers={"Prefer": "return=minimal"}, fenced=True)
        answer = _resource(response, "Bundle")
        entries = answer.get("entry") or []
        if answer.get("type") != "transaction-response" or len(entries) != len(bundle["entry"]):
            raise _not_fhir("an answer that does not fit the transaction")
        for asked, entry in zip(bundle["entry"], entries, strict=True):
            if asked["request"]["method"] == "DELETE" and _entry_status(entry) in (404, 410):
                continue
            if error := self._entry_error(entry, fenced=True):
                raise error

    async def _read_one(self, wanted: Search | ReadFile) -> Answer:
        try:
            if isinstance(wanted, Search):
                # In the body: an address is kept by logs and proxies, and this one would hold an NHS number.
                response = await self._send("POST", f"{wanted.type}/_search", form=wanted.parameters)
                return Found(await self._all_pages(_resource(response, "Bundle")))
            response = await self._send(
                "GET", self._inside(wanted.url), headers={"Accept": wanted.media_type}, absent_is_fine=True
            )
            return FileRead(None if response.status_code in (404, 410) else _file(response))
        except FhirError as error:
            return error

    async def _read_batch(self, wanted: Sequence[Search | ReadFile]) -> Sequence[Answer]:
        try:
            entries = [{"request": {"method": "GET", "url": self._address(each)}} for each in wanted]
            bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
            answer = _resource(await self._send("POST", "", json=bundle), "Bundle")
            found = answer.get("entry") or []
            if answer.get("type") != "batch-response" or len(found) != len(wanted):
                raise _not_fhir("an answer that does not fit the batch")
        except FhirError as error:
            return [error] * len(wanted)
        return [await self._from_entry(each, entry) for each, entry in zip(wanted, found, strict=True)]

    async def _from_entry(self, wanted: Search | ReadFile, entry: Resource) -> Answer:
        status = _entry_status(entry)
        if isinstance(wanted, ReadFile) and status in (404, 410):
            return FileRead(None)
        if error := self._entry_error(entry):
            return error
        resource = entry.get("resource")
        try:
            if isinstance(wanted, Search):
                return Found(await self._all_pages(_expect(resource, "Bundle")))
            return FileRead(_decoded(_expect(resource, "Binary")))
        except FhirError as error:
            return error

    async def _all_pages(self, page: Resource) -> list[Resource]:
        found: list[Resource] = []
        for _ in range(_PAGES):
            entries = page.get("entry") or []
            if not all(isinstance(entry, dict) for entry in entries):
                raise _not_fhir("a search result that is no Bundle")
            found += [
                entry["resource"]
                for entry in entries
                if isinstance(entry.get("resource"), dict) and (entry.get("search") or {}).get("mode", "match") == "match"
            ]
            following = [link.get("url") for link in page.get("link") or [] if link.get("relation") == "next"]
            if not following or not isinstance(following[0], str):
                return found
            page = _resource(await self._send("GET", self._inside(following[0])), "Bundle")
        raise _not_fhir("more pages of a search result than there can be")

    def _address(self, wanted: Search | ReadFile) -> str:
        if isinstance(wanted, Search):
            return f"{wanted.type}?{urlencode(wanted.parameters)}"
        return self._inside(wanted.url)

    def _inside(self, url: str) -> str:
        """``url`` relative to the server's address; anything that leads elsewhere is refused."""
        absolute = httpx2.URL(f"{self._base}/").join(url)
        inside = f"{self._base}/"
        if not str(absolute).startswith(inside):
            raise FhirError(Refused("the record refers to an address outside itself"))
        return str(absolute)[len(inside) :]

    async def _send(
        self,
        method: str,
        path: str,
        *,
        json: Resource | None = None,
        form: Sequence[tuple[str, str]] | None = None,
        headers: dict[str, str] | None = None,
        fenced: bool = False,
        absent_is_fine: bool = False,
    ) -> httpx2.Response:
        sent = dict(headers or {})
        content: bytes | None = None
        if json is not None:
            content = orjson.dumps(json)
            sent["Content-Type"] = FHIR_JSON
        elif form is not None:
            content = urlencode(form).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        url = f"{self._base}/{path}" if path else str(self._base)
        try:
            # The client's own time-out starts anew with every byte; a server that drips must not hold a slot for ever.
            async with self._slots, asyncio.timeout(self._timeout):
                response = await self._http.request(method, url, content=content, headers=sent)
        except (TimeoutError, httpx2.TimeoutException):
            self._ask_at = None
            silent = Retry(f"the record did not answer within {self._timeout:g} seconds", away=True)
            raise FhirError(silent, unreachable=True) from None
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            self._ask_at = None
            away = Retry(f"the record is not reachable ({type(error).__name__})", away=True)
            raise FhirError(away, unreachable=True) from None
        if response.is_success or (absent_is_fine and response.status_code in (404, 410)):
            return response
        raise self._error(response.status_code, _outcome_codes(response), response.headers, fenced=fenced)

    def _entry_error(self, entry: Resource, *, fenced: bool = False) -> FhirError | None:
        status = _entry_status(entry)
        if 200 <= status < 300:
            return None
        outcome = (entry.get("response") or {}).get("outcome") or entry.get("resource")
        return self._error(status, _codes(outcome), httpx2.Headers(), fenced=fenced)

    def _error(self, status: int, codes: str, headers: httpx2.Headers, *, fenced: bool) -> FhirError:
        """What an HTTP status means for a delivery. Only what a person must change is refused."""
        said = f"{status} {codes}".strip()
        if fenced and status in (404, 409, 410, 412):
            # Medplum says 412 where HAPI says 409; a document that was deleted meanwhile is 404 or 410.
            return ChangedMeanwhileError(Retry(f"the record changed while it was written ({said})"))
        asked = retry_after(headers.get("Retry-After", ""), self._clock())
        match status:
            case 400 | 422:
                return FhirError(Refused(f"the record refused what was sent ({said})"))
            case 413:
                return FhirError(Refused("the record does not take a document of this size (413)"))
            case 405 | 406 | 415:
                return FhirError(Refused(f"the record does not take documents this way ({said})"))
            case 401 | 403:
                return FhirError(Retry(f"the record refused our sign-in ({status})"))
            case 429:
                return FhirError(Retry("the record asked to be sent less (429)", asked, away=True))
            case _ if 300 <= status < 400:
                return FhirError(Retry(f"the record answered from another address ({status}); check the configured one"))
            case _:
                return FhirError(Retry(f"the record failed ({said})", asked))


def _check_statement(statement: Resource) -> None:
    """Only what would do harm: another FHIR version reads our resources differently, and without transactions a crash could
    leave two current plans. What a server merely does not mention, it may well do."""
    version = str(statement.get("fhirVersion") or "")
    if not version.startswith("4.0"):
        known = version if re.fullmatch(r"[0-9a-z.-]{1,20}", version) else "unknown"
        raise FhirError(Retry(f"the record speaks FHIR {known}; plans are filed in R4 (4.0)"))
    rests = [each for each in statement.get("rest") or [] if each.get("mode") == "server"]
    interactions = {each.get("code") for rest in rests for each in rest.get("interaction") or []}
    if interactions and "transaction" not in interactions:
        raise FhirError(Retry("the record takes no transactions; a plan could be there twice or not at all"))


def _check_address(url: httpx2.URL) -> None:
    if url.scheme == "https":
        return
    host = url.host
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if url.scheme != "http" or not loopback:
        raise ValueError("a record system's address must begin with https:// (http:// only on this machine)")


def _goes_alone(wanted: Search | ReadFile) -> bool:
    return isinstance(wanted, ReadFile) and wanted.size > _ALONE_BYTES


def _batches(numbers: Sequence[int], wanted: Sequence[Search | ReadFile]) -> list[list[int]]:
    batches: list[list[int]] = []
    room = 0
    for n in numbers:
        each = wanted[n]
        size = each.size if isinstance(each, ReadFile) else 0
        if not batches or len(batches[-1]) == _BATCH_ENTRIES or size > room:
            batches.append([])
            room = _BATCH_BYTES
        batches[-1].append(n)
        room -= size
    return batches


def _resource(response: httpx2.Response, type_: str) -> Resource:
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        kind = response.headers.get("Content-Type", "").partition(";")[0] or "nothing"
        raise _not_fhir(f"{kind if re.fullmatch(r'[a-z]+/[a-z0-9.+-]+', kind) else 'something'}") from None
    return _expect(body, type_)


def _expect(body: Any, type_: str) -> Resource:
    if not isinstance(body, dict) or body.get("resourceType") != type_:
        raise _not_fhir(f"no {type_}")
    return body


def _not_fhir(what: str) -> FhirError:
    return FhirError(Retry(f"the record answered with {what} where FHIR was expected"))


def _file(response: httpx2.Response) -> bytes:
    """The bytes, whether the server sent them as they are or as a Binary resource."""
    if FHIR_JSON in response.headers.get("Content-Type", ""):
        return _decoded(_resource(response, "Binary"))
    return response.content


def _decoded(binary: Resource) -> bytes:
    try:
        return base64.b64decode(binary.get("data") or "")
    except (binascii.Error, TypeError):
        raise _not_fhir("a Binary that is not base64") from None


def _entry_status(entry: Any) -> int:
    status = ((entry.get("response") or {}).get("status") if isinstance(entry, dict) else None) or ""
    return int(status[:3]) if re.match(r"[1-5][0-9]{2}\b", str(status)) else 500


def _outcome_codes(response: httpx2.Response) -> str:
    try:
        return _codes(orjson.loads(response.content))
    except orjson.JSONDecodeError:
        return ""


def _codes(outcome: Any) -> str:
    """The issue codes of an OperationOutcome and nothing else of it: its texts quote what was sent."""
    if not isinstance(outcome, dict) or outcome.get("resourceType") != "OperationOutcome":
        return ""
    codes = [each.get("code") for each in outcome.get("issue") or [] if isinstance(each, dict)]
    known = [code for code in codes if isinstance(code, str) and re.fullmatch(r"[a-z-]{2,20}", code)]
    return ", ".join(dict.fromkeys(known[:5]))
