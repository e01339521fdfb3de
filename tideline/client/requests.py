"""What a client asks and how it reads the reply, whether it waits or awaits it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tideline.client.answers import RemoteResult, SqlResult
from tideline.client.deadline import LATE
from tideline.client.values import NULL_TEXT, json_default, key_texts, option_text
from tideline.cut import Cut
from tideline.durations import to_micros
from tideline.errors import OutsideError, TidelineError, UsageError

ARROW = "application/vnd.apache.arrow.stream"
_AGAIN = frozenset({429, 502, 503, 504})
"""Statuses after which the same may go well a moment later."""
_FINAL = frozenset({"AT_LEAST_TIMEOUT", "SQL_TIMEOUT", "SQL_ENDED", "VIEW_QUARANTINED", "PRODUCE_FAILED"})
"""Conditions that had their time already, or do not pass."""
BETWEEN = 0.2  # seconds between a stream that ended and the next
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_WAY = 3.0  # seconds beyond those that a call gives the server, which has two of them to stop a statement
_LONGEST_WAIT = 300.0  # seconds that the server lets a call ask for
_SILENCE = 45.0  # seconds without a word after which a stream is dead: the server has said three times that it lives
_FIELDS = ("start", "end", "window", "slide", "zone", "group_by", "measures", "order", "limit", "limit_by", "cursor")
QUERY_OPTIONS = frozenset({*_FIELDS, "at_least", "max_staleness", "version", "timeout", "parts"})
STREAM_OPTIONS = QUERY_OPTIONS | {"every"}


@dataclass(frozen=True)
class Call:
    """A request; `repeats` where it may be sent again though the first may have been taken.

    `waits` are the seconds that it gives the server to answer in, `silence` those that its stream may say nothing.
    """

    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeats: bool = True
    waits: float = 0.0
    silence: float = 0.0


def headers_of(token: str | None) -> dict[str, str]:
    """What every request says."""
    return {"User-Agent": "tideline", **({} if token is None else {"Authorization": f"Bearer {token}"})}


def split(options: Mapping[str, Any], known: frozenset[str] = QUERY_OPTIONS) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of a query, or of what else has the `known` ones, and the values of key columns."""
    fields = {name: value for name, value in options.items() if name in known}
    given = {name: value for name, value in options.items() if name not in known and name != "key"}
    return fields, {**options.get("key", {}), **given}


def rows_call(view: str, options: Mapping[str, Any]) -> Call:
    """The request for rows; `options` are those of `ViewReader.get`."""
    fields, key = split(options)
    has_parts = option_text("parts", fields.get("parts") or False).lower() not in ("false", "0")
    headers = {"Accept": "application/json" if has_parts else ARROW}
    path, waits = f"/v1/views/{quoted(view)}/rows", _waits(fields.get("timeout"))
    return Call("GET", path, _params(fields, key), headers=headers, waits=waits)


