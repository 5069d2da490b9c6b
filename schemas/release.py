"""Keeps what is published as a release: ``python -m schemas.release X.Y.Z``; from then on it must not be broken.

Copies what is published, and the good examples, to ``released/vX.Y.Z/``, which nobody changes again. The version is the
project's own (``pyproject.toml``), higher than the last release's. That what is published is what the models and routes say, is
for ``make check`` to tell before.
"""

import shutil
import sys

from schemas import compatibility

PARTS = ("json", "openapi", "asyncapi.json", "webhooks.json", "examples/good")


def why_not(version: str) -> str | None:
    """What forbids this release, in one sentence; None when nothing does."""
    try:
        wanted = compatibility.parse_version(version)
    except ValueError:
        return "A version is three numbers, such as 0.1.0."
    if version != compatibility.project_version():
        return f"pyproject.toml says {compatibility.project_version()}; set the version there first."
    last = max(compatibility.releases(), default=None)
    if last and wanted <= last:
        return f"{'.'.join(map(str, last))} is released already; a release has a higher version."
    if compatibility.main([]):
        return "It would break who relies on the last release."
    return None


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m schemas.release X.Y.Z", file=sys.stderr)  # noqa: T201 - a command line
        return 2
    (version,) = arguments
    if reason := why_not(version):
        print(reason, file=sys.stderr)  # noqa: T201 - a command line
        return 1
    for part in PARTS:
        source, target = compatibility.PUBLISHED / part, compatibility.RELEASED / f"v{version}" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
