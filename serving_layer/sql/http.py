"""Statements over HTTP: `POST /v1/sql`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from fastapi import Response

from serving_layer.negotiate import MEDIA_TYPES, Headers, chosen_form, packed
from serving_layer.proof import json_text
from serving_layer.query import seconds as read_seconds
from serving_layer.query import similar, whole
from serving_layer.responses import PROOF_HEADER
from serving_layer.sql.errors import MOST_ROWS
from serving_layer.sql.process import SECONDS, SqlProcess
from serving_layer.sql.show import shown_rows
from tideline.errors import UsageError

FIELDS = ("sql", "limit", "timeout", "format")


def sql_response(process: SqlProcess, body: Any, headers: Headers, parts: Mapping[str, Any] | None = None) -> Response:
    """The answer to `{"sql", "limit", "timeout", "format"}` over `parts` of views, as `SqlEngine.run` takes them.

    Raises UsageError, and what `SqlProcess.ask` raises.
    """
    if not isinstance(body, Mapping) or not isinstance(body.get("sql"), str):
        raise UsageError("BAD_REQUEST_BODY", "the body is not an object with sql", 'post {"sql": "SELECT ..."}')
    for name in body:
        if name not in FIELDS:
            raise UsageError(
                "UNKNOWN_FIELD",
                f"a statement has no field {name}",
                f"fields: {', '.join(FIELDS)}",
                field=name,
                similar=similar(name, FIELDS),
                known=list(FIELDS),
            )
    form = chosen_form(body.get("format"), headers)
    asked = whole("limit", body.get("limit"), 0)
    rows = MOST_ROWS if asked is None else min(asked, MOST_ROWS)
    proofs, stream = process.ask(body["sql"], rows, _seconds(body.get("timeout")), parts)
    told = {"Cache-Control": "no-store", "Vary": "Accept, Accept-Encoding"}
    if form != "json":
        told[PROOF_HEADER] = json.dumps(proofs, ensure_ascii=True)
    found, packing = packed(_body(form, proofs, stream), headers)
    return Response(found, 200, {**told, **packing}, MEDIA_TYPES[form])


def _seconds(given: Any) -> float:
    return SECONDS if given is None else read_seconds("timeout", given)


def _body(form: str, proofs: Mapping[str, Any], stream: bytes) -> bytes:
    if form == "arrow":
        return stream
    import pyarrow as pa

    table = pa.ipc.open_stream(stream).read_all()
    rows = shown_rows(table)
    if form == "json":
        return json_text({"columns": table.column_names, "rows": rows, "proofs": proofs}).encode()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return text.getvalue().encode()
