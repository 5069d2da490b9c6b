"""Access tokens: issued for a signed client assertion (RFC 7523 private_key_jwt), verified at every request.

A token says who calls and for which councils or which subscriber; what that lets them read is decided at read time, row by
row. Tokens live ten minutes; a client taken out of the registry gets no new one.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeGuard
from uuid import uuid4

from fastapi import APIRouter, Form, Request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from schemas.answers import Token, TokenRequest
from services.shared.clock import Clock, utc_now
from services.shared.identity.keys import ALGORITHM, ASSERTION_TYPE
from services.shared.web.openapi import Described, takes_form
from services.shared.web.problems import Problem

LIFETIME = timedelta(minutes=10)
LEEWAY = 30
"""Seconds that two clocks may differ."""


class CallerKind(StrEnum):
    CASE_SYSTEM = "case_system"
    OPERATOR = "operator"
    SUBSCRIBER = "subscriber"
    RECIPIENT = "recipient"
    """A school that reads its own inbox."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling. A case system and an operator have councils; a subscriber has none, but its own shares."""

    client_id: str
    kind: CallerKind
    la_codes: frozenset[str] = frozenset()
    subscriber: str | None = None
    recipient: str | None = None

    def must_be(self, *kinds: CallerKind) -> None:
        if self.kind not in kinds:
            raise Problem(
                403, "not-allowed", "This client may not do this",
                f"A client of kind {self.kind} was used; this needs {' or '.join(kinds)}.",
            )  # fmt: skip

    def must_act_for(self, la_code: str) -> None:
        if la_code not in self.la_codes:
            raise Problem(
                403, "wrong-council", "This client may not act for this council",
                f"Use the client of council {la_code}.",
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Client:
    caller: Caller
    public_key: OKPKey


FindClient = Callable[[str], Awaitable[Client | None]]
FirstUse = Callable[[str, str, datetime], Awaitable[bool]]
"""(client, jti, expires at) -> False when this assertion was used before."""


def _refused(detail: str) -> Problem:
    return Problem(401, "invalid-client", "The client assertion was refused", detail, extra={"error": "invalid_client"})


def _is_name(value: object) -> TypeGuard[str]:
    """Something that a table of clients or of used assertions can hold."""
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isprintable()


def _claims(token: str, key: OKPKey) -> dict[str, Any]:
    return jwt.decode(token, key, algorithms=[ALGORITHM, "EdDSA"]).claims


class Issuer:
    """Issues tokens for one audience: the council's exchange, or a school service of its own."""

    def __init__(self, issuer: str, key: OKPKey, find_client: FindClient, first_use: FirstUse, clock: Clock = utc_now) -> None:
        self._issuer = issuer
        self._key = key
        self._find_client = find_client
        self._first_use = first_use
        self._clock = clock

    async def exchange(self, assertion: str) -> dict[str, Any]:
        """RFC 7523 section 3. Raises :class:`Problem` 401."""
        now = self._clock()
        try:
            unverified = _unverified_claims(assertion)
            subject = unverified.get("sub")
            client = await self._find_client(subject) if _is_name(subject) else None
            if client is None:
                raise _refused("No such client, or it is disabled.")
            claims = _claims(assertion, client.public_key)
        except (JoseError, ValueError):
            raise _refused("It is not a JWT signed by this client's key (Ed25519).") from None
        if claims.get("iss") != claims.get("sub"):
            raise _refused("iss and sub must both be the client id.")
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if self._issuer not in named and f"{self._issuer}/oauth/token" not in named:
            raise _refused(f"aud must be {self._issuer}.")
        expires = claims.get("exp")
        if not isinstance(expires, int | float) or expires < now.timestamp() - LEEWAY:
            raise _refused("It has expired; send a fresh one, valid for a minute or so.")
        if expires > now.timestamp() + 600 + LEEWAY:
            raise _refused("exp is more than ten minutes ahead.")
        not_before = claims.get("nbf", 0)
        if not isinstance(not_before, int | float) or not_before > now.timestamp() + LEEWAY:
            raise _refused("nbf is in the future: the two clocks differ, or it was used too early.")
        jti = claims.get("jti")
        if not _is_name(jti):
            raise _refused("jti must be a text of at most 255 characters; a UUID will do.")
        if not await self._first_use(client.caller.client_id, jti, datetime.fromtimestamp(expires, now.tzinfo)):
            raise _refused("jti was used before; make a new assertion for each request.")
        return {"access_token": self._token(client.caller, now), "token_type": "Bearer", "expires_in": LIFETIME.seconds}

    def _token(self, caller: Caller, now: datetime) -> str:
        claims: dict[str, Any] = {
            "iss": self._issuer, "aud": self._issuer, "sub": caller.client_id, "kind": caller.kind,
            "la_codes": sorted(caller.la_codes), "iat": int(now.timestamp()),
            "exp": int((now + LIFETIME).timestamp()), "jti": str(uuid4()),
        }  # fmt: skip
        if caller.subscriber:
            claims["subscriber"] = caller.subscriber
        if caller.recipient:
            claims["recipient"] = caller.recipient
        return jwt.encode({"alg": ALGORITHM, "typ": "at+jwt"}, claims, self._key, algorithms=[ALGORITHM])

    def router(self) -> APIRouter:
        router = APIRouter()
        asked = Described(takes_form(TokenRequest)).as_openapi()

        @router.post(
            "/oauth/token",
            response_model=Token,
            openapi_extra=asked,
            summary="A token for a signed client assertion (RFC 7523)",
        )
        async def token(
            grant_type: str = Form(""), client_assertion_type: str = Form(""), client_assertion: str = Form("")
        ) -> dict[str, Any]:
            if grant_type != "client_credentials" or client_assertion_type != ASSERTION_TYPE:
                raise Problem(
                    400, "invalid-grant", "The token request was refused",
                    f"Send grant_type=client_credentials and client_assertion_type={ASSERTION_TYPE}.",
                    extra={"error": "unsupported_grant_type"},
                )  # fmt: skip
            return await self.exchange(client_assertion)

        return router


def _unverified_claims(assertion: str) -> dict[str, Any]:
    import orjson
    from joserfc.jws import extract_compact

    claims = orjson.loads(extract_compact(assertion.encode()).payload)
    return claims if isinstance(claims, dict) else {}


class Verifier:
    """``await verifier(request)`` is a FastAPI dependency that gives the :class:`Caller` or answers 401."""

    def __init__(self, issuer: str, key: OKPKey, clock: Clock = utc_now) -> None:
        self._issuer = issuer
        self._key = key
        self._clock = clock

    async def __call__(self, request: Request) -> Caller:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise self._unauthorised("No token. Get one from /oauth/token and send it as Authorization: Bearer.")
        try:
            claims = _claims(token, self._key)
        except (JoseError, ValueError):
            raise self._unauthorised("The token was not issued here.") from None
        if claims.get("iss") != self._issuer or claims.get("aud") != self._issuer:
            raise self._unauthorised("The token was issued for another service.")
        if claims.get("exp", 0) < self._clock().timestamp():
            raise self._unauthorised("The token has expired. Get a new one from /oauth/token.")
        return Caller(
            claims["sub"], CallerKind(claims["kind"]), frozenset(claims["la_codes"]),
            claims.get("subscriber"), claims.get("recipient"),
        )  # fmt: skip

    @staticmethod
    def _unauthorised(detail: str) -> Problem:
        return Problem(
            401, "unauthorised", "Sign in first", detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
        )
