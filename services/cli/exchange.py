"""The exchange as the command line sees it: its HTTP interfaces, with the credentials of the data folder.

Another exchange than the one of the data folder is reached by EHCP_COUNCIL_URL, EHCP_AUDIT_URL, EHCP_FAMILY_URL,
EHCP_CLIENT_ID and EHCP_CLIENT_KEY_FILE. Invariant: whatever goes wrong on the way is one sentence that names the address.
"""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import httpx2
import orjson
from joserfc.jwk import OKPKey

from services.cli.machine.config import OPERATOR
from services.cli.machine.errors import MachineError, UsageError
from services.cli.machine.folder import DataFolder
from services.cli.machine.keys import KeyRing
from services.cli.machine.ports import HOST
from services.cli.output import RefusedError
from services.shared.identity.client import TokenClient, TokenRefusedError

TIMEOUT_SECONDS = 60.0
PAGE = 1000
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reach:
    """Addresses, and where the keys of clients are."""

    council_url: str
    audit_url: str
    family_url: str
    keys: KeyRing | None
    client_id: str | None = None
    client_key_file: Path | None = None

    @classmethod
    def of(cls, home: Path, environment: Mapping[str, str] = os.environ) -> "Reach":
        folder = DataFolder(home)
        if "EHCP_COUNCIL_URL" in environment:
            council = environment["EHCP_COUNCIL_URL"].rstrip("/")
            key_file = environment.get("EHCP_CLIENT_KEY_FILE")
            if not key_file or not environment.get("EHCP_CLIENT_ID"):
                raise UsageError("With EHCP_COUNCIL_URL, set EHCP_CLIENT_ID and EHCP_CLIENT_KEY_FILE too.")
            return cls(
                council,
                environment.get("EHCP_AUDIT_URL", council).rstrip("/"),
                environment.get("EHCP_FAMILY_URL", council).rstrip("/"),
                None,
                environment["EHCP_CLIENT_ID"],
                Path(key_file),
            )
        folder.open()
        ports = folder.remembered.ports
        missing = {"ehcp_publisher", "audit", "family_subscriber"} - ports.keys()
        if missing:
            raise MachineError(f"The machine in {folder.path} was never started: `ehcp up` starts it.")
        council, audit, family = (f"http://{HOST}:{ports[name]}" for name in ("ehcp_publisher", "audit", "family_subscriber"))
        return cls(council, audit, family, KeyRing(folder.keys))

    def key_of(self, client_id: str) -> tuple[str, OKPKey]:
        """The client that calls and its private key."""
        if self.client_id and self.client_key_file:
            client_id, file = self.client_id, self.client_key_file
        else:
            assert self.keys is not None
            file = self.keys.folder / f"client-{client_id}.jwk"
        try:
            return client_id, OKPKey.import_key(orjson.loads(file.read_bytes()))
        except FileNotFoundError:
            raise UsageError(f"There is no key of client {client_id} ({file}). Is it one of the councils here?") from None
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} is not a private JSON Web Key ({error}).") from error


@dataclass(frozen=True, slots=True)
class Door:
    """Whose dead letters: audit's, with the operator's own key; or those of a subscriber, with the token of its operator."""

    url: str | None = None
    token: str | None = None


