"""A process that gives way does so to every other of its machine, also where sessions come before processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tideline.runtime.priority import GROUP

TOLD = """
import os
from tideline.runtime.priority import GROUP, give_way
give_way(7)
print(os.getpriority(os.PRIO_PROCESS, 0), GROUP.read_text() if GROUP.exists() else "")
"""

NICER = str(min(os.getpriority(os.PRIO_PROCESS, 0) + 7, 19))


def told(own_session: bool) -> list[str]:
    """The niceness of a process that gave way by 7, and that of its session."""
    command = [sys.executable, "-c", TOLD]
    output = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=own_session).stdout
    return [word for word in output.split() if not word.startswith(("/", "nice"))]


def of_this_session() -> list[str]:
    """The niceness of this session; none without such sessions, and none in that of the machine's first process."""
    return GROUP.read_text().split()[-1:] if GROUP.exists() else []


def test_a_process_that_has_a_session_of_its_own_makes_the_session_nice() -> None:
    if not GROUP.exists():
        pytest.skip("this kernel does not share processors out among sessions")
    assert told(own_session=True) == [NICER, NICER]


def test_the_session_of_others_is_left_alone() -> None:
    assert told(own_session=False) == [NICER, *of_this_session()]
