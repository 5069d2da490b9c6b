"""What breaks those who rely on a release is found, what does not is let through; and this version breaks nobody."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from schemas import asyncapi, compatibility, generate, release
from schemas.differences import Effect, differences

Change = Callable[[Any], object]
N, W, V = Effect.NARROWER, Effect.WIDER, Effect.VALUE_ADDED

TEXT: dict[str, Any] = {"type": "string"}
NULL: dict[str, Any] = {"type": "null"}


def record(*required: str, closed: bool = False, **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties, "required": list(required)}
    return schema | {"additionalProperties": False} if closed else schema


def by_scheme(*schemes: str) -> dict[str, Any]:
    """As of an organisation's code: each scheme has its own pattern."""
    conditions = [
        {"if": {"properties": {"scheme": {"const": scheme}}}, "then": {"properties": {"value": {"pattern": f"^{scheme}"}}}}
        for scheme in schemes
    ]
    return record("scheme", "value", scheme={"enum": list(schemes)}, value=TEXT) | {"allOf": conditions}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # Values.
        (TEXT, {"type": "integer"}, {("", N), ("", W)}),
        ({"type": "integer"}, {"type": "number"}, {("", W)}),
        ({"type": "number"}, {"type": "integer"}, {("", N)}),
        ({}, TEXT, {("", N)}),
        (TEXT, {}, {("", W)}),
        (TEXT | {"maxLength": 9}, TEXT | {"maxLength": 8}, {("", N)}),
        (TEXT | {"maxLength": 9}, TEXT | {"maxLength": 10}, {("", W)}),
        (TEXT, TEXT | {"minLength": 1}, {("", N)}),
        (TEXT | {"minLength": 1}, TEXT, {("", W)}),
        ({"type": "integer", "minimum": 1}, {"type": "integer", "minimum": 0}, {("", W)}),
        ({"type": "integer", "minimum": -2}, {"type": "integer", "minimum": -1}, {("", N)}),
        (TEXT, TEXT | {"pattern": "^a"}, {("", N)}),
        (TEXT | {"pattern": "^a"}, TEXT | {"pattern": "^b"}, {("", N), ("", W)}),
        (TEXT | {"format": "date"}, TEXT, {("", W)}),
        ({"enum": ["a", "b"]}, {"enum": ["b"]}, {("", N)}),
        ({"enum": ["a", "b"]}, {"enum": ["c", "b", "a"]}, {("", V)}),
        ({"const": "a"}, {"enum": ["a", "b"]}, {("", V)}),
        ({"enum": ["a"]}, TEXT, {("", N), ("", W)}),
        (TEXT | {"default": "a"}, TEXT | {"default": "b"}, {("", N), ("", W)}),
        (TEXT | {"uniqueItems": True}, TEXT | {"uniqueItems": False}, {("", N), ("", W)}),
        ({"not": {"type": "string"}}, {}, {("", W)}),
        (False, {}, {("", W)}),
        # Alternatives.
        (TEXT, {"anyOf": [TEXT, NULL]}, {("", W)}),
        ({"anyOf": [TEXT, NULL]}, TEXT, {("", N)}),
        ({"anyOf": [TEXT, NULL]}, {"anyOf": [NULL, TEXT | {"maxLength": 5}]}, {("", N)}),
        ({"anyOf": [TEXT, NULL]}, {"type": ["null", "string"]}, set()),
        ({"anyOf": [record("a", a=TEXT), NULL]}, {"anyOf": [record(a=TEXT), NULL]}, {("a", W)}),
        # Fields.
        (record(a=TEXT), record(a=TEXT, b=TEXT), set()),
        (record(a=TEXT), record("b", a=TEXT, b=TEXT), {("b", N)}),
        (record(a=TEXT), record("a", a=TEXT), {("a", N)}),
        (record("a", a=TEXT), record(a=TEXT), {("a", W)}),
        (record("a", a=TEXT), record(), {("a", W)}),
        (record(a=TEXT, closed=True), record(closed=True), {("a", N)}),
        (record(closed=True), record(a=TEXT, closed=True), {("a", W)}),
        (record(), record(closed=True), {("", N)}),
        (record(a=record(b=TEXT)), record(a=record(b={"type": "boolean"})), {("a/b", N), ("a/b", W)}),
        ({"type": "array", "items": TEXT}, {"type": "array", "items": TEXT | {"maxLength": 1}}, {("[]", N)}),
        ({"additionalProperties": TEXT}, {"additionalProperties": TEXT | {"maxLength": 1}}, {("{}", N)}),
        ({"additionalProperties": TEXT}, {"additionalProperties": True}, {("", W)}),
        ({"propertyNames": {"enum": ["A"]}}, {"propertyNames": {"enum": ["A", "B"]}}, {("{}", V)}),
        # Conditions: a new value with a condition of its own takes nothing from anybody.
        (by_scheme("urn"), by_scheme("urn", "ods"), {("scheme", V)}),
        (by_scheme("urn", "ods"), by_scheme("urn"), {("scheme", N)}),
        (by_scheme("urn"), by_scheme("urn") | {"allOf": []}, {("", W)}),
        (by_scheme("urn") | {"allOf": []}, by_scheme("urn"), {("", N)}),
        # Words are no contract.
        (TEXT, TEXT | {"title": "A", "description": "b", "examples": ["c"], "x-note": "d"}, set()),
    ],
)  # fmt: skip
def test_a_schema_is_narrower_wider_or_both(old: Any, new: Any, expected: set[tuple[str, Effect]]) -> None:
    assert {(each.where, each.effect) for each in differences(old, new, {}, {})} == expected
    assert differences(old, old, {}, {}) == differences(new, new, {}, {}) == []


