"""The master dataset of one source: what is archived of it, and under which declaration.

The table's own log is the truth of the archived cut (invariant 4): each commit says which range it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from batch_layer.parts import MasterTable
from tideline.cut import Cut
from tideline.errors import OutsideError, ProtocolError
from tideline.points import reach
from tideline.source import SourceDefinition

FORMAT = 1
CHUNK = 1_000_000  # offsets of one commit


class Master:
    """Copies ranges of the log into a table, and knows how far it got."""

    def __init__(self, table: MasterTable, source: SourceDefinition, origin: Cut) -> None:
        self.table = table
        self.source = source
        self.topic = source.topic
        self.origin = origin.restrict([source.topic])

    @property
    def archived(self) -> Cut:
        """The archived cut."""
        head = self._head()
        return Cut.from_json(head["end"]) if head else self.origin

    def is_current(self, known: Cut) -> bool:
        """Whether all that was committed after `known` was decoded as the source is declared now.

        Pins the version that was looked at: another process, which believes that the table is its own, may go on
        writing to it, and what it writes is found here by the next run.
        """
        for number, (version, metadata) in enumerate(self.table.commits()):
            if not number:
                self.table.pin(version)
            if "end" not in metadata:
                continue
            if metadata["source"] != self.source.fingerprint:
                return False
            if metadata["begin"] == self.origin.to_json() or known.covers(Cut.from_json(metadata["end"])):
                break
        return True

    def _head(self) -> Mapping[str, Any]:
        head = next((metadata for _, metadata in self.table.commits() if "end" in metadata), {})
        if head and head["format"] > FORMAT:
            raise OutsideError(
                "MASTER_FORMAT",
                f"the master of {self.source.name} has format {head['format']}, {FORMAT} is known",
                "use the release that wrote it, or a newer one",
                source=self.source.name,
            )
        return head

    def archive(self, end: Cut, check: Callable[[], None]) -> int:
        """Copies what lies between the archived cut and `end`; how many records. `check` may refuse before a commit."""
        total, begin = 0, self.archived
        while not begin.reaches(self.topic, end):
            stop = _chunk(self.topic, begin, end)
            metadata = {**self._metadata(begin), "end": begin.advance(stop).to_json()}
            total += self.table.append(begin, stop, metadata, check)
            reach("archive.written")
            before, begin = begin, self.archived
            if begin == before:
                raise ProtocolError(
                    "ARCHIVE_LOST",
                    f"the master holds {begin} after archiving up to {stop}",
                    "check the disk and run the batch layer again",
                    source=self.source.name,
                )
        return total

    def redecode(self) -> int:
        """Decodes every record again as the source is declared now; how many. The raw columns stay as they are."""
        if not self._head():
            return 0
        reach("archive.rewrite")
        count = self.table.rewrite(self._metadata(self.origin))
        reach("archive.rewritten")
        return count

    def _metadata(self, begin: Cut) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "source": self.source.fingerprint,
            "origin": self.origin.to_json(),
            "begin": begin.to_json(),
            **({"erased": self.source.erased.to_json()} if self.source.erased else {}),
        }


def _chunk(topic: str, begin: Cut, end: Cut) -> Cut:
    """The end of the first chunk of [begin, end): as much of every partition as fits."""
    partitions = end.offsets(topic)
    wanted = {p: max(0, offset - begin.offset(topic, p)) for p, offset in partitions.items()}
    share = min(1.0, CHUNK / max(1, sum(wanted.values())))
    return begin.advance(Cut({topic: {p: begin.offset(topic, p) + -int(-n * share // 1) for p, n in wanted.items()}}))
