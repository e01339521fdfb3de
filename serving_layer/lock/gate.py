"""The gate: every request shows who asks before anything is done for it."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving_layer.lock.limits import Limits
from serving_layer.lock.roles import EVERYTHING, OPERATE, READ, WRITE, Access, Role, load_access
from serving_layer.lock.tokens import TokenFile
from serving_layer.page import FILES
from serving_layer.responses import error_response
from tideline.errors import Texts, TidelineError, UsageError
from tideline.runtime.home import Home
from tideline.runtime.ports import is_loopback

if TYPE_CHECKING:
    from serving_layer.lock.oidc import Oidc

FREE = frozenset({"/", "/healthz", "/readyz", "/openapi.json", *(f"/{name}" for name in FILES)})
"""Paths that say nothing of views."""
_OPERATE = ("/v1/status", "/v1/dead-letters", "/v1/verify", "/metrics")
_BEARER = "bearer "
Who = tuple[Role, str]
"""What somebody may, and a name for them."""
log = logging.getLogger(__name__)


class Lock:
    """What a home says of who may ask: `access.toml` and `tokens.json`; and `origins`, whose pages may.

    Raises AccessError, TokensUnreadable.
    """

    def __init__(self, home: Home, origins: Collection[str] = ()) -> None:
        self.origins = frozenset(origins)
        self.access: Access = load_access(home.path / "access.toml")
        self.tokens = TokenFile(home.path / "tokens.json")
        self.oidc: Oidc | None = None
        if self.access.oidc:
            from serving_layer.lock.oidc import Oidc  # cryptography takes its time to come

            self.oidc = Oidc(self.access)
        self.limits = Limits(self.access.limits)
        self._issuers = CapacityLimiter(4)  # threads that wait for an issuer
        self._was_locked = self.oidc is not None

    @property
    def is_open(self) -> bool:
        """Whether everybody may everything: no token was ever made, and no issuer is named.

        What was locked once stays so until the server starts again, also where the last token is revoked or lost.
        """
        self._was_locked = self._was_locked or self.tokens.is_there
        return not self._was_locked

    async def find(self, credential: str) -> Who | None:
        """The role of who shows this, and a name for them; None for nobody."""
        if self.oidc is None or self.tokens.find(credential) or self.oidc.known(credential):
            return self.find_here(credential)
        return await to_thread.run_sync(self.find_here, credential, limiter=self._issuers)

    def find_here(self, credential: str) -> Who | None:
        """The same in this thread, which may have to wait for the issuer."""
        token = self.tokens.find(credential)
        if token is not None:
            role = self.access.roles.get(token.role)
            if role is None:
                log.warning("token %s has the role %s, which there is not", token.id, token.role)
            return None if role is None else (role, token.id)
        if self.oidc is None:
            return None
        known = self.oidc.known(credential) or self.oidc.find(credential)
        return None if known is None else (known.role, f"oidc {known.subject}")

    async def still(self, request: Request) -> bool:
        """Whether who asked may still: their credential is neither revoked nor over; without one, nobody needs one."""
        credential = request.scope.get("tideline.credential")
        return self.is_open if credential is None else await self.find(credential) is not None

    def check_page(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raises _Stranger where a browser asks for the page of another site, while nobody has to show who they are.

        A name that leads here says nothing: whoever owns it can let it lead anywhere. Browsers always say a name.
        """
        host, origin = None, ""
        for name, value in headers:
            if name == b"host":
                host = value.decode("latin-1")
            elif name == b"origin":
                origin = value.decode("latin-1")
        if host is not None and not _is_of_here(host):
            raise _Stranger("FORBIDDEN_HOST", host=host[:100])
        if origin and origin.partition("://")[2] != host and origin not in self.origins:
            raise _Stranger("FORBIDDEN_ORIGIN", origin=origin[:100])


@lru_cache(256)
def _is_of_here(host: str) -> bool:
    """Whether what a request calls the server is a name of this machine."""
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


class _Stranger(UsageError):
    """A request that a page of another site may have made."""

    texts: ClassVar[Texts] = {
        "FORBIDDEN_HOST": (
            "without tokens the server answers to names of this machine alone, and not to {host}",
            "ask for localhost or 127.0.0.1, or make a token (tideline token create)",
        ),
        "FORBIDDEN_ORIGIN": (
            "pages of {origin} may not ask",
            "name it in serve.cors_origins, or ask from the server's own page",
        ),
    }


class Gate:
    """ASGI middleware: 401 without a valid credential, 403 where its role may not, 429 where it asks too often."""

    def __init__(self, app: ASGIApp, lock: Lock) -> None:
        self._app = app
        self._lock = lock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._lock.is_open:
            try:
                self._lock.check_page(scope["headers"])
            except _Stranger as stranger:
                await error_response(stranger)(scope, receive, send)
                return
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


def who_of(request: Request) -> str:
    """Who asks, as far as it is known; empty where nobody has to say."""
    return str(request.scope.get("tideline.who", ""))


def is_stranger(request: Request) -> bool:
    """Whether nobody knows who asks, and it matters."""
    return bool(request.scope.get("tideline.stranger"))


def _action(method: str, path: str) -> str:
    if path in _OPERATE:
        return OPERATE
    return WRITE if method == "POST" and path.startswith("/v1/sources/") else READ
