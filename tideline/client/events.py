"""Server-sent events, line by line."""

from __future__ import annotations

import json
from typing import Any

from tideline.client.answers import Change
from tideline.errors import OutsideError


class EventReader:
    """Makes changes of the lines of a stream."""

    def __init__(self) -> None:
        self.last: str | None = None
        self._seen: str | None = None
        self._fields: dict[str, str] = {}

    def is_new(self) -> bool:
        """Whether a change came since this was asked last."""
        seen, self._seen = self._seen, self.last
        self._fields = {}
        return seen != self.last

    def take(self, line: str) -> Change | None:
        """The change that ends with a line, if one does. Raises OutsideError for the event of an error."""
        if line:
            name, _, value = line.partition(":")
            if name:
                self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        data: dict[str, Any] = json.loads(fields["data"])
        if fields.get("event") == "error":
            error = data["error"]
            raise OutsideError(error["condition"], error["message"], error["hint"], **error["params"])
        self.last = fields["id"]
        removed = data.get("removed", [])
        return Change(fields["event"], self.last, data["rows"], removed, data["cut"], data["version"])
