"""A client that waits for its replies."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import httpx

from tideline.client import requests as ask
from tideline.client.answers import Change, RemoteResult, SqlResult
from tideline.client.deadline import keep, within
from tideline.client.events import EventReader, lines_of
from tideline.client.values import check_key, is_text
from tideline.cut import Cut
from tideline.errors import UsageError


class Client:
    """A server's views, as `Reader` has those of a home. Use it with `with`; safe to use from several threads.

    A request that fails in a way that passes is sent again, until `timeout` seconds are over in all: the client's, or
    those of the call where they are more. Raises UsageError for what is wrong with a request, OutsideError for all
    else, SERVER_UNREACHABLE where no whole reply comes.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 30.0, **options: Any) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._http = httpx.Client(base_url=self.url, headers=ask.headers_of(token), **options)
        self._types: dict[str, dict[str, str]] = {}

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
        """The answers to several queries on one snapshot, each an object as `POST /v1/query` takes it.

        Their rows have the values of JSON: decimals and times are text.
        """
        for query in queries:
            self._check_key(query.get("view"), query.get("key"))
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

    def _check_key(self, view: Any, key: Any) -> None:
        """Raises UsageError BAD_VALUE for Python values that the key columns of a view do not take.

        It asks the server for the columns' types where they are needed and not known, or not right any more.
        """
        if not isinstance(view, str) or not isinstance(key, Mapping) or is_text(key):
            return
        try:
            check_key(self._types[view], key)
        except (KeyError, UsageError):
            self._types[view] = ask.types_of(self.call(ask.describe_call(view)))
            check_key(self._types[view], key)

    def _step(self, step: tuple[ask.Call, float] | float) -> ask.Outcome:
        if isinstance(step, float):
            time.sleep(step)
            return None
        call, seconds = step
        try:
            with within(seconds):
                return self._http.request(**_arguments(call, seconds))
        except httpx.TransportError as error:
            return error

    def changes(self, view: str, **options: Any) -> Iterator[Change]:
        """A view's answer as it changes: a snapshot, then what changes. Where the stream ends it goes on with another.

        Options are those of `get` but for what is of one answer, and `every`, how often to look.
        """
        self._check_key(view, ask.split(options, ask.STREAM_OPTIONS)[1])
        reader = EventReader()
        while True:
            reader.begin()
            yield from filter(None, map(reader.take, self._lines(ask.changes_call(view, options, reader.last))))
            time.sleep(ask.BETWEEN)

    def _lines(self, call: ask.Call) -> Iterator[str]:
        """The lines of a stream, until it ends in whichever way; the client's `timeout` is for the first one."""
        steps, outcome, is_open = ask.attempts(self.url, call, self.timeout), ask.NOTHING, False
        while True:
            step = steps.send(outcome)
            if isinstance(step, float):
                outcome = self._step(step)
                continue
            _, seconds = step
            try:
                with ExitStack() as stack:
                    with within(seconds):
                        outcome = stack.enter_context(self._http.stream(**_arguments(call, seconds)))
                        if not outcome.is_success:
                            outcome.read()
                            continue
                        lines = lines_of(outcome.iter_bytes())
                        first = next(lines, "")
                    is_open = True
                    yield first
                    yield from lines
                    return
            except httpx.TransportError as error:
                if is_open:
                    return
                outcome = error


def _arguments(call: ask.Call, seconds: float) -> dict[str, Any]:
    return {**ask.arguments(call, seconds), "extensions": {"trace": keep}}


class RemoteView:
    """One view of a client."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    def get(self, **options: Any) -> RemoteResult:
        """The answer to a query; options as `ViewReader.get` takes them.

        With `parts` its rows have the values of JSON: decimals and times are text.
        """
        self._client._check_key(self.name, ask.split(options)[1])
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
