"""Statements over HTTP: `POST /v1/sql`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Response

from serving_layer.negotiate import MEDIA_TYPES, Headers, chosen_form, packed
from serving_layer.query import seconds as read_seconds
from serving_layer.query import similar, whole
from serving_layer.responses import PROOF_HEADER
from serving_layer.sql.errors import MOST_ROWS
from serving_layer.sql.process import SECONDS, SqlProcess
from tideline.errors import UsageError

FIELDS = ("sql", "limit", "timeout", "format")


@dataclass(frozen=True)
class Statement:
    """What `who` asks, in which form, for how many rows at most and within how many seconds."""

    sql: str
    form: str
    rows: int
    seconds: float
    headers: Headers
    who: str

    @classmethod
    def read(cls, body: Any, headers: Headers, who: str) -> Statement:
        """The statement of `{"sql", "limit", "timeout", "format"}`. Raises UsageError."""
        _check(body)
        asked = whole("limit", body.get("limit"), 0)
        rows = MOST_ROWS if asked is None else min(asked, MOST_ROWS)
        seconds = SECONDS if body.get("timeout") is None else read_seconds("timeout", body["timeout"])
        return cls(body["sql"], chosen_form(body.get("format"), headers), rows, seconds, headers, who)

    def answer(self, process: SqlProcess, parts: Mapping[str, Any] | None, is_unbounded: bool) -> Response:
        """The answer over `parts` of views, as `SqlEngine.run` takes them; see `SqlProcess.ask` for what it raises."""
        proofs, found = process.ask(self.sql, self.rows, self.seconds, parts, self.form, is_unbounded, self.who)
        told = {"Cache-Control": "no-store", "Vary": "Accept, Accept-Encoding"}
        if self.form != "json":
            told[PROOF_HEADER] = json.dumps(proofs, ensure_ascii=True)
        found, packing = packed(found, self.headers)
        return Response(found, 200, {**told, **packing}, MEDIA_TYPES[self.form])


def _check(body: Any) -> None:
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
