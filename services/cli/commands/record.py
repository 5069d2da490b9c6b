"""`ehcp record TYPE PLAN`: what happened to a plan; one sub-command for each event of the contract, made from its model.

An event that is added to ``schemas.lifecycle`` is a sub-command without a line here: a date, a word of a list or a code becomes
an option of its own, several codes an option that is repeated, anything with parts JSON or the file that has it.
"""

import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin
from uuid import UUID

import orjson
import typer
from pydantic import AwareDatetime, BaseModel, ValidationError
from pydantic.fields import FieldInfo

from schemas.base import FROM_OUTSIDE
from schemas.identifiers import CodeScheme, OrganisationCode
from schemas.lifecycle import EVENT_MODELS, LeftOut, Recorded
from schemas.refusals import explain
from services.cli.commands.plans import is_version_number, one_plan, version_id_of
from services.cli.exchange import Content, Exchange, Reach, Row
from services.cli.machine.errors import UsageError
from services.cli.options import DEFAULT_HOME, AsJson, DryRun, Home
from services.cli.output import RefusedError, err, out, print_json, run

app = typer.Typer(
    no_args_is_help=True,
    help="Record what happened to a plan: a cease notice, a school move, a review, a recall and the rest.",
)
Plan = Annotated[str, typer.Argument(help="Plan id, or the council's case reference.", show_default=False)]
Document = Annotated[
    Path | None, typer.Option(help="The PDF that goes with it: a report, a letter.", exists=True, dir_okay=False)
]
Attach = Annotated[list[Path] | None, typer.Option(help="A further file; give it again for more.", exists=True, dir_okay=False)]
Council = Annotated[str | None, typer.Option(help="LA code to act for; else the one whose plan it is.")]
HELP = {
    "by": "The council's own id of the officer who decided it.",
    "version_id": "The version, by its number or id; or the id of a notice.",
    date: "YYYY-MM-DD.",
    AwareDatetime: "As YYYY-MM-DDTHH:MM+HH:MM, or with Z for UTC.",
    OrganisationCode: "scheme:value, such as urn:100001 or ods:RNA.",
    UUID: "An id of the exchange.",
    LeftOut: "Reference of a family member, or scheme:value of an organisation, who is not to be told.",
}
MADE_OF_PARTS = "JSON, or @FILE that holds it."
AGAIN = " Give it again for more."


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event as an option. ``several``: it may be given again."""

    name: str
    kind: Any
    info: FieldInfo
    several: bool = False

    @classmethod
    def of(cls, name: str, info: FieldInfo) -> "Field":
        kind = bare(info.annotation)
        if get_origin(kind) is not tuple:
            return cls(name, kind, info)
        inner = bare(get_args(kind)[0])
        # Codes and ids are short enough to be typed one by one; what is made of parts comes as a whole.
        one_by_one = inner in (OrganisationCode, UUID, LeftOut)
        return cls(name, inner if one_by_one else kind, info, several=one_by_one)

    @property
    def option(self) -> str:
        return "--" + self.name.rstrip("_").replace("_", "-")

    @property
    def is_made_of_parts(self) -> bool:
        if get_origin(self.kind) is tuple:
            return True
        one_word = self.kind in (OrganisationCode, LeftOut)
        return isinstance(self.kind, type) and issubclass(self.kind, BaseModel) and not one_word

    def parameter(self) -> inspect.Parameter:
        typed: Any = list[str] if self.several else str
        if isinstance(self.kind, type) and issubclass(self.kind, (StrEnum, bool)):
            typed = self.kind
        required = self.info.is_required()
        if not required and self.kind is not bool:
            typed = typed | None
        names = [f"{self.option}/--no-{self.option[2:]}"] if self.kind is bool and required else [self.option]
        metavar = "JSON|@FILE" if self.is_made_of_parts else None
        annotated = Annotated[
            typed,
            typer.Option(*names, help=self.help(), metavar=metavar, show_default=False),
        ]
        default = inspect.Parameter.empty if required else False if self.kind is bool else None
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotated)

    def help(self) -> str:
        form = MADE_OF_PARTS if self.is_made_of_parts else HELP.get(self.name) or HELP.get(self.kind, "")
        meaning = "" if self.name in HELP else " ".join((self.info.description or "").replace("`", "").split())
        return " ".join(each for each in (meaning, form) if each) + (AGAIN if self.several else "")

    def value(self, given: Any) -> Any:
        """As the event's JSON has it. Raises :class:`UsageError`."""
        if self.several:
            return [self._one(each) for each in given]
        return self._one(given)

    def _one(self, given: Any) -> Any:
        if self.kind is LeftOut:
            scheme, _, value = given.partition(":")
            is_code = value and scheme in set(CodeScheme)
            return {"organisation": {"scheme": scheme, "value": value}} if is_code else {"member": given}
        if self.kind is OrganisationCode:
            scheme, colon, value = given.partition(":")
            if not colon:
                raise UsageError(f"{self.option}: write the code with its scheme, such as urn:100001 or ods:RNA.")
            return {"scheme": scheme, "value": value}
        return parts(self.option, given) if self.is_made_of_parts else given


