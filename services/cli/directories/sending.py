"""Sends a register's organisations to the exchange, a few hundred at a time, and counts what became of each row.

A second code that is another organisation's there (registers list one UKPRN for a school and its predecessor) is left out and
noted, so that it does not keep the school itself out of the directory.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from services.cli.directories.entries import Entries, Entry, Row
from services.cli.exchange import Exchange
from services.cli.importing.faults import Fault, Findings
from services.shared.json import dumps

LINES = 500
_SECOND_CODE = re.compile(r"codes/([1-9][0-9]*)")


@dataclass(slots=True)
class Totals:
    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    """By what the exchange answered: created, changed, unchanged, refused."""


def count_only(entries: Entries, findings: Findings, done: Callable[[int], None]) -> Totals:
    totals = Totals()
    for taken in _batches(_readable(entries, totals, findings)):
        done(len(taken))
    return totals


async def send(exchange: Exchange, entries: Entries, findings: Findings, done: Callable[[int], None]) -> Totals:
    totals = Totals()
    for batch in _batches(_readable(entries, totals, findings)):
        await _send(exchange, batch, totals, findings)
        done(len(batch))
    return totals


def _readable(entries: Entries, totals: Totals, findings: Findings) -> Entries:
    for entry in entries:
        totals.rows += 1
        if entry.left_out:
            totals.left_out[entry.left_out] += 1
        elif entry.recipient is None:
            totals.results["refused"] += 1
            findings.add(entry.place, entry.faults, entry.header, entry.values)
        else:
            totals.kinds[entry.recipient.kind.value] += 1
            yield entry


def _batches(entries: Entries) -> Iterable[list[Entry]]:
    while batch := list(islice(entries, LINES)):
        yield batch


async def _send(exchange: Exchange, batch: list[Entry], totals: Totals, findings: Findings) -> None:
    """Until no line is refused for a second code alone: each time round, one that is left has one code less."""
    waiting = [(entry, _line(entry)) for entry in batch]
    while waiting:
        answers = await exchange.put_directory(b"\n".join(dumps(line) for _, line in waiting))
        again = []
        for (entry, line), answer in zip(waiting, answers, strict=True):
            if "problem" not in answer:
                totals.results[answer["result"]] += 1
                continue
            errors = answer["problem"].get("errors") or [{"field": "", "problem": answer["problem"]["title"], "instead": ""}]
            second = _SECOND_CODE.fullmatch(errors[0]["field"]) if answer["problem"]["status"] == 409 else None
            if second:
                fault = Fault(errors[0]["field"], errors[0]["problem"], "this code is left out", refuses=False)
                findings.add(entry.place, [fault], entry.header, entry.values)
                line["codes"].pop(int(second[1]))
                again.append((entry, line))
            else:
                totals.results["refused"] += 1
                faults = [Fault(each["field"], each["problem"], each.get("instead", "")) for each in errors]
                findings.add(entry.place, faults, entry.header, entry.values)
        waiting = again


def _line(entry: Entry) -> Row:
    assert entry.recipient is not None
    return entry.recipient.model_dump(mode="json", by_alias=True, exclude_none=True)
