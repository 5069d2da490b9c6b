"""Processor seconds of everything that runs for a measurement: the services, PostgreSQL, Kafka, and this process."""

import contextlib
from collections import defaultdict
from collections.abc import Mapping

import psutil


def used(services: Mapping[str, int]) -> dict[str, float]:
    """So far, by part. ``services`` are process ids by name; the servers are found among this process's children.

    Of a process that has ended, its parent tells: PostgreSQL's connections come and go.
    """
    names = {pid: name for name, pid in services.items()}
    seconds: dict[str, float] = defaultdict(float)
    here = psutil.Process()
    seconds["load"] = _own(here)
    for child in here.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            name = names.get(child.pid) or {"postgres": "postgres", "java": "kafka"}.get(child.name(), "other")
            seconds[name] += _own(child)
            if name == "postgres":
                times = child.cpu_times()
                seconds[name] += times.children_user + times.children_system
    return seconds


def _own(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
