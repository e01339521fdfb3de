"""The master dataset of one source: what is archived of it, and under which declaration.

The table's own log is the truth of the archived cut (invariant 4): each commit says which range it holds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from typing import Any

from batch_layer.parts import MasterTable
from tideline.cut import Cut
from tideline.errors import DefinitionSetError, OutsideError, ProtocolError
from tideline.held import Held, find_held
from tideline.ledger import Loss
from tideline.points import reach
from tideline.runtime.logs import fields
from tideline.source import SourceDefinition

log = logging.getLogger(__name__)
FORMAT = 1
CHUNK = 1_000_000  # offsets of one commit


class Master:
    """Copies ranges of the log into a table, and knows how far it got.

    Every commit says after which version it was planned, and none is made once another was planned as late: so two
    processes, each of which believes that the table is its own, cannot both write what follows.
    """

    def __init__(self, table: MasterTable, source: SourceDefinition, origin: Cut) -> None:
        self.table = table
        self.source = source
        self.topic = source.topic
        self.origin = origin.restrict([source.topic])

    @property
    def archived(self) -> Cut:
        """The archived cut."""
        return self._head().end(self.origin)

    def is_current(self, known: Cut) -> bool:
        """Whether all that was committed after `known` was decoded as the source is declared now.

        Pins the version that was looked at: another process, which believes that the table is its own, may go on
        writing to it, and what it writes is found here by the next run. Raises ProtocolError ARCHIVE_TORN where ranges
        do not join on, as when such a process wrote to a table that a recovery had put back meanwhile.
        """
        if (version := self._head().version) >= 0:
            self.table.pin(version)
        for number, (_, metadata, joins) in enumerate(self._ranges()):
            if not joins:
                raise self._torn(metadata)
            if metadata["source"] != self.source.fingerprint:
                return False
            if metadata.get("whole") or (number and known.covers(Cut.from_json(metadata["end"]))):
                break
        return True

    def _ranges(self) -> Iterator[tuple[int, Mapping[str, Any], bool]]:
        """Version and metadata of the commits that hold a range, newest first, and whether each joins on."""
        newer: tuple[int, Mapping[str, Any]] | None = None
        for version, metadata in self.table.commits():
            if "end" in metadata:
                if newer:
                    begin, end = newer[1]["begin"], metadata["end"]
                    yield *newer, newer[1].get("whole", False) or Cut.from_json(begin) == Cut.from_json(end)
                newer = version, metadata
        if newer:
            yield *newer, True

    def _find_torn(self) -> Mapping[str, Any] | None:
        """The last range that does not join on, of those that the table is made of."""
        for _, metadata, joins in self._ranges():
            if not joins:
                return metadata
            if metadata.get("whole"):
                break
        return None

    def _check_joins(self) -> None:
        if torn := self._find_torn():
            raise self._torn(torn)

    def _torn(self, metadata: Mapping[str, Any]) -> ProtocolError:
        begin, end = Cut.from_json(metadata["begin"]), Cut.from_json(metadata["end"])
        return ProtocolError(
            "ARCHIVE_TORN",
            f"the master of {self.source.name} holds {begin} to {end}, which does not follow what is before it",
            "two processes wrote to it: let one go on, and run `tideline recover`",
            source=self.source.name,
        )

    def _held(self) -> Held:
        return find_held(self.table.commits())

    def _head(self) -> Held:
        """What it holds, where this is the master that the ledger means."""
        head = self._held()
        if self._moved(head):
            raise OutsideError(
                "MASTER_MOVED",
                f"the master of {self.source.name} begins at {Cut.from_json(head.metadata['origin'])}, "
                f"not at {self.origin}",
                "a move to new topics was broken off: run `tideline recover --rebase` again",
                source=self.source.name,
            )
        if head.metadata.get("format", FORMAT) > FORMAT:
            raise OutsideError(
                "MASTER_FORMAT",
                f"the master of {self.source.name} has format {head.metadata['format']}, {FORMAT} is known",
                "use the release that wrote it, or a newer one",
                source=self.source.name,
            )
        return head

    def archive(self, end: Cut, check: Callable[[], None]) -> int:
        """Copies what lies between the archived cut and `end`; how many records. `check` may refuse before a commit."""
        total, head = 0, self._head()
        while not (begin := head.end(self.origin)).reaches(self.topic, end):
            stop = _chunk(self.topic, begin, end)
            metadata = {**self._metadata(head, begin), "end": begin.advance(stop).to_json()}
            rows = self.table.append(begin, stop, metadata, check)
            total += rows
            reach("archive.written")
            told = fields(layer="batch", step="archive", topic=self.topic, rows=rows, begin=begin, cut=stop)
            log.info("archived %s", self.source.name, extra=told)
            before, head = head, self._head()
            if head.version == before.version:
                raise ProtocolError(
                    "ARCHIVE_LOST",
                    f"the master holds {begin} after archiving up to {stop}",
                    "check the disk and run the batch layer again",
                    source=self.source.name,
                )
            ours = (head.version, head.metadata.get("after")) == (before.version + 1, before.version)
            if (not ours or head.metadata.get("whole")) and not self.is_current(self.origin):
                raise self.changed()
        return total

    def losses(self) -> list[Loss]:
        """What is missing in the master, as its log says."""
        return [Loss.from_json(loss) for loss in self._head().metadata.get("losses", ())]

    def lose(self, starts: Cut) -> None:
        """Goes on at `starts` where the archived cut lies before it; what lies between is entered as lost."""
        head = self._head()
        begin = head.end(self.origin)
        lost = [
            Loss(self.topic, partition, begin.offset(self.topic, partition), start, "expired")
            for partition, start in starts.offsets(self.topic).items()
            if begin.offset(self.topic, partition) < start
        ]
        if not lost:
            return
        reach("archive.lose")
        losses = [*head.metadata.get("losses", ()), *(loss.to_json() for loss in lost)]
        self._skip(head, begin.advance(starts.restrict([self.topic])), losses=losses)

    def fence(self) -> None:
        """Whatever was planned before, and is not written yet, is refused from here on."""
        head = self._head()
        if head.metadata:
            reach("archive.fence")
            self._skip(head, head.end(self.origin))

    def _skip(self, head: Held, end: Cut, **more: Any) -> None:
        """Commits no records: those there are stay declared as they were."""
        more["source"] = head.metadata.get("source", self.source.fingerprint)
        self.table.skip({**self._metadata(head, head.end(self.origin)), "end": end.to_json(), "records": 0, **more})

    def restore(self, cut: Cut, starts: Cut) -> None:
        """Takes back what was archived after `cut`, if Kafka still holds all of it: to be archived again.

        What does not join on is taken back in any case.
        """
        version, end = self._before(cut)
        if not self._find_torn() and (end == self.archived or not end.covers(starts.restrict([self.topic]))):
            return
        reach("archive.restore")
        changed = {"source": self._declared(version), "end": end.to_json()}
        self.table.restore(version, {**self._all(self._head()), **changed})

    def _before(self, cut: Cut) -> tuple[int | None, Cut]:
        """The newest commit that holds nothing after `cut`, and joins on; and where it ends."""
        for version, metadata, joins in self._ranges():
            if joins and cut.covers(end := Cut.from_json(metadata["end"])):
                return version, end
            if "shift" in metadata:  # what is before it has other places
                break
        return None, self.origin

    def _declared(self, version: int | None) -> str:
        """The declaration under which everything up to a commit was decoded; none where there were several."""
        found = set()
        for number, metadata in self.table.commits():
            if version is not None and number <= version and "end" in metadata:
                found.add(metadata["source"])
                if metadata.get("whole"):
                    break
        return str(found.pop()) if len(found) == 1 else self.source.fingerprint if not found else ""

    @property
    def is_moved(self) -> bool:
        """Whether the history begins elsewhere than the ledger says: the table was moved, the ledger was not."""
        return self._moved(self._held())

    def _moved(self, head: Held) -> bool:
        return bool(head.metadata) and Cut.from_json(head.metadata["origin"]) != self.origin

    @property
    def shift(self) -> dict[int, int]:
        """What the move that was the last commit added to the offsets of each partition."""
        return {int(partition): offsets for partition, offsets in self._held().metadata["shift"].items()}

    def move(self, shift: Mapping[int, int]) -> None:
        """Adds to the offsets of each partition. Who believes that the history begins where it did is refused then."""
        head = self._head()
        if not head.metadata:
            return
        self._check_joins()
        origin = self.origin.shift(self.topic, shift).to_json()
        losses = [loss.shift(shift).to_json() for loss in self.losses()]
        reach("rebase.move")
        told = {"origin": origin, "begin": origin, "losses": losses, "shift": shift}
        self.table.rewrite({**self._all(head), **told}, shift)
        if not self.is_moved:
            raise ProtocolError(
                "ARCHIVE_LOST",
                f"the master of {self.source.name} begins at {self.origin} after it was moved",
                "let no other process write to it, and run `tideline recover --rebase` again",
                source=self.source.name,
            )

    def redecode(self) -> int:
        """Decodes every record again as the source is declared now; how many. The raw columns stay as they are."""
        head = self._head()
        if not head.metadata:
            return 0
        self._check_joins()
        reach("archive.rewrite")
        count = self.table.rewrite(self._all(head))
        reach("archive.rewritten")
        later = [metadata for version, metadata in self._later(head) if metadata.get("whole")]
        if not later or later[0]["source"] != self.source.fingerprint:
            raise self.changed()
        return count

    def changed(self) -> DefinitionSetError:
        """The error of a run that finds its master decoded under another declaration."""
        return DefinitionSetError(
            "MASTER_CHANGED",
            f"somebody else wrote to the master of {self.source.name} under another declaration",
            "run one batch layer",
            source=self.source.name,
        )

    def _later(self, head: Held) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """The commits since, newest first."""
        return takewhile(lambda commit: commit[0] > head.version, self.table.commits())

    def _all(self, head: Held) -> dict[str, Any]:
        """Of a commit that is all of the table from its origin on, whatever was before."""
        return {**self._metadata(head, self.origin), "whole": True}

    def _metadata(self, head: Held, begin: Cut) -> dict[str, Any]:
        losses = head.metadata.get("losses")
        return {
            "format": FORMAT,
            "source": self.source.fingerprint,
            "origin": self.origin.to_json(),
            "begin": begin.to_json(),
            "after": head.version,
            **({"losses": losses} if losses else {}),
            **({"erased": self.source.erased.to_json()} if self.source.erased else {}),
        }


def _chunk(topic: str, begin: Cut, end: Cut) -> Cut:
    """The end of the first chunk of [begin, end): as much of every partition as fits."""
    partitions = end.offsets(topic)
    wanted = {p: max(0, offset - begin.offset(topic, p)) for p, offset in partitions.items()}
    share = min(1.0, CHUNK / max(1, sum(wanted.values())))
    return begin.advance(Cut({topic: {p: begin.offset(topic, p) + -int(-n * share // 1) for p, n in wanted.items()}}))
