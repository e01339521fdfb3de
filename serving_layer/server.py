"""The serving process: the HTTP API on a port, and a note in `HOME/run/serve.json` that says where."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import uvicorn
from starlette.middleware.cors import CORSMiddleware

from serving_layer.app import create_app
from serving_layer.connections import Bounds, bounded, raise_limit
from serving_layer.lock.gate import Lock
from serving_layer.reader import Reader
from tideline.errors import OutsideError, Texts
from tideline.runtime.collector import collect_seldom
from tideline.runtime.home import Home
from tideline.runtime.ports import is_loopback
from tideline.stores.lmdb import LmdbStore

if TYPE_CHECKING:
    from fastapi import FastAPI

    from serving_layer.flight.server import FlightSqlServer

GRACE = 5  # seconds that a stop waits for requests under way


class ServeError(OutsideError):
    """The HTTP API cannot listen."""

    texts: ClassVar[Texts] = {
        "PORT_TAKEN": (
            "port {port} on {host} is taken",
            "free it, choose another with --port, or use --port auto",
        ),
        "NOT_LOCKED": (
            "{host} can be reached from elsewhere, and everybody there could read and write",
            "make a token first (tideline token create), or name an issuer in access.toml; or listen on 127.0.0.1",
        ),
        "BAD_TLS": (
            "the certificate or its key cannot be used: {reason}",
            "see serve.tls_certificate and serve.tls_key",
        ),
        "CANNOT_LISTEN": ("cannot listen on {host} port {port}: {reason}", "choose another --host or --port"),
    }


@dataclass(frozen=True)
class Doors:
    """Files of a TLS certificate and its key, the origins whose pages may ask, with commas, and the port of Flight SQL.

    Empty, or None: there is none; port 0 is any free one.
    """

    certificate: str = ""
    key: str = ""
    origins: str = ""
    flight: int | None = None

    def check(self) -> None:
        """Raises ServeError BAD_TLS."""
        if self.certificate or self.key:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key or None)
            except (OSError, ValueError) as error:
                raise ServeError("BAD_TLS", reason=str(error)) from error


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises ServeError PORT_TAKEN or CANNOT_LISTEN."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, ValueError) as error:  # ValueError: a name that DNS cannot spell
        raise ServeError("CANNOT_LISTEN", host=host[:100], port=port, reason=str(error)) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ServeError("PORT_TAKEN", host=host, port=port) from error
        raise ServeError("CANNOT_LISTEN", host=host, port=port, reason=error.strerror or str(error)) from error
    return listener


def address_of(listener: socket.socket, host: str) -> str:
    """The base URL at which this machine reaches the listener."""
    return f"http://{name_of(host)}:{listener.getsockname()[1]}"


def name_of(host: str) -> str:
    """How an address is written in a URL that this machine reaches."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)


def flight_scheme(doors: Doors) -> str:
    """What URLs of Flight SQL begin with."""
    return "grpc+tls" if doors.certificate else "grpc"


def _flight(reader: Reader, app: FastAPI, lock: Lock, host: str, doors: Doors) -> FlightSqlServer:
    """A Flight SQL server that answers from here on. Raises ServeError CANNOT_LISTEN."""
    from serving_layer.flight.server import FlightSqlServer  # takes its time to come

    port = doors.flight or 0
    try:
        files = [Path(file).read_bytes() for file in (doors.certificate, doors.key or doors.certificate) if file]
        tls = (files[0], files[1]) if files else None
        return FlightSqlServer(reader, app.state.sql, lock, host, port, tls)
    except (OSError, ValueError) as error:
        raise ServeError("CANNOT_LISTEN", host=host, port=port, reason=str(error).splitlines()[0][:200]) from error


class _Server(uvicorn.Server):
    """Tells when it serves, and when it is to end, before it waits for answers under way."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell, self._ending = started, ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.config.is_ssl:  # a connection is not there for Bounds until TLS is agreed on
            loop: Any = asyncio.get_running_loop()
            loop.create_server = partial(loop.create_server, ssl_handshake_timeout=Bounds.head)
        await super().startup(sockets)
        if self.started:
            self._tell()


def serve(
    home: Home,
    host: str,
    port: int,
    say: Callable[[str], None] = lambda line: None,
    doors: Doors = Doors(),
    most_rows: int | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM; `say` gets the address once it answers. No request is answered with more than
    `most_rows`.

    Raises StoreError where the home has no store, ServeError where the port cannot be had, or others than this machine
    could reach it and nobody has to show who they are.
    """
    doors.check()
    origins = [origin.strip() for origin in doors.origins.split(",")] if doors.origins else []
    lock = Lock(home, origins)
    with LmdbStore.open(home.path, readonly=True) as store:
        store.check()
    with Reader(home, most_rows=most_rows) as reader, bind(host, port) as listener:
        if lock.is_open and not is_loopback(listener.getsockname()[0]):
            raise ServeError("NOT_LOCKED", host=host)
        url = address_of(listener, host)
        url = url.replace("http:", "https:", 1) if doors.certificate else url

        def started() -> None:
            told = {} if drivers is None else {"flight": f"{flight_scheme(doors)}://{name_of(host)}:{drivers.port}"}
            home.write_status("serve", {"url": url, "ready": True, **told})
            say(f"serving {url}")
            if drivers is not None:
                say(f"Flight SQL at {told['flight']}")

        app = create_app(reader, lock)
        if origins:
            app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
        drivers = None if doors.flight is None else _flight(reader, app, lock, host, doors)
        connections, backlog = raise_limit()
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=bounded(Bounds(connections=connections)),
            ws="none",
            backlog=backlog,
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            timeout_graceful_shutdown=GRACE,
            lifespan="off",
            server_header=False,
            ssl_certfile=doors.certificate or None,
            ssl_keyfile=doors.key or None,
        )
        collect_seldom()
        # uvicorn raises a caught signal again when it has stopped; that must not end the process untidied.
        before = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            _Server(config, started, app.state.live.end).run([listener])
        finally:
            if drivers is not None:
                drivers.shutdown()
            app.state.intake.close()
            app.state.sql.close()
            app.state.verifier.close()
            home.clear_status("serve")
            for number, handler in before.items():
                signal.signal(number, handler)


def _ignore(number: int, frame: Any) -> None:
    """Does nothing."""
