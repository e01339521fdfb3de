"""The embedded store: LMDB, read by any process on a consistent snapshot, written by one at a time.

LMDB's named databases are taken from a fixed set of slots, and a table in the same file says which slot
holds which space. A handle therefore means the same slot for the life of a process, and what a slot
holds is read in the transaction itself: a handle that outlived its database would read as empty, which
is a silent hole (invariant 7). It also keeps the number of handles, which LMDB never takes back, bounded
by the spaces that exist at one time.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import lmdb

from tideline.errors import StoreError
from tideline.ledger import Ledger
from tideline.stores.base import is_commit
from tideline.stores.checksums import Damaged, seal, unseal
from tideline.stores.lmdb_rewrite import use
from tideline.stores.lmdb_txn import LmdbSnapshot, LmdbTransaction

FORMAT = 2  # of the file's layout, of its keys (tideline/keys.py) and of its rows (tideline/codec.py)
MAP_SIZE = 1 << 40
MAX_SLOTS = 4096
FIRST_SLOTS = 512
SPARE_SLOTS = 256
MAX_READERS = 1024
READER_CHECK_EVERY = 64
FULL = 1 << 16  # bytes free of a disk that is full
_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.NotFoundError,
    lmdb.IncompatibleError,
    lmdb.BadTxnError,  # an operation before it found the damage
)
_WALK = """
import lmdb, os, sys
with open(os.devnull, "wb") as nothing, lmdb.open(sys.argv[1], readonly=True, max_dbs=1) as environment:
    environment.copyfd(nothing.fileno(), compact=True)
