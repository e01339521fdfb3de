"""A bound on the size of a request's body, so that no request can take the server's memory."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 1 << 20  # bytes


class BodyLimit:
    """ASGI middleware: a larger body is read to its end, kept nowhere, and refused with 413."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            while taken > MAX_BODY:
                if not message.get("more_body", False):
                    raise HTTPException(413)
                message = await receive()
            return message

        await self._app(scope, limited if scope["type"] == "http" else receive, send)
