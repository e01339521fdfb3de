"""Run a command that dies with its parent: `python guard.py PARENT_PID COMMAND...`.

On Linux the kernel then kills the command when the thread that started it is gone, even by SIGKILL; the
setting outlives `exec`. A plain file of the standard library, so that it starts in some 15 ms and imports
nothing of Tideline.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: "list[str]") -> None:
    """Replace this process by `command`, which the kernel kills once `parent` has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above
        sys.exit(3)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"tideline: cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
