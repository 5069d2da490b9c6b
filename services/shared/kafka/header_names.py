"""Read records whose header names are not UTF-8.

aiokafka decodes header names strictly while it unpacks a fetched batch. One such record (the protocol allows any bytes) makes
every fetch fail: nothing more is delivered, from no partition, and nothing is logged (measured, aiokafka 0.14.0). So whoever
may write to one topic could silence a consumer of many. Here the batch is unpacked again with bad bytes replaced by U+FFFD;
the handler sees the record and decides. Goes when aiokafka decodes leniently or leaves names as bytes.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

REPLACED = "\ufffd"
"""In a header's name: bytes that were no UTF-8."""


class _Lenient(bytearray):
    """Slices of it decode with bad bytes replaced: the one thing in which unpacking differs."""

    def __getitem__(self, item: Any) -> Any:
        part = super().__getitem__(item)
        return _Lenient(part) if isinstance(item, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        del errors
        return super().decode(encoding, "replace")


class _Batch:
    """One batch of a fetch, unpacked by the fast reader, and by the lenient one from where that fails."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                read += 1
                yield record
        except UnicodeDecodeError:
            again = _DefaultRecordBatchPy(self._raw)
            again._maybe_uncompress()
            again._buffer = _Lenient(again._buffer)
            yield from islice(again, read, None)


class _Records:
    """In place of ``MemoryRecords``: the same batches, each with its raw bytes at hand."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._raw = _MemoryRecordsPy(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> _Batch:
        raw: Any = self._raw._next_slice
        self._raw._cache_next()
        return _Batch(self._records.next_batch(), raw)


def install() -> None:
    """For every consumer of this process; repeatable."""
    fetcher.MemoryRecords = _Records
