"""What every actor around the ledger shares: the store, the log, and a verdict on what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from protocol_log import ModelLog, Record

from tideline.cut import Cut
from tideline.errors import TidelineError
from tideline.ledger import Ledger
from tideline.stores.base import Store, WriteTransaction, is_commit
from tideline.stores.memory import MemoryStore


class ProtocolBroken(AssertionError):
    """An invariant that does not hold."""


class Crash(Exception):
    """The process is gone in the middle of a transaction."""


def require(condition: bool, what: str, *details: object) -> None:
    if not condition:
        raise ProtocolBroken(f"{what}: {', '.join(map(str, details))}" if details else what)


class Site:
    """One installation: its store, its log, and the commits that are not on disk yet.

    `master` is how far the archive goes, `lost` a record that it lost. Unless it is `strict`, answers
    alone are judged, not what the ledger says and refuses.
    """

    strict = True

    def __init__(self, store: Store) -> None:
        self.store = store
        self.log = ModelLog()
        self.master = Cut()
        self.lost: Record | None = None
        self.unsynced: list[Any] = []
        self.dirty = True
        self.refused: dict[str, int] = {}

    def ledger(self) -> Ledger:
        with self.store.snapshot() as snapshot:
            return snapshot.ledger

    @contextmanager
    def write(self, crash: bool = False) -> Iterator[WriteTransaction]:
        """A write transaction; with `crash` it ends in the middle and leaves nothing behind."""
        before = self.store.state if isinstance(self.store, MemoryStore) else None
        self.dirty = True
        try:
            with self.store.write() as txn:
                yield txn
                if crash:
                    raise Crash
        except Crash:
            return
        if before is not None and isinstance(self.store, MemoryStore):
            durable = not is_commit(before.ledger, self.store.state.ledger)
            self.unsynced = [] if durable else [*self.unsynced, before]

    def change(self, step: Callable[[Ledger], Ledger], crash: bool = False) -> Ledger:
        with self.write(crash) as txn:
            txn.put_ledger(step(txn.ledger))
            return txn.ledger

    @contextmanager
    def expecting(self, *refusals: type[TidelineError] | None) -> Iterator[Callable[[], None]]:
        """The step must raise one of `refusals`; where None is among them it may reach `allowed`."""
        kinds = tuple(kind for kind in refusals if kind is not None)
        reached = False

        def allowed() -> None:
            nonlocal reached
            reached = True
            require(None in refusals or not self.strict, "the protocol let pass what it must refuse", kinds)

        try:
            yield allowed
        except kinds as refusal:
            self.refused[refusal.condition] = self.refused.get(refusal.condition, 0) + 1
        except TidelineError as refusal:
            if self.strict:
                raise ProtocolBroken(f"refused, against the model: {refusal}") from refusal
        else:
            require(reached or None in refusals or not self.strict, "the step ended without a refusal", kinds)
