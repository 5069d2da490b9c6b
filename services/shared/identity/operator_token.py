"""The operator of a subscriber: who runs it shows a token that stands in a file beside its other secrets.

A subscriber belongs to its agency. The council's tokens say nothing about who may look into its books, and it need not issue
tokens of its own for the one person who runs it.
"""

import hmac
from pathlib import Path

from fastapi import Request

from services.shared.web.problems import Problem

NAME = "operator"
_SHORTEST = 32


class OperatorTokenError(Exception):
    """One sentence: why there is no operator token in the file."""


class OperatorToken:
    """A FastAPI dependency."""

    def __init__(self, file: Path) -> None:
        try:
            token = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise OperatorTokenError(f"EHCP_OPERATOR_TOKEN_FILE cannot be read ({type(error).__name__})") from None
        if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
            raise OperatorTokenError(f"EHCP_OPERATOR_TOKEN_FILE must hold a random token of at least {_SHORTEST} characters")
        self._token = token.encode()

    async def __call__(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._token):
            raise Problem(
                401, "unauthorised", "Sign in first", "Send this service's operator token as Authorization: Bearer.",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        return NAME
