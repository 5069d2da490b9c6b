"""`ehcp verify FILE`: whether a signed document (an inspector's sample, a breach pack) is as the council signed it. Offline."""

from pathlib import Path
from typing import Annotated

import orjson
import typer
from joserfc.jwk import OKPKey

from services.cli import breach_pack, inspection
from services.cli.exchange import Row
from services.cli.machine.errors import UsageError
from services.cli.options import DEFAULT_HOME, AsJson, Home
from services.cli.output import RefusedError, err, out, plain_errors, print_json
from services.shared.identity.keys import import_key
from services.shared.identity.signed_documents import SignedDocumentError, fingerprint, verify

DOCUMENT_KEY = "documents"
"""Its name among the machine's keys."""


def verify_(
    file: Annotated[Path, typer.Argument(help="The signed document: a JSON file, or a breach pack's archive.")],
    key: Annotated[
        Path | None, typer.Option("--key", help="The council's public key for documents, as it published it.")
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Say whether a signed document is as the council signed it; needs no network. Exit code 1 when it is not."""
    with plain_errors():
        found = check(file, key, home)
    if as_json:
        print_json(found)
        return
    out.print(f"Good: nothing in this {found['kind'].replace('-', ' ')} was changed since it was signed.")
    if found.get("receipts") is not None:
        out.print(
            f"Receipts in it: {found['receipts']}, each signed by the subscriber that gave it, and saying what the pack "
            "says of it.", soft_wrap=True,
        )  # fmt: skip
    if found.get("other_key_receipts"):
        out.print(
            f"{found['other_key_receipts']} receipts in it are signed with keys that their subscribers have replaced since: "
            "that they were verified when they came is the council's word.",
            soft_wrap=True,
        )
    if found.get("statements") is not None:
        out.print(
            f"Answers in it: {found['statements']}, each signed by the subscriber that gave it. The verdicts and figures "
            "follow from them.", soft_wrap=True,
        )  # fmt: skip
    out.print(f"Fingerprint of the key that signed it: {found['fingerprint']}", soft_wrap=True)
    if found.get("subscriber_keys"):
        out.print("Fingerprints of subscribers' keys, as the council has them (each agency can say whether it is its own):")
        for name, print_ in found["subscriber_keys"].items():
            out.print(f"  {name}: {print_}", markup=False, soft_wrap=True)
    if found["trusted"] is False:
        err.print(
            "Whose key that is the file cannot prove: compare it with the fingerprint that the council published, or give the "
            "council's key with --key.",
            style="yellow", soft_wrap=True,
        )  # fmt: skip


def check(file: Path, key_file: Path | None, home: Path) -> Row:
    own = home / "keys" / f"{DOCUMENT_KEY}.jwk"
    trusted = key_file or (own if own.exists() else None)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}).") from None
    try:
        signed = breach_pack.opened(data) if data.startswith(b"PK") else data
        found = verify(signed, _key(trusted) if trusted else None)
        receipts = breach_pack.check_receipts(found.document) if found.kind == breach_pack.KIND else None
        statements = inspection.check_statements(found.document) if found.kind == inspection.KIND else None
    except SignedDocumentError as error:
        raise RefusedError(f"{file}: {error}") from None
    counts = {
        "receipts": receipts and receipts.good, "other_key_receipts": receipts and receipts.other_key, "statements": statements
    }  # fmt: skip
    told: Row = {name: count for name, count in counts.items() if count is not None}
    if told:
        told["subscriber_keys"] = {name: fingerprint(key) for name, key in found.document["keys"].items()}
    return {"file": str(file), "kind": found.kind, "fingerprint": found.fingerprint, "trusted": trusted is not None} | told


def _key(file: Path) -> OKPKey:
    try:
        return import_key(orjson.loads(file.read_bytes()))
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}).") from None
    except ValueError:
        raise UsageError(f"{file} is not an Ed25519 JSON Web Key.") from None
