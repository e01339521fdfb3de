"""Answers and errors in HTTP: one table of status codes, one error shape, three formats."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from fastapi import Response

from serving_layer.proof import json_text
from serving_layer.query import bad_value
from serving_layer.result import Result
from tideline.errors import EXIT_USAGE, MissingSegmentError, StoreError, TidelineError

STATUS_OF_CONDITION: Mapping[str, int] = {
    "UNKNOWN_VIEW": 404,
    "UNKNOWN_VERSION": 404,
    "UNKNOWN_PATH": 404,
    "METHOD_NOT_ALLOWED": 405,
    "BODY_TOO_LARGE": 413,
    "BAD_REQUEST_BODY": 422,
    "VIEW_NOT_LIVE": 503,
    "VIEW_QUARANTINED": 503,
    "GENERATION_LACKS_VIEW": 503,
    "VIEW_NOT_IN_VERSION": 404,
    "AT_LEAST_TIMEOUT": 504,
}
FORMATS = ("json", "csv", "arrow")
PROOF_HEADER = "Tideline-Proof"
MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "arrow": "application/vnd.apache.arrow.stream"}


def status_of(error: TidelineError) -> int:
    """The HTTP status: by condition, else 400 for what the caller did, 503 for the store, 500 for a fault."""
    known = STATUS_OF_CONDITION.get(error.condition)
    if known is not None:
        return known
    if error.exit_code == EXIT_USAGE:
        return 400
    return 503 if isinstance(error, StoreError) else 500


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON in UTF-8, whole numbers of any size as numbers; never cached."""
    return text_response(json_text(content), status, headers)


def text_response(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The same of JSON text."""
    body = text.encode("utf-8", "backslashreplace")  # half a surrogate pair, which a request may hold, stays an escape
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def error_response(error: TidelineError, headers: Mapping[str, str] | None = None) -> Response:
    """The one error shape, `{"error": {"condition", "message", "hint", "params"}}`."""
    return json_response(error.to_json(), status_of(error), headers)


def is_server_fault(error: TidelineError) -> bool:
    """Whether the error is one that whoever runs the server should see in its log."""
    return isinstance(error, (MissingSegmentError, StoreError)) or status_of(error) == 500


def check_format(name: str) -> str:
    """The format. Raises UsageError BAD_VALUE."""
    if name not in FORMATS:
        raise bad_value("format", name, f"one of {', '.join(FORMATS)}")
    return name


def rows_response(result: Result, form: str) -> Response:
    """The answer in a format; CSV and Arrow carry the proof in the header `Tideline-Proof`."""
    if form == "json":
        return text_response(result.to_text())
    body = result.to_csv().encode() if form == "csv" else arrow_stream(result)
    headers = {PROOF_HEADER: json.dumps(result.proof, ensure_ascii=True), "Cache-Control": "no-store"}
    return Response(body, 200, headers, MEDIA_TYPES[form])


def arrow_stream(result: Result) -> bytes:
    """The answer in the Arrow IPC streaming format."""
    import pyarrow as pa

    table = result.to_arrow()
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()