"""


class LmdbStore:
    """One environment per process and path: opening it again shares it, and the last `close` ends it."""

    _opened: ClassVar[dict[str, LmdbStore]] = {}
    _opening: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def open(
        cls,
        home: str | os.PathLike[str],
        create: bool = False,
        *,
        readonly: bool = False,
        map_size: int = MAP_SIZE,
    ) -> LmdbStore:
        """The store at `home`/store; with `create` an empty installation is made where there is none.

        `readonly` never waits for a writer. Raises StoreError for a store that is missing, cut off in
        its creation, of another format, or unreadable.
        """
        path = Path(home).absolute() / "store"
        name = os.path.realpath(path)
        with cls._opening:
            store = cls._opened.get(name)
            if store is not None and store._owner == os.getpid():
                if store.readonly and not readonly:
                    raise StoreError("STORE_READ_ONLY", path=str(home))
                store._users += 1
                return store
            store = cls(str(home), name, create, readonly, map_size)
            cls._opened[name] = store
            return store

    def __init__(self, home: str, path: str, create: bool, readonly: bool, map_size: int) -> None:
        self.home = home
        self.path = path
        self.readonly = readonly
        self._owner = os.getpid()
        self._users = 1
        self._writes = 0
        self._handles = threading.Lock()
        self._slots: list[Any] = []
        self._cached: tuple[bytes, Ledger] | None = None
        self._decoded: tuple[dict[str, Any], Ledger] | None = None
        self._last: tuple[int, Ledger, dict[str, Any]] | None = None
        if not os.path.exists(os.path.join(path, "data.mdb")) and not create:
            raise StoreError("STORE_MISSING", path=home)
        with self._faults(OSError):
            if create:
                os.makedirs(path, exist_ok=True)
            self._use = use(path)
            self._env = lmdb.open(
                path,
                map_size=map_size,
                max_dbs=MAX_SLOTS + 2,
                max_readers=MAX_READERS,
                metasync=False,
                readonly=readonly,
            )
        try:
            with self._faults():
                self._check_length()
                self._prepare(create)
        except BaseException:
            self._env.close()
            self._use.close()
            raise

    def _check_length(self) -> None:
        """Refuses a file that was cut short: who reads beyond its end is killed (SIGBUS).

        LMDB never writes pages that one transaction both took and freed, so a whole file may be short too. Another
        process finds out, by walking all that is in use.
        """
        needed = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        found = os.path.getsize(os.path.join(self.path, "data.mdb"))
        walk = [sys.executable, "-c", _WALK, self.path]
        if found < needed and subprocess.run(walk, capture_output=True, check=False).returncode:
            raise StoreError("STORE_CUT_SHORT", path=self.home, found=found, needed=needed)

    def _prepare(self, create: bool) -> None:
        if create and not self.readonly:
            self._create()
        with self._env.begin() as txn:
            empty = txn.stat(self._env.open_db(None))["entries"] == 0
        if empty:
            raise StoreError("STORE_INCOMPLETE", path=self.home)
        try:
            self._meta = self._env.open_db(b"meta", create=False)
            self._spaces = self._env.open_db(b"spaces", create=False)
        except lmdb.NotFoundError:
            raise StoreError("STORE_INCOMPLETE", path=self.home) from None
        with self._env.begin() as txn:
            named = txn.get(b"format", db=self._meta)
            if named is None:
                raise StoreError("STORE_INCOMPLETE", path=self.home)
            found = int(named) if named.isdigit() else repr(named)
            if found != FORMAT:
                raise StoreError("STORE_FORMAT", path=self.home, found=found, known=FORMAT)
            count = _slot_count(txn, self._meta)
        self._open_slots(count)
        self._env.reader_check()

    def _create(self) -> None:
        with self._env.begin(write=True) as txn:
            if txn.stat(self._env.open_db(None, txn=txn))["entries"]:
                return
            meta = self._env.open_db(b"meta", txn=txn)
            self._env.open_db(b"spaces", txn=txn)
            for slot in range(FIRST_SLOTS):
                self._env.open_db(_slot_name(slot), txn=txn)
            txn.put(b"format", str(FORMAT).encode(), db=meta)
            txn.put(b"slots", seal(b"slots", b"%d" % FIRST_SLOTS), db=meta)
            txn.put(b"ledger", _encode(Ledger.create(str(uuid.uuid4()))), db=meta)
        self._env.sync(True)

    @contextmanager
    def snapshot(self) -> Iterator[LmdbSnapshot]:
        """A read transaction; see `Snapshot`."""
        self._check_use()
        with self._faults():
            txn = self._begin_read()
            try:
                yield LmdbSnapshot(txn, self._spaces, self._slots, *self._at(txn))
            finally:
                txn.abort()

    @contextmanager
    def write(self) -> Iterator[LmdbTransaction]:
        """The write transaction; waits for the writer of any other process. See `Store.write`."""
        self._check_use()
        if self.readonly:
            raise StoreError("STORE_READ_ONLY", path=self.home)
        self._writes += 1
        with self._faults():
            if self._writes % READER_CHECK_EVERY == 0:
                self._env.reader_check()
            raw = self._begin_write()
            try:
                before = self._decode(raw)
                txn = LmdbTransaction(raw, self._spaces, self._slots, before)
                yield txn
                encoded = b"" if txn.ledger is before else _encode(txn.ledger)
                if encoded:
                    raw.put(b"ledger", encoded, db=self._meta)
                raw.commit()
            except BaseException:
                raw.abort()
                raise
            if encoded:
                self._cached = encoded, txn.ledger
                if not is_commit(before, txn.ledger):
                    self._env.sync(True)

    def check(self) -> None:
        """Walks all that the ledger names. Raises StoreError STORE_DAMAGED, MissingSegmentError."""
        with self.snapshot() as snapshot:
            rows = {segment.space: segment.rows for segment in snapshot.ledger.segments.values()}
            for space in snapshot.ledger.spaces():
                count = sum(1 for _ in snapshot.scan(space))
                if count != rows.get(space, count):
                    raise Damaged(f"{space} holds {count} rows, the ledger says {rows[space]}")

    def sync(self) -> None:
        """Returns when everything committed is on disk."""
        self._check_use()
        with self._faults():
            self._env.sync(True)

    def usage(self) -> dict[str, Any]:
        """See `Store.usage`. Where `behind` stays high, a reader holds a snapshot and the file grows."""
        self._check_use()
        with self._faults(OSError):
            told = self._env.info()
            held = [(int(txn), int(pid)) for pid, _, txn in _readers(self._env.readers())]
            oldest, pid = min(held, default=(told["last_txnid"], None))
            return {
                "bytes": os.stat(os.path.join(self.path, "data.mdb")).st_blocks * 512,
                "used": (told["last_pgno"] + 1) * self._env.stat()["psize"],
                "map": told["map_size"],
                "readers": told["num_readers"],
                "behind": max(told["last_txnid"] - oldest, 0),
                "pid": pid,
            }

    def close(self) -> None:
        """Ends one use; the environment closes with the last."""
        with self._opening:
            self._users -= 1
            if self._users == 0:
                self._opened.pop(self.path, None)
                if self._owner == os.getpid():
                    self._env.close()
                    self._use.close()

    def __enter__(self) -> LmdbStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin_read(self) -> Any:
        while True:
            known = len(self._slots)
            try:
                txn = self._env.begin()
            except lmdb.ReadersFullError:
                self._env.reader_check()
                txn = self._env.begin()
            if self._last is not None and self._last[0] == txn.id():
                return txn
            count = _slot_count(txn, self._meta)
            if count <= known:
                return txn
            txn.abort()
            self._open_slots(count)

    def _begin_write(self) -> Any:
        """A write transaction that has every slot's handle, and slots to spare."""
        while True:
            known = len(self._slots)
            txn = self._env.begin(write=True)
            count = _slot_count(txn, self._meta)
            used = txn.stat(self._spaces)["entries"]
            if count <= known and (count - used >= SPARE_SLOTS or count >= MAX_SLOTS):
                return txn
            txn.abort()
            if count > known:
                self._open_slots(count)
            else:
                self._grow(min(2 * count, MAX_SLOTS))

    def _grow(self, count: int) -> None:
        with self._handles, self._env.begin(write=True) as txn:
            current = _slot_count(txn, self._meta)
            for slot in range(current, count):
                self._env.open_db(_slot_name(slot), txn=txn)
            txn.put(b"slots", seal(b"slots", b"%d" % max(current, count)), db=self._meta)
        self._open_slots(max(current, count))

    def _open_slots(self, count: int) -> None:
        """Opens handles in a transaction of their own: they outlive it, and every later one may use them."""
        with self._handles:
            missing = range(len(self._slots), count)
            if self.readonly:
                self._slots.extend(self._env.open_db(_slot_name(slot), create=False) for slot in missing)
            elif missing:
                with self._env.begin(write=True) as txn:
                    opened = [self._env.open_db(_slot_name(slot), txn=txn, create=False) for slot in missing]
                self._slots.extend(opened)

    def _at(self, txn: Any) -> tuple[Ledger, dict[str, Any]]:
        """The ledger that a read transaction sees, and the databases of the spaces that were looked up in it.

        Two read transactions of one id see the same.
        """
        id, last = txn.id(), self._last
        if last is None or last[0] != id:
            last = self._last = (id, self._decode(txn), {})
        return last[1], last[2]

    def _decode(self, txn: Any) -> Ledger:
        raw = bytes(txn.get(b"ledger", b"", db=self._meta))
        cached = self._cached
        if cached is None or cached[0] != raw:
            data = json.loads(unseal(b"ledger", raw))
            ledger = Ledger.from_json(data, self._decoded)
            self._decoded = data, ledger
            cached = self._cached = raw, ledger
        return cached[1]

    def _check_use(self) -> None:
        if self._owner != os.getpid():
            raise StoreError("STORE_FORKED", path=self.home, owner=self._owner, pid=os.getpid())
        if self._users <= 0:
            raise StoreError("STORE_CLOSED", path=self.home)

    @contextmanager
    def _faults(self, *others: type[Exception]) -> Iterator[None]:
        kinds: tuple[type[Exception], ...] = (lmdb.Error, *others)
        try:
            yield
        except Damaged as damage:
            raise StoreError("STORE_DAMAGED", path=self.home, reason=damage.params["reason"]) from damage
        except kinds as fault:
            raise StoreError(_condition(fault, self.path), path=self.home, reason=str(fault)) from fault


