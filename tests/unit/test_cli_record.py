"""`ehcp record`: every event of the contract can be said on a command line, and what does not fit is told by option."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from schemas.lifecycle import EVENT_MODELS
from services.cli.main import app

PLACED = {"setting": {"scheme": "urn", "value": "993206"}, "from": "2026-09-01"}


def record(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["record", *arguments, "--by", "officer-7", "--dry-run", "--json"], env={"COLUMNS": "200"})


def recorded(*arguments: str) -> object:
    result = record(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments: str) -> str:
    result = record(*arguments)
    assert result.exit_code != 0, result.output
    return " ".join(result.stderr.split())


def test_every_event_has_a_sub_command_with_the_contracts_own_words() -> None:
    for type_, model in EVENT_MODELS.items():
        shown = CliRunner().invoke(app, ["record", type_, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
        assert shown.exit_code == 0
        first_words = " ".join((model.__doc__ or "").split()[:6])
        assert first_words in " ".join(shown.stdout.split()), type_
        for field in model.model_fields.keys() - {"type"}:
            assert re.search(rf"--{field.replace('_', '-')}\b", shown.stdout), (type_, field)


def test_an_option_says_what_it_means_and_how_it_is_written() -> None:
    said = " ".join(CliRunner().invoke(app, ["record", "recall", "--help"], env={"COLUMNS": "400"}).output.split())
    assert "When the council became aware: the 72 hours count from then. As YYYY-MM-DDTHH:MM+HH:MM, or with Z for UTC." in said
    assert "Whose copies; for wrong_recipient." in said
    assert "The version, by its number or id; or the id of a notice." in said


def test_dates_words_of_a_list_and_references_are_options() -> None:
    assert recorded(
        "cease_notice", "DUD-1", "--notified-on", "2026-03-02", "--ceases-on", "2026-05-01", "--reason", "needs_met",
        "--appeal-until", "2026-05-04",
    ) == {
        "type": "cease_notice", "by": "officer-7", "notified_on": "2026-03-02", "ceases_on": "2026-05-01",
        "reason": "needs_met", "appeal_until": "2026-05-04",
    }  # fmt: skip


def test_codes_are_written_with_their_scheme_and_given_again_for_more() -> None:
    assert recorded(
        "commissioner_changed", "DUD-1", "--commissioning-bodies", "ods:QUA", "--commissioning-bodies", "ods:QHL",
        "--changed-on", "2026-04-01",
    ) == {
        "type": "commissioner_changed", "by": "officer-7", "changed_on": "2026-04-01",
        "commissioning_bodies": [{"scheme": "ods", "value": "QUA"}, {"scheme": "ods", "value": "QHL"}],
    }  # fmt: skip
    assert "--commissioning-bodies: write the code with its scheme" in refused(
        "commissioner_changed", "DUD-1", "--commissioning-bodies", "QUA", "--changed-on", "2026-04-01"
    )


def test_what_has_parts_is_json_or_the_file_that_holds_it(tmp_path: Path) -> None:
    said = {"type": "placement_changed", "by": "officer-7", "changed_on": "2026-09-01", "placements": [PLACED]}
    typed = json.dumps([PLACED])
    file = tmp_path / "placements.json"
    file.write_text(typed)
    assert recorded("placement_changed", "DUD-1", "--changed-on", "2026-09-01", "--placements", typed) == said
    assert recorded("placement_changed", "DUD-1", "--changed-on", "2026-09-01", "--placements", f"@{file}") == said
    missing = refused("placement_changed", "DUD-1", "--changed-on", "2026-09-01", "--placements", "@nowhere.json")
    assert missing == "--placements: nowhere.json cannot be read (No such file or directory)."


def test_yes_and_no_must_be_said_where_the_contract_has_no_default() -> None:
    recipient = "0190a7f2-0000-7000-8000-000000000001"
    answer = recorded("confirm", "DUD-1", "--recipient-id", recipient, "--no-share")
    assert answer == {"type": "confirm", "by": "officer-7", "recipient_id": recipient, "share": False}
    assert "--share" in refused("confirm", "DUD-1", "--recipient-id", recipient)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cease", "DUD-1", "--ceased-on", "2026-02-30", "--reason", "deceased"], "--ceased-on: "),
        (
            ["placement_changed", "DUD-1", "--changed-on", "2026-09-01", "--placements", '[{"from": "2026-09-01"}]'],
            "--placements/0: a placement names neither a setting nor a type (send setting (a code) or setting_type)",
        ),
        (["transfer", "DUD-1", "--to-la-code", "33", "--moved-on", "2026-09-01", "--aware-on", "2026-09-01"], "--to-la-code: "),
    ],
)
def test_what_does_not_fit_is_told_by_option(arguments: list[str], said: str) -> None:
    assert refused(*arguments).startswith(said)


def test_a_word_that_is_not_of_the_list_is_wrong_use() -> None:
    result = record("cease", "DUD-1", "--ceased-on", "2026-02-03", "--reason", "moved")
    assert result.exit_code == 2


def test_who_is_left_out_is_a_reference_or_a_code() -> None:
    assert recorded(
        "review_scheduled", "DUD-1", "--review", "R1", "--meeting-on", "2099-02-01",
        "--not-to", "F1", "--not-to", "urn:100001", "--not-to-reason", "It gives an address.",
    ) == {
        "type": "review_scheduled", "by": "officer-7", "review": "R1", "meeting_on": "2099-02-01",
        "not_to": [{"member": "F1"}, {"organisation": {"scheme": "urn", "value": "100001"}}],
        "not_to_reason": "It gives an address.",
    }  # fmt: skip
