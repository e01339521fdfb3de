"""Named points before and after every durable step of the layers.

In production nothing happens at them. Where the environment has `TIDELINE_KILL_AT=POINT`, the process kills itself as
it reaches that point; where it has `TIDELINE_KILL_AT=@FILE`, as it reaches the point that the file names by then, which
is removed first. The simulator sets a hook, by which it decides who goes on from here, or ends.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

POINTS = {
    "speed.fence": "before the speed layer takes its fence",
    "speed.start": "the fence is taken, nothing is read",
    "speed.read": "Spark has planned a range, nothing is folded",
    "speed.commit": "states are folded, not committed",
    "speed.done": "states and cut are committed, nobody is told",
    "batch.seal": "before the batch layer takes its fence and seals",
    "batch.sealed": "the generation is closed",
    "archive.write": "the records are read and decoded, not written",
    "archive.written": "the master holds them, the ledger does not know it",
    "archive.rewrite": "the master is to be decoded anew",
    "archive.rewritten": "the master is decoded anew",
    "archive.done": "the ledger knows the archived cut",
    "segment.allot": "before the segments get their numbers",
    "segment.write": "a segment has its number, nothing is written",
    "segment.load": "a segment is in its table, a part of it to be loaded",
    "segment.done": "a segment is loaded whole",
    "publish": "everything is built, nothing published",
    "publish.done": "the version is published",
    "expire": "before what a version no longer names is removed",
    "expire.done": "the run is at its end",
}
RECOVERY_POINTS = {
    "recover.fence": "before a recovery takes both fences",
    "archive.restore": "what was archived after the last version is to be taken back",
    "archive.fence": "what others planned before is to be refused",
    "archive.lose": "a range that is gone is to be entered in the master",
    "recover": "the master is mended, the ledger does not know it",
    "recover.done": "the ledger is back at the last version",
}
"""Those of `tideline recover`, which also reaches the batch layer's."""
REBASE_POINTS = {
    "rebase.fence": "before a move to new topics takes both fences",
    "rebase.move": "the offsets in a master are to be moved",
    "rebase": "the masters are moved, the ledger is not",
}
"""Those of `tideline recover --rebase`, which goes on as a recovery."""
ERASE_POINTS = {
    "erase.register": "before a person's hash is entered",
    "erase.registered": "the hash is in force, nothing is erased yet",
    "erase.published": "views are published without the person; older versions are gone",
    "erase.checkpoint": "the master's log has a checkpoint, older entries and files are there",
    "erase.purged": "the master and the segments hold nothing old",
    "erase.store": "the store is written anew, beside the old one",
    "erase.stored": "the store is the new one; scratch files and logs are as they were",
    "erase.cleared": "nothing is left; not scanned",
}
"""Those of `tideline erase`, which also reaches the batch layer's."""
Hook = Callable[[str], None]


def _from_environment() -> Hook | None:
    wanted = os.environ.get("TIDELINE_KILL_AT")
    if not wanted:
        return None

    file = Path(wanted[1:]) if wanted.startswith("@") else None

    def kill(point: str) -> None:
        if point == (_content(file) if file else wanted):
            if file:
                file.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)

    return kill


def _content(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except FileNotFoundError:
        return ""


_hook = _from_environment()


def reach(point: str) -> None:
    """Marks a place in a layer or a command; `point` is one of those above."""
    if _hook is not None:
        _hook(point)


def set_hook(hook: Hook | None) -> Hook | None:
    """Calls `hook` at every point from now on; the hook before."""
    global _hook
    before, _hook = _hook, hook
    return before
