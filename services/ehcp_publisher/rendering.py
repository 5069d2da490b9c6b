"""Renders a plan version that came without a document: a tagged, readable PDF (PDF/UA-1), typeset by Typst.

Invariant: equal input gives equal bytes, on any machine: only the fonts beside this file and inside the `typst` wheel, and
the date of issue as the document's time. The bytes' hash is part of the rendering's hash, so it must not depend on where or
when it was made. A version is rendered once, before the transaction that wants it, and its bytes are kept; it prints the
date of issue and never the version's number, which is assigned later. What it says: ``layout.py``. Next: ``store.py``.
"""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time
from pathlib import Path

import orjson
import typst

from schemas.plan import Child, PlanVersion, SectionLetter
from services.ehcp_publisher.layout import Data, lay_out

_HERE = Path(__file__).parent
_TEMPLATE = (_HERE / "plan.typ").read_bytes()
FONTS = _HERE / "fonts"
# In this order; the last three are inside the wheel and show what the others lack (Devanagari, Hebrew, signs).
FAMILIES = (
    "Noto Sans",
    "Noto Sans Arabic",
    "Noto Sans Gurmukhi",
    "Noto Sans Bengali",
    "Noto Sans Gujarati",
    "New Computer Modern",
    "DejaVu Sans Mono",
    "Libertinus Serif",
)


MAX_TEXT_BYTES = 1_000_000
"""Of the sections as JSON: fifty times the usual, and about six seconds of a core. A longer one would hold up all others."""


class RenderingError(Exception):
    """Typst refused the document. The message holds no plan text."""


class _Compilers(threading.local):
    """One compiler per thread: it keeps the fonts, and is not for two threads at once."""

    def __init__(self) -> None:
        fonts = typst.Fonts(include_system_fonts=False, font_paths=[str(FONTS)])
        self.compiler = typst.Compiler(font_paths=fonts)


_COMPILERS = _Compilers()


def typeset(data: Data, issued_on: date) -> bytes:
    """The PDF of what :func:`lay_out` gave; raises :class:`RenderingError`."""
    inputs = {"plan": orjson.dumps(data | {"families": FAMILIES}).decode()}
    made_at = datetime.combine(issued_on, time(), tzinfo=UTC)
    try:
        pdf = _COMPILERS.compiler.compile(_TEMPLATE, sys_inputs=inputs, format="pdf", pdf_standards=["ua-1"], timestamp=made_at)
    except typst.TypstError:
        # Its message quotes the text that it could not place, so it is neither kept nor logged.
        raise RenderingError("the plan could not be typeset as PDF/UA-1") from None
    if not isinstance(pdf, bytes):
        raise RenderingError("the plan was typeset into no document")
    return pdf


def render(
    child: Child,
    council_name: str,
    case_reference: str,
    version: PlanVersion,
    included: frozenset[SectionLetter] | None = None,
) -> bytes:
    """The version as a PDF. ``included``: the sections of this rendering, None for all.

    Takes 70 ms of one core for six pages, 5 s for the longest plan that the contract allows. Raises :class:`RenderingError`.
    """
    if version.sections is None:
        raise ValueError("a version that is a document alone has nothing to render")
    data = lay_out(child, council_name, case_reference, version, included)
    try:
        return typeset(data, version.issued_on)
    except RenderingError:
        # The fonts can show each character, but not every mark on every letter of another script.
        plain = lay_out(child, council_name, case_reference, version, included, plain=True)
        return typeset(plain, version.issued_on)


class Renderer:
    """Renders beside the event loop.

    Threads, not processes: Typst works without the interpreter's lock (while it typeset ten pages, 100 ms, another thread
    was never held up for more than 23 ms), so processes would only add memory and a start of their own. One core is left
    to the event loop.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._pool = ThreadPoolExecutor(workers or max(1, (os.cpu_count() or 2) - 1), thread_name_prefix="render")

    async def render(
        self,
        child: Child,
        council_name: str,
        case_reference: str,
        version: PlanVersion,
        included: frozenset[SectionLetter] | None = None,
    ) -> bytes:
        """As :func:`render`; waits its turn when all workers are busy. Refuses what is longer than ``MAX_TEXT_BYTES``."""
        if len(version.model_dump_json(include={"sections"})) > MAX_TEXT_BYTES:
            raise RenderingError("the sections are too long to be typeset here")
        work = (child, council_name, case_reference, version, included)
        return await asyncio.get_running_loop().run_in_executor(self._pool, render, *work)

    def close(self) -> None:
        """Waits for what is being rendered; what has not begun is cancelled."""
        self._pool.shutdown(cancel_futures=True)
