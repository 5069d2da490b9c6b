"""Follows one invented child's plan from its first issue to its end, on a running exchange, and prints what it answers.

``ehcp up --detach --no-samples``, then ``python -m deploy.sandbox.worked_example > docs/worked-example.md``: that page is this
program's output, and a test holds it against a new run. So that two runs print the same, days are told by their distance from
the day of the run, and ids and times of the clock are left out. The plan's reference is always the same: a second run needs a
fresh exchange (``ehcp down --wipe``).
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import typst

from deploy.sandbox.worked_example.story import INTRODUCTION, REFERENCE, Step, steps
from services.cli.machine.fhir import JSON as FHIR_JSON
from services.cli.machine.fhir import FhirServer, entry_of
from services.cli.machine.folder import DataFolder
from services.cli.shares import is_settled

HERE = Path(__file__).parent
TRUST = "RNA"
SETTLED_WITHIN_SECONDS = 120
Row = dict[str, Any]


@dataclass
class Example:
    home: Path
    folder: Path
    today: date
    told: set[str] = field(default_factory=set)
    """Shares of notices that were shown already."""
    posted: set[tuple[str, int]] = field(default_factory=set)
    """Shares and versions that an officer has posted."""

    def run(self, *arguments: str, refused: bool = False) -> str:
        """What the command prints, or what it says when it is refused; ends the program when it goes otherwise."""
        environment = os.environ | {"EHCP_HOME": str(self.home), "NO_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "services.cli.main", *arguments],
            cwd=self.folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if (done.returncode == 1) is not refused or done.returncode > 1:
            sys.exit(f"ehcp {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stderr if refused else done.stdout

    def holders(self) -> list[Row]:
        found: list[Row] = json.loads(self.run("who", REFERENCE, "--json"))
        return found

    def settled(self) -> list[Row]:
        """Who holds what, once machines have done what they can."""
        end = time.monotonic() + SETTLED_WITHIN_SECONDS
        while True:
            found = self.holders()
            if all(self.is_done(row) for row in found):
                return found
            if time.monotonic() > end:
                sys.exit(f"Nothing was heard of some recipients within {SETTLED_WITHIN_SECONDS} seconds.")
            time.sleep(0.5)

    def is_done(self, row: Row) -> bool:
        """Where a person has done their part, or nobody has to, the receipt is waited for."""
        if row["version"] is None or (row["share_id"], row["version"]) in self.posted:
            return bool(row["satisfied"])
        return is_settled(row)

    def post_to(self, reference: str) -> str:
        """The share of the plan with this parent, which an officer posts now."""
        (row,) = (row for row in self.holders() if row["recipient"].endswith(reference) and not row["notice"])
        self.posted.add((row["share_id"], row["version"]))
        return str(row["share_id"])

    def shown(self, text: str) -> str:
        """Without what differs from run to run."""
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "(time)".ljust(19), text)
        text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?=  )", "(id)".ljust(36), text)
        text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "(id)", text)
        for distance in range(-1, 100):
            told = f"today+{distance}" if distance > 0 else "today" if distance == 0 else f"today{distance}"
            day = (self.today + timedelta(days=distance)).isoformat()
            text = re.sub(f"{day}(?=  )", told.ljust(len(day)), text).replace(day, told)
        return "\n".join(line.rstrip() for line in text.splitlines())

    def step(self, number: int, step: Step) -> None:
        say(f"## {number}. {step.title}\n")
        if step.about:
            say(textwrap.fill(step.about, 125, break_on_hyphens=False) + "\n")
        say("```")
        if step.refused:
            self.said(step.refused, self.run(*step.refused, refused=True))
        for command in step.commands:
            real = [self.post_to("F1") if word == "SHARE-OF-F1" else word for word in command]
            self.said(command, self.run(*real))
        say("```\n")
        say(self.table(self.settled()) + "\n")

    def said(self, command: Sequence[str], answer: str) -> None:
        words = re.sub(r" +", " ", self.shown(" ".join(command)))
        say(f"$ ehcp {words}\n{self.shown(answer)}".rstrip())

    def table(self, holders: Sequence[Row]) -> str:
        plan = [row for row in holders if not row["notice"]]
        notices = [row for row in holders if row["notice"] and row["share_id"] not in self.told]
        self.told |= {row["share_id"] for row in notices}
        lines = ["| recipient | of | wanted | holds | status |", "|---|---|---|---|---|"]
        for row in (*sorted(plan, key=place), *sorted(notices, key=place)):
            thing = row["notice"].replace("_", " ") if row["notice"] else "plan"
            versions = ("" if row["notice"] else row[name] or "–" for name in ("version", "held_version"))
            lines.append(f"| {row['recipient']} | {thing} | " + " | ".join(map(str, versions)) + f" | {row['status']} |")
        return "\n".join(lines)

    def prepare(self) -> None:
        """The files, with today's date where it belongs; and a trust that knows the child."""
        for file in HERE.glob("*.*"):
            if file.suffix in (".json", ".csv"):
                (self.folder / file.name).write_text(file.read_text().replace("TODAY", self.today.isoformat()))
        (self.folder / "review-report.pdf").write_bytes(typst.compile(REPORT.encode(), pdf_standards=["ua-1"]))
        shutil.rmtree(self.folder / "__pycache__", ignore_errors=True)
        child = json.loads((self.folder / "v1.json").read_text())["child"]
        home = DataFolder(self.home)
        home.open()
        server = FhirServer(self.folder, home.remembered.ports["fhir"], (TRUST,))
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry_of(patient_of(child))]}
        answer = httpx2.post(server.base_url(TRUST), json=bundle, headers={"Content-Type": FHIR_JSON}, trust_env=False)
        answer.raise_for_status()


def place(row: Row) -> tuple[str, str, str]:
    return (row["notice"] or "", row["recipient_kind"], row["recipient"])


def patient_of(child: Mapping[str, str]) -> Row:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": child["nhs_number"]}],
        "name": [{"family": child["family_name"], "given": child["given_names"].split()}],
        "birthDate": child["date_of_birth"],
    }


REPORT = """
#set document(title: "Report of the annual review", author: "Dudley Metropolitan Borough Council", date: none)
#set text(font: "Libertinus Serif", lang: "en", region: "GB")
= Report of the annual review
Nia Grace Holloway, NHS number 999 424 2423. Nia has settled at Glasshouse Lane. Her class knows about newts. The meeting
recommends new outcomes and fewer sessions of therapy, and that the plan is amended. Synthetic: no real child.
"""


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(home: Path, now: Callable[[], datetime] = lambda: datetime.now(ZoneInfo("Europe/London"))) -> None:
    today = now().date()
    with tempfile.TemporaryDirectory(prefix="ehcp-example-") as folder:
        example = Example(home.absolute(), Path(folder), today)
        if any(row["case_reference"] == REFERENCE for row in json.loads(example.run("plans", "--json"))):
            sys.exit(f"The exchange has {REFERENCE} already: `ehcp down --wipe`, then start it afresh.")
        example.prepare()
        say(INTRODUCTION)
        for number, step in enumerate(steps(today), 1):
            example.step(number, step)


if __name__ == "__main__":
    main(Path(os.environ.get("EHCP_HOME", ".ehcp")))
