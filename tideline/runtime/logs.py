"""Log lines on stderr, as text or as one JSON object a line, with the cut in every line that matters.

What a line is about goes into its fields: `log.info("sealed", extra=fields(cut=cut, generation=3))`. A cut is spelled
as `--at-least` takes it. A TidelineError in a line's arguments, fields or traceback brings its condition and params.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tideline.cut import Cut
from tideline.errors import TidelineError

FORMATS = ("text", "json")
HIDDEN = "***"
_OWN = ("tideline", "speed_layer", "batch_layer", "serving_layer")
_SECRET = re.compile(r"passw|secret|credential|api_?key|jaas", re.IGNORECASE)
_SECRET_IN_TEXT = re.compile(
    r"(?i)(://[^/\s:@]*:)[^@\s/]+(?=@)|([\w.]*(?:passw|secret|credential|api_?key|jaas)[\w.]*['\"]?\s*[=:]\s*)[^\s,;]+"
)


def fields(**values: Any) -> dict[str, Any]:
    """What a log call takes as `extra`; None is left out."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message", ...}`: its own fields, then condition and params, then a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _conceal(record.getMessage()),
        }
        for name, value in _facts(record).items():
            line.setdefault(name, value)
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["traceback"] = _conceal(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """`TIME LEVEL LOGGER: MESSAGE [field=value, ...]`, and a traceback beneath."""

    def format(self, record: logging.LogRecord) -> str:
        own = getattr(record, "fields", {})
        told = ", ".join(f"{name}={_conceal(str(_plain(name, value)))}" for name, value in own.items())
        head = f"{_time(record)} {record.levelname} {record.name}: {_conceal(record.getMessage())}"
        lines = [f"{head} [{told}]" if told else head]
        if record.exc_info:
            lines.append(_conceal(self.formatException(record.exc_info)))
        return "\n".join(lines)


def start_logging(form: str) -> None:
    """Tideline's own lines from INFO on, others' only from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in _OWN:
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("kafka").setLevel(logging.ERROR)


def is_json() -> bool:
    """Whether this process logs JSON."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)


def announce(line: str) -> None:
    """A line of progress: printed, or logged where the log is JSON."""
    if is_json():
        logging.getLogger("tideline").info("%s", line)
    else:
        print(line, flush=True)


def said(line: str) -> str:
    """What a line of a log says: the message, where it is one of JSON."""
    try:
        found = json.loads(line) if line.startswith("{") else None
    except ValueError:
        found = None
    return str(found["message"]) if isinstance(found, dict) and "message" in found else line.strip()


def _time(record: logging.LogRecord) -> str:
    moment = dt.datetime.fromtimestamp(record.created, dt.timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    own: dict[str, Any] = getattr(record, "fields", {})
    facts = {name: _plain(name, value) for name, value in own.items() if not isinstance(value, TidelineError)}
    error = next(_errors(record), None)
    if error is not None:
        told = error.to_json()["error"]
        facts |= {"condition": told["condition"], "params": _plain("params", told["params"])}
    return facts


def _errors(record: logging.LogRecord) -> Iterator[TidelineError]:
    raised = record.exc_info[1] if record.exc_info else None
    given = record.args if isinstance(record.args, tuple) else ()
    for value in (*getattr(record, "fields", {}).values(), *given, raised):
        if isinstance(value, TidelineError):
            yield value


def _plain(name: str, value: Any) -> Any:
    """The value as JSON has it; a secret's name hides it."""
    if _SECRET.search(name):
        return HIDDEN
    if isinstance(value, Mapping):
        return {str(key): _plain(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(name, item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value) if isinstance(value, Cut) else _conceal(str(value))


def _conceal(text: str) -> str:
    """The text without what stands after the name of a secret, or before the @ of an address."""
    return _SECRET_IN_TEXT.sub(lambda found: f"{found[1] or found[2]}{HIDDEN}", text)
