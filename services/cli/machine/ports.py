"""Free ports on the loopback interface."""

import asyncio
import socket

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose last connections are in TIME_WAIT can be taken again.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Different free ports: all are held open until the last is known, so none comes twice."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


async def answers(port: int) -> bool:
    """True when something accepts connections; raises OSError when nothing does."""
    _, writer = await asyncio.open_connection(HOST, port)
    writer.close()
    return True


async def answers_http(port: int, path: str) -> bool:
    """True when GET is answered with 200. Asked many times a second while a part starts, hence no HTTP client."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        async with asyncio.timeout(5):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            return (await reader.readline()).split()[1:2] == [b"200"]
    finally:
        writer.close()