class Exchange:
    """`async with Exchange(Reach.of(home)) as exchange`."""

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self._http = httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)
        self._tokens: dict[str, TokenClient] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def issue_first(self, client_id: str, content: "Content") -> Row:
        return await self._post_content(f"{self.reach.council_url}/v1/plans", client_id, content)

    async def issue_further(self, client_id: str, plan_id: str, content: "Content") -> Row:
        return await self._post_content(f"{self.reach.council_url}/v1/plans/{plan_id}/versions", client_id, content)

    async def issue_batch(self, client_id: str, lines: bytes, *, render: bool = True) -> list[Row]:
        """NDJSON in, one answer per line. ``render`` False: versions without a document of their own get none."""
        url = f"{self.reach.council_url}/v1/batch{'' if render else '?render=false'}"
        headers = {"Content-Type": "application/x-ndjson"}
        answer = await self._send("POST", url, client_id, content=lines, headers=headers, timeout=600)
        return [orjson.loads(line) for line in answer.content.splitlines() if line]

    async def holders(self) -> AsyncIterator[Row]:
        """Every share of the operator's councils."""
        after: str | None = None
        while True:
            params = {"limit": str(PAGE), **({"after": after} if after else {})}
            page = (await self._send("GET", f"{self.reach.audit_url}/v1/holders", OPERATOR, params=params)).json()
            for row in page["holders"]:
                yield row
            after = page["next"]
            if after is None:
                return

    async def coverage(self, la_code: str | None, kind: str | None) -> Row:
        params = {name: value for name, value in (("la_code", la_code), ("recipient_kind", kind)) if value}
        answer: Row = (await self._send("GET", f"{self.reach.audit_url}/v1/coverage", OPERATOR, params=params)).json()
        return answer

    async def holders_of(self, plan_id: str) -> list[Row]:
        answer = await self._send("GET", f"{self.reach.audit_url}/v1/plans/{plan_id}/holders", OPERATOR)
        found: list[Row] = answer.json()["holders"]
        return found

    async def recalls(self, *, plan_id: str | None = None, outstanding: bool = False) -> AsyncIterator[Row]:
        """Recalls of the operator's councils, the oldest first."""
        after: str | None = None
        asked = {"outstanding": "true"} if outstanding else {}
        while True:
            params = {**asked, **({"plan_id": plan_id} if plan_id else {}), **({"after": after} if after else {})}
            page = (await self._send("GET", f"{self.reach.audit_url}/v1/recalls", OPERATOR, params=params)).json()
            for row in page["recalls"]:
                yield row
            after = page["next"]
            if after is None:
                return

    async def breach_pack(self, recall_id: str) -> bytes:
        """The signed document, as it came."""
        return (await self._send("GET", f"{self.reach.audit_url}/v1/recalls/{recall_id}", OPERATOR)).content

    async def record_event(self, client_id: str, plan_id: str, content: "Content") -> Row:
        return await self._post_content(f"{self.reach.council_url}/v1/plans/{plan_id}/events", client_id, content, "event")

    async def plan(self, plan_id: str, client_id: str = OPERATOR) -> Row:
        """One plan with its history."""
        answer: Row = (await self._send("GET", f"{self.reach.council_url}/v1/plans/{plan_id}", client_id)).json()
        return answer

    async def export(self, client_id: str, plan_id: str, file: BinaryIO) -> None:
        """The plan's archive, into ``file`` as it comes."""
        url = f"{self.reach.council_url}/v1/plans/{plan_id}/export"
        async with self._answer("GET", url, client_id) as answer:
            async for piece in answer.aiter_bytes():
                file.write(piece)

    async def open(self, what: str) -> AsyncIterator[Row]:
        """``gaps``, ``flags`` or ``confirmations`` of the operator's councils."""
        params: dict[str, str] | None = {}
        while params is not None:
            page = (await self._send("GET", f"{self.reach.council_url}/v1/{what}", OPERATOR, params=params)).json()
            for row in page[what]:
                yield row
            params = page["next"]

    async def plans(
        self, client_id: str = OPERATOR, *, case_reference: str | None = None, transferred: Callable[[Row], None] | None = None
    ) -> AsyncIterator[Row]:
        """Every plan of the client's councils, as the publisher has it; or those of one case reference. ``transferred`` is told
        of each case reference whose plan another council has now."""
        after: str | None = None
        asked = {"case_reference": case_reference} if case_reference else {}
        while True:
            params = {"limit": "500", **asked, **({"after": after} if after else {})}
            page = (await self._send("GET", f"{self.reach.council_url}/v1/plans", client_id, params=params)).json()
            if transferred is not None:
                for row in page.get("transferred", ()):
                    transferred(row)
            for row in page["plans"]:
                yield row
            after = page["next"]
            if after is None:
                return

    async def put_directory(self, lines: bytes) -> list[Row]:
        """NDJSON of organisations from a register; one answer per line."""
        url = f"{self.reach.council_url}/v1/directory?keep_delivery=true"
        headers = {"Content-Type": "application/x-ndjson"}
        answer = await self._send("PUT", url, OPERATOR, content=lines, headers=headers, timeout=600)
        return [orjson.loads(line) for line in answer.content.splitlines() if line]

    async def directory(self, *, words: str | None = None, code: str | None = None) -> AsyncIterator[Row]:
        """Organisations by words of their name or by ``scheme:value``; without either, all."""
        after: str | None = None
        asked = {name: value for name, value in (("q", words), ("code", code)) if value}
        while True:
            params = {"limit": "500", **asked, **({"after": after} if after else {})}
            page = (await self._send("GET", f"{self.reach.council_url}/v1/directory", OPERATOR, params=params)).json()
            for row in page["recipients"]:
                yield row
            after = page["next"]
            if after is None:
                return

    async def policy(self, la_code: str) -> Row:
        answer: Row = (await self._send("GET", f"{self.reach.council_url}/v1/policies/{la_code}", OPERATOR)).json()
        return answer

    async def put_policy(self, la_code: str, policy: bytes, *, dry_run: bool) -> Row:
        url = f"{self.reach.council_url}/v1/policies/{la_code}"
        params = {"dry_run": str(dry_run).lower()}
        headers = {"Content-Type": "application/json"}
        answer = await self._send("PUT", url, OPERATOR, content=policy, params=params, headers=headers, timeout=600)
        result: Row = answer.json()
        return result

    async def put_comparison(self, la_code: str, comparison: Row) -> Row:
        url = f"{self.reach.council_url}/v1/comparisons/{la_code}"
        answer: Row = (await self._send("PUT", url, OPERATOR, json=comparison)).json()
        return answer

    async def comparisons(self) -> list[Row]:
        """The last of each of the operator's councils."""
        answer = await self._send("GET", f"{self.reach.council_url}/v1/comparisons", OPERATOR)
        found: list[Row] = answer.json()["comparisons"]
        return found

    async def explain_policy(self, la_code: str, asked: Row) -> Row:
        url = f"{self.reach.council_url}/v1/policies/{la_code}/explain"
        answer: Row = (await self._send("POST", url, OPERATOR, json=asked)).json()
        return answer

    async def ask_look(self, request: Row) -> Row:
        """Whose records are to be looked into; what leads to no child is in the answer."""
        answer: Row = (await self._send("POST", f"{self.reach.council_url}/v1/looks", OPERATOR, json=request)).json()
        return answer

    async def look(self, look_id: str) -> Row:
        answer: Row = (await self._send("GET", f"{self.reach.audit_url}/v1/looks/{look_id}", OPERATOR)).json()
        return answer

    async def look_report(self, look_id: str) -> Row:
        """Signed, of what has answered so far."""
        url = f"{self.reach.audit_url}/v1/looks/{look_id}/report"
        answer: Row = orjson.loads((await self._send("GET", url, OPERATOR)).content)
        return answer

    async def records(self) -> list[Row]:
        """What each subscriber last said of its records, in numbers."""
        found: list[Row] = (await self._send("GET", f"{self.reach.audit_url}/v1/records", OPERATOR)).json()["subscribers"]
        return found

    async def manual_deliveries(self, state: str | None = None) -> AsyncIterator[Row]:
        after: str | None = None
        while True:
            params = {"limit": "500", **({"state": state} if state else {}), **({"after": after} if after else {})}
            page = (await self._send("GET", f"{self.reach.family_url}/v1/deliveries", OPERATOR, params=params)).json()
            for row in page["deliveries"]:
                yield row
            after = page["next"]
            if after is None:
                return

    async def record_delivery(self, share_id: str, what: str, record: Row) -> Row:
        """``what`` an officer states: ``sent`` or ``removed``."""
        url = f"{self.reach.family_url}/v1/deliveries/{share_id}/{what}"
        answer: Row = (await self._send("POST", url, OPERATOR, json=record)).json()
        return answer

    async def _post_content(self, url: str, client_id: str, content: "Content", name: str = "submission") -> Row:
        if content.document is None and not content.attachments:
            sent = {"content": content.submission, "headers": {"Content-Type": "application/json"}}
        else:
            files = [(name, (f"{name}.json", content.submission, "application/json"))]
            if content.document is not None:
                files.append(("document", (content.document.name, content.document.read_bytes(), "application/pdf")))
            files += [
                ("attachment", (file.name, file.read_bytes(), "application/octet-stream")) for file in content.attachments
            ]
            sent = {"files": files}
        answer: Row = (await self._send("POST", url, client_id, **sent)).json()
        return answer

    async def dead_letters(self, door: Door, method: str, path: str, **more: Any) -> Row:
        url = f"{door.url or self.reach.audit_url}/v1/dead-letters{path}"
        answer: Row = (await self._send(method, url, OPERATOR, bearer=door.token, **more)).json()
        return answer

    async def send_again(self, choice: Row, *, dry_run: bool) -> Row:
        url = f"{self.reach.council_url}/v1/send-again"
        answer: Row = (await self._send("POST", url, OPERATOR, json=choice, params={"dry_run": str(dry_run).lower()})).json()
        return answer

    async def sendings_again(self, job_id: str | None = None, *, cancel: bool = False) -> Row:
        """One, or all of the operator's councils."""
        url = f"{self.reach.council_url}/v1/send-again{f'/{job_id}' if job_id else ''}"
        answer: Row = (await self._send("DELETE" if cancel else "GET", url, OPERATOR)).json()
        return answer

    async def recipients(self, door: Door, method: str = "GET", path: str = "", **more: Any) -> Row:
        """Of a subscriber, as its operator."""
        answer: Row = (await self._send(method, f"{door.url}/v1/recipients{path}", OPERATOR, bearer=door.token, **more)).json()
        return answer

    async def knock(self) -> None:
        """Before long work: raises MachineError where the publisher does not answer."""
        url = f"{self.reach.council_url}/health/live"
        try:
            await self._http.get(url)
        except httpx2.TransportError as error:
            raise _away(url, error) from error

    async def _send(self, method: str, url: str, client_id: str, **more: Any) -> httpx2.Response:
        async with self._answer(method, url, client_id, **more) as answer:
            await answer.aread()
            return answer

    @asynccontextmanager
    async def _answer(self, method: str, url: str, client_id: str, **more: Any) -> AsyncIterator[httpx2.Response]:
        """An answer that is no error; what it brings is still to be read."""
        headers, bearer = more.pop("headers", {}), more.pop("bearer", None)
        try:
            token = {"Authorization": f"Bearer {bearer}"} if bearer else await self._token(client_id).headers()
            async with self._http.stream(method, url, headers={**headers, **token}, **more) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise refusal(answer)
                yield answer
        except TokenRefusedError as error:
            raise RefusedError(f"Client {client_id} got no token: {error}") from error
        except httpx2.TransportError as error:
            raise _away(url, error) from error

    def _token(self, client_id: str) -> TokenClient:
        if client_id not in self._tokens:
            name, key = self.reach.key_of(client_id)
            self._tokens[client_id] = TokenClient(self._http, self.reach.council_url, name, key)
        return self._tokens[client_id]


