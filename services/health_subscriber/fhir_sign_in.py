"""Signs in to a FHIR server as SMART Backend Services has it: OAuth 2.0 client credentials with a signed JWT (RFC 7523).

One token is kept until shortly before it ends; a 401 asks for a new one once, since a server may forget its tokens or a key may
have been changed meanwhile. What goes wrong here is an answer like any other: the record refused our sign-in, try again.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import httpx2
import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from schemas.base import Closed
from services.shared.clock import Clock, utc_now
from services.shared.identity.keys import ASSERTION_TYPE

_LIFETIME_SECONDS = 240
"""SMART takes assertions of at most five minutes."""
_EARLY_SECONDS = 30
_ALGORITHMS = {"RSA": "RS384", "EC": "ES384"}
"""Those that SMART Backend Services names."""


class SignIn(Closed):
    """Where and as whom to sign in; ``key_file`` holds the client's private key (JWK or PEM; RSA or EC P-384)."""

    token_url: str
    client_id: str
    key_file: Path
    key_id: str | None = None
    scope: str = "system/*.*"


class SignedSignIn(httpx2.Auth):
    """Raises ``ValueError`` when the key cannot be read or the address is not safe."""

    requires_response_body = True

    def __init__(self, settings: SignIn, clock: Clock = utc_now) -> None:
        url = httpx2.URL(settings.token_url)
        if url.scheme != "https" and url.host not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError("the token_url must begin with https:// (http:// only on this machine)")
        self._settings = settings
        self._clock = clock
        self._key = _read_key(settings.key_file)
        self._token = ""
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        # httpx sends what is yielded here; the lock keeps a batch of requests from asking for a token each.
        async with self._lock:
            if time.monotonic() >= self._until:
                answer = yield self._question()
                await answer.aread()
                self._learn(answer)
        used = self._use(request)
        response = yield request
        if response.status_code != 401:
            return
        async with self._lock:
            if self._token == used:  # nobody has asked for a new one since
                answer = yield self._question()
                await answer.aread()
                self._learn(answer)
        # Sent again whatever became of that: the last answer is taken for the record's.
        self._use(request)
        yield request

    def _use(self, request: httpx2.Request) -> str:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        else:
            request.headers.pop("Authorization", None)
        return self._token

    def _question(self) -> httpx2.Request:
        body = {
            "grant_type": "client_credentials",
            "scope": self._settings.scope,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self._assertion(self._clock()),
        }
        return httpx2.Request("POST", self._settings.token_url, data=body, headers={"Accept": "application/json"})

    def _assertion(self, now: datetime) -> str:
        issued = int(now.timestamp())
        claims = {
            "iss": self._settings.client_id, "sub": self._settings.client_id, "aud": self._settings.token_url,
            "jti": str(uuid4()), "iat": issued, "exp": issued + _LIFETIME_SECONDS,
        }  # fmt: skip
        algorithm = _ALGORITHMS[self._key.key_type]
        key_id = {"kid": self._settings.key_id} if self._settings.key_id else {}
        return jwt.encode({"alg": algorithm, "typ": "JWT"} | key_id, claims, self._key, algorithms=[algorithm])

    def _learn(self, answer: httpx2.Response) -> None:
        """Without a token the request goes out without one and is answered 401: its sentence is then the outcome."""
        self._token, self._until = "", 0.0
        if answer.status_code != 200:
            return
        try:
            body = orjson.loads(answer.content)
            token, lasts = str(body["access_token"]), float(body.get("expires_in", 300))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return
        self._token, self._until = token, time.monotonic() + max(lasts - _EARLY_SECONDS, 1.0)


def _read_key(file: Path) -> RSAKey | ECKey:
    try:
        data = file.read_bytes()
        value = orjson.loads(data) if data.lstrip().startswith(b"{") else data
    except OSError as error:
        raise ValueError(f"its key_file cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError:
        raise ValueError("its key_file holds no RSA or EC P-384 key") from None
    key: RSAKey | ECKey
    for kind in (RSAKey, ECKey):
        try:
            key = kind.import_key(value)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if key.is_private and (isinstance(key, RSAKey) or key.curve_name == "P-384"):
            return key
    raise ValueError("its key_file holds no private RSA or EC P-384 key")
