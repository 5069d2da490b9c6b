"""Tokens for signed client assertions (RFC 7523), and their verification: what is refused, each with one sentence."""

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey
from starlette.requests import Request

from services.shared.identity.tokens import Caller, CallerKind, Client, Issuer, Verifier
from services.shared.web.problems import Problem

ISSUER = "https://council.test"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HEALTH = Caller("subscriber-health", CallerKind.SUBSCRIBER, subscriber="health")


def key() -> OKPKey:
    return OKPKey.generate_key("Ed25519")


@dataclass
class House:
    """One issuer with one client, at a time that a test may move."""

    now: datetime = NOW
    issuer_key: OKPKey = field(default_factory=key)
    client_key: OKPKey = field(default_factory=key)
    used: set[tuple[str, str]] = field(default_factory=set)

    @property
    def issuer(self) -> Issuer:
        return Issuer(ISSUER, self.issuer_key, self.find, self.first_use, clock=lambda: self.now)

    @property
    def verifier(self) -> Verifier:
        return Verifier(ISSUER, self.issuer_key, clock=lambda: self.now)

    async def find(self, client_id: str) -> Client | None:
        return Client(HEALTH, self.client_key) if client_id == HEALTH.client_id else None

    async def first_use(self, client_id: str, jti: str, _expires_at: datetime) -> bool:
        seen = (client_id, jti) in self.used
        self.used.add((client_id, jti))
        return not seen

    def claims(self, **changes: Any) -> dict[str, Any]:
        claims = {
            "iss": HEALTH.client_id, "sub": HEALTH.client_id, "aud": ISSUER, "jti": str(uuid4()),
            "iat": int(self.now.timestamp()), "exp": int(self.now.timestamp()) + 60,
        }  # fmt: skip
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def assertion(self, signed_by: OKPKey | None = None, **changes: Any) -> str:
        return jwt.encode({"alg": "Ed25519"}, self.claims(**changes), signed_by or self.client_key, algorithms=["Ed25519"])

    async def token(self) -> str:
        return str((await self.issuer.exchange(self.assertion()))["access_token"])

    async def call(self, token: str, scheme: str = "Bearer") -> Caller:
        return await self.verifier(request({"authorization": f"{scheme} {token}"}))


def request(headers: Mapping[str, str]) -> Request:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": raw})


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else orjson.dumps(value)
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def refused(house: House, assertion: str) -> str:
    with pytest.raises(Problem) as problem:
        await house.issuer.exchange(assertion)
    assert problem.value.status == 401
    assert problem.value.extra == {"error": "invalid_client"}
    return problem.value.detail


# --- assertions ---


@pytest.mark.parametrize("audience", [ISSUER, f"{ISSUER}/oauth/token", ["https://elsewhere.test", ISSUER]])
@pytest.mark.asyncio
async def test_a_good_assertion_is_exchanged_for_a_token_that_says_who_calls(audience: Any) -> None:
    house = House()
    answer = await house.issuer.exchange(house.assertion(aud=audience))
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 600)
    assert await house.call(answer["access_token"]) == HEALTH
    assert await house.call(answer["access_token"], scheme="bearer") == HEALTH


@pytest.mark.asyncio
async def test_a_case_system_keeps_its_councils() -> None:
    caller = Caller("case-system", CallerKind.CASE_SYSTEM, frozenset({"332", "333"}))
    house = House()

    async def find(_client_id: str) -> Client:
        return Client(caller, house.client_key)

    issuer = Issuer(ISSUER, house.issuer_key, find, house.first_use, clock=lambda: NOW)
    answer = await issuer.exchange(house.assertion(iss="case-system", sub="case-system"))
    assert await house.call(answer["access_token"]) == caller


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": int(NOW.timestamp()) - 31}, "expired"),
        ({"exp": None}, "expired"),
        ({"exp": "tomorrow"}, "expired"),
        ({"exp": True}, "expired"),
        ({"exp": int(NOW.timestamp()) + 3600}, "ten minutes"),
        ({"nbf": int(NOW.timestamp()) + 120}, "nbf"),
        ({"nbf": "soon"}, "nbf"),
        ({"aud": "https://another.test"}, ISSUER),
        ({"aud": None}, ISSUER),
        ({"aud": []}, ISSUER),
        ({"aud": {"is": "an object"}}, ISSUER),
        ({"aud": [{"is": "an object"}]}, ISSUER),
        ({"aud": 7}, ISSUER),
        ({"iss": "someone-else"}, "iss and sub"),
        ({"iss": None}, "iss and sub"),
        ({"sub": "nobody"}, "No such client"),
        ({"sub": None}, "No such client"),
        ({"jti": None}, "jti"),
        ({"jti": ""}, "jti"),
        ({"jti": {"is": "an object"}}, "jti"),
        ({"jti": "x" * 300}, "jti"),
        ({"jti": "nul \0"}, "jti"),
    ],
)
@pytest.mark.asyncio
async def test_wrong_claims(changes: dict[str, Any], reason: str) -> None:
    house = House()
    assert reason in await refused(house, house.assertion(**changes))


@pytest.mark.asyncio
async def test_a_clock_may_differ_by_half_a_minute() -> None:
    house = House()
    assert await house.issuer.exchange(house.assertion(exp=int(NOW.timestamp()) - 29, nbf=int(NOW.timestamp()) + 29))


