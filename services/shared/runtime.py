"""Run a service: its HTTP interface, its Kafka broker and its background work in one process, crash-only.

A loop that meets a dependency that is away (database or broker restarting) waits and goes on; any other failure ends the
process with a log line, and whoever supervises it starts it again from what is committed.
"""

import asyncio
import contextlib
import gc
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import asyncpg
import structlog
import uvicorn
from aiokafka.errors import KafkaError
from fastapi import FastAPI, Response
from faststream.kafka import KafkaBroker
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.shared.kafka.consume import Progress
from services.shared.outbox.relay import RelayStuckError
from services.shared.postgres.pool import transient
from services.shared.settings import ServiceSettings
from services.shared.web import problems
from services.shared.web.body_limit import BodyLimit
from services.shared.web.openapi import Api

log = structlog.get_logger()
Work = Callable[[], Awaitable[None]]


@dataclass
class Service:
    """What one process runs. ``work`` are endless loops by name; ``checks`` say whether it is ready."""

    name: str
    settings: ServiceSettings
    app: FastAPI
    pool: "asyncpg.Pool[asyncpg.Record]"
    broker: KafkaBroker | None = None
    progress: list[Progress] = field(default_factory=list)
    work: dict[str, Work] = field(default_factory=dict)
    close: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    troubles: list[Callable[[], str | None]] = field(default_factory=list)
    """What is wrong beyond this process, in words without anything personal: it is ready all the same, and says so."""


MAX_BODY = 2**20
"""Bytes of a request, where a service does not say otherwise."""


def make_app(title: str, larger: Mapping[str, int] | None = None) -> FastAPI:
    """An API with problem documents; its OpenAPI is published, pages that load foreign scripts are not.

    ``larger`` names paths that take more than :data:`MAX_BODY` bytes; what is larger is answered 413.
    """
    app = Api(
        title=title, version="1", docs_url=None, redoc_url=None, generate_unique_id_function=lambda route: str(route.name)
    )
    app.add_middleware(BodyLimit, limit=MAX_BODY, larger=larger or {})
    problems.install(app)
    return app


def away(error: BaseException) -> bool:
    """Whether a dependency is merely away: the same work will succeed when it is back."""
    if isinstance(error, BaseExceptionGroup):
        return all(away(each) for each in error.exceptions)
    return transient(error) or isinstance(error, KafkaError | RelayStuckError | ConnectionError)


async def keep_running(name: str, work: Work) -> None:
    """Start ``work`` again, with back-off, while a dependency is away. Any other failure is raised."""
    wait = 0.2
    while True:
        started = time.monotonic()
        try:
            await work()
            return
        except Exception as error:
            if not away(error):
                raise
            if time.monotonic() - started > 30:
                wait = 0.2
            log.warning("waiting_for_dependency", work=name, reason=type(error).__name__, seconds=round(wait, 1))
            await asyncio.sleep(wait)
            wait = min(wait * 2, 5)


def _add_health(service: Service, tasks: list[asyncio.Task[None]]) -> None:
    @service.app.get("/health/live", include_in_schema=False)
    async def live() -> Response:
        alive = all(progress.alive() for progress in service.progress) and not any(task.done() for task in tasks)
        return Response("alive" if alive else "stuck", 200 if alive else 503)

    @service.app.get("/health/ready", include_in_schema=False)
    async def ready() -> Response:
        try:
            await service.pool.fetchval("SELECT 1")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            return Response("database away", 503)
        said = [trouble for each in service.troubles if (trouble := each()) is not None]
        return Response("; ".join(["ready", *said]), 200)

    @service.app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@contextlib.asynccontextmanager
async def _broker_running(service: Service) -> AsyncIterator[None]:
    if service.broker is None:
        yield
        return
    try:
        await keep_running("kafka", service.broker.start)
        yield
    finally:
        with contextlib.suppress(Exception):
            await service.broker.stop()


async def serve(service: Service) -> None:
    """Until SIGTERM or SIGINT; raises what ended a loop."""
    tasks: list[asyncio.Task[None]] = []
    _add_health(service, tasks)
    server = uvicorn.Server(
        uvicorn.Config(
            service.app,
            host=service.settings.http_host,
            port=service.settings.http_port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
    )
    async with _broker_running(service):
        web = asyncio.create_task(server.serve(), name="http")
        tasks += [asyncio.create_task(keep_running(name, work), name=name) for name, work in service.work.items()]
        log.info("service_started", port=service.settings.http_port)
        done, _ = await asyncio.wait([web, *tasks], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(web, *tasks, return_exceptions=True)
        for close in service.close:
            await close()
        for task in done:
            if (error := task.exception()) is not None:
                raise error


def run(name: str, build: Callable[[], Awaitable[Service]]) -> None:
    """The ``main`` of a service's ``app.py``. Exit code 1 on any failure, for the supervisor to see."""

    async def start() -> None:
        service: Service
        wait = 0.2
        while True:
            try:
                service = await build()
                break
            except Exception as error:
                if not away(error):
                    raise
                log.warning("waiting_for_dependency", work="start", reason=type(error).__name__)
                await asyncio.sleep(wait)
                wait = min(wait * 2, 5)
        _collect_garbage_seldom()
        try:
            await serve(service)
        finally:
            await service.pool.close()

    try:
        uvloop_run(start())
    except Exception:
        log.exception("service_failed", service=name)
        sys.stdout.flush()
        os._exit(1)


def _collect_garbage_seldom() -> None:
    """What was made so far stays for the life of the process: never look at it again. And look after more has come.

    A batch of plans is tens of thousands of short-lived objects, all freed by reference counts; by default the collector
    would walk them, and everything imported, again and again: a tenth to a fifth of a service's time (measured).
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def uvloop_run(main: Awaitable[None]) -> None:
    import uvloop

    async def awaited() -> None:
        await main

    uvloop.run(awaited())
