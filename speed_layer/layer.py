"""The speed layer: every micro-batch is decoded once, folded for all views, and committed with its cut.

A micro-batch is a function of its range, the definitions and the ids before the range. Its states and the new cut enter
the store in one transaction (invariant 2), so it does not matter how often it runs: what is in already is skipped, a
hole is an error.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tideline.cut import Cut
from tideline.errors import DefinitionSetError, StaleCommitError
from tideline.ledger import Generation, Ledger, Log
from tideline.merge import merge_into
from tideline.plans import Folded, SourcePlan, topics
from tideline.points import reach
from tideline.quarantine import failing, may_be_a_views
from tideline.retention import check_end, check_held
from tideline.runtime.logs import fields
from tideline.stores import Store, WriteTransaction

log = logging.getLogger(__name__)
_RETRIES = 10
Parts = list[tuple[SourcePlan, Folded]]


class Folder(Protocol):
    """What reads the log and folds: Spark, or a simulation."""

    def topic_ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        """The ids by which Kafka knows topics now."""
        ...

    def log_bounds(self, topics: Iterable[str]) -> tuple[Cut, Cut]:
        """Where the log begins and ends now."""
        ...

    def start(self, ledger: Ledger) -> None:
        """Forgets every id, and takes in those before the ledger's committed cut."""
        ...

    def folded(self, ledger: Ledger, start: Cut, stop: Cut, views: Collection[str]) -> Parts:
        """The records of [start, stop) folded for these views of the open generation, source by source."""
        ...

    def committed(self) -> None:
        """What was folded last is merged: its ids count from now on, until the next `start`."""
        ...


@dataclass(frozen=True)
class Committed:
    """What a micro-batch left: its range, the states written, the seconds it took from reading to commit."""

    begin: Cut
    end: Cut
    states: int
    seconds: float


@dataclass(frozen=True)
class Ready:
    """A micro-batch that is folded and not committed.

    [begin, end) is what was asked for, [start, stop) the part of it that was not in the store at this ledger; `began`
    is when the reading of it began, `token` the fence that it was read under.
    """

    began: float
    token: int
    begin: Cut
    end: Cut
    ledger: Ledger
    start: Cut
    stop: Cut
    folded: Parts


