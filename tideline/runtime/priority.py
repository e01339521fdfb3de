"""Giving way to other processes of the machine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

GROUP = Path("/proc/self/autogroup")


def give_way(by: int) -> None:
    """Makes this process, and what it starts from here on, nicer by so much, as `nice` has it.

    Linux first shares the processors out among sessions (`sched_autogroup_enabled`), each by a niceness of its own, and
    within them among processes. So of a session that is all of this process's, that one is set too.
    """
    os.nice(by)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # there is none where processors are shared out otherwise
            GROUP.write_text(str(os.getpriority(os.PRIO_PROCESS, 0)), "ascii")
