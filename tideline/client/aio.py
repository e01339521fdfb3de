"""A client that awaits its replies, as `sync.py` waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Any

import anyio
import httpx

from tideline.client import requests as ask
from tideline.client.answers import Change, RemoteResult, SqlResult
from tideline.client.events import EventReader, async_lines_of
from tideline.client.values import check_key, is_text
from tideline.cut import Cut
from tideline.errors import UsageError


class AsyncClient:
    """A server's views, as `Client` has them, for `async with`.

    A request that fails in a way that passes is sent again, until `timeout` seconds are over in all: the client's, or
    those of the call where they are more. Raises UsageError for what is wrong with a request, OutsideError for all
    else, SERVER_UNREACHABLE where no whole reply comes.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 30.0, **options: Any) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._http = httpx.AsyncClient(base_url=self.url, headers=ask.headers_of(token), **options)
        self._types: dict[str, dict[str, str]] = {}

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends its connections."""
        await self._http.aclose()

    async def views(self) -> list[str]:
        """The names of the views that can be asked."""
        response = await self.call(ask.Call("GET", "/v1/views"))
        return [view["name"] for view in response.json()["views"]]

    def view(self, name: str) -> AsyncView:
        """One view; whether there is one by this name its first answer says."""
        return AsyncView(self, name)

    async def query_many(self, queries: Sequence[Mapping[str, Any]]) -> list[RemoteResult]:
        """The answers to several queries on one snapshot, each an object as `POST /v1/query` takes it.

        Their rows have the values of JSON: decimals and times are text.
        """
        for query in queries:
            await self._check_key(query.get("view"), query.get("key"))
        return ask.results_of(await self.call(ask.query_call(queries)))

    async def sql(self, statement: str, *, limit: int | None = None, timeout: float | None = None) -> SqlResult:
        """The rows of a SELECT over the views."""
        return ask.sql_of(await self.call(ask.sql_call(statement, limit, timeout)))

    async def send(
        self, source: str, events: Sequence[Mapping[str, Any] | str | bytes], *, has_ids: bool = True
    ) -> Cut:
        """Writes events, and tells the cut that covers them: for `at_least`.

        Where they have no ids, `has_ids=False` keeps them from being sent again when no reply comes.
        """
        return ask.cut_of(await self.call(ask.send_call(source, events, has_ids)))

    async def status(self) -> dict[str, Any]:
        """The installation's state."""
        found: dict[str, Any] = (await self.call(ask.Call("GET", "/v1/status"))).json()
        return found

    async def call(self, call: ask.Call) -> httpx.Response:
        """The reply to any request of the API."""
        steps, outcome = ask.attempts(self.url, call, self.timeout), None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                response: httpx.Response = done.value
                return response
            outcome = await self._step(step)

    async def _check_key(self, view: Any, key: Any) -> None:
        """See `Client._check_key`."""
        if not isinstance(view, str) or not isinstance(key, Mapping) or is_text(key):
            return
        try:
            check_key(self._types[view], key)
        except (KeyError, UsageError):
            self._types[view] = ask.types_of(await self.call(ask.describe_call(view)))
            check_key(self._types[view], key)

    async def _step(self, step: tuple[ask.Call, float] | float) -> ask.Outcome:
        if isinstance(step, float):
            await asyncio.sleep(step)
            return None
        call, seconds = step
        try:
            with anyio.fail_after(seconds):
                return await self._http.request(**ask.arguments(call, seconds))
        except (httpx.TransportError, TimeoutError) as error:
            return ask.fault(error)

    async def changes(self, view: str, **options: Any) -> AsyncIterator[Change]:
        """A view's answer as it changes: a snapshot, then what changes. Where the stream ends it goes on with another.

        Options are those of `get` but for what is of one answer, and `every`, how often to look.
        """
        await self._check_key(view, ask.split(options, ask.STREAM_OPTIONS)[1])
        reader = EventReader()
        while True:
            reader.begin()
            async with aclosing(self._lines(ask.changes_call(view, options, reader.last))) as lines:
                async for line in lines:
                    change = reader.take(line)
                    if change is not None:
                        yield change
            await asyncio.sleep(ask.BETWEEN)

    async def _lines(self, call: ask.Call) -> AsyncGenerator[str, None]:
        """The lines of a stream, until it ends in whichever way; the client's `timeout` is for the first one."""
        steps, outcome, is_open = ask.attempts(self.url, call, self.timeout), ask.NOTHING, False
        while True:
            step = steps.send(outcome)
            if isinstance(step, float):
                outcome = await self._step(step)
                continue
            _, seconds = step
            try:
                async with AsyncExitStack() as stack:
                    with anyio.fail_after(seconds):
                        stream = self._http.stream(**ask.arguments(call, seconds))
                        outcome = await stack.enter_async_context(stream)
                        if not outcome.is_success:
                            await outcome.aread()
                            continue
                        lines = async_lines_of(outcome.aiter_bytes())
                        first = await anext(lines, "")
                    is_open = True
                    yield first
                    async for line in lines:
                        yield line
                    return
            except (httpx.TransportError, TimeoutError) as error:
                if is_open:
                    return
                outcome = ask.fault(error)


class AsyncView:
    """One view of a client."""

    def __init__(self, client: AsyncClient, name: str) -> None:
        self._client = client
        self.name = name

    async def get(self, **options: Any) -> RemoteResult:
        """The answer to a query; options as `ViewReader.get` takes them.

        With `parts` its rows have the values of JSON: decimals and times are text.
        """
        await self._client._check_key(self.name, ask.split(options)[1])
        return ask.rows_of(await self._client.call(ask.rows_call(self.name, options)))

    async def pages(self, limit: int = 1000, **options: Any) -> AsyncIterator[RemoteResult]:
        """The answer in pages of so many rows."""
        page = await self.get(limit=limit, **options)
        yield page
        while page.next is not None:
            page = await self.get(limit=limit, cursor=page.next, **options)
            yield page

    def changes(self, **options: Any) -> AsyncIterator[Change]:
        """See `AsyncClient.changes`."""
        return self._client.changes(self.name, **options)

    async def describe(self) -> dict[str, Any]:
        """Key columns with types, bucket, measures with types and bounds, answers."""
        found: dict[str, Any] = (await self._client.call(ask.describe_call(self.name))).json()
        return found
