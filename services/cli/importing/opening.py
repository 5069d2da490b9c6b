"""Finds out what an extract is, and opens it: a SEN2 set in a folder, or one CSV with a folder of PDFs.

Everything that is wrong with whole files is said here, before a row is read: a missing module, a missing column, two files for
one module, another encoding.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from services.cli.importing.documents import Documents
from services.cli.importing.faults import NOBODYS, Findings, UnreadableError
from services.cli.importing.plans import Extract
from services.cli.importing.profiles import Format, Profile
from services.cli.importing.reading import CsvFile, plain_name
from services.cli.importing.sen2 import Sen2Extract
from services.cli.importing.sen2_modules import MODULES
from services.cli.importing.simple import TABLE, Defaults, SimpleExtract
from services.cli.importing.simple_fields import FIELDS, NEEDED
from services.cli.importing.tables import Table, Tables, table
from services.cli.machine.errors import UsageError

DOCUMENTS = "documents"
"""The folder of PDFs, beside the CSV or within the set, when none is named."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the person at the keyboard said of an extract. ``corrections``: folders of errors, the last the strongest."""

    path: Path
    profile: Profile
    today: date
    council: str | None = None
    documents: Path | None = None
    corrections: tuple[Path, ...] = ()


@contextmanager
def opened(asked: Asked, findings: Findings) -> Iterator[Extract]:
    """Raises UnreadableError for what cannot be taken in, UsageError for what is not there."""
    if not asked.path.exists():
        raise UsageError(f"There is no {asked.path}.")
    for folder in (asked.documents, *asked.corrections):
        if folder is not None and not folder.exists():
            raise UsageError(f"There is no {folder}.")
    la_code = asked.council or asked.profile.la_code
    is_set = format_of(asked) is Format.SEN2
    sources = [open_set(asked.path, asked.profile) if is_set else open_simple(simple_file(asked.path), asked.profile)]
    sources += [
        open_set(folder, asked.profile, whole=False) if is_set else correction(folder, asked.profile)
        for folder in asked.corrections
    ]
    if not is_set and la_code is None and "la_code" not in sources[0][TABLE].place_of:
        raise UnreadableError(NOBODYS)
    tables = Tables(sources, findings)
    try:
        documents = Documents(asked.documents or documents_of(asked.path), tables.db)
        if is_set:
            yield Sen2Extract(tables, documents, asked.profile, la_code, asked.today)
        else:
            maintained = frozenset(word.casefold() for word in asked.profile.maintained)
            defaults = Defaults(asked.today, la_code, asked.profile.commissioning_bodies, maintained)
            yield SimpleExtract(tables, documents, defaults)
    except OSError as error:
        name = error.filename or asked.path
        raise UnreadableError(f"{name} cannot be read or written ({error.strerror}); mend that and run it again.") from error
    finally:
        tables.close()


def format_of(asked: Asked) -> Format:
    if asked.profile.format is not None:
        return asked.profile.format
    if asked.path.is_dir() and len(files_of_modules(asked.path, asked.profile)) > 1:
        return Format.SEN2
    return Format.SIMPLE


def documents_of(path: Path) -> Path | None:
    folder = path if path.is_dir() else path.parent
    if (folder / DOCUMENTS).is_dir():
        return folder / DOCUMENTS
    return folder


def csv_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".csv" and path.is_file())


# --- one CSV ------------------------------------------------------------------------------------------------------------


def simple_file(path: Path) -> Path:
    if path.is_file():
        return path
    files = csv_files(path)
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise UsageError(f"{path} must hold one CSV file, or the modules of a SEN2 return; it holds: {found}.")
    return files[0]


def correction(path: Path, profile: Profile) -> Mapping[str, Table]:
    return open_simple(path if path.is_file() else path / f"{TABLE}.csv", profile)


def open_simple(path: Path, profile: Profile) -> Mapping[str, Table]:
    found = table(CsvFile(path, profile.encoding, profile.delimiter), FIELDS, profile.columns)
    demand(found, NEEDED, profile.columns)
    return {TABLE: found}


def demand(found: Table, needed: Sequence[str], named: Mapping[str, str]) -> None:
    missing = [named.get(field, field) for field in needed if field not in found.place_of]
    if missing:
        raise UnreadableError(
            f"{found.file.path.name} has no column {', '.join(missing)}: export it with these, or say in a profile how they "
            "are named there."
        )


# --- a SEN2 set ---------------------------------------------------------------------------------------------------------


def open_set(folder: Path, profile: Profile, *, whole: bool = True) -> Mapping[str, Table]:
    """``whole``: False for corrections, which need not have every module."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; a SEN2 return is a folder with a CSV for each module.")
    files = files_of_modules(folder, profile)
    missing = [module for name, module in MODULES.items() if module.needed and name not in files]
    if whole and missing:
        said = "; ".join(f"{module.title} (a file whose name ends in {module.files[0]})" for module in missing)
        raise UnreadableError(f"The SEN2 return in {folder} lacks: {said}. Export all modules, or name the file in a profile.")
    found = {}
    for name, file in files.items():
        module, of_module = MODULES[name], profile.modules.get(name)
        named = of_module.columns if of_module else {}
        # Columns that the profile alone knows can be asked for as well: a case reference may be anywhere.
        others = [column for owner, _, column in (profile.case_reference.partition("."), profile.issued_on.partition("."))
                  if owner == name and column not in module.columns]  # fmt: skip
        found[name] = table(CsvFile(file, profile.encoding, profile.delimiter), (*module.columns, *others), named)
        parent = (module.parent_id,) if module.parent else ()
        demand(found[name], (module.id, *parent, *module.required, *others), named)
    return found


def files_of_modules(folder: Path, profile: Profile) -> dict[str, Path]:
    """By the profile's patterns, else by how the names end; ``Blade-Export_person.csv`` is the module person."""
    files = csv_files(folder)
    found: dict[str, Path] = {}
    for name, module in MODULES.items():
        pattern = profile.modules[name].file if name in profile.modules else None
        if pattern is not None:
            candidates = [file for file in files if file.match(pattern)]
            if not candidates:
                raise UnreadableError(f"There is no {pattern} in {folder}, which the profile names for {module.title}.")
        else:
            candidates = [file for file in files if plain_name(file.stem).endswith(module.files)]
        if len(candidates) > 1:
            names = " and ".join(file.name for file in candidates)
            raise UnreadableError(f"{names} could both be {module.title}: remove one, or name the file in a profile.")
        if candidates:
            found[name] = candidates[0]
    return found
