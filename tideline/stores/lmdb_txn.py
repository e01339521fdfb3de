"""The transactions of the LMDB store: spaces looked up in the transaction, then read and written by slot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tideline.errors import MissingSegmentError, ProtocolError, StoreError
from tideline.ledger import Ledger
from tideline.stores.base import Item, follow_ledger, refuse_reload


class LmdbSnapshot:
    """A read transaction: it is the snapshot (invariant 6)."""

    def __init__(self, txn: Any, spaces: Any, slots: Sequence[Any], ledger: Ledger) -> None:
        self._txn = txn
        self._spaces = spaces
        self._slots = slots
        self._ledger = ledger
        self._found: dict[str, Any] = {}

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    def _database(self, space: str) -> Any:
        database = self._found.get(space)
        if database is None:
            slot = self._txn.get(space.encode(), db=self._spaces)
            if slot is None:
                raise MissingSegmentError("MISSING_SPACE", space=space)
            database = self._found[space] = self._slots[int(slot)]
        return database

    def get(self, space: str, key: bytes) -> bytes | None:
        value: bytes | None = self._txn.get(key, db=self._database(space))
        return value

    def get_many(self, space: str, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        with self._txn.cursor(self._database(space)) as cursor:
            return dict(cursor.getmulti(keys))

    def scan(self, space: str, lower: bytes | None = None, upper: bytes | None = None) -> Iterator[Item]:
        return self._scan(self._database(space), lower, upper)

    def _scan(self, database: Any, lower: bytes | None, upper: bytes | None) -> Iterator[Item]:
        with self._txn.cursor(database) as cursor:
            if not (cursor.set_range(lower) if lower else cursor.first()):
                return
            if upper is None:
                yield from cursor.iternext()
                return
            for item in cursor.iternext():
                if item[0] >= upper:
                    return
                yield item

    def count(self, space: str) -> int:
        return int(self._txn.stat(self._database(space))["entries"])

    def spaces(self) -> list[str]:
        with self._txn.cursor(self._spaces) as cursor:
            return [name.decode() for name in cursor.iternext(keys=True, values=False)]


class LmdbTransaction(LmdbSnapshot):
    """The write transaction; the store commits it."""

    def __init__(self, txn: Any, spaces: Any, slots: Sequence[Any], ledger: Ledger) -> None:
        super().__init__(txn, spaces, slots, ledger)
        self._free: list[int] | None = None

    def put_ledger(self, ledger: Ledger) -> None:
        follow_ledger(self, self._ledger, ledger)
        self._ledger = ledger

    def create(self, space: str) -> None:
        if self._txn.get(space.encode(), db=self._spaces) is not None:
            return
        free = self._free_slots()
        if not free:
            raise StoreError("STORE_FULL_OF_SPACES", space=space, room=len(self._slots))
        self._txn.put(space.encode(), b"%d" % free.pop(), db=self._spaces)

    def put(self, space: str, key: bytes, value: bytes) -> None:
        self._txn.put(key, value, db=self._database(space))

    def put_many(self, space: str, items: Iterable[Item]) -> None:
        with self._txn.cursor(self._database(space)) as cursor:
            cursor.putmulti(items)

    def load(self, space: str, rows: Iterable[Item]) -> int:
        refuse_reload(self._ledger, space)
        self.create(space)
        with self._txn.cursor(self._database(space)) as cursor:
            consumed, added = cursor.putmulti(rows, overwrite=False, append=True)
        if consumed != added:
            raise ProtocolError("LOAD_NOT_SORTED", space=space)
        return int(added)

    def drop(self, space: str) -> None:
        slot = self._txn.get(space.encode(), db=self._spaces)
        if slot is None:
            return
        self._free_slots().append(int(slot))
        self._txn.drop(self._slots[int(slot)], delete=False)
        self._txn.delete(space.encode(), db=self._spaces)
        self._found.pop(space, None)

    def _free_slots(self) -> list[int]:
        if self._free is None:
            with self._txn.cursor(self._spaces) as cursor:
                used = {int(slot) for _, slot in cursor.iternext()}
            self._free = [slot for slot in reversed(range(len(self._slots))) if slot not in used]
        return self._free
