"""The HTTP API of a home, as `tideline serve` runs it, with one more route: `/bare`, which returns fixed bytes.

Who may ask is said by the home, or by the folder that is named behind the port.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastapi import FastAPI, Response

from serving_layer import server
from serving_layer.app import create_app
from serving_layer.lock.gate import Lock
from serving_layer.reader import Reader
from tideline.runtime.home import Home

BARE = b'{"rows":[{"lines":1,"quantity":2}]}'


def with_bare_route(reader: Reader, lock: Lock | None = None) -> FastAPI:
    """The app, and the route."""
    app = create_app(reader, Lock(Home(Path(sys.argv[3]))) if len(sys.argv) > 3 else lock)

    @app.get("/bare")
    async def bare() -> Response:
        return Response(BARE, media_type="application/json")

    return app


server.create_app = with_bare_route
server.serve(Home(Path(sys.argv[1])), "127.0.0.1", int(sys.argv[2]))
