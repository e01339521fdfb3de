"""A client that waits for its replies."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import httpx

from tideline.client import requests as ask
from tideline.client.answers import Change, RemoteResult, SqlResult
from tideline.client.events import EventReader
from tideline.cut import Cut


class Client:
    """A server's views, as `Reader` has those of a home. Use it with `with`; safe to use from several threads.

    A request that fails in a way that passes is sent again, until `timeout` seconds are over in all. Raises UsageError
    for what is wrong with a request, OutsideError for all else, SERVER_UNREACHABLE where no reply comes.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 30.0, **options: Any) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._http = httpx.Client(base_url=self.url, headers=ask.headers_of(token), **options)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends its connections."""
        self._http.close()

    def views(self) -> list[str]:
        """The names of the views that can be asked."""
        return [view["name"] for view in self.call(ask.Call("GET", "/v1/views")).json()["views"]]

    def view(self, name: str) -> RemoteView:
        """One view; whether there is one by this name its first answer says."""
        return RemoteView(self, name)

    def query_many(self, queries: Sequence[Mapping[str, Any]]) -> list[RemoteResult]:
        """The answers to several queries on one snapshot, each an object as `POST /v1/query` takes it."""
        return ask.results_of(self.call(ask.query_call(queries)))

    def sql(self, statement: str, *, limit: int | None = None, timeout: float | None = None) -> SqlResult:
        """The rows of a SELECT over the views."""
        return ask.sql_of(self.call(ask.sql_call(statement, limit, timeout)))

    def send(self, source: str, events: Sequence[Mapping[str, Any] | str | bytes], *, has_ids: bool = True) -> Cut:
        """Writes events, and tells the cut that covers them: for `at_least`.

        Where they have no ids, `has_ids=False` keeps them from being sent again when no reply comes.
        """
        return ask.cut_of(self.call(ask.send_call(source, events, has_ids)))

    def status(self) -> dict[str, Any]:
        """The installation's state."""
        found: dict[str, Any] = self.call(ask.Call("GET", "/v1/status")).json()
        return found

    def call(self, call: ask.Call) -> httpx.Response:
        """The reply to any request of the API."""
        steps, outcome = ask.attempts(self.url, call, self.timeout), None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                response: httpx.Response = done.value
                return response
            outcome = self._step(step)

    def _step(self, step: tuple[ask.Call, float] | float) -> ask.Outcome:
        if isinstance(step, float):
            time.sleep(step)
            return None
        call, seconds = step
        try:
            return self._http.request(**ask.arguments(call, seconds))
        except httpx.TransportError as error:
            return error

    def changes(self, view: str, **options: Any) -> Iterator[Change]:
        """A view's answer as it changes: a snapshot, then what changes. Where the stream ends it goes on with another.

        Options are those of `get` but for what is of one answer, and `every`, how often to look.
        """
        reader = EventReader()
        while True:
            yield from self._stream(reader, ask.changes_call(view, options, reader.last))
            time.sleep(ask.BETWEEN)

    def _stream(self, reader: EventReader, call: ask.Call) -> Iterator[Change]:
        steps, outcome = ask.attempts(self.url, call, self.timeout), ask.NOTHING
        while True:
            step = steps.send(outcome)
            if isinstance(step, float):
                time.sleep(step)
                outcome = None
                continue
            try:
                with self._http.stream(**ask.arguments(call, self.timeout)) as response:
                    if response.is_success:
                        yield from filter(None, map(reader.take, response.iter_lines()))
                        return
                    response.read()
                    outcome = response
            except httpx.TransportError as error:
                if reader.is_new():
                    return
                outcome = error


class RemoteView:
    """One view of a client."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    def get(self, **options: Any) -> RemoteResult:
        """The answer to a query; options as `ViewReader.get` takes them."""
        return ask.rows_of(self._client.call(ask.rows_call(self.name, options)))

    def pages(self, limit: int = 1000, **options: Any) -> Iterator[RemoteResult]:
        """The answer in pages of so many rows."""
        page = self.get(limit=limit, **options)
        yield page
        while page.next is not None:
            page = self.get(limit=limit, cursor=page.next, **options)
            yield page

    def changes(self, **options: Any) -> Iterator[Change]:
        """See `Client.changes`."""
        return self._client.changes(self.name, **options)

    def describe(self) -> dict[str, Any]:
        """Key columns with types, bucket, measures with types and bounds, answers."""
        found: dict[str, Any] = self._client.call(ask.describe_call(self.name)).json()
        return found
