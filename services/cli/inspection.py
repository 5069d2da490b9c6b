"""The report of a look into the records as people read it: text for an inspector and a SENCO, rows for a spreadsheet. Pure.

``document`` is the signed report's; nothing is counted here that is not counted there.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from schemas.holdings import Found, Holding
from schemas.looks import SEEN, Verdict
from services.cli.exchange import Row
from services.cli.output import to_the_second
from services.shared.identity.keys import import_key
from services.shared.identity.receipts import ReceiptError, verify_holding
from services.shared.identity.signed_documents import SignedDocumentError

KIND = "inspection-sample"

ROW_COLUMNS = (
    "case_reference", "version", "recipient", "kind", "channel", "grounds", "verdict", "difference", "found_version",
    "looked_at", "record", "reason", "last_proof", "last_proof_version", "last_proof_at", "word_of",
)  # fmt: skip
_FOUND = {
    "older_version": "an older version",
    "altered": "the current version, but not as it was filed",
    "absent": "nothing",
}
_NOT_SEEN = {
    "cannot_be_asked": "cannot be asked",
    "by_hand": "sent by an officer, whose word is all there is",
}
_PROOF = {"cannot_be_asked": "the last receipt is for", "by_hand": "an officer has recorded sending"}
_REASONS = {
    "unknown": "the exchange has no such child",
    "not_in_force": "the plan is not in force any more",
    "no_version": "the plan has no version",
    "not_shared_with_agency": "not to be held there",
    "repeated": "named before",
}
TOTALS = {
    "agency": "Agency",
    "wanted": "Should hold",
    "looked_into": "Looked into",
    "current": "Current",
    "older_version": "Older",
    "altered": "Changed",
    "absent": "Absent",
    "not_seen": "Not seen",
    "per_cent": "Current %",
    "interval": "95 % interval",
}


def is_right(document: Row) -> bool:
    return not any(total[name] for total in document["totals"] for name in ("older_version", "altered", "absent"))


def totals(document: Row) -> list[Row]:
    return [
        total
        | {
            "not_seen": total["cannot_be_asked"] + total["by_hand"] + total["no_answer"],
            "interval": total["interval"] and f"{total['interval']['low']} to {total['interval']['high']}",
        }
        for total in document["totals"]
    ]


def text(document: Row, lines: Mapping[int, int] | None = None) -> str:
    """``lines``: of a choice, the line of its file by position."""
    return "\n".join(_text(document, lines or {})) + "\n"


def head(document: Row) -> Iterator[str]:
    """What was looked at, and the one figure."""
    yield f"{document['title']}: {document['council']}"
    yield (
        f"Asked {_at(document['asked_at'])} by {document['asked_by']}, report of {_at(document['made_at'])} (UTC), "
        f"look {document['look_id']}"
    )
    children, scope = len(document["children"]), document["agency"] or document["kind"]
    if document["population"] is None:
        yield f"{children} children, chosen and not drawn: the figures say nothing of other children."
    elif children == document["population"]:
        yield f"All {children} children in force: the figures are no estimate."
    else:
        yield f"{children} of {document['population']} children in force, drawn at random with the seed {document['seed']}"
        yield f"(drawn: {document['drawn_by']})."
    if scope:
        yield f"Only what {scope} should hold."
    if document["population"] is not None and "earlier_draws" in document:
        drawn = len(document["earlier_draws"])
        yield (
            f"{drawn} other draw{'s were' if drawn > 1 else ' was'} made here in the twelve months before: see the end."
            if drawn else "No other draw was made here in the twelve months before."
        )  # fmt: skip
    yield ""
    yield _headline(document["with_all_current"])
    looked_into = document["with_all_current"]["looked_into"]
    if 0 < looked_into < children:
        yield f"Of the other {children - looked_into} no record could be looked into: the figure says nothing of them."
    if unopened := _unopened(document):
        yield f"{unopened} of the current copies lie in an inbox where nobody has opened them yet."
    if document["with_gaps"]:
        yield f"In {document['with_gaps']} children's plans somebody is involved who gets nothing (share gap)."
    if not document["complete"]:
        yield "Not every record has answered yet: `ehcp sample --look` with this look's id makes the report anew."


def rest(document: Row, lines: Mapping[int, int]) -> Iterator[str]:
    """Every finding by name."""
    yield from _section("Not as it should be", _wrong(document))
    yield from _section("Not seen: could not be looked into, so counted neither as present nor as absent", _unseen(document))
    yield from _section("Share gaps: involved in the plan, and gets nothing", _gaps(document))
    yield from _section("Asked for and not looked at", _refused(document, lines))
    yield from _section("Other draws of the twelve months before, the newest first", _draws(document))


def _text(document: Row, lines: Mapping[int, int]) -> Iterator[str]:
    yield from head(document)
    yield ""
    yield from _table(totals(document))
    yield from rest(document, lines)
    yield ""
    yield "Intervals are Wilson's, without finite population correction: with so many drawn, 95 of 100 such intervals hold the"
    yield "share of all. A record that could not be looked into is never counted as present."


def _unopened(document: Row) -> int:
    """Present is not read: of an inbox the newest receipt says whether anybody opened it."""
    return sum(
        record["channel"] == "inbox"
        and record["verdict"] == "current"
        and (record["last_proof"] or {}).get("status") != "opened"
        for _, record in _records(document)
    )


def _headline(counted: Row) -> str:
    if not counted["looked_into"]:
        return "No record could be looked into."
    said = (
        f"Of {counted['looked_into']} children, {counted['current']} have the current version in every record that was looked "
        f"into: {counted['per_cent']} %"
    )
    if counted["interval"]:
        said += f" (of all children, with 95 % confidence, {counted['interval']['low']} to {counted['interval']['high']} %)"
    return said + "."


def _table(rows: list[Row]) -> Iterator[str]:
    cells = [list(TOTALS.values()), *([_cell(row[name]) for name in TOTALS] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(TOTALS))]
    for line in cells:
        padded = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        yield "  ".join([line[0].ljust(widths[0]), *padded[1:]]).rstrip()


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield ""
        yield title
        yield from (f"  {each}" for each in found)


def _records(document: Row) -> Iterator[tuple[Row, Row]]:
    for child in document["children"]:
        for record in child["records"]:
            yield child, record


def _wrong(document: Row) -> Iterator[str]:
    for child, record in _records(document):
        if record["verdict"] in _FOUND:
            found = _FOUND[record["verdict"]]
            if record["verdict"] == "older_version":
                found = f"version {record['found_version']}" if record["found_version"] else "a version nobody issued here"
            why = f" ({record['reason']})" if record["reason"] else ""
            yield (
                f"{child['case_reference']}, {record['recipient']}: version {child['version']} should be there, "
                f"found {found}{why}{_last(record)}"
            )


def _unseen(document: Row) -> Iterator[str]:
    """What can never be seen is counted by agency, each copy with what the exchange was last told; the CSV has every one."""
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for child, record in _records(document):
        if record["verdict"] == "no_answer":
            why = f" ({record['reason']})" if record["reason"] else ""
            yield f"{child['case_reference']}, {record['recipient']}: did not answer{why}{_last(record)}"
        elif record["verdict"] in _NOT_SEEN:
            person = record["recipient_kind"] in ("parent", "young_person")
            agency = record["recipient_kind"].replace("_", " ") if person else record["recipient"]
            groups[agency, record["verdict"], record["reason"] or ""].append(record)
    for (agency, verdict, reason), records in groups.items():
        proved = sum(bool(each["last_proof"] and each["last_proof"]["current"]) for each in records)
        why = f" ({reason})" if reason else ""
        yield f"{agency}: {len(records)} {_NOT_SEEN[verdict]}{why}; for {proved} of them {_PROOF[verdict]} the current version"


def _last(record: Row) -> str:
    proof = record["last_proof"]
    if proof is None:
        return "; nothing ever said that it arrived"
    return f"; last receipt: {proof['status']}, version {proof['version']}, {_at(proof['at'])}"


def _gaps(document: Row) -> Iterator[str]:
    for child in document["children"]:
        for gap in child["gaps"]:
            yield f"{child['case_reference']}: {gap['who']} ({gap['reason']})"


def _refused(document: Row, lines: Mapping[int, int]) -> Iterator[str]:
    for each in document["not_looked_at"]:
        position = each["position"]
        where = f"line {lines[position]}" if position in lines else f"number {position} of the choice"
        yield f"{where}: {_REASONS[each['reason']]}"


def _draws(document: Row) -> Iterator[str]:
    for each in document.get("earlier_draws", ()):
        scope = each["agency"] or each["kind"]
        result = "not counted here" if each["current"] is None else f"{each['current']} of {each['looked_into']} current"
        yield (
            f"{_at(each['asked_at'])} by {each['asked_by']}, seed {each['seed']}: {each['children']} of {each['population']} "
            f"children{f', only {scope}' if scope else ''}: {result} (look {each['look_id']})"
        )


def check_statements(document: Row) -> int:
    """How many answers of subscribers are in it, each proved to be its subscriber's and to say what the report makes of it; no
    record is seen without one, and the figures are those of the records.

    Raises :class:`SignedDocumentError`.
    """
    checked = 0
    try:
        keys = {name: import_key(jwk) for name, jwk in document["keys"].items()}
        for child, record in _records(document):
            if record["statement"] is None:
                # Only of whom nobody could be asked, and of silence, there is no answer.
                if record["verdict"] != "no_answer" and record["subscriber"] is not None:
                    raise SignedDocumentError(f"What is said of a record of {child['case_reference']} nobody has answered.")
                continue
            said = verify_holding(record["statement"].encode(), keys[record["subscriber"]])
            told = str(said.look_id), str(said.share_id), said.subscriber, said.record
            if told != (document["look_id"], record["share_id"], record["subscriber"], record["record"]):
                raise SignedDocumentError(f"An answer about {child['case_reference']} is not the one that is shown.")
            if said.found not in _MAY_BE[record["verdict"]] or not _bears_out(said, child, record):
                raise SignedDocumentError(f"An answer about {child['case_reference']} says something else than the report.")
            checked += 1
        _add_up(document)
    except (KeyError, TypeError, AttributeError, ValueError, ReceiptError):
        raise SignedDocumentError("An answer in it is not as its subscriber signed it.") from None
    return checked


def _bears_out(said: Holding, child: Row, record: Row) -> bool:
    """Whether what was held is what the verdict makes of it."""
    if said.found is not Found.HELD:
        return True
    right = said.intact and not said.withdrawn
    if str(said.version_id) == record["version_id"]:
        return bool(record["verdict"] == ("current" if right and said.sha256 == record["sha256"] else "altered"))
    came_since = right and record["found_version"] is not None and record["found_version"] > child["version"]
    return bool(record["verdict"] == "older_version" or (record["verdict"] == "current" and came_since))


def _add_up(document: Row) -> None:
    """Raises :class:`SignedDocumentError` where a figure is not what the records come to."""
    seen = [[each["verdict"] for each in child["records"] if each["verdict"] in SEEN] for child in document["children"]]
    children = [all(each == "current" for each in verdicts) if verdicts else None for verdicts in seen]
    judged = [each for each in children if each is not None]
    verdicts = Counter(record["verdict"] for _, record in _records(document))
    counts = document["totals"]
    agree = [
        [child["all_current"] for child in document["children"]] == children,
        _figures(document["with_all_current"]) == (len(judged), sum(judged), _per_cent(sum(judged), len(judged))),
        all(sum(total[each] for total in counts) == verdicts[each] for each in Verdict),
        all(each["per_cent"] == _per_cent(each["current"], each["looked_into"]) for each in counts),
        sum(total["looked_into"] for total in counts) == sum(len(each) for each in seen),
        document["with_gaps"] == sum(bool(child["gaps"]) for child in document["children"]),
    ]
    if not all(agree):
        raise SignedDocumentError("The figures in it are not those of its records.")


def _figures(counted: Row) -> tuple[object, ...]:
    return counted["looked_into"], counted["current"], counted["per_cent"]


def _per_cent(current: int, of: int) -> str | None:
    return f"{100 * current / of:.1f}" if of else None


_MAY_BE = {
    **{verdict: {Found.HELD} for verdict in ("current", "older_version", "altered")},
    "absent": {Found.ABSENT, Found.NOT_SERVED},
    "cannot_be_asked": {Found.CANNOT_BE_ASKED},
    "by_hand": {Found.BY_HAND},
    "no_answer": {Found.NO_ANSWER},
}


def rows(document: Row) -> Iterator[Row]:
    """One for each record, one for each share gap."""
    for child, record in _records(document):
        proof = record["last_proof"] or {}
        yield {
            "case_reference": child["case_reference"], "version": child["version"], "recipient": record["recipient"],
            "kind": record["recipient_kind"], "channel": record["channel"], "grounds": " ".join(record["grounds"]),
            "verdict": record["verdict"], "difference": record["difference"], "found_version": record["found_version"],
            "looked_at": record["looked_at"], "record": record["record"], "reason": record["reason"],
            "last_proof": proof.get("status"), "last_proof_version": proof.get("version"), "last_proof_at": proof.get("at"),
            "word_of": record["hosted_by"],
        }  # fmt: skip
    for child in document["children"]:
        for gap in child["gaps"]:
            yield {
                "case_reference": child["case_reference"], "version": child["version"], "recipient": gap["who"],
                "verdict": "share_gap", "reason": gap["reason"],
            }  # fmt: skip


def _at(at: str) -> str:
    return to_the_second(at) or ""


def _cell(value: object) -> str:
    return "-" if value is None else str(value)
