"""The HTTP API in OpenAPI 3.1: every route with its parameters, answers and an example, as it is served."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from serving_layer.negotiate import FORMATS, MEDIA_TYPES
from tideline import __version__

Json = dict[str, Any]
CUT: Json = {
    "type": "object",
    "description": "A position in the log: the next offset by topic and partition.",
    "additionalProperties": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
    "examples": [{"sales": {"0": 157, "1": 143}}],
}
ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["condition", "message", "hint", "params"],
            "properties": {
                "condition": {"type": "string", "description": "What programs go by.", "examples": ["UNKNOWN_VIEW"]},
                "message": {"type": "string"},
                "hint": {"type": "string"},
                "params": {"type": "object"},
            },
        }
    },
}
PROOF: Json = {
    "type": "object",
    "description": "Which part of the log an answer comes from, and how exact it is: docs/query.md.",
    "required": ["view", "fingerprint", "mode", "version", "cut", "batch_cut", "committed_cut", "events", "measures"],
    "properties": {
        "mode": {"enum": ["live", "batch"]},
        "version": {"type": "integer"},
        "cut": {"$ref": "#/components/schemas/Cut"},
        "batch_cut": {"$ref": "#/components/schemas/Cut"},
        "committed_cut": {"$ref": "#/components/schemas/Cut"},
        "freshness": {"type": ["number", "null"], "description": "Seconds since the last commit."},
    },
}
ANSWER: Json = {
    "type": "object",
    "required": ["view", "columns", "rows", "next", "proof"],
    "properties": {
        "view": {"type": "string"},
        "columns": {"type": "array", "items": {"type": "string"}},
        "rows": {"type": "array", "items": {"type": "object"}},
        "next": {"type": ["string", "null"], "description": "The cursor of the next page; null after the last."},
        "proof": {"$ref": "#/components/schemas/Proof"},
    },
}
_OPTIONS: dict[str, tuple[Json, str, Any]] = {
    "from": ({"type": "string"}, "First bucket, ISO 8601; UTC, or `zone`, where it names none.", "2011-12-01"),
    "to": ({"type": "string"}, "End of the last bucket, exclusive.", "2011-12-05"),
    "window": ({"type": "string"}, "Merge buckets into windows of this length; `all`: into one row.", "1d"),
    "slide": ({"type": "string"}, "A new window every so often.", "1h"),
    "zone": ({"type": "string"}, "Days of this time zone, and times that name none.", "Europe/Berlin"),
    "group_by": ({"type": "string"}, "The key columns to keep, with commas; `none`: all together.", "country"),
    "measures": ({"type": "string"}, "The measures and answers to show, with commas.", "lines,revenue"),
    "order": ({"type": "string"}, "Order by these, with commas; - before one for descending.", "-revenue"),
    "limit": ({"type": "integer", "minimum": 0}, "At most so many rows.", 10),
    "limit_by": ({"type": "string"}, "At most so many rows of each value of a column.", "country:10"),
    "cursor": ({"type": "string"}, "Go on where an answer with a limit ended: its `next`.", None),
    "at_least": ({"type": "string"}, "Wait until the answer covers this cut.", "sales:0=10,1=5"),
    "max_staleness": ({"type": "string"}, "Wait until it covers what Kafka held so long ago.", "5s"),
    "timeout": ({"type": "number", "minimum": 0, "maximum": 300}, "How many seconds these two wait.", 10),
    "version": ({"type": "integer", "minimum": 0}, "Ask an older batch version.", 2),
    "parts": ({"type": "boolean"}, "Also the batch side's and the speed side's answers of each row.", True),
}
"""Of a query: schema, what it does, an example."""


@lru_cache(1)
def openapi() -> Json:
    """The document, JSON-able."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tideline",
            "version": __version__,
            "summary": "Answers that equal the view computed from scratch over every event before their cut.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            **_locked(_asking()),
            "/healthz": {"get": _route("The store can be read.", _json(_object("ok", "committed")))},
            "/readyz": {"get": _ready()},
        },
        "components": {
            "schemas": {"Cut": CUT, "Error": ERROR, "Proof": PROOF, "Answer": ANSWER},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "docs/security.md"}},
        },
    }


def _asking() -> Json:
    """The paths that a token may be needed for."""
    return {
        "/v1/views": {"get": _route("Every view that can be asked.", _json(_object("views"), {"views": []}))},
        "/v1/views/{view}": {
            "get": _route("One view: key columns, bucket, measures with their bounds.", _json(), 404, [_VIEW])
        },
        "/v1/views/{view}/rows": {"get": _rows()},
        "/v1/views/{view}/changes": {"get": _changes()},
        "/v1/query": {"post": _query()},
        "/v1/sql": {"post": _sql()},
        "/v1/sources/{source}/events": {"post": _events()},
        "/v1/dead-letters": {"get": _dead_letters()},
        "/v1/verify": {"get": _verified(), "post": _verify()},
        "/v1/status": {"get": _route("Cuts, lag, versions, layers, dead letters.", _json())},
        "/metrics": {"get": _route("The state for Prometheus.", {"text/plain": {"schema": {"type": "string"}}})},
    }


