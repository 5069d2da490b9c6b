"""No record system without the suite: what is promised of one is promised of all."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PORT = {"deliver", "withdraw", "recall", "holds", "close"}
INHERITS = re.compile(r"^class \w+\((?:RecordSystem|Server|Http)Suite\):", re.MULTILINE)

pytestmark = pytest.mark.contract


def test_every_adapter_is_held_to_the_suite_of_all_record_systems() -> None:
    sources = [file.read_text() for file in (ROOT / "services").rglob("*.py")]
    adapters = {
        each.name
        for source in sources
        if "async def holds(" in source
        for each in ast.walk(ast.parse(source))
        if isinstance(each, ast.ClassDef)
        and {part.name for part in each.body if isinstance(part, ast.AsyncFunctionDef)} >= PORT
        and not any(isinstance(base, ast.Name) and base.id == "Protocol" for base in each.bases)
    }
    tests = [file.read_text() for file in (ROOT / "tests" / "contract").glob("test_*.py")]
    inheriting = "\n".join(text for text in tests if INHERITS.search(text))
    assert {"FhirRecord", "MeshRecord", "Hl7v2Receiver", "SftpServer", "WebhookEndpoint", "Inbox"} <= adapters
    assert [name for name in sorted(adapters) if not re.search(rf"\b{name}\(", inheriting)] == []
