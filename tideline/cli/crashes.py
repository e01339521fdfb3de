"""A process that dies by a damaged file says so: the store is read in memory, where a broken page ends the process."""

from __future__ import annotations

import ctypes
import os
import signal

from tideline.errors import EXIT_OUTSIDE

_SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT)
_LINE = (
    "tideline: ended by {name}, as a damaged store or a full or failing disk does. Look at the disk; if it is well, "
    "stop everything on this home and run `tideline rebuild --catalog FILE`"
)


def _say(number: int) -> None:
    os.write(2, f"\n{_LINE.format(name=signal.Signals(number).name)}\n".encode())
    os._exit(EXIT_OUTSIDE)


_handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_say)


def explain_crashes() -> None:
    """From here on these signals end the process in one line and exit code 3; not undone, for a process of its own."""
    # Python's own handlers wait until the instruction that failed is over, which it never is.
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    for number in _SIGNALS:
        libc.signal(number, ctypes.cast(_handler, ctypes.c_void_p))
