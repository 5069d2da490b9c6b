"""Turns what pydantic found wrong into sentences that a council's developer can act on: field, problem, what to send.

Nothing of the input is repeated, not even a key, unless it is made of the contract's own words: children's names and NHS
numbers have been seen as keys. The publisher answers these as problem details (RFC 9457).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from schemas import (
    alerts,
    breach,
    directory,
    documents,
    events,
    evidence,
    identifiers,
    lifecycle,
    manifest,
    notices,
    plan,
    policy,
    receipts,
    recipients,
    sending_again,
)
from schemas.base import ContractError


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing wrong. ``field`` is the way to it, joined by ``/`` (RFC 6901 without the leading slash)."""

    field: str
    problem: str
    instead: str

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}; {self.instead}"


WHOLE = "(document)"
"""The ``field`` of what is wrong with a document as such."""
_CONTRACT = (
    alerts, breach, directory, documents, events, evidence, identifiers, lifecycle, manifest, notices, plan, policy, receipts,
    recipients, sending_again,
)  # fmt: skip


def _known_names() -> frozenset[str]:
    names: set[str] = {letter.value for letter in plan.SectionLetter}
    for module in _CONTRACT:
        for model in vars(module).values():
            if isinstance(model, type) and issubclass(model, BaseModel):
                names.update(field.alias or name for name, field in model.model_fields.items())
    return frozenset(names)


_NAMES = _known_names()
_WORDS = frozenset(word for name in _NAMES for word in name.split("_"))
"""A name made of these says nothing that is not in the contract, so that it may be said."""

# By pydantic's error type: the problem (None keeps pydantic's own words, where those hold nothing of the input) and
# what to send instead.
_SENTENCES: dict[str, tuple[str | None, str]] = {
    "missing": ("this field is missing", "send it"),
    "string_type": ("it is not text", "send a JSON string"),
    "string_unicode": ("it is not valid UTF-8", "send the document in UTF-8"),
    "string_pattern_mismatch": ("it holds a character that is not allowed here", "send text that fits {pattern}"),
    "string_too_long": ("it is too long", "send at most {max_length} characters"),
    "string_too_short": ("it is empty", "send some text, or leave the field out where it is optional"),
    "too_long": ("there are too many of them", "send at most {max_length}"),
    "too_short": ("there are too few of them", "send at least {min_length}"),
    "tuple_type": ("it is not a list", "send a JSON list"),
    "dict_type": ("it is not an object", "send a JSON object"),
    "model_type": ("it is not an object", "send a JSON object"),
    "int_type": ("it is not a whole number", "send a JSON number without quotes or decimals"),
    "int_parsing": ("it is not a whole number", "send a JSON number without quotes or decimals"),
    "int_from_float": ("it is not a whole number", "send a JSON number without decimals"),
    "greater_than_equal": ("the number is too small", "send at least {ge}"),
    "less_than_equal": ("the number is too large", "send at most {le}"),
    "date_type": ("it is not a date", "send the date as YYYY-MM-DD"),
    "date_parsing": ("it is not a date", "send the date as YYYY-MM-DD"),
    "date_from_datetime_parsing": ("it is not a date", "send the date as YYYY-MM-DD"),
    "date_from_datetime_inexact": ("it is a time, not a date", "send the date as YYYY-MM-DD"),
    "datetime_type": ("it is not a time", "send the time as 2026-02-13T09:30:00Z"),
    "datetime_parsing": ("it is not a time", "send the time as 2026-02-13T09:30:00Z"),
    "datetime_from_date_parsing": ("it is not a time", "send the time as 2026-02-13T09:30:00Z"),
    "timezone_aware": ("the time has no time zone", "send it with one, such as Z for UTC"),
    "uuid_type": ("it is not an id of the exchange", "send the id as the exchange gave it"),
    "uuid_parsing": ("it is not an id of the exchange", "send the id as the exchange gave it"),
    "enum": ("it is none of the values known here", "send one of {expected}"),
    "literal_error": ("it is none of the values known here", "send one of {expected}"),
    "union_tag_invalid": ("type is none of those known here", "send one of {expected_tags}"),
    "union_tag_not_found": ("the field type is missing", "send the type of the event, such as 'placement_changed'"),
    "json_invalid": (None, "send one JSON document in UTF-8"),
    "recursion_loop": ("it is nested too deeply", "send it as the schema has it"),
}


def explain(errors: Sequence[Any], known: frozenset[str] = frozenset()) -> list[Refusal]:
    """What each of ``ValidationError.errors()`` says, in words; never needs the input (``include_input=False``).

    ``known`` are names besides the contract's that may be said, such as those of a route's parameters.
    """
    return [_explain(error, known) for error in errors]


def sentences(error: ValidationError) -> list[str]:
    """The same of a file, for whoever wrote it."""
    found = explain(error.errors(include_input=False, include_url=False))
    return [f"{'the whole file' if each.field == WHOLE else each.field}: {each.problem}; {each.instead}" for each in found]


def _explain(error: Mapping[str, Any], known: frozenset[str]) -> Refusal:
    loc: tuple[int | str, ...] = tuple(error["loc"])
    context: Mapping[str, Any] = error.get("ctx") or {}
    if loc and loc[-1] == "[key]":
        return Refusal(_way(loc[:-2], known), "it has a key that is not known here", f"use only {context.get('expected', '')}")
    field = _way(loc, known)
    if isinstance(wrong := context.get("error"), ContractError):
        return Refusal(field, wrong.problem, wrong.instead)
    if error["type"] == "extra_forbidden":
        return _unknown(_way(loc[:-1], known), str(loc[-1]))
    if error["type"] in _SENTENCES:
        problem, instead = _SENTENCES[error["type"]]
        return Refusal(field, problem or str(error["msg"]), instead.format_map(context))
    return Refusal(field, "it does not fit the contract", "send it as the schema has it")


def _unknown(place: str, name: str) -> Refusal:
    if name in _NAMES:
        return Refusal(place, f"the field {name} does not belong here", "remove it")
    close = get_close_matches(name, _NAMES, n=1, cutoff=0.8)
    instead = f"did you mean {close[0]}?" if close else "remove it, or correct its name"
    if _WORDS.issuperset(name.split("_")):
        return Refusal(place, f"the contract knows no field {name} here", instead)
    return Refusal(place, "it has a field that the contract does not know", instead)


def _way(loc: Sequence[int | str], known: frozenset[str]) -> str:
    # Among the models of an event pydantic names the one that it took; whoever sent the event knows its type.
    fields = (part for part in loc if part not in lifecycle.EVENT_MODELS)
    said = (str(part) if isinstance(part, int) or part in _NAMES or part in known else "(unknown)" for part in fields)
    return "/".join(said) or WHOLE