def test_references_are_followed_also_where_a_schema_holds_itself() -> None:
    def tree(leaf: dict[str, Any], name: str) -> dict[str, Any]:
        branches = {"type": "array", "items": {"$ref": f"#/$defs/{name}"}}
        return {"$ref": f"#/$defs/{name}", "$defs": {name: record(leaf=leaf, branches=branches)}}

    old, same, new = tree(TEXT, "Tree"), tree(TEXT, "Plant"), tree(TEXT | {"maxLength": 3}, "Tree")
    assert differences(old, same, old, same) == []
    assert {(each.where, each.effect) for each in differences(old, new, old, new)} == {("leaf", N)}


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is published now, released as 0.1.0 and ready to be changed; the project is at 0.1.1."""
    folder = tmp_path / "schemas"
    for part in release.PARTS:
        source = compatibility.PUBLISHED / part
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / part)
    monkeypatch.setattr(compatibility, "PUBLISHED", folder)
    monkeypatch.setattr(compatibility, "RELEASED", folder / "released")
    monkeypatch.setattr(compatibility, "PROJECT", tmp_path / "pyproject.toml")
    set_version(folder, "0.1.0")
    assert release.main(["0.1.0"]) == 0
    set_version(folder, "0.1.1")
    return folder


def set_version(folder: Path, version: str) -> None:
    (folder.parent / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')


def edit(file: Path, change: Change) -> None:
    document = json.loads(file.read_text("utf-8"))
    change(document)
    file.write_text(json.dumps(document))


def nothing_of(place: str) -> Change:
    """Removes what is there."""

    def change(document: Any) -> None:
        *way, last = place.split(" ")
        for part in way:
            document = document[part]
        del document[last]

    return change


def test_what_was_just_released_is_kept(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (published / "released/v0.1.0/json/receipt.schema.json").exists()
    assert compatibility.main([]) == 0
    assert capsys.readouterr().err == ""


SUBMISSION, REQUESTED, ANSWER = (f"json/{n}.schema.json" for n in ("plan-submission", "share-requested", "read-answer"))
PUBLISHER = "openapi/ehcp_publisher.json"
FINALISED = "ehcp.plan.finalised.v1"


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        # Sent by councils: what was taken must still be.
        (SUBMISSION, lambda d: d["required"].append("school"), "json plan-submission:1 school: it must be sent now"),
        (SUBMISSION, nothing_of("properties case_reference"), "case_reference: the field is refused now"),
        (SUBMISSION, nothing_of("$defs Child properties uln"), "child/uln: the field is refused now"),
        (SUBMISSION, lambda d: d["$defs"]["RecipientKind"]["enum"].remove("trust"), 'the value "trust" is gone'),
        (SUBMISSION, lambda d: d["properties"]["la_code"].update(pattern="^[0-9]{4}$"), "la_code: pattern was"),
        (SUBMISSION, lambda d: d["$defs"]["Child"]["properties"]["family_name"].update(maxLength=50),
         "child/family_name: maxLength was 200 and is 50"),
        # Between council and subscribers: neither side may be surprised by the other's newer or older version.
        (REQUESTED, nothing_of("properties sha256"), "json share-requested:1 sha256: the field is gone"),
        (REQUESTED, lambda d: d["required"].append("new"), "json share-requested:1 new: it must be sent now"),
        (REQUESTED, lambda d: d["required"].remove("due_at"), "due_at: it may be left out now"),
        (REQUESTED, lambda d: d["properties"].update(version=TEXT), "version: its type was integer and is string"),
        (REQUESTED, lambda d: d["properties"]["due_at"].update(anyOf=[TEXT, NULL]), "due_at: null is allowed now"),
        (ANSWER, nothing_of("$defs Rendering properties manifest"), "rendering/manifest: the field is gone"),
        # Topics and event types.
        ("asyncapi.json", nothing_of(f"channels events messages {FINALISED}"),
         f"asyncapi events: the event type {FINALISED} is not published any more; keep it beside its successor"),
        ("asyncapi.json", lambda d: d["channels"]["alerts"].update(address="ehcp.alerts.v2"), "is called ehcp.alerts.v2"),
        ("asyncapi.json", nothing_of("channels alerts"), "asyncapi alerts: this topic is not published any more"),
        ("asyncapi.json", nothing_of("operations audit.receive.receipts"), "this operation is not published any more"),
        ("asyncapi.json", lambda d: d["components"]["messages"]["ehcp.receipt.v1"].update(contentType="application/json"),
         "application/jose became application/json"),
        ("asyncapi.json", nothing_of("components schemas Receipt properties record"), "payload record: the field is gone"),
        # Routes.
        (PUBLISHER, nothing_of("paths /v1/batch"), "openapi ehcp_publisher POST /v1/batch: this route is not published"),
        (PUBLISHER, nothing_of("paths /v1/shares get parameters"), "the query parameter limit is not taken any more"),
        (PUBLISHER, lambda d: d["paths"]["/v1/shares"]["get"]["parameters"][0].update(required=True),
         "the query parameter after must be sent now"),
        (PUBLISHER, lambda d: d["paths"]["/v1/shares"]["get"]["parameters"][1]["schema"].update(maximum=10),
         "limit: maximum was 1000 and is 10"),
        (PUBLISHER, nothing_of("paths /v1/plans post requestBody content multipart/form-data"), "multipart/form-data is gone"),
        (PUBLISHER, nothing_of("components schemas PlanVersion properties family"), "version/family: the field is refused now"),
        (PUBLISHER, nothing_of("components schemas VersionAnswer properties shares"), "201 shares: the field is gone"),
        (PUBLISHER, nothing_of("paths /v1/plans post responses 200"), "200 is no answer any more"),
        (PUBLISHER, lambda d: d["paths"]["/v1/shares"]["get"].update(security=[]), "who may call it, or how, has changed"),
        (PUBLISHER, lambda d: d["paths"]["/v1/shares"]["get"].update(requestBody={"required": True, "content": {}}),
         "a body must be sent now"),
        # Webhooks: the exchange asks, the receivers answer.
        ("webhooks.json", nothing_of("webhooks ehcp.plan.withdrawn.v1"), "POST ehcp.plan.withdrawn.v1: this route is not"),
        ("webhooks.json", nothing_of("components schemas Delivered properties child"), "takes data/child: the field is gone"),
        ("webhooks.json", lambda d: d["components"]["schemas"]["Stored"]["required"].append("at"), "at: it must be sent now"),
        ("webhooks.json", nothing_of("paths /holdings get parameters"), "the query parameter plan is not sent any more"),
    ],
)  # fmt: skip
def test_a_break_is_found_and_named(
    published: Path, capsys: pytest.CaptureFixture[str], file: str, change: Change, said: str
) -> None:
    edit(published / file, change)
    assert compatibility.main([]) == 1
    breaks = [line for line in capsys.readouterr().err.splitlines() if line.startswith("BREAKING")]
    assert any(said in line for line in breaks), breaks


@pytest.mark.parametrize("file", [SUBMISSION, REQUESTED, PUBLISHER])
def test_a_whole_file_that_is_gone_is_a_break(published: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
    (published / file).unlink()
    assert compatibility.main([]) == 1
    assert "is not published any more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "change"),
    [
        (SUBMISSION, lambda d: d["properties"].update(priority=TEXT)),
        (SUBMISSION, lambda d: d["required"].remove("la_code")),
        (SUBMISSION, lambda d: d["$defs"]["RecipientKind"]["enum"].append("school_nurse")),
        (SUBMISSION, lambda d: d["$defs"]["Child"]["properties"]["family_name"].update(maxLength=500)),
        (SUBMISSION, lambda d: d.update(description="Other words.")),
        (REQUESTED, lambda d: d["properties"].update(priority=TEXT)),
        (PUBLISHER, lambda d: d["paths"].update({"/v1/new": {}})),
        (PUBLISHER, lambda d: d["paths"]["/v1/shares"]["get"]["parameters"].append(
            {"in": "query", "name": "new", "schema": TEXT})),
        (PUBLISHER, lambda d: d["components"]["schemas"]["VersionAnswer"]["properties"].update(new=TEXT)),
        (PUBLISHER, lambda d: d["components"]["schemas"]["VersionAnswer"]["required"].append("shares")),
        (PUBLISHER, nothing_of("paths /v1/plans post responses 415")),
        ("asyncapi.json", lambda d: d["channels"].update(new=d["channels"]["alerts"])),
        ("webhooks.json", lambda d: d["components"]["schemas"]["Delivered"]["required"].append("new")),
        ("webhooks.json", lambda d: d["components"]["schemas"]["Stored"]["required"].remove("sha256")),
    ],
)  # fmt: skip
def test_what_breaks_nobody_passes_without_a_word(
    published: Path, capsys: pytest.CaptureFixture[str], file: str, change: Change
) -> None:
    edit(published / file, change)
    assert compatibility.main([]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (REQUESTED, lambda d: d["$defs"]["RecipientKind"]["enum"].append("school_nurse"),
         'note json share-requested:1 recipient/kind: the value "school_nurse" is new'),
        (PUBLISHER, lambda d: d["components"]["schemas"]["IssueResult"]["enum"].append("queued"), 'the value "queued" is new'),
        (PUBLISHER, lambda d: d["paths"]["/v1/plans"]["post"]["responses"].update({"207": {}}), "it may answer 207 now"),
        (PUBLISHER, lambda d: d["paths"]["/v1/plans"]["post"].update(operationId="other"), "its operationId was first_version"),
    ],
)  # fmt: skip
def test_what_readers_will_meet_for_the_first_time_is_said_and_passes(
    published: Path, capsys: pytest.CaptureFixture[str], file: str, change: Change, said: str
) -> None:
    edit(published / file, change)
    assert compatibility.main([]) == 0
    assert said in capsys.readouterr().err


def add_second_major(published: Path) -> None:
    """The second major version of an instruction, which nobody who knows the first could read."""
    first = published / REQUESTED
    (published / "json/share-requested-v2.schema.json").write_text(first.read_text("utf-8"))

    def broken(schema: Any) -> None:
        schema["$id"] = "urn:ehcp:schema:share-requested:2"
        schema["properties"] = {"other": TEXT}
        schema["required"] = ["other"]

    edit(published / "json/share-requested-v2.schema.json", broken)


def test_a_new_major_version_may_be_anything_beside_the_old_one(published: Path) -> None:
    add_second_major(published)
    assert compatibility.main([]) == 0


@pytest.mark.parametrize(("version", "code"), [("0.1.9", 1), ("0.2.0", 0), ("1.0.0", 0)])
def test_the_old_one_goes_with_a_major_version_of_the_whole(
    published: Path, capsys: pytest.CaptureFixture[str], version: str, code: int
) -> None:
    add_second_major(published)
    (published / REQUESTED).unlink()
    set_version(published, version)
    assert compatibility.main([]) == code
    assert "json share-requested:1: this schema is not published any more" in capsys.readouterr().err


@pytest.mark.parametrize(("version", "code"), [("0.1.9", 1), ("0.2.0", 0), ("1.0.0", 0)])
def test_before_the_first_major_version_a_minor_one_may_break(
    published: Path, capsys: pytest.CaptureFixture[str], version: str, code: int
) -> None:
    edit(published / REQUESTED, nothing_of("properties sha256"))
    set_version(published, version)
    assert compatibility.main([]) == code
    assert "json share-requested:1 sha256: the field is gone" in capsys.readouterr().err


@pytest.mark.parametrize("version", ["1.0.1", "1.1.0", "2.0.0"])
def test_after_it_no_version_changes_what_a_name_means(published: Path, version: str) -> None:
    set_version(published, "1.0.0")
    assert release.main(["1.0.0"]) == 0
    edit(published / REQUESTED, nothing_of("properties sha256"))
    set_version(published, version)
    assert compatibility.main([]) == 1


@pytest.mark.parametrize(
    ("version", "project", "said"),
    [
        ("1", "0.1.1", "A version is three numbers"),
        ("0.2.0", "0.1.1", "pyproject.toml says 0.1.1"),
        ("0.1.0", "0.1.0", "0.1.0 is released already"),
        ("0.0.9", "0.0.9", "0.1.0 is released already"),
    ],
)
def test_a_release_that_makes_no_sense_is_refused(
    published: Path, capsys: pytest.CaptureFixture[str], version: str, project: str, said: str
) -> None:
    set_version(published, project)
    assert release.main([version]) == 1
    assert said in capsys.readouterr().err
    assert [path.name for path in (published / "released").iterdir()] == ["v0.1.0"]


def test_a_release_that_breaks_the_last_one_is_refused(published: Path) -> None:
    edit(published / REQUESTED, nothing_of("properties sha256"))
    assert release.main(["0.1.1"]) == 1
    assert not (published / "released/v0.1.1").exists()


def add_field(name: str) -> Change:
    def change(schema: Any) -> None:
        schema["properties"][name] = TEXT

    return change


def test_the_newest_release_is_the_one_that_counts(published: Path) -> None:
    for version in ("0.1.9", "0.1.10"):
        set_version(published, version)
        assert release.main([version]) == 0
        edit(published / SUBMISSION, add_field(f"of_{version}"))
    assert [path.name for path in compatibility.releases().values()] == ["v0.1.0", "v0.1.9", "v0.1.10"]
    edit(published / SUBMISSION, nothing_of("properties of_0.1.10"))
    assert compatibility.main([]) == 0
    edit(published / SUBMISSION, nothing_of("properties of_0.1.9"))
    assert compatibility.main([]) == 1


def test_this_version_breaks_nobody() -> None:
    assert [str(finding) for finding in compatibility.check() if finding.breaking] == []
    assert compatibility.main(["--check"]) == 2


def test_what_a_release_gave_as_an_example_is_still_taken() -> None:
    for folder in compatibility.releases().values():
        for path in sorted(folder.glob("examples/good/*/*.json")):
            try:
                generate.MODELS[path.parent.name].model_validate_json(path.read_bytes())
            except (KeyError, ValidationError) as error:
                pytest.fail(f"{path.relative_to(compatibility.RELEASED)}: {type(error).__name__}")


def test_every_schema_and_document_is_in_the_contract_that_is_compared() -> None:
    contract = compatibility.read_contract(compatibility.PUBLISHED)
    assert {schema["$id"] for schema in map(generate.make_schema, generate.MODELS)} == contract.schemas.keys()
    assert contract.asyncapi == json.loads(asyncapi.FILE.read_text("utf-8"))
    assert {"ehcp_publisher", "audit", "school_subscriber", "family_subscriber"} <= contract.openapi.keys()
