"""The contract: every good example is taken by model and JSON Schema, every bad one is refused with its own sentence."""

from pathlib import Path

import orjson
import pytest
import rfc8785
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from schemas import generate
from schemas.documents import ReadAnswer
from schemas.manifest import section_hash, sha256, without_empty
from schemas.refusals import explain

EXAMPLES = Path(generate.__file__).parent / "examples"
GOOD = sorted(EXAMPLES.glob("good/*/*.json"))
BAD = sorted(EXAMPLES.glob("bad/*/*.json"))
SAMPLES = sorted(Path("deploy/sandbox/plans").resolve().glob("*/*/v*.json"))


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def validator(name: str) -> Draft202012Validator:
    schema = generate.make_schema(name)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def test_every_schema_has_examples_of_both_kinds() -> None:
    for folder in ("good", "bad"):
        assert {path.name for path in (EXAMPLES / folder).iterdir()} == set(generate.MODELS)


def test_generated_files_are_current() -> None:
    assert generate.main(["--check"]) == 0


def test_check_says_which_file_is_not_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "FOLDER", tmp_path)
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    (tmp_path / "receipt.schema.json").write_text("{}")
    (tmp_path / "left-over.schema.json").write_text("{}")
    assert generate.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert "receipt.schema.json" in said
    assert "left-over.schema.json" in said
    assert generate.main(["--chekc"]) == 2


@pytest.mark.parametrize("path", GOOD, ids=named)
def test_good_example_is_taken(path: Path) -> None:
    name, data = path.parent.name, path.read_bytes()
    model = generate.MODELS[name].model_validate_json(data)
    validator(name).validate(orjson.loads(data))
    # What we write ourselves fits our own schema too, and reads back as the same.
    written = model.model_dump_json(by_alias=True, exclude_none=True)
    validator(name).validate(orjson.loads(written))
    assert generate.MODELS[name].model_validate_json(written) == model


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_sample_plan_fits_the_json_schema(path: Path) -> None:
    validator("plan-submission").validate(orjson.loads(path.read_bytes()))


@pytest.mark.parametrize("path", BAD, ids=named)
def test_bad_example_is_refused_with_its_sentence(path: Path) -> None:
    model, data = generate.MODELS[path.parent.name], path.read_bytes()
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(data)
    refusals = explain(caught.value.errors(include_input=False, include_url=False))
    assert [str(refusal) for refusal in refusals] == path.with_suffix(".txt").read_text().splitlines()


@pytest.mark.parametrize("path", [path for path in BAD if path.parent.name == "plan-submission"], ids=named)
def test_a_refusal_never_repeats_the_child(path: Path) -> None:
    with pytest.raises(ValidationError) as caught:
        generate.MODELS[path.parent.name].model_validate_json(path.read_bytes())
    said = "".join(map(str, explain(caught.value.errors(include_input=False, include_url=False))))
    if path.stem != "an-nhs-number-as-a-key":
        # The error itself too: it ends in logs, where nobody means it to. Keys it does repeat, hence `explain`.
        said += str(caught.value)
    try:
        child = orjson.loads(path.read_bytes())["child"]
    except orjson.JSONDecodeError:
        child = {}
    for value in [*map(str, child.values()), "9434765919", "Robin", "Dvo", "sam.example", "2016-04-02"]:
        assert not value.strip() or value.strip() not in said


def test_a_key_that_the_contract_does_not_know_is_never_repeated() -> None:
    plan = orjson.loads((EXAMPLES / "good/plan-submission/a-small-plan.json").read_bytes())
    plan["version"]["sections"]["Robin Example 9434765919"] = {"text": "x"}
    plan["Robin Example"] = plan["child"]["9434765919"] = 1
    with pytest.raises(ValidationError) as caught:
        generate.MODELS["plan-submission"].model_validate(plan)
    said = "".join(map(str, explain(caught.value.errors(include_input=False))))
    assert "Robin" not in said
    assert "94347" not in said


def test_every_way_to_be_wrong_has_words() -> None:
    """No sentence of a bad example is the one for errors that nobody thought of."""
    assert not [named(path) for path in BAD if "does not fit the contract" in path.with_suffix(".txt").read_text()]


@pytest.mark.parametrize("name", ["ok", "fields-of-a-later-minor-version"])
def test_a_rendering_has_the_hashes_that_the_reference_library_gives(name: str) -> None:
    """An older reader must prove, and later prove again, a text with fields that it does not know."""
    raw = orjson.loads((EXAMPLES / f"good/read-answer/{name}.json").read_bytes())["rendering"]
    read = ReadAnswer.model_validate_json((EXAMPLES / f"good/read-answer/{name}.json").read_bytes()).rendering
    assert read is not None
    assert read.manifest.hash() == read.sha256 == sha256(rfc8785.dumps(raw["manifest"]))
    assert {letter: section_hash(section) for letter, section in read.sections.items()} == read.manifest.sections
    assert {letter: sha256(rfc8785.dumps(text)) for letter, text in raw["sections"].items()} == read.manifest.sections
    assert {letter.value: without_empty(text.model_dump(mode="json")) for letter, text in read.sections.items()} == (
        raw["sections"]
    )


def test_nulls_and_empty_lists_do_not_change_a_hash() -> None:
    raw = orjson.loads((EXAMPLES / "good/read-answer/ok.json").read_bytes())
    raw["rendering"]["sections"]["E"]["items"][0] |= {"provider": None, "frequency": None}
    raw["rendering"]["sections"]["A"] |= {"items": []}
    raw["rendering"]["manifest"] |= {"attachments": []}
    read = ReadAnswer.model_validate(raw).rendering
    assert read is not None
    assert read.manifest.hash() == read.sha256
    assert {letter: section_hash(section) for letter, section in read.sections.items()} == read.manifest.sections


def test_a_text_that_differs_in_anything_known_or_not_has_another_hash() -> None:
    text = {"text": "Robin likes trains."}
    hashes = [section_hash(text), section_hash(text | {"note": "x"}), section_hash({"text": "Robin likes trains"})]
    assert len(set(hashes)) == 3