def _locked(paths: Json) -> Json:
    """The same where somebody asks for tokens: without one, with a narrower one, and too often."""
    for route in (route for methods in paths.values() for route in methods.values()):
        route["security"] = [{}, {"token": []}]
        route["responses"] |= dict.fromkeys(("401", "403", "429"), _REFUSED)
    return paths


_VIEW: Json = {
    "name": "view",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "example": "revenue",
}


def _object(*required: str) -> Json:
    return {"type": "object", "required": list(required)}


def _json(schema: Json | None = None, example: Any = None) -> Json:
    content: Json = {"schema": schema or {"type": "object"}}
    return {"application/json": content if example is None else {**content, "example": example}}


_REFUSED: Json = {"description": "An error.", "content": _json({"$ref": "#/components/schemas/Error"})}


def _route(summary: str, content: Json, *more: Any, status: int = 200) -> Json:
    """A route that answers so; `more` are the statuses of its errors, and its parameters."""
    statuses = {number for number in more if isinstance(number, int)} | {500, 503}
    parameters = [one for found in more if isinstance(found, list) for one in found]
    return {
        "summary": summary,
        **({"parameters": parameters} if parameters else {}),
        "responses": {
            str(status): {"description": "The answer.", "content": content},
            **{str(number): _REFUSED for number in sorted(statuses)},
        },
    }


def _rows() -> Json:
    options = [
        {
            "name": name,
            "in": "query",
            "schema": schema,
            "description": told,
            **({"example": example} if example else {}),
        }
        for name, (schema, told, example) in _OPTIONS.items()
    ]
    key: Json = {
        "name": "key",
        "in": "query",
        "style": "form",
        "explode": True,
        "description": "Any key column, by its own name: keeps the rows with this value; `\\N` is null.",
        "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        "example": {"country": "France"},
    }
    form: Json = {"name": "format", "in": "query", "schema": {"enum": list(FORMATS)}, "description": "Before Accept."}
    answer = _json({"$ref": "#/components/schemas/Answer"})
    told = {
        "ETag": {"description": "Weak; another with each cut.", "schema": {"type": "string"}},
        "Tideline-Proof": {"description": "The proof beside CSV and Arrow.", "schema": {"type": "string"}},
        "Tideline-Next": {"description": "The cursor beside CSV and Arrow.", "schema": {"type": "string"}},
    }
    others = {
        MEDIA_TYPES["csv"].partition(";")[0]: {"schema": {"type": "string"}},
        MEDIA_TYPES["arrow"]: {"schema": {"type": "string", "contentMediaType": MEDIA_TYPES["arrow"]}},
    }
    route = _route("Rows and their proof.", {**answer, **others}, 400, 404, 406, 504, [_VIEW, *options, key, form])
    route["responses"]["200"]["headers"] = told
    route["responses"]["304"] = {"description": "Nothing changed since the answer that If-None-Match names."}
    return route


def _changes() -> Json:
    route = _rows()
    dropped = {"cursor", "at_least", "max_staleness", "timeout", "version", "parts", "format"}
    every: Json = {
        "name": "every",
        "in": "query",
        "schema": {"type": "string"},
        "description": "How often to look.",
        "example": "250ms",
    }
    last: Json = {
        "name": "Last-Event-ID",
        "in": "header",
        "schema": {"type": "string"},
        "description": "Go on after this event.",
    }
    events = {"description": "The events `snapshot`, `change` and `error`.", "content": {"text/event-stream": {}}}
    kept = {
        status: answer for status, answer in route["responses"].items() if status not in ("200", "304", "406", "504")
    }
    return {
        "summary": "The answer as it changes, as server-sent events.",
        "parameters": [*(one for one in route["parameters"] if one["name"] not in dropped), every, last],
        "responses": {"200": events, **kept},
    }


def _query() -> Json:
    query: Json = {
        "type": "object",
        "required": ["view"],
        "additionalProperties": False,
        "properties": {
            "view": {"type": "string"},
            "key": {"type": ["object", "null"], "description": "Values of key columns; a list is any of them."},
            **{name: _in_body(name, schema, told) for name, (schema, told, _) in _OPTIONS.items()},
        },
    }
    body = _object("queries") | {
        "additionalProperties": False,
        "properties": {"queries": {"type": "array", "minItems": 1, "maxItems": 100, "items": query}},
    }
    example = {"queries": [{"view": "revenue", "key": {"country": "France"}, "window": "all", "group_by": []}]}
    results = _object("results") | {
        "properties": {"results": {"type": "array", "items": {"$ref": "#/components/schemas/Answer"}}}
    }
    route = _route("Several queries on one snapshot.", _json(results), 400, 404, 413, 422, 504)
    return {**route, "requestBody": {"required": True, "content": _json(body, example)}}


