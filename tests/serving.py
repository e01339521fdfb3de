"""A real server of an app, for tests that speak HTTP, and what its errors are made of."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from serving_layer.connections import Bounds, bounded
from serving_layer.server import address_of, bind


@contextmanager
def running(app: Any, port: int = 0, bounds: Bounds | None = None) -> Iterator[str]:
    """The base URL of a real server of an app, in a thread; of any free port unless one is named."""
    with bind("127.0.0.1", port) as listener:
        config = uvicorn.Config(app, http=bounded(bounds or Bounds()), ws="none", log_level="critical", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield address_of(listener, "127.0.0.1")
        finally:
            server.should_exit = True
            thread.join()


def error(response: Any, status: int, condition: str) -> dict[str, Any]:
    """The error of a response, whose shape is always the same."""
    body = response.json()
    assert (response.status_code, list(body)) == (status, ["error"]), body
    assert sorted(body["error"]) == ["condition", "hint", "message", "params"]
    assert body["error"]["condition"] == condition
    assert body["error"]["message"]
    params: dict[str, Any] = body["error"]["params"]
    return params


def condition(response: httpx.Response) -> tuple[int, str]:
    """The status and the condition of an error."""
    return response.status_code, response.json()["error"]["condition"]
