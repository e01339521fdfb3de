"""The gate: every request shows who asks before anything is done for it."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving_layer.lock.limits import Limits
from serving_layer.lock.roles import EVERYTHING, OPERATE, READ, WRITE, Access, Role, load_access
from serving_layer.lock.tokens import TokenFile
from serving_layer.page import FILES
from serving_layer.responses import error_response
from tideline.errors import TidelineError, UsageError
from tideline.runtime.home import Home

if TYPE_CHECKING:
    from serving_layer.lock.oidc import Oidc

FREE = frozenset({"/", "/healthz", "/readyz", "/openapi.json", *(f"/{name}" for name in FILES)})
"""Paths that say nothing of views."""
_OPERATE = ("/v1/status", "/v1/dead-letters", "/v1/verify", "/metrics")
_BEARER = "bearer "
log = logging.getLogger(__name__)


class Lock:
    """What a home says of who may ask: `access.toml` and `tokens.json`. Raises AccessError, TokensUnreadable."""

    def __init__(self, home: Home) -> None:
        self.access: Access = load_access(home.path / "access.toml")
        self.tokens = TokenFile(home.path / "tokens.json")
        self.oidc: Oidc | None = None
        if self.access.oidc:
            from serving_layer.lock.oidc import Oidc  # cryptography takes its time to come

            self.oidc = Oidc(self.access)
        self.limits = Limits(self.access.limits)
        self._was_locked = self.oidc is not None

    @property
    def is_open(self) -> bool:
        """Whether everybody may everything: no token was ever made, and no issuer is named.

        What was locked once stays so until the server starts again, also where the last token is revoked or lost.
        """
        self._was_locked = self._was_locked or self.tokens.is_there
        return not self._was_locked

    async def find(self, credential: str) -> tuple[Role, str] | None:
        """The role of who shows this, and a name for them; None for nobody."""
        token = self.tokens.find(credential)
        if token is not None:
            role = self.access.roles.get(token.role)
            if role is None:
                log.warning("token %s has the role %s, which there is not", token.id, token.role)
            return None if role is None else (role, token.id)
        if self.oidc is None:
            return None
        known = self.oidc.known(credential) or await run_in_threadpool(self.oidc.find, credential)
        return None if known is None else (known.role, f"oidc {known.subject}")

    async def still(self, request: Request) -> bool:
        """Whether who asked may still: their credential is neither revoked nor over."""
        credential = request.scope.get("tideline.credential")
        return credential is None or await self.find(credential) is not None


class Gate:
    """ASGI middleware: 401 without a valid credential, 403 where its role may not, 429 where it asks too often."""

    def __init__(self, app: ASGIApp, lock: Lock) -> None:
        self._app = app
        self._lock = lock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._lock.is_open:
            await self._app(scope, receive, send)
            return
        if scope["path"] in FREE:
            scope["tideline.stranger"] = True
            await self._app(scope, receive, send)
            return
        try:
            await self._admit(scope)
        except _Refused as refused:
            response = error_response(refused.error, refused.headers)
            await response(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            self._lock.limits.took(scope["tideline.who"], len(message.get("body", b"")))
            await send(message)

        await self._app(scope, receive, counted)

    async def _admit(self, scope: Scope) -> None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"").decode("latin-1")
        is_bearer = given[: len(_BEARER)].lower() == _BEARER
        try:
            found = await self._lock.find(given[len(_BEARER) :].strip()) if is_bearer else None
            if found is None:
                raise UsageError(
                    "UNAUTHORIZED",
                    "the token is not valid" if is_bearer else "a token is needed",
                    "send `Authorization: Bearer TOKEN`; tideline token create makes one",
                )
            role, who = found
            role.check(_action(scope["method"], scope["path"]))
        except TidelineError as error:
            headers = {"WWW-Authenticate": "Bearer"} if error.condition == "UNAUTHORIZED" else {}
            raise _Refused(error, headers) from None
        wait = self._lock.limits.ask(who)
        if wait:
            seconds = math.ceil(wait)
            late = UsageError("TOO_MANY_REQUESTS", "too many requests", f"ask again in {seconds} s", seconds=seconds)
            raise _Refused(late, {"Retry-After": str(seconds)})
        scope["tideline.role"], scope["tideline.who"] = role, who
        scope["tideline.credential"] = given[len(_BEARER) :].strip()


class _Refused(Exception):
    """What is answered instead."""

    def __init__(self, error: TidelineError, headers: dict[str, str]) -> None:
        super().__init__(str(error))
        self.error, self.headers = error, headers


def role_of(request: Request) -> Role:
    """The role of who asks."""
    role: Role = request.scope.get("tideline.role", EVERYTHING)
    return role


def is_stranger(request: Request) -> bool:
    """Whether nobody knows who asks, and it matters."""
    return bool(request.scope.get("tideline.stranger"))


def _action(method: str, path: str) -> str:
    if path in _OPERATE:
        return OPERATE
    return WRITE if method == "POST" and path.startswith("/v1/sources/") else READ
