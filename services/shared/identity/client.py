"""The calling side of RFC 7523: make a signed assertion, exchange it for a token, keep it until shortly before it ends."""

import asyncio
import time
from uuid import uuid4

import httpx2
from joserfc import jwt
from joserfc.jwk import OKPKey

from services.shared.identity.keys import ALGORITHM, ASSERTION_TYPE


class TokenRefusedError(Exception):
    """The token endpoint said no; the message is its own sentence."""


class TokenClient:
    """``await client.headers()`` gives the Authorization header of a valid token. Raises ``httpx2.HTTPError`` when away."""

    def __init__(self, http: httpx2.AsyncClient, issuer: str, client_id: str, key: OKPKey) -> None:
        self._http = http
        self._issuer = issuer.rstrip("/")
        self._client_id = client_id
        self._key = key
        self._token = ""
        self._until = 0.0
        self._lock = asyncio.Lock()

    def assertion(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self._client_id, "sub": self._client_id, "aud": self._issuer, "jti": str(uuid4()),
            "iat": now, "exp": now + 60,
        }  # fmt: skip
        return jwt.encode({"alg": ALGORITHM}, claims, self._key, algorithms=[ALGORITHM])

    def forget(self) -> None:
        """After a 401: the issuer's key may have changed."""
        self._until = 0.0

    async def headers(self) -> dict[str, str]:
        async with self._lock:
            if time.monotonic() >= self._until:
                answer = await self._http.post(
                    f"{self._issuer}/oauth/token",
                    data={
                        "grant_type": "client_credentials",
                        "client_assertion_type": ASSERTION_TYPE,
                        "client_assertion": self.assertion(),
                    },
                )
                if answer.status_code >= 400:
                    detail = answer.json().get("detail", "") if "json" in answer.headers.get("content-type", "") else ""
                    raise TokenRefusedError(f"the token request was answered {answer.status_code}: {detail}")
                body = answer.json()
                self._token = body["access_token"]
                self._until = time.monotonic() + body["expires_in"] - 30
            return {"Authorization": f"Bearer {self._token}"}