@pytest.mark.asyncio
async def test_replayed() -> None:
    house = House()
    assertion = house.assertion()
    await house.issuer.exchange(assertion)
    assert "used before" in await refused(house, assertion)


@pytest.mark.asyncio
async def test_a_refused_assertion_does_not_use_up_its_jti() -> None:
    house = House()
    await refused(house, house.assertion(jti="one", aud="https://another.test"))
    assert await house.issuer.exchange(house.assertion(jti="one"))


@pytest.mark.asyncio
async def test_signed_with_anothers_key() -> None:
    house = House()
    assert "signed by this client" in await refused(house, house.assertion(signed_by=key()))


@pytest.mark.asyncio
async def test_without_a_signature_or_with_a_shared_secret() -> None:
    """The public key is known to all, so nobody may use it as a secret."""
    house = House()
    none = f"{part({'alg': 'none'})}.{part(house.claims())}."
    public = base64.urlsafe_b64decode(str(house.client_key.as_dict(private=False)["x"]) + "=")
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(house.claims())}"
    hs256 = f"{signed}.{part(hmac.new(public, signed.encode(), 'sha256').digest())}"
    jwk = jwt.encode({"alg": "HS256"}, house.claims(), OctKey.import_key(public), algorithms=["HS256"])
    empty = house.assertion().rpartition(".")[0] + "."
    for assertion in (none, hs256, jwk, empty):
        assert "signed by this client" in await refused(house, assertion)


@pytest.mark.parametrize(
    "assertion",
    ["", ".", "..", "a.b.c", "nonsense", "é.ü.ß", "\0", f"{part({'alg': 'Ed25519'})}.{part([1, 2])}.{part(b'x')}",
     f"{part({'alg': 'Ed25519'})}.{part(b'{')}.{part(b'x')}", f"{part([])}.{part({'sub': 'subscriber-health'})}.{part(b'x')}",
     f"{part({'alg': ['Ed25519']})}.{part({'sub': 'subscriber-health'})}.{part(b'x')}",
     f"{part({'alg': 'Ed25519', 'crit': ['exp']})}.{part({'sub': 'subscriber-health'})}.{part(b'x')}"],
)  # fmt: skip
@pytest.mark.asyncio
async def test_what_is_no_assertion(assertion: str) -> None:
    await refused(House(), assertion)


@pytest.mark.asyncio
async def test_an_access_token_is_no_assertion_and_an_assertion_no_access_token() -> None:
    house = House()
    await refused(house, await house.token())
    with pytest.raises(Problem) as problem:
        await house.call(house.assertion())
    assert problem.value.status == 401


# --- access tokens ---


async def unauthorised(house: House, headers: Mapping[str, str]) -> str:
    with pytest.raises(Problem) as problem:
        await house.verifier(request(headers))
    assert problem.value.status == 401
    assert problem.value.headers["WWW-Authenticate"].startswith("Bearer")
    return problem.value.detail


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Token x"])
@pytest.mark.asyncio
async def test_no_token(header: str | None) -> None:
    assert "No token" in await unauthorised(House(), {} if header is None else {"authorization": header})


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "é", "..", "\x00", "a b"])
@pytest.mark.asyncio
async def test_no_such_token(token: str) -> None:
    assert "not issued here" in await unauthorised(House(), {"authorization": f"Bearer {token}"})


@pytest.mark.asyncio
async def test_expired() -> None:
    house = House()
    token = await house.token()
    house.now += timedelta(seconds=599)
    assert await house.call(token) == HEALTH
    house.now += timedelta(seconds=2)
    assert "expired" in await unauthorised(house, {"authorization": f"Bearer {token}"})


@pytest.mark.asyncio
async def test_of_another_issuer() -> None:
    here, there = House(), House()
    assert "not issued here" in await unauthorised(here, {"authorization": f"Bearer {await there.token()}"})
    same_key = Issuer("https://school.test", here.issuer_key, here.find, here.first_use, clock=lambda: NOW)
    answer = await same_key.exchange(here.assertion(aud="https://school.test"))
    assert "another service" in await unauthorised(here, {"authorization": f"Bearer {answer['access_token']}"})


@pytest.mark.asyncio
async def test_unsigned_or_altered() -> None:
    house = House()
    header, claims, signature = (await house.token()).split(".")
    raised = part(orjson.loads(base64.urlsafe_b64decode(claims + "==")) | {"subscriber": "school"})
    for forged in (f"{part({'alg': 'none'})}.{claims}.", f"{header}.{raised}.{signature}", f"{header}.{claims}."):
        assert "not issued here" in await unauthorised(house, {"authorization": f"Bearer {forged}"})


# --- what a caller may ---


def test_callers_are_held_to_their_kind_and_their_councils() -> None:
    system = Caller("case-system-332", CallerKind.CASE_SYSTEM, frozenset({"332"}))
    system.must_be(CallerKind.CASE_SYSTEM, CallerKind.OPERATOR)
    system.must_act_for("332")
    with pytest.raises(Problem) as wrong_kind:
        system.must_be(CallerKind.SUBSCRIBER)
    with pytest.raises(Problem) as wrong_council:
        system.must_act_for("333")
    assert (wrong_kind.value.status, wrong_kind.value.slug) == (403, "not-allowed")
    assert (wrong_council.value.status, wrong_council.value.slug) == (403, "wrong-council")
