"""`ehcp subscriber new`: a new agency's own service, from the plain template files of `deploy/new_subscriber/`.

Invariant: all or nothing, and never over anything that is there. What it makes is code like any other: to be read and changed.
"""

import re
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from schemas.base import RecipientKind
from services.cli.machine.errors import UsageError
from services.cli.machine.kafka_access import load_access
from services.cli.options import AsJson, DryRun
from services.cli.output import out, plain_errors, print_json

app = typer.Typer(no_args_is_help=True, help="Services that deliver to agencies.")
TREE = Path(__file__).resolve().parents[3]
TEMPLATES = TREE / "deploy" / "new_subscriber"
TOPICS = Path("deploy") / "kafka" / "topics.yaml"
FILES = {
    "__init__.py.tmpl": "services/{service}/__init__.py",
    "app.py.tmpl": "services/{service}/app.py",
    "mapping.py.tmpl": "services/{service}/mapping.py",
    "record.py.tmpl": "services/{service}/record.py",
    "server.py.tmpl": "tests/support/{service}_server.py",
    "test.py.tmpl": "tests/contract/test_{service}.py",
    "runbook.md.tmpl": "docs/runbooks/{name}.md",
}
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 30
# A person's word for a service is one line of plain text: it goes into Python, YAML and Markdown.
TITLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ,.'()-]{0,79}")

IMPORT = re.compile(r"^from [\w.]+ import (?:\(\n(?: .*\n)+\)\n|.*\n)", re.MULTILINE)
IMPORTS = re.compile(rf"(?:{IMPORT.pattern})+", re.MULTILINE)


class HostedBy(StrEnum):
    AGENCY = "agency"
    COUNCIL = "council"


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Its id in topics and records: small letters and dashes, e.g. youth-offending.")],
    title: Annotated[str, typer.Option(help="What people call it, e.g. 'Youth offending service'.")],
    kind: Annotated[RecipientKind, typer.Option(help="What those are to a child to whom it delivers.")],
    hosted_by: Annotated[HostedBy, typer.Option(help="Who runs it.")] = HostedBy.AGENCY,
    tree: Annotated[Path, typer.Option(help="The source tree to write into.")] = TREE,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Make a working subscriber: its service, a test server and tests of its record system, its entry for Kafka and the
    databases, a runbook. Refuses where any of it is there."""
    with plain_errors():
        made = plan(tree, name, title, kind, hosted_by)
        if not dry_run:
            write(tree, made)
    files = [str(path) for path in made]
    if as_json:
        print_json({"name": name, "service": service_of(name), "files": files, "written": not dry_run})
        return
    for path in files:
        out.print(f"{'would make' if dry_run else 'made'} {path}", markup=False, soft_wrap=True)
    if not dry_run:
        out.print(f"Now: make check; .venv/bin/python -m pytest tests/contract/test_{service_of(name)}.py", markup=False)
        out.print(f"Then make services/{service_of(name)}/record.py speak to the agency's own record.", markup=False)


def service_of(name: str) -> str:
    return f"{name.replace('-', '_')}_subscriber"


def plan(tree: Path, name: str, title: str, kind: RecipientKind, hosted_by: HostedBy) -> dict[Path, str]:
    """Every file with its new content; the last one is the list of subscribers. Raises UsageError."""
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise UsageError(f"A subscriber's name is small letters, digits and dashes, at most {LONGEST}, e.g. youth-offending.")
    if not TITLE.fullmatch(title):
        raise UsageError("A title is one line of letters, digits, spaces and , . ' ( ) -, at most 80.")
    if not (tree / TOPICS).is_file():
        raise UsageError(f"{tree} is no source tree of the exchange: {TOPICS} is not there.")
    service = service_of(name)
    taken = {each.name for each in load_access(tree / TOPICS).subscribers}
    if name in taken:
        raise UsageError(f"There is a subscriber {name} already; there are {', '.join(sorted(taken))}.")
    words = {
        "name": name, "service": service, "kind": service.removesuffix("_subscriber"), "title": title,
        "recipient_kind": kind.value,
    }  # fmt: skip
    made: dict[Path, str] = {}
    for template, path in FILES.items():
        text = Template((TEMPLATES / template).read_text()).substitute(words)
        made[Path(path.format(service=service, name=name))] = imports_in_order(text)
    if there := [str(path) for path in made if (tree / path).exists()]:
        raise UsageError(f"There is already {', '.join(there)}: nothing was written.")
    made[TOPICS] = with_entry((tree / TOPICS).read_text(), name, service, title, hosted_by)
    return made


def imports_in_order(text: str) -> str:
    """Where an import of the new service stands among the others depends on its name."""

    def ordered(run: re.Match[str]) -> str:
        return "".join(sorted(IMPORT.findall(run[0]), key=lambda each: each.split()[1]))

    return IMPORTS.sub(ordered, text)


def with_entry(topics: str, name: str, service: str, title: str, hosted_by: HostedBy) -> str:
    """The list of subscribers with one more, its comments as they were."""
    before, begin, rest = topics.partition("\nsubscribers:\n")
    entries, end, after = rest.partition("\n\n")
    entry = f'  {name}: {{service: {service}, title: "{title}", hosted_by: {hosted_by}}}'
    return f"{before}{begin}{entries}\n{entry}{end}{after}"


def write(tree: Path, made: dict[Path, str]) -> None:
    """All or nothing. The list last: until it names the subscriber, nothing looks for the files."""
    before = {path: (tree / path).read_text() if (tree / path).exists() else None for path in made}
    try:
        for path, text in made.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
    except OSError as error:
        for path, text_before in before.items():
            if text_before is None:
                with suppress(OSError):
                    (tree / path).unlink()
            else:
                (tree / path).write_text(text_before)
        raise UsageError(f"{error.filename} cannot be written ({error.strerror}); nothing was made.") from error
