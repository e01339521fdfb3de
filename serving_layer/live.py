"""Answers that follow the log, as server-sent events: a snapshot, then what changes of it, each with its cut.

Every stream remembers the rows that it sent last, and looks at the answer again and again: what it sends is the
difference. So one whose reader is slow skips states in between, never the last one, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import json
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, ClassVar

from serving_layer.find import NotReadyError
from serving_layer.proof import json_text
from serving_layer.query import Query, length
from serving_layer.reader import Narrow, Reader, too_many_rows
from serving_layer.responses import without_reason
from serving_layer.result import Result
from serving_layer.turns import Turns
from tideline.errors import Texts, TidelineError, UsageError
from tideline.ledger import Ledger

MOST_ROWS = 10_000  # of one answer that is followed
MOST_STREAMS = 1_000
MOST_OF_ONE = 500  # streams of one token or subject
EVERY = 250_000  # microseconds between two looks, unless asked otherwise
LEAST_EVERY = 50_000
_STILL = 1.0  # seconds after which a stream looks again whether who asked still may
_BEAT = 15.0  # seconds after which a stream without news says that it lives
_KEPT, _KEPT_BYTES = 5_000, 64 << 20  # answers that a stream may be resumed from
_ROW_BYTES = 200  # of a row beside its text: two texts' own, their place among the others
_LOOK = 0.02  # seconds for which streams share a look at the ledger
_RETRY = b"retry: 1000\n\n"


class LiveError(UsageError):
    """An answer that cannot be followed."""

    texts: ClassVar[Texts] = {
        "NOT_LIVE": ("{option} is of one answer, not of one that is followed", "leave it out"),
    }


class TooManyStreams(NotReadyError):
    """The server follows as many answers as it can."""

    texts: ClassVar[Texts] = {"TOO_MANY_STREAMS": ("{limit} answers are followed already", "try again later")}


@dataclass(frozen=True)
class Page:
    """An answer as a stream sends it: the JSON texts of its rows by those of their keys, in order."""

    tag: str
    place: str
    rows: Mapping[str, str]
    ordered: bool
    size: int
    """Bytes, about."""

    @classmethod
    def of(cls, result: Result) -> Page:
        """The page of an answer. Raises UsageError TOO_MANY_ROWS."""
        names, rows = result.texts()
        if len(rows) > MOST_ROWS:
            raise too_many_rows(MOST_ROWS)
        proof = result.proof
        place = json_text({name: proof[name] for name in ("version", "cut", "batch_cut")})[1:-1]
        size = len(place) + sum(map(len, names)) + sum(map(len, rows)) + (len(rows) + 1) * _ROW_BYTES
        return cls(result.proven.tag, place, dict(zip(names, rows, strict=True)), bool(result.plan.order), size)

    def shows(self, other: Page) -> bool:
        """Whether both show the same rows, where they are ordered in the same order."""
        return self.rows == other.rows and (not self.ordered or list(self.rows) == list(other.rows))

    def snapshot(self, result_head: str) -> bytes:
        """The event with all of it."""
        return self._event("snapshot", f"{result_head}{self._listed(self.rows.values())}")

    def change(self, before: Page) -> bytes:
        """The event with what is other than before."""
        changed = [row for name, row in self.rows.items() if before.rows.get(name) != row]
        removed = [name for name in before.rows if name not in self.rows]
        order = f',"order":[{",".join(self.rows)}]' if self.ordered else ""
        return self._event("change", f'{self._listed(changed)},"removed":[{",".join(removed)}]{order}')

    def _listed(self, rows: Any) -> str:
        return f'"rows":[{",".join(rows)}]'

    def _event(self, kind: str, body: str) -> bytes:
        return f"event: {kind}\nid: {self.tag}\ndata: {{{body},{self.place}}}\n\n".encode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Seen:
    """What who asks may see: as the role `role` does, of each answer what `narrow` leaves, as long as `still` holds, of
    errors what `told` makes of them. `who` they are, as far as it is known."""

    role: str
    narrow: Narrow | None
    still: Callable[[], Awaitable[bool]]
    who: str
    told: Callable[[TidelineError], TidelineError] | None = None


class Live:
    """The streams of a server."""

    def __init__(self, reader: Reader, turns: Turns) -> None:
        self._reader, self._turns = reader, turns
        self._streams: Counter[str] = Counter()
        self._ended = False
        self._kept: OrderedDict[tuple[str, str], Page] = OrderedDict()
        self._kept_bytes = 0
        self._seen: tuple[float, Ledger] | None = None

    def end(self) -> None:
        """Ends every stream; their readers come back to whoever serves then."""
        self._ended = True

    async def follow(self, query: Query, every: Any, last: str | None, seen: Seen) -> AsyncIterator[bytes]:
        """The events of a query, looked at `every` so often; from the answer with the id `last` on, if it is known.

        Raises what the query raises, LiveError and TooManyStreams before there is a first event.
        """
        for option in ("cursor", "at_least", "max_staleness", "version"):
            if getattr(query, option) is not None:
                raise LiveError("NOT_LIVE", option=option)
        pause = max(EVERY if every is None else length("every", every), LEAST_EVERY) / 1_000_000
        if query.limit is None:
            query = replace(query, limit=MOST_ROWS + 1)  # as many as it takes to refuse the answer
        name = blake2b(repr((seen.role, query)).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()
        self._begin(seen.who)
        try:
            ledger = self._ledger()
            page, head = await self._look(query, name, seen)
        except BaseException:
            self._over(seen.who)
            raise
        events = self._events(query, name, ledger, page, head, pause, last, seen)
        weakref.finalize(events, self._over, seen.who)  # also where nobody ever reads of it
        return events

    def _begin(self, who: str) -> None:
        """Counts another stream. Raises TooManyStreams."""
        for count, limit in ((self._streams.total(), MOST_STREAMS), (self._streams[who] if who else 0, MOST_OF_ONE)):
            if count >= limit:
                raise TooManyStreams("TOO_MANY_STREAMS", limit=limit)
        self._streams[who] += 1

    def _over(self, who: str) -> None:
        self._streams[who] -= 1
        if not self._streams[who]:
            del self._streams[who]

    async def _pause(self, seconds: float, seen: Seen) -> bool:
        """Whether who asked still may, after so long."""
        until = time.monotonic() + seconds
        while not self._ended:
            await asyncio.sleep(min(max(until - time.monotonic(), 0.0), _STILL))
            if not await seen.still():
                return False
            if time.monotonic() >= until:
                return True
        return False

    async def _events(
        self,
        query: Query,
        name: str,
        ledger: Ledger,
        page: Page,
        head: str,
        pause: float,
        last: str | None,
        seen: Seen,
    ) -> AsyncIterator[bytes]:
        try:
            known = self._kept.get((name, last)) if last else None
            yield _RETRY + (page.snapshot(head) if known is None else page.change(known) if known is not page else b"")
            told = time.monotonic()
            while not self._ended:
                if not await self._pause(pause, seen):
                    return
                before, looked, ledger = page, ledger, self._ledger()
                if ledger is not looked and self._tag(query, seen) != page.tag:
                    page, _ = await self._look(query, name, seen)
                if not page.shows(before):
                    yield page.change(before)
                    told = time.monotonic()
                elif time.monotonic() - told > _BEAT:
                    yield b":\n\n"
                    told = time.monotonic()
        except TidelineError as error:
            shown = error if seen.told is None else seen.told(error)
            yield f"event: error\ndata: {json_text(shown.to_json())}\n\n".encode()

    def _ledger(self) -> Ledger:
        """The ledger as it was a moment ago at most."""
        now, seen = time.monotonic(), self._seen
        if seen is None or now - seen[0] > _LOOK:
            seen = self._seen = now, self._reader.ledger()
        return seen[1]

    def _tag(self, query: Query, seen: Seen) -> str:
        """That of the answer now."""
        proof = self._reader.proof(query, seen.narrow)
        return (proof if seen.told is None else proof.without_reason).tag

    async def _look(self, query: Query, name: str, seen: Seen) -> tuple[Page, str]:
        """The answer now, and what a snapshot says before its rows."""
        if self._reader.is_quick([query]):
            result = self._reader.query(query, seen.narrow)
        else:
            result = await self._turns.run_for(seen.who, lambda: self._reader.query(query, seen.narrow))
        if seen.told is not None:
            result = without_reason(result)
        tag = result.proven.tag
        page = self._kept.get((name, tag))
        if page is None:
            page = Page.of(result)
            self._keep(name, page)
        keys = json.dumps(result.presenter.identity)
        return page, f'"view":{json_text(query.view)},"columns":{json_text(result.columns)},"key":{keys},'

    def _keep(self, name: str, page: Page) -> None:
        if (name, page.tag) in self._kept:  # another look was quicker
            return
        self._kept[name, page.tag] = page
        self._kept_bytes += page.size
        while (self._kept_bytes > _KEPT_BYTES or len(self._kept) > _KEPT) and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._kept_bytes -= old.size
