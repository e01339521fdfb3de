"""A store in memory, for `tideline check` and for driving the protocol in tests."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tideline.errors import MissingSegmentError, ProtocolError
from tideline.ledger import Ledger
from tideline.stores.base import Item, follow_ledger, refuse_reload

Space = Mapping[bytes, bytes]


class MemorySnapshot:
    """One state of the store: a ledger and spaces, neither of which changes."""

    def __init__(self, ledger: Ledger, spaces: Mapping[str, Space]) -> None:
        self._ledger = ledger
        self._spaces = dict(spaces)

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    def _space(self, space: str) -> Space:
        if space not in self._spaces:
            raise MissingSegmentError("MISSING_SPACE", space=space)
        return self._spaces[space]

    def get(self, space: str, key: bytes) -> bytes | None:
        return self._space(space).get(key)

    def get_many(self, space: str, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        found = self._space(space)
        return {key: found[key] for key in keys if key in found}

    def scan(self, space: str, lower: bytes | None = None, upper: bytes | None = None) -> Iterator[Item]:
        found = self._space(space)
        keys = sorted(found)
        first = 0 if lower is None else bisect_left(keys, lower)
        last = len(keys) if upper is None else bisect_left(keys, upper)
        return ((key, found[key]) for key in keys[first:last])

    def count(self, space: str) -> int:
        return len(self._space(space))

    def spaces(self) -> list[str]:
        return sorted(self._spaces)


class MemoryTransaction(MemorySnapshot):
    """Changes copies of what it touches; the store takes them over at its end."""

    def __init__(self, ledger: Ledger, spaces: Mapping[str, Space]) -> None:
        super().__init__(ledger, spaces)
        self._own: dict[str, dict[bytes, bytes]] = {}

    def put_ledger(self, ledger: Ledger) -> None:
        follow_ledger(self, self._ledger, ledger)
        self._ledger = ledger

    def create(self, space: str) -> None:
        if space not in self._spaces:
            self._spaces[space] = self._own[space] = {}

    def put(self, space: str, key: bytes, value: bytes) -> None:
        self._writable(space)[key] = value

    def put_many(self, space: str, items: Iterable[Item]) -> None:
        self._writable(space).update(items)

    def load(self, space: str, rows: Iterable[Item]) -> int:
        refuse_reload(self._ledger, space)
        self.create(space)
        target = self._writable(space)
        last, count = max(target, default=b""), 0
        for key, value in rows:
            if key <= last:
                raise ProtocolError("LOAD_NOT_SORTED", space=space)
            target[key] = value
            last, count = key, count + 1
        return count

    def drop(self, space: str) -> None:
        self._spaces.pop(space, None)
        self._own.pop(space, None)

    def _writable(self, space: str) -> dict[bytes, bytes]:
        if space not in self._own:
            self._spaces[space] = self._own[space] = dict(self._space(space))
        return self._own[space]

    def finish(self) -> MemorySnapshot:
        """What the store holds once the transaction is committed."""
        return MemorySnapshot(self._ledger, self._spaces)


class MemoryStore:
    """Holds one state; `state` may be kept and put back, as a disk that lost its last commits would."""

    def __init__(self, ledger: Ledger) -> None:
        self.state = MemorySnapshot(ledger, {})
        self._writer = threading.Lock()

    @contextmanager
    def snapshot(self) -> Iterator[MemorySnapshot]:
        yield self.state

    @contextmanager
    def write(self) -> Iterator[MemoryTransaction]:
        with self._writer:
            state = self.state
            txn = MemoryTransaction(state.ledger, {name: state._space(name) for name in state.spaces()})
            yield txn
            self.state = txn.finish()

    def sync(self) -> None:
        """Does nothing: memory has no disk to be ahead of."""

    def usage(self) -> Mapping[str, Any]:
        """Memory takes no disk."""
        return {"bytes": 0, "used": 0, "map": 0, "readers": 0, "behind": 0, "pid": None}

    def close(self) -> None:
        """Does nothing."""
