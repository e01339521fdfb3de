"""The far side of a benchmark: a process that does what it is told, a line of JSON each way on its standard streams.

`serve` is the loop of such a process. It needs nothing but Python: peers in environments of their own use it too.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any


def serve(**actions: Callable[..., dict[str, Any]]) -> None:
    """Runs the action that each line names (`do`) with the line's other fields; answers with what it returns.

    Whatever else a library writes to standard output goes to standard error.
    """
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        reply = actions[request.pop("do")](**request)
        print(json.dumps(reply), file=replies, flush=True)
    with contextlib.suppress(OSError):
        replies.close()
