"""Events over HTTP: checked against their source, written to Kafka, and told by the cut that covers them."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

from serving_layer.find import NotReadyError
from serving_layer.kafka import bootstrap_of
from tideline.cut import Cut
from tideline.errors import Texts, UsageError
from tideline.ledger import Ledger
from tideline.runtime.home import Home
from tideline.source import SourceDefinition, check_known

if TYPE_CHECKING:
    from tideline.produce import Sender

TIMEOUT = 30.0  # seconds in which Kafka has to take the events of a request
_SHOWN = 20  # refused events that an error names
_LINGER_MS = 2
_SPACE = " \t\r\n"


class IntakeError(UsageError):
    """Events that cannot be taken; none of the request is written."""

    texts: ClassVar[Texts] = {
        "NO_EVENTS": ("the body has no events", "post JSON objects, one a line, or an array of them"),
        "EVENTS_NOT_JSON": (
            "event {event} is not JSON: {reason}",
            "post JSON objects, one a line, or an array of them",
        ),
        "BAD_EVENTS": (
            "{count} of {events} events do not fit source {source}; the first: {reason}",
            "docs/decoding.md says what each type accepts; nothing was written",
        ),
    }


class Intake:
    """Writes events to the Kafka that the processes of a home use. Safe to use from several threads."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._senders: dict[tuple[str, str], Sender] = {}

    def take(self, ledger: Ledger, name: str, body: bytes) -> dict[str, Any]:
        """Writes the events of a body with acks=all; `{"source", "events", "cut", "at_least"}`.

        The cut covers them: an answer that is asked `at_least` for it counts each, unless it repeats another. Raises
        UsageError UNKNOWN_SOURCE, IntakeError, KafkaFault, ProduceError.
        """
        check_known(name, ledger.sources)
        source = SourceDefinition.from_json(ledger.sources[name])
        values = split_events(body)
        _check(source, values)
        cut = self._write(source, values)
        return {"source": name, "events": len(values), "cut": cut.to_json(), "at_least": str(cut)}

    def _write(self, source: SourceDefinition, values: list[bytes]) -> Cut:
        from kafka.errors import KafkaError

        from tideline.eventfiles import Event, json_key
        from tideline.produce import ProduceError

        sender = self._sender(source.topic)
        events = [Event(json_key(value, source.event_id) if source.event_id else None, value) for value in values]
        deadline = time.monotonic() + TIMEOUT
        ends: dict[int, int] = {}
        try:
            with self._lock:
                sent = [sender.send(event) for event in events]
            for one in sent:
                told = one.get(max(deadline - time.monotonic(), 0.1))
                ends[told.partition] = max(ends.get(told.partition, 0), told.offset + 1)
        except ProduceError:
            self._forget(sender)
            raise
        except KafkaError as error:
            self._forget(sender)
            told = f"{type(error).__name__}: {str(error)[:200]}"
            count = len(values)
            raise ProduceError(
                "PRODUCE_FAILED", failed=count, records=count, topic=source.topic, reason=told
            ) from error
        return Cut({source.topic: ends})

    def _sender(self, topic: str) -> Sender:
        from tideline.produce import Sender

        bootstrap = bootstrap_of(self._home)
        if bootstrap is None:
            raise NotReadyError("KAFKA_UNKNOWN", home=str(self._home.run))
        with self._lock:
            found = self._senders.get((bootstrap, topic))
            if found is None:
                found = self._senders[bootstrap, topic] = Sender(topic, bootstrap, _LINGER_MS)
            return found

    def _forget(self, sender: Sender) -> None:
        """The next request connects anew."""
        with self._lock:
            self._senders = {where: other for where, other in self._senders.items() if other is not sender}
        sender.close()

    def close(self) -> None:
        """Ends its connections."""
        with self._lock:
            senders, self._senders = self._senders, {}
        for sender in senders.values():
            sender.close()


def split_events(body: bytes) -> list[bytes]:
    """The events of a body, byte for byte: JSON values one after another, or the elements of one array.

    Raises IntakeError NO_EVENTS, EVENTS_NOT_JSON.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise IntakeError("EVENTS_NOT_JSON", event=1, reason="not UTF-8") from error
    at = _skip(text, 0)
    is_array = text[at : at + 1] == "["
    at = _skip(text, at + 1) if is_array else at
    found: list[bytes] = []
    while at < len(text) and not (is_array and text[at] == "]"):
        begin = at
        try:
            _, at = _JSON.raw_decode(text, begin)
            found.append(text[begin:at].encode())
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise IntakeError("EVENTS_NOT_JSON", event=len(found) + 1, reason=reason[:200]) from None
        at = _skip(text, at)
        if is_array and text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif is_array and text[at : at + 1] != "]":
            raise IntakeError("EVENTS_NOT_JSON", event=len(found), reason="neither , nor ] follows it")
    if is_array and text[at : at + 1] != "]":
        raise IntakeError("EVENTS_NOT_JSON", event=max(len(found), 1), reason="the array does not end")
    if is_array and _skip(text, at + 1) < len(text):
        raise IntakeError("EVENTS_NOT_JSON", event=max(len(found), 1), reason="something follows the array")
    if not found:
        raise IntakeError("NO_EVENTS")
    return found


_JSON = json.JSONDecoder()


def _skip(text: str, at: int) -> int:
    """The next place that is no white space."""
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _check(source: SourceDefinition, values: list[bytes]) -> None:
    """Raises IntakeError where the layers would make dead letters of some."""
    import pyarrow as pa

    from tideline.decode import decode_values

    times = pa.array([int(time.time() * 1e6)] * len(values), pa.timestamp("us", "UTC"))
    _, reasons = decode_values(source, pa.array(values, pa.binary()), times, [None] * len(values), [None] * len(values))
    refused = [(place, reason) for place, reason in enumerate(reasons.to_pylist(), 1) if reason is not None]
    if refused:
        raise IntakeError(
            "BAD_EVENTS",
            source=source.name,
            events=len(values),
            count=len(refused),
            reason=f"event {refused[0][0]}: {refused[0][1]}",
            refused=[{"event": place, "reason": reason} for place, reason in refused[:_SHOWN]],
        )
