"""Documents that leave the exchange: anyone with the council's public key sees whether they are as they were signed."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from joserfc import jws
from joserfc.jwk import OKPKey
from typer.testing import CliRunner

from schemas.manifest import canonical
from services.cli.main import app
from services.shared.identity.keys import KeyFileError
from services.shared.identity.signed_documents import (
    DocumentSigner,
    SignedDocumentError,
    fingerprint,
    read_signer,
    verify,
)

KEY = OKPKey.generate_key("Ed25519")
DOCUMENT = {"council": "Dudley", "count": 3, "rows": [{"name": "Rowan Ünal", "gap": None, "right": True}]}
SIGNED = DocumentSigner(KEY).sign("a-document", DOCUMENT)
FILE = orjson.dumps(SIGNED)


def test_what_was_signed_is_verified_with_the_councils_key() -> None:
    found = verify(FILE, KEY)
    assert (found.kind, found.document) == ("a-document", DOCUMENT)
    assert found.fingerprint == fingerprint(KEY.as_dict(private=False))


def test_spaces_and_the_order_of_members_do_not_matter() -> None:
    laid_out = orjson.dumps(SIGNED, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    assert verify(laid_out, KEY).document == DOCUMENT


def test_any_jose_library_verifies_it() -> None:
    detached = SIGNED["signature"]["jws"].encode()
    found = jws.deserialize_compact(detached, KEY, payload=canonical(DOCUMENT), algorithms=["Ed25519"])
    assert found.headers()["typ"] == "ehcp-a-document+jws"


def test_without_a_key_its_own_is_taken_and_its_fingerprint_said() -> None:
    assert verify(FILE).fingerprint == fingerprint(KEY.as_dict(private=False))


@pytest.mark.parametrize("key", [KEY, None])
def test_a_changed_document_is_refused(key: OKPKey | None) -> None:
    changed = SIGNED | {"document": DOCUMENT | {"count": 4}}
    with pytest.raises(SignedDocumentError, match="it was changed after it was signed"):
        verify(orjson.dumps(changed), key)


def test_one_kind_does_not_pass_for_another() -> None:
    with pytest.raises(SignedDocumentError, match="another kind"):
        verify(orjson.dumps(SIGNED | {"kind": "breach-pack"}), KEY)


def test_another_key_is_refused_and_said() -> None:
    forged = DocumentSigner(OKPKey.generate_key("Ed25519")).sign("a-document", DOCUMENT)
    assert verify(orjson.dumps(forged)).document == DOCUMENT  # by its own key
    with pytest.raises(SignedDocumentError, match="another key than the one given"):
        verify(orjson.dumps(forged), KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"signature": {}}, {"signature": None}, {"signature": {"jws": "a.b", "key": {}}},
        {"signature": {"jws": "..", "key": {}}},
        {"signature": SIGNED["signature"] | {"key": {"kty": "oct", "k": "AA"}}}, {"document": {"share": 0.5}},
        {"signature": SIGNED["signature"] | {"jws": "x" + SIGNED["signature"]["jws"]}},
    ],
)  # fmt: skip
def test_whatever_is_no_signed_document_is_refused_with_a_sentence(change: dict[str, Any]) -> None:
    with pytest.raises(SignedDocumentError):
        verify(orjson.dumps(SIGNED | change))


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{}", b"%PDF", b'"x"'])
def test_another_file_is_refused(data: bytes) -> None:
    with pytest.raises(SignedDocumentError, match="no signed document"):
        verify(data)


def test_a_public_key_cannot_sign(tmp_path: Path) -> None:
    file = tmp_path / "key.jwk"
    file.write_bytes(orjson.dumps(KEY.as_dict(private=False)))
    with pytest.raises(KeyFileError, match="EHCP_DOCUMENT_KEY_FILE must name a file with a private"):
        read_signer(file, "EHCP_DOCUMENT_KEY_FILE")


def test_the_command_needs_nothing_but_the_file_and_the_key(tmp_path: Path) -> None:
    file, key = tmp_path / "sample.json", tmp_path / "council.jwk"
    file.write_bytes(FILE)
    key.write_bytes(orjson.dumps(KEY.as_dict(private=False)))
    runner = CliRunner()
    good = runner.invoke(app, ["verify", str(file), "--key", str(key), "--home", str(tmp_path / "none"), "--json"])
    assert good.exit_code == 0, good.output
    assert orjson.loads(good.stdout)["trusted"] is True
    unknown = runner.invoke(app, ["verify", str(file), "--home", str(tmp_path / "none")])
    assert (unknown.exit_code, "compare it with the fingerprint" in unknown.output) == (0, True)
    file.write_bytes(FILE.replace(b"Dudley", b"Sandwell"))
    bad = runner.invoke(app, ["verify", str(file), "--key", str(key), "--home", str(tmp_path / "none")])
    assert (bad.exit_code, "it was changed after it was signed" in bad.output) == (1, True)
    missing = runner.invoke(app, ["verify", str(tmp_path / "no.json")])
    assert missing.exit_code == 2
    no_key = runner.invoke(app, ["verify", str(file), "--key", str(tmp_path / "no.jwk")])
    assert (no_key.exit_code, "no.jwk cannot be read (No such file or directory)" in no_key.output) == (2, True)
