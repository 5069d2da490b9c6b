"""Plans to measure with: about 21 KB of text in sections like the sample children's, each for the inboxes of four schools.

Texts and items are drawn from the sample plans, so that they compress, validate and hash like real ones. Every plan has its
own child and case reference; nothing is shared between two plans but the wording.
"""

import random
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from schemas.identifiers import check_nhs_number

SAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "sandbox" / "plans"
LA_CODE = "332"
TEXT_BYTES = 21_000
"""Of the sections as JSON; the mean of real plans that design figures are based on."""
SCHOOLS = ("993202", "993203", "993204", "993205")
_LETTERS = ("A", "B", "C", "D", "E", "F", "G", "H1", "H2", "I", "J", "K")


class Plans:
    """``draw(n)`` gives n lines for ``POST /v1/batch``, never the same plan twice."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._numbers = count(1)
        self._texts: list[str] = []
        self._items: list[dict[str, Any]] = []
        for file in sorted(SAMPLES.glob("*/*/v1.json")):
            for section in (orjson.loads(file.read_bytes())["version"].get("sections") or {}).values():
                self._texts += [part for part in section.get("text", "").split("\n\n") if part]
                self._items += section.get("items", ())

    def draw(self, number: int) -> list[bytes]:
        return [orjson.dumps(self._plan()) for _ in range(number)]

    def _plan(self) -> dict[str, Any]:
        number = next(self._numbers)
        return {
            "la_code": LA_CODE,
            "case_reference": f"BENCH-{number:07}",
            "child": {
                "family_name": f"Bench{number}",
                "given_names": "Robin Alex",
                "date_of_birth": f"20{10 + number % 10}-0{1 + number % 9}-1{number % 10}",
                "nhs_number": _nhs_number(number),
                "address": [f"{number} Measured Mile", "Dudley"],
                "postcode": "DY1 4FG",
            },
            "version": {
                "issued_on": "2026-11-02",
                "sections": self._sections(),
                "placements": [{"setting": {"scheme": "urn", "value": urn}, "from": "2026-09-01"} for urn in SCHOOLS],
            },
        }

    def _sections(self) -> dict[str, Any]:
        texts: dict[str, list[str]] = {letter: [self._random.choice(self._texts)] for letter in _LETTERS}
        items: dict[str, list[dict[str, Any]]] = {letter: [] for letter in _LETTERS}
        size = 0
        while size < TEXT_BYTES:
            letter = self._random.choice(_LETTERS)
            if self._random.random() < 0.5:
                item = self._random.choice(self._items) | {"ref": f"{letter}{len(items[letter]) + 1}"}
                items[letter].append(item)
                size += len(orjson.dumps(item))
            else:
                text = self._random.choice(self._texts)
                texts[letter].append(text)
                size += len(text.encode())
        return {
            letter: {"text": "\n\n".join(texts[letter])} | ({"items": items[letter]} if items[letter] else {})
            for letter in _LETTERS
        }


def _nhs_number(number: int) -> str:
    """A valid one from the range 999 that is never issued; where modulus 11 gives 10, one of another hundred thousand."""
    for lead in range(10):
        for digit in range(10):
            candidate = f"999{lead}{number % 100_000:05}{digit}"
            try:
                return check_nhs_number(candidate)
            except ValueError:
                continue
    raise ValueError("no valid NHS number ends like this")
