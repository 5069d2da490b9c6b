"""Serves an application of ours over real HTTP, in this process, for one test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from services.cli.machine.ports import HOST, free_ports
from tests.support.waiting import until


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """Its address."""
    [port] = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_config=None, access_log=False))
    task = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    try:
        await until(started, what="the service listens")
        yield f"http://{HOST}:{port}"
    finally:
        server.should_exit = True
        await task
