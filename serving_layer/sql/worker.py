"""The process that answers statements: of its memory only it can run out, and it can be ended at any moment.

A request is a line of JSON, an answer its length and a line of JSON, followed by the answer in the form that
is asked for. It is made here and not where others wait: values take more as text than in DuckDB's columns.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import warnings
from typing import IO, Any

from serving_layer.proof import without_reason
from serving_layer.reader import Reader
from serving_layer.sql.engine import SqlEngine
from serving_layer.sql.errors import SqlTimeout
from serving_layer.sql.show import body_of
from tideline.errors import TidelineError
from tideline.runtime.home import Home


def main(home: str, memory: int) -> None:
    """Answers until its input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    with Reader(Home(home)) as reader:
        os.chdir("/")  # whose name says nothing: DuckDB tells a statement where it is
        engine = SqlEngine(reader)
        _send(replies, {"ready": True}, b"")
        for line in sys.stdin.buffer:
            _send(replies, *_answer(engine, json.loads(line)))


def _send(replies: IO[bytes], told: dict[str, Any], rows: bytes) -> None:
    text = json.dumps({**told, "bytes": len(rows)}).encode()
    replies.write(len(text).to_bytes(4, "big") + text + rows)
    replies.flush()


def _answer(engine: SqlEngine, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    form, reasons = request.pop("form"), request.pop("reasons")
    try:
        found = engine.run(**request)
        proofs = dict(found.proofs) if reasons else {name: without_reason(one) for name, one in found.proofs.items()}
        return {"proofs": proofs}, body_of(form, found.table, proofs)
    except TidelineError as error:
        return {**error.to_json(), "exit_code": error.exit_code}, b""
    except MemoryError:
        ended = SqlTimeout("SQL_ENDED")
        return {**ended.to_json(), "exit_code": ended.exit_code}, b""


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