class SpeedLayer:
    """Folds micro-batches into the open generation; holds the speed fence from `start` on."""

    def __init__(self, store: Store, folder: Folder, on_commit: Callable[[Committed], None] = lambda _: None) -> None:
        self.store = store
        self.folder = folder
        self.on_commit = on_commit
        self._token = 0

    def start(self) -> Cut:
        """Takes the fence; the cut at which to read on. Raises TopicRecreatedError, LostLogError."""
        reach("speed.fence")
        with self.store.write() as txn:
            ledger, self._token = txn.ledger.take_fence("speed")
            txn.put_ledger(ledger)
        reach("speed.start")
        self.check_log(ledger)
        self.folder.start(ledger)
        log.info(
            "the speed layer goes on at its cut",
            extra=fields(layer="speed", cut=ledger.committed, generation=ledger.open.id, fence=self._token),
        )
        return ledger.committed

    def check_log(self, ledger: Ledger) -> None:
        """Raises TopicRecreatedError or LostLogError where the log cannot be read on at the committed cut."""
        self.check_topics(ledger)
        starts, ends = self.folder.log_bounds(topics(ledger))
        for topic in topics(ledger):
            check_held(topic, ledger.committed, ends, starts, ends)
            for partition, known in ledger.committed.offsets(topic).items():
                check_end(topic, partition, known, ends)

    def told(self) -> dict[str, Any]:
        """What a line of the log says of where the layer stands."""
        with self.store.snapshot() as snapshot:
            ledger = snapshot.ledger
        return fields(layer="speed", cut=ledger.committed, generation=ledger.open.id)

    def check_topics(self, ledger: Ledger) -> None:
        """Raises TopicRecreatedError where a topic is no longer the one that the ledger knows (invariant 7)."""
        ledger.check_topics(self.folder.topic_ids(topics(ledger)))

    def process(self, begin: Cut, end: Cut) -> None:
        """Reads, folds and commits the part of [begin, end) that is not in the store yet; see `fold` and `commit`."""
        self.commit(self.fold(begin, end))

    def fold(self, begin: Cut, end: Cut, known: Ledger | None = None) -> Ready:
        """Reads and folds the part of [begin, end) that is not in the store yet; views that fail at it are quarantined.

        `known` is the ledger where the store does not show it yet, as it is still writing what was merged before.
        Raises GapError where the range begins after the committed cut, DefinitionSetError.
        """
        began = time.monotonic()
        for _ in range(_RETRIES):
            reach("speed.read")
            with self.store.snapshot() as snapshot:
                ledger, known = known or snapshot.ledger, None
            start, stop = ledger.next_range(begin, end)
            try:
                folded = self.folder.folded(ledger, start, stop, ledger.open.definitions)
            except Exception as error:  # noqa: BLE001 - raised again where it is not a view's
                self._blame(error, ledger, start, stop)
            else:
                return Ready(began, self._token, begin, end, ledger, start, stop, folded)
        raise _unstable()

    def commit(self, ready: Ready, merged: Callable[[Ledger], object] = lambda _: None) -> None:
        """Commits what was folded last, and folds it anew where the ledger has changed meanwhile.

        Tells `merged` the ledger after it once the states are merged, and only to be written: the next fold may begin
        then. Where that writing fails the layer has to `start` again. Raises FenceError where another speed layer took
        over, or this one has started again since; DefinitionSetError.
        """
        for _ in range(_RETRIES):
            try:
                self.check_topics(ready.ledger)
                reach("speed.commit")
                states = self._commit(ready, merged)
            except (DefinitionSetError, StaleCommitError) as change:
                log.info("planning the micro-batch again: %s", change, extra=self.told())
            except Exception as error:  # noqa: BLE001 - raised again where it is not a view's
                self._blame(error, ready.ledger, ready.start, ready.stop)
            else:
                reach("speed.done")
                self.on_commit(Committed(ready.start, ready.stop, states, time.monotonic() - ready.began))
                return
            ready = replace(self.fold(ready.begin, ready.end), began=ready.began, token=ready.token)
        raise _unstable()

    def _commit(self, ready: Ready, merged: Callable[[Ledger], object]) -> int:
        folded, definitions = ready.folded, ready.ledger.open.definitions
        counts: Log = {plan.source.topic: part.log for plan, part in folded if plan.current}
        rejects = {view: n for _, part in folded for view, n in part.rejects.items()}
        with self.store.write() as txn:
            after = txn.ledger.commit(ready.token, ready.start, ready.stop, definitions, counts, rejects)
            written = _merge(txn, after.open, folded)
            txn.put_ledger(after)
            self.folder.committed()
            merged(after)
        return written

    def _blame(self, error: Exception, ledger: Ledger, start: Cut, stop: Cut) -> None:
        """Puts the views that an error comes from into quarantine. Raises it where it cannot be a view's."""
        if not may_be_a_views(error):
            raise error
        with contextlib.suppress(DefinitionSetError):
            self._quarantine(ledger, start, stop, error)

    def _quarantine(self, ledger: Ledger, start: Cut, stop: Cut, error: Exception) -> None:
        """Folds and merges view by view, writing nothing, and puts those that fail into quarantine."""

        def attempt(views: tuple[str, ...]) -> None:
            folded = self.folder.folded(ledger, start, stop, views)
            self.check_topics(ledger)
            with contextlib.suppress(_NotWritten), self.store.write() as txn:
                if txn.ledger.open != ledger.open:
                    raise DefinitionSetError("GENERATION_CHANGED", generation=ledger.open.id)
                _merge(txn, ledger.open, folded)
                raise _NotWritten

        failed = failing(ledger.open.definitions, attempt, error)
        with self.store.write() as txn:
            txn.put_ledger(txn.ledger.quarantine("speed", self._token, failed, time.time()))
        for view, reason in failed.items():
            log.error("view %s is quarantined: %s", ledger.definition(view)["name"], reason, extra=self.told())


def _unstable() -> DefinitionSetError:
    return DefinitionSetError(
        "DEFINITIONS_UNSTABLE",
        f"the definitions changed during each of {_RETRIES} attempts",
        "apply catalogs less often",
        attempts=_RETRIES,
    )


class _NotWritten(Exception):
    """Undoes a transaction that was only tried."""


def _merge(txn: WriteTransaction, generation: Generation, folded: Parts) -> int:
    """Merges what was folded into a generation; how many states."""
    written = 0
    for plan, part in folded:
        for view in plan.views:
            states: list[Any] = part.rows.get(view.fingerprint, [])
            merge_into(txn, generation.space(view.fingerprint), view, states)
            written += len(states)
    return written