def bare(annotation: Any) -> Any:
    """Without ``Annotated`` and ``| None``."""
    if get_origin(annotation) is Annotated:
        return bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        (kind,) = (each for each in get_args(annotation) if each is not type(None))
        return bare(kind)
    return annotation


def parts(option: str, given: str) -> Any:
    """JSON, or ``@FILE`` that holds it."""
    text: str | bytes = given
    if given.startswith("@"):
        try:
            text = Path(given[1:]).read_bytes()
        except OSError as error:
            raise UsageError(f"{option}: {given[1:]} cannot be read ({error.strerror}).") from error
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{option}: this is not JSON ({error}). Begin the name of a file with @.") from error


def command_of(model: type[Recorded]) -> Callable[..., None]:
    """The function that typer makes a sub-command of."""
    fields = [Field.of(name, info) for name, info in model.model_fields.items() if name != "type"]

    def command(
        plan: str, document: Path | None, attach: list[Path] | None, council: str | None, home: Path, as_json: bool,
        dry_run: bool, **given: Any,
    ) -> None:  # fmt: skip
        answer = run(record(model, fields, given, plan, document, attach or [], council, home, dry_run=dry_run))
        show(answer, as_json=as_json, dry_run=dry_run)

    common = {
        "document": (Document, None), "attach": (Attach, None), "council": (Council, None), "home": (Home, DEFAULT_HOME),
        "as_json": (AsJson, False), "dry_run": (DryRun, False),
    }  # fmt: skip
    keyword = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.Signature([
        inspect.Parameter("plan", keyword, annotation=Plan),
        *(field.parameter() for field in sorted(fields, key=lambda each: not each.info.is_required())),
        *(inspect.Parameter(name, keyword, default=default, annotation=kind) for name, (kind, default) in common.items()),
    ])  # fmt: skip
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
    command.__doc__ = inspect.getdoc(model)
    return command


for type_, model in EVENT_MODELS.items():
    app.command(type_)(command_of(model))


async def record(
    model: type[Recorded], fields: list[Field], given: Row, plan: str, document: Path | None, attachments: list[Path],
    council: str | None, home: Path, *, dry_run: bool,
) -> Row:  # fmt: skip
    if is_version_number(number := given.get("version_id") or ""):
        async with Exchange(Reach.of(home)) as exchange:
            found = await one_plan(exchange, plan, council)
            given = given | {"version_id": await version_id_of(exchange, found, number, council)}
    event = judged(model, fields, given)
    if dry_run:
        return event
    async with Exchange(Reach.of(home)) as exchange:
        found = await one_plan(exchange, plan, council)
        content = Content(orjson.dumps(event), document, tuple(attachments))
        return await exchange.record_event(f"case-system-{council or found['la_code']}", found["plan_id"], content)


def judged(model: type[Recorded], fields: list[Field], given: Row) -> Row:
    """The event as JSON. Raises :class:`RefusedError` with every field that does not fit."""
    values = {field.name: field.value(given[field.name]) for field in fields if given.get(field.name) not in (None, [])}
    options = {field.name: field.option for field in fields}
    try:
        event = model.model_validate_json(orjson.dumps(values), context=FROM_OUTSIDE)
    except ValidationError as error:
        listed = []
        for each in explain(error.errors(include_input=False, include_url=False)):
            first, slash, rest = each.field.partition("/")
            instead = f" ({each.instead})" if each.instead else ""
            listed.append(f"{options.get(first, first)}{slash}{rest}: {each.problem}{instead}")
        raise RefusedError("; ".join(listed)) from None
    sent: Row = event.model_dump(mode="json", by_alias=True, exclude_none=True)
    # A publisher of before does not know who may be left out.
    return {name: value for name, value in sent.items() if value or name != "not_to"}


def show(answer: Row, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        print_json(answer)
        return
    if dry_run:
        out.print(f"{answer['type']} fits the contract; nothing was sent.", markup=False)
        return
    out.print(sentence(answer), markup=False, soft_wrap=True)
    for warning in answer.get("warnings", ()):
        err.print(warning, style="yellow", markup=False, soft_wrap=True)


def sentence(answer: Row) -> str:
    if answer["status"] == "unchanged":
        return f"{answer['case_reference']}: {answer['type']} was recorded before; nothing was changed."
    said = [f"{answer['case_reference']}: {answer['type']} recorded. The plan is {answer['state']}"]
    if answer["restricted"]:
        said.append("restricted")
    said.append(f"shares changed: {answer['shares_changed']}")
    if any(not finding["waived"] for finding in answer.get("findings", ())):
        said.append("nobody is told before a second person has looked (`ehcp confirmations`)")
    elif answer["notice_id"]:
        said.append(f"told: {answer['told']}")
    if answer.get("left_out"):
        said.append(f"not told, although the law names them: {', '.join(answer['left_out'])}")
    return "; ".join(said) + "."
