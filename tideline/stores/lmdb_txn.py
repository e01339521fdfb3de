"""The transactions of the LMDB store: spaces looked up in the transaction, then read and written by slot.

What is read carries its checksum, and what is not found is shown to be absent by its neighbours: a damaged file is an
error, never another value or a smaller number (invariant 7).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tideline.errors import MissingSegmentError, ProtocolError, StoreError
from tideline.ledger import Ledger
from tideline.stores.base import Item, follow_ledger, refuse_reload
from tideline.stores.checksums import Damaged, seal, sealed, unseal, unsealed, unsealed_values

Gap = tuple[bytes, bytes]
"""Two neighbouring keys; empty where it has no end on that side."""


class LmdbSnapshot:
    """A read transaction: it is the snapshot (invariant 6). `found` are the databases of spaces looked up already."""

    def __init__(self, txn: Any, spaces: Any, slots: Sequence[Any], ledger: Ledger, found: dict[str, Any]) -> None:
        self._txn = txn
        self._spaces = spaces
        self._slots = slots
        self._ledger = ledger
        self._found = found

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    def _database(self, space: str) -> Any:
        database = self._found.get(space)
        if database is None:
            slot = self._txn.get(space.encode(), db=self._spaces)
            if slot is None:
                raise MissingSegmentError("MISSING_SPACE", space=space)
            database = self._found[space] = self._slots[int(unseal(space.encode(), slot))]
        return database

    def get(self, space: str, key: bytes) -> bytes | None:
        database = self._database(space)
        with self._txn.cursor(database) as cursor:
            after = cursor.item() if cursor.set_range(key) else None
            if after is not None and after[0] == key:
                return unseal(*after)
            self._check_absent(database, cursor, key, after)
        return None

    def get_many(self, space: str, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        wanted, database = list(keys), self._database(space)
        with self._txn.cursor(database) as cursor:
            found = unsealed_values(cursor.getmulti(wanted))
            if len(found) < len(wanted):
                gap: Gap | None = None
                for key in wanted:
                    if key in found or (gap is not None and gap[0] < key and (not gap[1] or key < gap[1])):
                        continue
                    after = cursor.item() if cursor.set_range(key) else None
                    gap = self._check_absent(database, cursor, key, after)
        return found

    def _check_absent(self, database: Any, cursor: Any, key: bytes, after: Item | None) -> Gap:
        """The gap that a key was not found in. Raises Damaged where the items beside it do not stand in their order.

        The cursor is at `after`, the first item from the key on, or nowhere where there is none.
        """
        before = cursor.item() if (cursor.last() if after is None else cursor.prev()) else None
        if before is not None:
            unseal(*before)
        if after is not None:
            unseal(*after)
        if (
            (before is not None and before[0] >= key)
            or (after is not None and after[0] <= key)
            or (before is after and self._txn.stat(database)["entries"])
        ):
            raise Damaged(f"key {key[:40].hex()} is not where its order says")
        return before[0] if before else b"", after[0] if after else b""

    def scan(self, space: str, lower: bytes | None = None, upper: bytes | None = None) -> Iterator[Item]:
        return self._scan(self._database(space), lower, upper)

    def _scan(self, database: Any, lower: bytes | None, upper: bytes | None) -> Iterator[Item]:
        entries = self._txn.stat(database)["entries"]
        with self._txn.cursor(database) as cursor:
            if not (self._seek(database, cursor, lower) if lower else cursor.first()):
                if entries and not lower:
                    raise Damaged(f"a space of {entries} keys is empty")
                return
            if upper is None:
                count = 0
                for item in unsealed(cursor.iternext()):
                    count += 1
                    yield item
                if not lower and count != entries:
                    raise Damaged(f"a space of {entries} keys holds {count}")
                return
            for item in unsealed(cursor.iternext()):
                if item[0] >= upper:
                    return
                yield item

    def _seek(self, database: Any, cursor: Any, key: bytes) -> bool:
        """Goes to the first item from a key on; whether there is one. Raises Damaged."""
        after = cursor.item() if cursor.set_range(key) else None
        if after is not None and after[0] == key:
            return True
        self._check_absent(database, cursor, key, after)
        return bool(cursor.set_range(key))

    def count(self, space: str) -> int:
        return int(self._txn.stat(self._database(space))["entries"])

    def spaces(self) -> list[str]:
        with self._txn.cursor(self._spaces) as cursor:
            return [name.decode() for name, _ in unsealed(cursor.iternext())]


class LmdbTransaction(LmdbSnapshot):
    """The write transaction; the store commits it."""

    def __init__(self, txn: Any, spaces: Any, slots: Sequence[Any], ledger: Ledger) -> None:
        super().__init__(txn, spaces, slots, ledger, {})
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
        self._txn.put(space.encode(), seal(space.encode(), b"%d" % free.pop()), db=self._spaces)

    def put(self, space: str, key: bytes, value: bytes) -> None:
        self._txn.put(key, seal(key, value), db=self._database(space))

    def put_many(self, space: str, items: Iterable[Item]) -> None:
        with self._txn.cursor(self._database(space)) as cursor:
            cursor.putmulti(sealed(items))

    def load(self, space: str, rows: Iterable[Item]) -> int:
        refuse_reload(self._ledger, space)
        self.create(space)
        with self._txn.cursor(self._database(space)) as cursor:
            consumed, added = cursor.putmulti(sealed(rows), overwrite=False, append=True)
        if consumed != added:
            raise ProtocolError("LOAD_NOT_SORTED", space=space)
        return int(added)

    def drop(self, space: str) -> None:
        slot = self._txn.get(space.encode(), db=self._spaces)
        if slot is None:
            return
        number = int(unseal(space.encode(), slot))
        self._free_slots().append(number)
        self._txn.drop(self._slots[number], delete=False)
        self._txn.delete(space.encode(), db=self._spaces)
        self._found.pop(space, None)

    def _free_slots(self) -> list[int]:
        if self._free is None:
            with self._txn.cursor(self._spaces) as cursor:
                used = {int(slot) for _, slot in unsealed(cursor.iternext())}
            self._free = [slot for slot in reversed(range(len(self._slots))) if slot not in used]
        return self._free
