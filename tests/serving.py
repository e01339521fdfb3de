"""A real server of an app, for tests that speak HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from serving_layer.server import address_of, bind


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The base URL of a real server of an app, in a thread."""
    with bind("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield address_of(listener, "127.0.0.1")
        finally:
            server.should_exit = True
            thread.join()
