"""Answers and errors in HTTP: one table of status codes, one error shape, three formats."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import Response

from serving_layer.find import NotReadyError
from serving_layer.negotiate import MEDIA_TYPES, Headers, is_known, packed
from serving_layer.proof import NOT_TOLD, Proof, json_text
from serving_layer.result import Result
from tideline.errors import EXIT_USAGE, MissingSegmentError, StoreError, TidelineError

STATUS_OF_CONDITION: Mapping[str, int] = {
    "UNKNOWN_VIEW": 404,
    "UNKNOWN_VERSION": 404,
    "UNKNOWN_PATH": 404,
    "UNKNOWN_SOURCE": 404,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "FORBIDDEN_VIEW": 403,
    "FORBIDDEN_SOURCE": 403,
    "FORBIDDEN_COLUMN": 403,
    "FORBIDDEN_RECORDS": 403,
    "FORBIDDEN_HOST": 403,
    "FORBIDDEN_ORIGIN": 403,
    "TOO_MANY_REQUESTS": 429,
    "METHOD_NOT_ALLOWED": 405,
    "NOT_ACCEPTABLE": 406,
    "SQL_TOO_LARGE": 400,
    "BODY_TOO_LARGE": 413,
    "BAD_REQUEST_BODY": 422,
    "NO_EVENTS": 422,
    "EVENTS_NOT_JSON": 422,
    "BAD_EVENTS": 422,
    "VIEW_NOT_LIVE": 503,
    "VIEW_QUARANTINED": 503,
    "GENERATION_LACKS_VIEW": 503,
    "VIEW_NOT_IN_VERSION": 404,
    "TOO_MANY_STREAMS": 503,
    "SQL_BUSY": 503,
    "SQL_ENDED": 503,
    "SQL_TIMEOUT": 504,
    "KAFKA_UNKNOWN": 503,
    "KAFKA_UNREACHABLE": 503,
    "PRODUCE_FAILED": 503,
    "AT_LEAST_TIMEOUT": 504,
}
PROOF_HEADER, NEXT_HEADER = "Tideline-Proof", "Tideline-Next"
CACHED = {"Cache-Control": "private, no-cache", "Vary": "Accept, Accept-Encoding, Authorization"}
"""Of an answer that may be kept, and is asked about each time."""


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
    return Response(_encoded(text), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def error_response(error: TidelineError, headers: Mapping[str, str] | None = None) -> Response:
    """The one error shape, `{"error": {"condition", "message", "hint", "params"}}`."""
    return json_response(error.to_json(), status_of(error), headers)


def without_records(error: TidelineError) -> TidelineError:
    """The same error, without the reason of a view's failure, which may quote a record's values."""
    if error.condition != "VIEW_QUARANTINED":
        return error
    params = {**error.params, "reason": NOT_TOLD}
    return NotReadyError(error.condition, **params)


def without_reason(result: Result) -> Result:
    """The same answer, whose proof does not say why the view failed."""
    shown = result.proven.without_reason
    return result if shown is result.proven else replace(result, proven=shown)


def is_server_fault(error: TidelineError) -> bool:
    """Whether the error is one that whoever runs the server should see in its log."""
    return isinstance(error, (MissingSegmentError, StoreError)) or status_of(error) == 500


def rows_response(result: Result, form: str, headers: Headers) -> Response:
    """The answer in a form; beside CSV and Arrow headers carry the proof and the cursor.

    Its ETag is that of the cut: weak, for the freshness in the proof is another with each answer.
    """
    tag = tag_of(result.proven, form)
    if is_known(tag, headers):
        return not_modified(tag)
    told = {} if form == "json" else {PROOF_HEADER: json.dumps(result.proof, ensure_ascii=True)}
    if told and result.next:
        told[NEXT_HEADER] = result.next
    body, packing = packed(_body(result, form), headers)
    return Response(body, 200, {"ETag": tag, **CACHED, **told, **packing}, MEDIA_TYPES[form])


def tag_of(proof: Proof, form: str) -> str:
    """The ETag of an answer with this proof."""
    return f'W/"{proof.tag}-{form}"'


def not_modified(tag: str) -> Response:
    """That the answer is the one that is known already."""
    return Response(None, 304, {"ETag": tag, **CACHED})


def _body(result: Result, form: str) -> bytes:
    if form == "json":
        return _encoded(result.to_text())
    return result.to_csv().encode() if form == "csv" else arrow_stream(result)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # half a surrogate pair, which a request may hold, stays an escape


def arrow_stream(result: Result) -> bytes:
    """The answer in the Arrow IPC streaming format."""
    import pyarrow as pa

    table = result.to_arrow()
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()