def _in_body(name: str, schema: Json, told: str) -> Json:
    """An option as JSON: null where it is not given, names as a list too, a cut as an object."""
    types = [schema["type"], "null"] + ([] if schema["type"] == "string" else ["string"])
    types += ["array"] if name in ("group_by", "measures", "order") else []
    types += ["object"] if name == "at_least" else []
    return {**schema, "type": types, "description": told}


def _sql() -> Json:
    body = _object("sql") | {
        "additionalProperties": False,
        "properties": {
            "sql": {"type": "string", "description": "One SELECT of DuckDB's SQL; every view is a table."},
            "limit": {
                "type": ["integer", "string", "null"],
                "minimum": 0,
                "description": "Most rows that it may have, up to 100,000.",
            },
            "timeout": {
                "type": ["number", "string", "null"],
                "minimum": 0,
                "maximum": 300,
                "description": "Seconds it may take.",
            },
            "format": {"enum": [*FORMATS, None], "description": "Before Accept."},
        },
    }
    answer = _object("columns", "rows", "proofs") | {
        "properties": {
            "columns": {"type": "array", "items": {"type": "string"}},
            "rows": {"type": "array", "items": {"type": "array"}},
            "proofs": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Proof"}},
        }
    }
    content = {**_json(answer), MEDIA_TYPES["csv"].partition(";")[0]: {}, MEDIA_TYPES["arrow"]: {}}
    route = _route("A statement over the merged views.", content, 400, 404, 406, 413, 422, 504)
    example = {"sql": "SELECT country, sum(revenue) AS revenue FROM revenue GROUP BY country ORDER BY 2 DESC"}
    return {**route, "requestBody": {"required": True, "content": _json(body, example)}}


def _events() -> Json:
    source: Json = {
        "name": "source",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "example": "sales",
    }
    event: Json = {"type": "object", "description": "One event, as docs/decoding.md has it."}
    taken = _object("source", "events", "cut", "at_least") | {
        "properties": {
            "source": {"type": "string"},
            "events": {"type": "integer", "minimum": 1},
            "cut": {"$ref": "#/components/schemas/Cut"},
            "at_least": {"type": "string", "description": "The same for the parameter at_least."},
        }
    }
    example = {"source": "sales", "events": 1, "cut": {"sales": {"1": 144}}, "at_least": "sales:1=144"}
    route = _route(
        "Takes events; an answer at_least at the cut counts them.",
        _json(taken, example),
        404,
        413,
        422,
        [source],
        status=202,
    )
    content = {
        **_json({"oneOf": [event, {"type": "array", "minItems": 1, "items": event}]}),
        "application/x-ndjson": {"schema": {"type": "string", "description": "An event a line."}},
    }
    return {**route, "requestBody": {"required": True, "content": content}}


def _dead_letters() -> Json:
    told = {
        "source": ({"type": "string"}, "Of this source only.", "sales"),
        "reason": ({"type": "string"}, "Those whose reason holds this text.", "BAD_JSON"),
        "place": ({"type": "string"}, "The one at SOURCE:PARTITION:OFFSET.", "sales:0:17"),
        "limit": ({"type": "integer", "minimum": 0, "maximum": 1000}, "At most so many; 0: 100.", 100),
    }
    options = [
        {"name": name, "in": "query", "schema": schema, "description": text, "example": example}
        for name, (schema, text, example) in told.items()
    ]
    letter = _object("source", "partition", "offset", "at", "reason", "bytes", "value", "base64")
    found = _object("dead_letters") | {"properties": {"dead_letters": {"type": "array", "items": letter}}}
    summary = "Records that could not become events, with the reason and their bytes."
    return _route(summary, _json(found), 400, 404, options)


_VERIFICATION: Json = _object("running", "views", "started_at", "seconds", "report", "error") | {
    "properties": {
        "running": {"type": "boolean"},
        "views": {"type": ["array", "null"], "items": {"type": "string"}, "description": "Null: all."},
        "started_at": {"type": ["number", "null"], "description": "Seconds since the epoch."},
        "seconds": {"type": ["number", "null"]},
        "report": {"type": ["object", "null"], "description": "What `tideline verify -o json` prints."},
        "error": {"type": ["string", "null"], "description": "Why there is no report."},
    }
}


def _verified() -> Json:
    return _route("The verification under way, or the last one.", _json(_VERIFICATION))


def _verify() -> Json:
    body = {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {"views": {"type": "array", "items": {"type": "string"}, "description": "None: all."}},
    }
    summary = "Recomputes views from the log and compares; one verification at a time."
    route = _route(summary, _json(_VERIFICATION), 400, 404, 413, 422, status=202)
    return {**route, "requestBody": {"required": False, "content": _json(body, {"views": ["revenue"]})}}


def _ready() -> Json:
    route = _route("Every view that was applied can be asked.", _json(_object("ready", "views", "waiting")))
    route["responses"]["503"]["content"] = _json({"type": "object"})
    return route
