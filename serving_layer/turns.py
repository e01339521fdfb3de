"""Turns at what takes long: so much at once in all, and of one caller less, however many requests they have sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request

from serving_layer.lock.gate import who_of

T = TypeVar("T")


class Gone(Exception):
    """Whoever asked has left."""


async def while_there(request: Request, work: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
    """What `work` gives, of a request whose body is not read any more.

    Raises Gone once whoever asked has left, TimeoutError after so many seconds.
    """
    done, left = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((done, left), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()
        if not left.done():
            raise TimeoutError
        left.result()
        raise Gone
    finally:
        done.cancel()
        left.cancel()
        await asyncio.gather(done, left, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Turns:
    """`most` threads for work, of which one caller has `of_one`; all of them where nobody says who asks.

    Next is who has the fewest, then who has waited longest. For one event loop.
    """

    def __init__(self, most: int, of_one: int) -> None:
        self._most, self._of_one = most, of_one
        self._taken: Counter[str] = Counter()
        self._waiting: dict[asyncio.Future[None], str] = {}
        self._threads = CapacityLimiter(most)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    async def run(self, request: Request, work: Callable[[], T], patience: float | None = None) -> T:
        """What `work` gives in a thread, when it is its turn.

        Raises Gone where whoever asked leaves before, and TimeoutError where it takes more than `patience` seconds.
        """
        who = who_of(request)
        if not self._take(who):
            await while_there(request, self._wait(who), patience)
        return await self._work(who, work)

    async def run_for(self, who: str, work: Callable[[], T]) -> T:
        """The same of a caller whose connection is looked after elsewhere."""
        if not self._take(who):
            await self._wait(who)
        return await self._work(who, work)

    async def _work(self, who: str, work: Callable[[], T]) -> T:
        try:
            return await to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._give(who)

    def _may(self, who: str) -> bool:
        return self._taken.total() < self._most and (not who or self._taken[who] < self._of_one)

    def _take(self, who: str) -> bool:
        if not self._may(who):
            return False
        self._taken[who] += 1
        return True

    async def _wait(self, who: str) -> None:
        """Returns when it is this caller's turn."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = who
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(who)
            raise
        finally:
            self._waiting.pop(turn, None)

    def _give(self, who: str) -> None:
        self._taken[who] -= 1
        if not self._taken[who]:
            del self._taken[who]
        ready = [turn for turn, other in self._waiting.items() if not turn.done() and self._may(other)]
        if ready:
            turn = min(ready, key=lambda turn: self._taken[self._waiting[turn]])
            self._taken[self._waiting.pop(turn)] += 1
            turn.set_result(None)
