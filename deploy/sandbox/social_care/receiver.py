"""A small real case system that takes plans as signed webhooks: what a council's own system, or a vendor's, must do.

``python -m deploy.sandbox.social_care.receiver --port P --data DIR --secret-file F``, on this machine's loopback only. Each
council has its path, ``/webhooks/332``. Invariant: nothing is believed before the signature is verified, and nothing is
answered with success before it is on disk (``cases.py``). The protocol: ``README.md`` beside this file.
"""

import argparse
import html
import ipaddress
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from standardwebhooks import Webhook

from deploy.sandbox.social_care.cases import Cases, ConflictError
from deploy.sandbox.social_care.received import WrongMessageError, read_instruction, read_plan, read_recall

_DELIVERED = "ehcp.plan.delivered.v1"
_NOTICE = "ehcp.notice.delivered.v1"
_WITHDRAWN = "ehcp.plan.withdrawn.v1"
_RECALLED = "ehcp.recall.requested.v1"
_LARGEST = 256 * 2**20
_MOST_PLANS = 100


class _RefusedError(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def make_app(cases: Cases, secret: str) -> FastAPI:
    key = Webhook(secret)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        cases.close()

    app = FastAPI(title="Social care case system (sandbox)", openapi_url=None, lifespan=lifespan)

    @app.exception_handler(_RefusedError)
    async def _refused(_: Request, error: _RefusedError) -> Response:
        return _json({"error": error.reason}, error.status)

    @app.post("/webhooks/{system}")
    async def receive(system: str, request: Request) -> Response:
        body = await _body(request)
        _verify(key, body, request)
        webhook_id = request.headers["webhook-id"]
        answer = await run_in_threadpool(_take_in, cases, system, webhook_id, body)
        # Signed as what came: who removed a recalled plan says so in a way that can be shown to others.
        headers = _signed(key, webhook_id, answer)
        return Response(answer, headers=headers, media_type="application/json")

    @app.get("/webhooks/{system}/holdings")
    async def holdings(system: str, request: Request) -> Response:
        # There is no body to sign: what is signed is the query.
        _verify(key, request.scope["query_string"], request)
        recipient = request.query_params.get("recipient", "")
        _for_this_system(recipient, system)
        try:
            plans = [UUID(plan) for plan in request.query_params.getlist("plan")]
        except ValueError:
            raise _RefusedError(422, "plan is not an id") from None
        if not 0 < len(plans) <= _MOST_PLANS:
            raise _RefusedError(422, f"ask for 1 to {_MOST_PLANS} plans")
        found = await run_in_threadpool(cases.holdings, recipient, plans)
        return _json({"holdings": found})

    @app.get("/health")
    async def health() -> Response:
        await run_in_threadpool(cases.ping)
        return _json({"status": "ok"})

    @app.get("/plans")
    async def plans(request: Request) -> Response:
        _only_this_machine(request)
        return _json({"plans": await run_in_threadpool(cases.overview)})

    @app.get("/notices")
    async def notices(request: Request) -> Response:
        _only_this_machine(request)
        return _json({"notices": await run_in_threadpool(cases.notices)})

    @app.get("/")
    async def page(request: Request) -> Response:
        _only_this_machine(request)
        return Response(_page(await run_in_threadpool(cases.overview)), media_type="text/html; charset=utf-8")

    return app


def _take_in(cases: Cases, system: str, webhook_id: str, body: bytes) -> bytes:
    try:
        answer = cases.answered(webhook_id, body)
        if answer is not None:
            return answer
        event = orjson.loads(body)
        if not isinstance(event, dict) or event.get("specversion") != "1.0" or not isinstance(event.get("data"), dict):
            raise WrongMessageError("this is not a CloudEvent 1.0 with data")
        data = event["data"]
        match event.get("type"):
            case str(kind) if kind in (_DELIVERED, _NOTICE):
                plan = read_plan(data)
                _for_this_system(plan.instruction.recipient, system)
                return cases.file(webhook_id, body, plan)
            case str(kind) if kind == _WITHDRAWN:
                instruction = read_instruction(data)
                _for_this_system(instruction.recipient, system)
                return cases.withdraw(webhook_id, body, instruction)
            case str(kind) if kind == _RECALLED:
                recall = read_recall(data)
                _for_this_system(recall.instruction.recipient, system)
                return cases.remove(webhook_id, body, recall)
            case _:
                raise WrongMessageError("this type of event is not known here")
    except orjson.JSONDecodeError:
        raise _RefusedError(400, "this is not JSON") from None
    except WrongMessageError as error:
        raise _RefusedError(422, str(error)) from None
    except ConflictError as error:
        raise _RefusedError(409, str(error)) from None


def _for_this_system(recipient: str, system: str) -> None:
    # A plan of another council's child must not be filed here, whoever signed it. Each service of this one has its own cases.
    if recipient.rpartition("/")[2] != f"la:{system}":
        raise _RefusedError(422, "this is for another case system")


def _verify(key: Webhook, signed: bytes, request: Request) -> None:
    try:
        key.verify(signed, dict(request.headers), json_parse=False)
    except Exception:  # a malformed header makes the library raise more than its own error; none of it is a signature
        raise _RefusedError(401, "the signature or its time is not valid") from None


def _signed(key: Webhook, webhook_id: str, body: bytes) -> dict[str, str]:
    at = datetime.now(UTC)
    signature = key.sign(webhook_id, at, body.decode())
    return {"webhook-id": webhook_id, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


def _only_this_machine(request: Request) -> None:
    # The Host too: a web page elsewhere can make a browser here ask under a name of its own (DNS rebinding).
    host = request.url.hostname or ""
    client = request.client.host if request.client else ""
    if not (_is_loopback(client) and (host == "localhost" or _is_loopback(host))):
        raise _RefusedError(403, "only from this machine")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST:
            raise _RefusedError(413, "the message is too large")
    return bytes(body)


def _json(answer: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(answer), status, media_type="application/json")


_COLUMNS = ("recipient", "case_reference", "record", "version", "issued_on", "files", "versions_kept", "withdrawn")


def _page(plans: list[dict[str, Any]]) -> str:
    heads = "".join(f'<th scope="col">{column.replace("_", " ")}</th>' for column in _COLUMNS)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(str(plan[c]))}</td>" for c in _COLUMNS) + "</tr>" for plan in plans)
    return (
        '<!doctype html><html lang="en"><title>Social care case system (sandbox)</title>'
        "<style>body{font:1rem sans-serif;margin:2rem}table{border-collapse:collapse}td,th{border:1px solid #999;"
        "padding:.3rem .6rem;text-align:left}</style>"
        f"<h1>Plans held</h1><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></html>"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of its database")
    parser.add_argument("--secret-file", type=Path, required=True, help="file with the whsec_… that messages are signed with")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    app = make_app(Cases(options.data), options.secret_file.read_text().strip())
    # No access log: an address may hold ids of plans.
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_config=None, access_log=False)


if __name__ == "__main__":
    main()