def _condition(fault: Exception, path: str) -> str:
    if isinstance(fault, lmdb.MapFullError):
        return "STORE_MAP_FULL"
    if any(os.strerror(code) in str(fault) for code in (errno.ENOSPC, errno.EDQUOT)):
        return "STORE_DISK_FULL"
    if os.strerror(errno.EIO) in str(fault) and shutil.disk_usage(path).free < FULL:  # LMDB's word for a short write
        return "STORE_DISK_FULL"
    if isinstance(fault, lmdb.Error) and os.strerror(errno.EAGAIN) in str(fault):
        return "STORE_OTHER_PIDS"
    return "STORE_DAMAGED" if isinstance(fault, _DAMAGE) else "STORE_FAILED"


def _readers(table: str) -> Iterator[tuple[str, str, str]]:
    """(pid, thread, transaction) of each reader that holds a snapshot now, from LMDB's table of them."""
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) == 3 and words[2].isdigit():
            yield words[0], words[1], words[2]


def _slot_name(slot: int) -> bytes:
    return b"slot%04d" % slot


def _slot_count(txn: Any, meta: Any) -> int:
    return int(unseal(b"slots", txn.get(b"slots", b"", db=meta)))


def _encode(ledger: Ledger) -> bytes:
    return seal(b"ledger", json.dumps(ledger.to_json(), separators=(",", ":")).encode())