def _params(fields: Mapping[str, Any], key: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Options and key values as parameters."""
    values = {name: key_texts(value) for name, value in key.items()}
    if [] in values.values():  # of no values there is no parameter: any will do, where no row is asked for
        fields, values = {**fields, "limit": 0}, {name: texts or [NULL_TEXT] for name, texts in values.items()}
    spelled = {"start": "from", "end": "to"}
    found = [(spelled.get(name, name), option_text(name, value)) for name, value in fields.items() if value is not None]
    return found + [(f"key.{name}", text) for name, texts in values.items() for text in texts]


def _waits(timeout: Any) -> float:
    """The seconds that a call gives the server; 0 for what it refuses."""
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        return 0.0
    return seconds if 0 <= seconds <= _LONGEST_WAIT else 0.0


def query_call(queries: Sequence[Mapping[str, Any]]) -> Call:
    """The request for several queries on one snapshot."""
    body = json.dumps({"queries": list(queries)}, default=json_default).encode()
    waits = max((_waits(query.get("timeout")) for query in queries), default=0.0)
    return Call("POST", "/v1/query", body=body, headers={"Content-Type": "application/json"}, waits=waits)


def sql_call(sql: str, limit: int | None, timeout: float | None) -> Call:
    """The request for a statement."""
    given = {"sql": sql, "limit": limit, "timeout": timeout}
    body = json.dumps({name: value for name, value in given.items() if value is not None}).encode()
    headers = {"Content-Type": "application/json", "Accept": ARROW}
    return Call("POST", "/v1/sql", body=body, headers=headers, waits=_waits(timeout))


def send_call(source: str, events: Sequence[Mapping[str, Any] | str | bytes], has_ids: bool) -> Call:
    """The request that writes events: objects, or their JSON as it is to be kept."""
    lines = [
        one if isinstance(one, bytes) else (one if isinstance(one, str) else _json(one)).encode() for one in events
    ]
    headers = {"Content-Type": "application/x-ndjson"}
    return Call(
        "POST", f"/v1/sources/{quoted(source)}/events", body=b"\n".join(lines), headers=headers, repeats=has_ids
    )


def changes_call(view: str, options: Mapping[str, Any], last: str | None) -> Call:
    """The request for the stream of a view's changes, from the event `last` on."""
    fields, key = split(options, STREAM_OPTIONS)
    headers = {"Accept": "text/event-stream", **({} if last is None else {"Last-Event-ID": last})}
    params, silence = _params(fields, key), _SILENCE
    if fields.get("every") is not None:  # the server may say that it lives as often as it looks, and no oftener
        silence += to_micros(option_text("every", fields["every"])) / 1_000_000
    return Call("GET", f"/v1/views/{quoted(view)}/changes", params, headers=headers, silence=silence)


def types_of(response: httpx.Response) -> dict[str, str]:
    """The types of a view's key columns, as SQL has them, of the reply to `describe_call`."""
    return {column["name"]: column["type"] for column in response.json()["key"]}


def describe_call(view: str) -> Call:
    """The request for a view's description."""
    return Call("GET", f"/v1/views/{quoted(view)}")


def arguments(call: Call, seconds: float) -> dict[str, Any]:
    """What httpx's `request` and `stream` take."""
    return {
        "method": call.method,
        "url": call.path,
        "params": list(call.params),
        "content": call.body,
        "headers": dict(call.headers),
        "timeout": httpx.Timeout(seconds, read=max(seconds, call.silence)),
    }


def results_of(response: httpx.Response) -> list[RemoteResult]:
    """The answers of a reply to several queries."""
    return [RemoteResult.from_json(found) for found in response.json()["results"]]


def rows_of(response: httpx.Response) -> RemoteResult:
    """The rows of a reply."""
    if response.headers["content-type"].startswith("application/json"):
        return RemoteResult.from_json(response.json())
    proof = json.loads(response.headers["tideline-proof"])
    return RemoteResult.from_arrow(response.content, proof, response.headers.get("tideline-next"))


def sql_of(response: httpx.Response) -> SqlResult:
    """The rows of a statement's reply."""
    return SqlResult(response.content, json.loads(response.headers["tideline-proof"]))


def cut_of(response: httpx.Response) -> Cut:
    """The cut that covers what was sent."""
    return Cut.from_json(response.json()["cut"])


def _refusal(response: httpx.Response) -> TidelineError:
    """The error of a reply: a UsageError where the request was wrong, an OutsideError else."""
    try:
        error = response.json()["error"]
        condition, message, hint = error["condition"], error["message"], error["hint"]
        params = dict(error["params"])
    except (ValueError, KeyError, TypeError):
        text = response.text[:200]
        condition, message, hint, params = "BAD_REPLY", f"the server says {response.status_code}: {text}", "", {}
    kind = UsageError if response.status_code < 500 and response.status_code not in _AGAIN else OutsideError
    return kind(condition, message, hint, **{**params, "status": response.status_code})


def _unreachable(url: str, error: Exception | None) -> OutsideError:
    """That no reply came."""
    reason = f"{type(error).__name__}: {error}"
    hint = "see that it serves there, and how long the client waits (timeout)"
    return OutsideError("SERVER_UNREACHABLE", f"{url} does not answer: {reason}", hint, url=url, reason=reason)


Outcome = httpx.Response | httpx.TransportError | None
NOTHING: Outcome = None


def fault(error: httpx.TransportError | TimeoutError) -> httpx.TransportError:
    """What an attempt failed with, where its time may have been over too."""
    return error if isinstance(error, httpx.TransportError) else httpx.ReadTimeout(LATE)


def attempts(url: str, call: Call, timeout: float) -> Generator[tuple[Call, float] | float, Outcome, httpx.Response]:
    """The steps of a call: (what to send, the seconds it may take), or the seconds to pause; its value is the reply.

    Whoever takes the steps sends back the response or the error of each. What fails in a way that passes is sent again
    until `timeout` seconds are over in all, or those that the call itself gives the server and a little for the way;
    after the pause that the server asks for, if it does. Raises UsageError for what is wrong with the call, else
    OutsideError.
    """
    deadline = time.monotonic() + max(timeout, call.waits + _WAY if call.waits else 0.0)
    pause = _FIRST_PAUSE
    while True:
        outcome = yield call, max(deadline - time.monotonic(), 0.001)
        rest = max(pause * random.uniform(0.5, 1.0), _asked_pause(outcome))  # not all at once again
        is_late = time.monotonic() + rest >= deadline
        if isinstance(outcome, httpx.Response):
            if outcome.is_success:
                return outcome
            if is_late or not _is_passing(call, outcome):
                raise _refusal(outcome)
        elif is_late or not (call.repeats or isinstance(outcome, httpx.ConnectError)):
            raise _unreachable(url, outcome) from outcome
        yield rest
        pause = min(2 * pause, _LONGEST_PAUSE)


def _asked_pause(outcome: Outcome) -> float:
    """The seconds that a reply says to wait; 0 where it says none, or a date."""
    told = outcome.headers.get("retry-after", "") if isinstance(outcome, httpx.Response) else ""
    return float(told) if told.isdecimal() else 0.0


def _is_passing(call: Call, response: httpx.Response) -> bool:
    """Whether the same request may go well a moment later."""
    if response.status_code not in _AGAIN or not (call.repeats or response.status_code == 429):
        return False
    try:
        return response.json()["error"]["condition"] not in _FINAL
    except (ValueError, KeyError, TypeError):
        return True


def quoted(name: str) -> str:
    return httpx.URL("http://x").copy_with(path=f"/{name}").raw_path.decode()[1:].replace("/", "%2F")


def _json(event: Mapping[str, Any]) -> str:
    return json.dumps(event, default=json_default, ensure_ascii=False)
