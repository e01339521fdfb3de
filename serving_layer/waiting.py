"""Answers over HTTP: at once, in turn, or when the ledger covers a cut, for which no thread waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from fastapi import Request, Response

from serving_layer.find import NotReadyError
from serving_layer.query import Query
from serving_layer.reader import Reader
from serving_layer.turns import Turns, while_there
from tideline.cut import Cut
from tideline.errors import TidelineError
from tideline.ledger import Ledger

MOST_ANSWERS, ANSWERS_OF_ONE = 8, 4
"""At once, each with the memory of its rows. Where nobody says who asks, all are one caller's, who may have all."""
_POLL = 0.02  # seconds between two looks at the ledger
Answer = Callable[[Sequence[Query]], Response]


class Answers:
    """Answers to queries, of which each caller has a share."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.turns = Turns(MOST_ANSWERS, ANSWERS_OF_ONE)
        self._looks = Turns(16, 4)  # at Kafka, which may not answer
        self._waits = Waits(reader)

    def waiting(self) -> int:
        """How many wait for a cut."""
        return len(self._waits.waiting)

    async def answered(self, request: Request, queries: Sequence[Query], answer: Answer) -> Response:
        """The answer to queries, at once where it takes less time than a thread would. Raises Gone."""
        if self._reader.is_quick(queries):
            return answer(queries)
        if not any(query.waits for query in queries):
            return await self.turns.run(request, partial(answer, queries))
        began = time.monotonic()
        asks_kafka = any(query.max_staleness is not None for query in queries)
        look = partial(self._patient, queries)
        asked, wanted, seconds = await (self._looks if asks_kafka else self.turns).run(request, look)
        while True:
            try:
                return await self.turns.run(request, partial(answer, asked))
            except NotReadyError as error:
                now = time.monotonic()
                if error.condition != "AT_LEAST_TIMEOUT" or "older version" in error.hint:
                    raise
                if now >= began + seconds:
                    params = {**error.params, "seconds": round(now - began, 3)}
                    raise NotReadyError("AT_LEAST_TIMEOUT", **params) from None
            with suppress(TimeoutError):
                await while_there(request, self._waits.reached(wanted), began + seconds - now)

    def _patient(self, queries: Sequence[Query]) -> tuple[list[Query], Cut, float]:
        """(queries that do not wait, the cut that they wait for, seconds for which they do)."""
        waits, wanted, seconds = self._reader.patience(queries)
        asked = [
            replace(query, at_least=wait.cut, max_staleness=None, timeout=0)
            for query, wait in zip(queries, waits, strict=True)
        ]
        return asked, wanted, seconds


class Waits:
    """Those who wait for a cut: one looks at the ledger for all of them."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.waiting: dict[asyncio.Future[None], _Rest] = {}
        self._looking: asyncio.Task[None] | None = None

    async def reached(self, wanted: Cut) -> None:
        """Returns once the ledger covers a cut."""
        rest = _Rest(wanted)
        if rest.is_covered(self._reader.ledger()):
            return
        future = asyncio.get_running_loop().create_future()
        self.waiting[future] = rest
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await future
        finally:
            self.waiting.pop(future, None)

    async def _look(self) -> None:
        seen: Ledger | None = None
        while self.waiting:
            try:
                ledger = self._reader.ledger()
            except TidelineError as error:  # whoever waits gets it
                for future in self.waiting:
                    if not future.done():
                        future.set_exception(error)
                return
            if ledger is not seen:
                seen = ledger
                for future, rest in self.waiting.items():
                    if not future.done() and rest.is_covered(ledger):
                        future.set_result(None)
            await asyncio.sleep(_POLL)


class _Rest:
    """What of a cut is not covered yet: each partition is looked at until it is, and then no more."""

    def __init__(self, wanted: Cut) -> None:
        self._partitions = wanted.partitions()
        self._next = next(self._partitions, None)

    def is_covered(self, ledger: Ledger) -> bool:
        while self._next is not None:
            topic, partition, offset = self._next
            if ledger.committed.offset(topic, partition) < offset:
                return False
            self._next = next(self._partitions, None)
        return True
