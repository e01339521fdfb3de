"""A client that awaits its replies, as `sync.py` waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import httpx

from tideline.client import requests as ask
from tideline.client.answers import Change, RemoteResult, SqlResult
from tideline.client.events import EventReader
from tideline.cut import Cut


class AsyncClient:
    """A server's views, as `Client` has them, for `async with`.

    A request that fails in a way that passes is sent again, until `timeout` seconds are over in all. Raises UsageError
    for what is wrong with a request, OutsideError for all else, SERVER_UNREACHABLE where no reply comes.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 30.0, **options: Any) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._http = httpx.AsyncClient(base_url=self.url, headers=ask.headers_of(token), **options)

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
        """The answers to several queries on one snapshot, each an object as `POST /v1/query` takes it."""
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

    async def _step(self, step: tuple[ask.Call, float] | float) -> ask.Outcome:
        if isinstance(step, float):
            await asyncio.sleep(step)
            return None
        call, seconds = step
        try:
            return await self._http.request(**ask.arguments(call, seconds))
        except httpx.TransportError as error:
            return error

    async def changes(self, view: str, **options: Any) -> AsyncIterator[Change]:
        """A view's answer as it changes: a snapshot, then what changes. Where the stream ends it goes on with another.

        Options are those of `get` but for what is of one answer, and `every`, how often to look.
        """
        reader = EventReader()
        while True:
            async for change in self._stream(reader, ask.changes_call(view, options, reader.last)):
                yield change
            await asyncio.sleep(ask.BETWEEN)

    async def _stream(self, reader: EventReader, call: ask.Call) -> AsyncIterator[Change]:
        steps, outcome = ask.attempts(self.url, call, self.timeout), ask.NOTHING
        while True:
            step = steps.send(outcome)
            if isinstance(step, float):
                await asyncio.sleep(step)
                outcome = None
                continue
            try:
                async with self._http.stream(**ask.arguments(call, self.timeout)) as response:
                    if response.is_success:
                        async for line in response.aiter_lines():
                            change = reader.take(line)
                            if change is not None:
                                yield change
                        return
                    await response.aread()
                    outcome = response
            except httpx.TransportError as error:
                if reader.is_new():
                    return
                outcome = error


class AsyncView:
    """One view of a client."""

    def __init__(self, client: AsyncClient, name: str) -> None:
        self._client = client
        self.name = name

    async def get(self, **options: Any) -> RemoteResult:
        """The answer to a query; options as `ViewReader.get` takes them."""
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
