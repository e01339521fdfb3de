"""The process that answers statements: of its memory only it can run out, and it can be ended at any moment.

A request is a line of JSON, an answer its length and a line of JSON, followed by an Arrow stream where there are rows.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import warnings
from typing import IO, Any

import pyarrow as pa

from serving_layer.reader import Reader
from serving_layer.sql.engine import SqlEngine
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
    try:
        found = engine.run(**request)
    except TidelineError as error:
        return {**error.to_json(), "exit_code": error.exit_code}, b""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, found.table.schema) as writer:
        writer.write_table(found.table)
    return {"proofs": dict(found.proofs)}, sink.getvalue().to_pybytes()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
