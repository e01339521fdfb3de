"""The range of a micro-batch, from Spark's own offset log.

With `read_committed` a range can hold no record at all, so a range is never read off the records (invariant 2).
"""

from __future__ import annotations

import json
from pathlib import Path

from tideline.cut import Cut
from tideline.errors import ProtocolError


class OffsetLog:
    """The offset log of one run of the query: `start` is where its first micro-batch begins."""

    def __init__(self, checkpoint: Path, start: Cut) -> None:
        self._folder = checkpoint / "offsets"
        self._start = start

    def range(self, batch_id: int) -> tuple[Cut, Cut]:
        """Where a micro-batch begins and ends. Raises ProtocolError where the log has no entry for it."""
        begin = self._start if batch_id == 0 else self._start.advance(self._entry(batch_id - 1))
        return begin, begin.advance(self._entry(batch_id))

    def _entry(self, batch_id: int) -> Cut:
        path = self._folder / str(batch_id)
        try:
            version, _, offsets = path.read_text("utf-8").split("\n")[:3]
        except (OSError, ValueError) as error:
            raise ProtocolError(
                "NO_OFFSET_ENTRY",
                f"the offset log holds no entry for micro-batch {batch_id}",
                "start the speed layer again; it resumes from the ledger",
                path=str(path),
            ) from error
        if version != "v1":
            raise ProtocolError(
                "OFFSET_LOG_FORMAT",
                f"the offset log has format {version}, v1 is known",
                "run the Spark release that Tideline asks for",
                path=str(path),
            )
        return Cut.from_json(json.loads(offsets))