def _away(url: str, error: httpx2.TransportError) -> MachineError:
    return MachineError(
        f"{url} does not answer ({type(error).__name__}): `ehcp up` starts the exchange when `ehcp status` says it "
        "does not run; `ehcp doctor` says what is wrong."
    )


@dataclass(frozen=True, slots=True)
class Content:
    """What is issued: the submission as it will be sent, and the files beside it."""

    submission: bytes
    document: Path | None = None
    attachments: tuple[Path, ...] = ()


class ProblemError(RefusedError):
    """A problem document (RFC 9457); `problem` is the whole of it."""

    def __init__(self, problem: Row, status: int) -> None:
        self.problem = problem
        self.status = status
        self.kind = str(problem.get("type", "")).rstrip("/").rpartition("/")[2].rpartition(":")[2]
        super().__init__(sentence(problem, status))


def sentence(problem: Row, status: int) -> str:
    """A problem document in one line: what is wrong, field by field where it says so, and what to send instead."""
    title = problem.get("title", f"Answer {status}")
    fields = [f"{each.get('field')}: {each.get('problem')} ({each.get('instead')})" for each in problem.get("errors", ())]
    return f"{title}. {'; '.join(fields) or problem.get('detail', '')}".strip()


def refusal(answer: httpx2.Response) -> RefusedError:
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if isinstance(problem, dict) and "title" in problem:
        return ProblemError(problem, answer.status_code)
    hint = ": there is nothing of this kind at that address" if answer.status_code == 404 else ""
    return RefusedError(f"{answer.url} answered {answer.status_code}{hint}.")
