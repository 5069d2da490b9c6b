"""Writes files that are made from models or routes, or says which of them are stale: the command line of every generator."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent


def as_text(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def run(module: str, files: Mapping[Path, str], arguments: list[str], folder: Path | None = None) -> int:
    """``python -m MODULE`` writes ``files``; with ``--check`` it says which are not what is written. Returns the exit code.

    ``folder`` is theirs alone: what else lies in it is stale too, and is removed.
    """
    others = {path for path in folder.glob("*") if path not in files} if folder else set()
    if arguments == ["--check"]:
        stale = others | {path for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text}
        for path in sorted(stale):
            _say(f"{os.path.relpath(path, REPOSITORY)} is stale; run: python -m {module}")
        return 1 if stale else 0
    if arguments:
        _say(f"usage: python -m {module} [--check]")
        return 2
    for path in others:
        path.unlink()
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - a command line
