"""Column-mapping profiles: how one council's system names its columns, as a small YAML file.

Without a profile the columns are those of ``docs/import.md``. Invariant: a profile that names a field, a module or an option
that is not known is refused, so that a typing error never leaves a column out.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from schemas.base import Closed, ContractError
from schemas.identifiers import LaCode, check_ods_code
from services.cli.importing.sen2_modules import MODULES
from services.cli.importing.simple_fields import is_field
from services.cli.machine.errors import UsageError


class Format(StrEnum):
    SIMPLE = "simple"
    SEN2 = "sen2"


class ModuleProfile(Closed):
    """One CSV of a SEN2 set."""

    file: str | None = None
    """Its name, or a pattern such as ``*_person.csv``."""
    columns: Mapping[str, str] = Field(default_factory=dict)
    """Our name of a field, and the council's name of its column."""


class Profile(Closed):
    format: Format | None = None
    """Found by looking, when it is left out."""
    la_code: LaCode | None = None
    """For files that do not say whose plans they hold."""
    encoding: Literal["utf-8", "cp1252"] | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    columns: Mapping[str, str] = Field(default_factory=dict)
    """Of the simple CSV: our name of a field, and the council's name of its column."""
    modules: Mapping[str, ModuleProfile] = Field(default_factory=dict)
    """Of a SEN2 set."""
    case_reference: str = "requests.requeststableid"
    """Of a SEN2 set: which column of which module is the plan's case reference."""
    issued_on: str = "namedplan.startdate"
    """Of a SEN2 set: when the plan in a document without a date in its name was issued."""
    commissioning_bodies: tuple[str, ...] = ()
    """ODS codes, for files that do not say who commissions health provision."""
    maintained: tuple[str, ...] = ("M", "maintain")
    """Review outcomes after which no new version is to be expected."""

    @field_validator("columns")
    @classmethod
    def _known_fields(cls, columns: Mapping[str, str]) -> Mapping[str, str]:
        if not all(is_field(name) for name in columns):
            raise ContractError("it has a field that the simple CSV does not have", "use the names in docs/import.md")
        return columns

    @field_validator("modules")
    @classmethod
    def _known_modules(cls, modules: Mapping[str, ModuleProfile]) -> Mapping[str, ModuleProfile]:
        for name, module in modules.items():
            if name not in MODULES:
                raise ContractError("it names a module that SEN2 does not have", f"use one of {', '.join(MODULES)}")
            if not module.columns.keys() <= set(MODULES[name].columns):
                raise ContractError(
                    f"module {name} has a field that is not known", f"use some of {', '.join(MODULES[name].columns)}"
                )
        return modules

    @field_validator("case_reference", "issued_on")
    @classmethod
    def _module_and_column(cls, text: str) -> str:
        module, dot, column = text.partition(".")
        if not dot or not column or module not in MODULES:
            raise ContractError("it is not a module and its column", "send it as person.nativeid")
        return text

    @field_validator("commissioning_bodies")
    @classmethod
    def _ods_codes(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_ods_code(code) for code in codes)


def load_profile(wanted: str | None, home: Path) -> Profile:
    """``wanted`` is a file, or the name of one in the folder ``profiles`` of the data folder. Raises UsageError."""
    if wanted is None:
        return Profile()
    named = home / "profiles" / f"{wanted}.yaml"
    path = Path(wanted) if Path(wanted).is_file() else named
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no profile {wanted}: neither a file of that name nor {named}.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"The profile {path} cannot be read as YAML ({type(error).__name__}).") from None
    try:
        return Profile.model_validate(content or {})
    except ValidationError as error:
        said = "; ".join(f"{'/'.join(map(str, each['loc'])) or 'file'}: {each['msg']}" for each in error.errors())
        raise UsageError(f"The profile {path} is not right: {said}.") from None
