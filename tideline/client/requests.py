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
from tideline.cut import Cut
from tideline.errors import OutsideError, TidelineError, UsageError

ARROW = "application/vnd.apache.arrow.stream"
_AGAIN = frozenset({429, 502, 503, 504})
"""Statuses after which the same may go well a moment later."""
_FINAL = frozenset({"AT_LEAST_TIMEOUT", "SQL_TIMEOUT", "SQL_ENDED", "VIEW_QUARANTINED", "PRODUCE_FAILED"})
"""Conditions that had their time already, or do not pass."""
BETWEEN = 0.2  # seconds between a stream that ended and the next
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_FIELDS = ("start", "end", "window", "slide", "zone", "group_by", "measures", "order", "limit", "limit_by", "cursor")
_OPTIONS = frozenset({*_FIELDS, "at_least", "max_staleness", "version", "timeout", "parts"})


@dataclass(frozen=True)
class Call:
    """A request; `repeats` where it may be sent again though the first may have been taken."""

    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeats: bool = True


def headers_of(token: str | None) -> dict[str, str]:
    """What every request says."""
    return {"User-Agent": "tideline", **({} if token is None else {"Authorization": f"Bearer {token}"})}


def rows_call(view: str, options: Mapping[str, Any]) -> Call:
    """The request for rows; `options` are those of `ViewReader.get`."""
    fields = {name: value for name, value in options.items() if name in _OPTIONS}
    key = {**options.get("key", {}), **{name: v for name, v in options.items() if name not in {*_OPTIONS, "key"}}}
    accept = "application/json" if fields.get("parts") else ARROW
    return Call("GET", f"/v1/views/{quoted(view)}/rows", params_of(fields, key), headers={"Accept": accept})


def params_of(fields: Mapping[str, Any], key: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Options and key values as parameters."""
    spelled = {"start": "from", "end": "to"}
    found = [(spelled.get(name, name), _option(value)) for name, value in fields.items() if value is not None]
    for name, value in key.items():
        several = value if isinstance(value, (list, tuple)) else [value]
        if not several:
            raise UsageError("NO_VALUES", f"the key {name} may have no value", "leave it out for any value", key=name)
        found += [(f"key.{name}", _key_text(one)) for one in several]
    return found


def query_call(queries: Sequence[Mapping[str, Any]]) -> Call:
    """The request for several queries on one snapshot."""
    body = json.dumps({"queries": list(queries)}, default=_option).encode()
    return Call("POST", "/v1/query", body=body, headers={"Content-Type": "application/json"})


def sql_call(sql: str, limit: int | None, timeout: float | None) -> Call:
    """The request for a statement."""
    given = {"sql": sql, "limit": limit, "timeout": timeout}
    body = json.dumps({name: value for name, value in given.items() if value is not None}).encode()
    return Call("POST", "/v1/sql", body=body, headers={"Content-Type": "application/json", "Accept": ARROW})


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
    fields = {name: value for name, value in options.items() if name in _OPTIONS or name == "every"}
    key = {**options.get("key", {}), **{n: v for n, v in options.items() if n not in {*_OPTIONS, "key", "every"}}}
    headers = {"Accept": "text/event-stream", **({} if last is None else {"Last-Event-ID": last})}
    return Call("GET", f"/v1/views/{quoted(view)}/changes", params_of(fields, key), headers=headers)


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
        "timeout": seconds,
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
    kind = UsageError if response.status_code < 500 else OutsideError
    return kind(condition, message, hint, **{**params, "status": response.status_code})


def _unreachable(url: str, error: Exception | None) -> OutsideError:
    """That no reply came."""
    reason = f"{type(error).__name__}: {error}"
    hint = "see that it serves there, and how long the client waits (timeout)"
    return OutsideError("SERVER_UNREACHABLE", f"{url} does not answer: {reason}", hint, url=url, reason=reason)


Outcome = httpx.Response | httpx.TransportError | None
NOTHING: Outcome = None


def attempts(url: str, call: Call, timeout: float) -> Generator[tuple[Call, float] | float, Outcome, httpx.Response]:
    """The steps of a call: (what to send, the seconds it may take), or the seconds to pause; its value is the reply.

    Whoever takes the steps sends back the response or the error of each. What fails in a way that passes is sent again
    until `timeout` seconds are over in all. Raises UsageError for what is wrong with the call, else OutsideError.
    """
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while True:
        outcome = yield call, max(deadline - time.monotonic(), 0.001)
        rest = pause * random.uniform(0.5, 1.0)  # not all at once again
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


def _option(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if hasattr(value, "total_seconds"):
        return f"{round(value.total_seconds() * 1e6)}us"
    return str(value)


def _key_text(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bytes):
        import base64

        return base64.b64encode(value).decode()
    return _option(value) if not isinstance(value, (list, tuple)) else str(value)


def _json(event: Mapping[str, Any]) -> str:
    return json.dumps(event, default=_option, ensure_ascii=False)
