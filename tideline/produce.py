"""Send events to a topic: from a file or any iterable, at a rate, shuffled, with repeated ones.

Records are written with `acks=all` by an idempotent producer: each goes in once, whatever the network does.
Shuffles and repeats follow from the seed alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event as Flag
from types import TracebackType
from typing import Any, ClassVar

from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError
from kafka.partitioner.default import murmur2

from tideline.errors import OutsideError, Texts, UsageError
from tideline.eventfiles import Event, EventFile, retraction
from tideline.runtime.kafka_access import kafka_python
from tideline.runtime.topics import KafkaFault, Offsets, log_end_offsets, topic_partitions
from tideline.types import Column

MAX_EVENT_BYTES = 16 << 20
REPEAT_WINDOW = 10_000  # events; a repeat is one of the latest so many
_UNKEYED_RUN = 500  # records without a key that go to one partition before the next one's turn
_FLUSH_EVERY = 100_000  # records; bounds what waits in memory for a slow broker, and shows its refusals early
_REPORT_EVERY = 0.2  # seconds


class ProduceError(OutsideError):
    """Kafka did not take a record."""

    texts: ClassVar[Texts] = {
        "PRODUCE_FAILED": (
            "{failed} of {records} records were not written to {topic}: {reason}",
            "check the broker, then send again; repeats of an event id are not counted",
        ),
    }


@dataclass(frozen=True)
class Progress:
    """Where a run stands: events and repeats handed over, records per second, seconds left (or None)."""

    sent: int
    duplicates: int
    seconds: float
    rate: float
    fraction: float | None
    eta: float | None
    done: bool = False

    def __str__(self) -> str:
        parts = [f"{self.sent:,} events", f"{self.duplicates:,} repeats", f"{self.rate:,.0f}/s"]
        if self.fraction is not None:
            parts.append(f"{self.fraction:.0%}")
        if self.eta is not None and not self.done:
            parts.append(f"{self.eta:.0f} s left")
        return ", ".join(parts)


@dataclass(frozen=True)
class Summary:
    """What a run sent; `end` is where the topic's log ended after it, `{topic: {partition: offset}}`."""

    sent: int
    duplicates: int
    seconds: float
    rate: float
    end: Offsets

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON."""
        return asdict(self)


class Sender:
    """A topic to write to, partitioned by key as Kafka's own clients do; leaving the `with` block flushes."""

    def __init__(self, topic: str, bootstrap: str, linger_ms: int = 20) -> None:
        self.topic = topic
        self.bootstrap = bootstrap
        self.records = 0
        self._partitions = topic_partitions(bootstrap, [topic])[topic]
        self._failures: list[BaseException] = []
        try:
            self._producer = KafkaProducer(
                **kafka_python(bootstrap),
                client_id="tideline-produce",
                acks="all",
                enable_idempotence=True,
                compression_type="lz4",
                batch_size=256 << 10,
                linger_ms=linger_ms,
                max_request_size=MAX_EVENT_BYTES,
                metrics_enabled=False,
            )
        except KafkaError as error:
            raise KafkaFault("KAFKA_UNREACHABLE", bootstrap=bootstrap, reason=type(error).__name__) from error

    def send(self, event: Event, headers: list[tuple[str, bytes]] | None = None) -> Any:
        """Hand one record over; a failure shows at `flush`, and in the future that tells where it went.

        Raises UsageError EVENT_TOO_LARGE.
        """
        count, key = len(self._partitions), event.key
        place = self.records // _UNKEYED_RUN if key is None else murmur2(key) & 0x7FFFFFFF
        partition = self._partitions[place % count]
        try:
            future = self._producer.send(self.topic, event.value, key, headers, partition)
        except MessageSizeTooLargeError as error:
            raise UsageError(
                "EVENT_TOO_LARGE", bytes=len(event.value), limit=MAX_EVENT_BYTES, record=self.records + 1
            ) from error
        except KafkaError as error:
            self._failures.append(error)
            raise self._failed() from error
        future.add_errback(self._failures.append)
        self.records += 1
        if self.records % _FLUSH_EVERY == 0:
            self.flush()
        return future

    def flush(self) -> None:
        """Wait until Kafka has everything. Raises ProduceError PRODUCE_FAILED."""
        try:
            self._producer.flush(timeout=180)
        except KafkaError as error:
            self._failures.append(error)
        if self._failures:
            raise self._failed()

    def _failed(self) -> ProduceError:
        first = self._failures[0]
        return ProduceError(
            "PRODUCE_FAILED",
            failed=len(self._failures),
            records=self.records,
            topic=self.topic,
            reason=f"{type(first).__name__}: {str(first)[:200]}",
        )

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            self.close(5 if error is None else 1)

    def close(self, timeout: float = 1) -> None:
        """End its connections, waiting so many seconds for what is not written yet."""
        self._producer.close(timeout=timeout)


def produce(
    file: str | Path,
    topic: str,
    bootstrap: str,
    columns: Sequence[Column] = (),
    event_id: str | None = None,
    *,
    rate: float | None = None,
    limit: int | None = None,
    shuffle_seed: int | None = None,
    duplicate: float = 0.0,
    row_id: str | None = None,
    retract: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Flag | None = None,
) -> Summary:
    """Send a file's events to a topic that exists.

    `rate` is in records per second (None: as fast as it goes), `limit` counts rows of the file,
    `shuffle_seed` puts the whole file in a random order (in memory), `duplicate` is the probability that an
    event is followed by a repeat of itself or of one of the 10,000 before it. `retract` names the column of the
    operation, and makes every event a retraction. `progress` is called five times a second and at the end.
    Raises EventFileError, UsageError, KafkaFault, ProduceError.
    """
    if limit is not None and limit < 0:
        raise UsageError("BAD_LIMIT", value=limit, expected="a number of rows, 0 or more")
    events = EventFile(file, columns, event_id, row_id, limit)
    source: Iterable[Event] = events
    if shuffle_seed is not None:
        source = list(events)
        random.Random(shuffle_seed).shuffle(source)
    signed = source if retract is None else (retraction(event, retract) for event in source)
    stream = with_repeats(signed, duplicate, shuffle_seed or 0)

    def fraction(sent: int) -> float:
        return sent / max(len(source), 1) if isinstance(source, list) else events.fraction

    return send_all(stream, topic, bootstrap, rate=rate, fraction=fraction, progress=progress, stop=stop)


def produce_raw(values: Iterable[bytes | Event], topic: str, bootstrap: str) -> Summary:
    """Send values as they are, without a key, or with one as Events; for tests."""
    stream = ((value if isinstance(value, Event) else Event(None, value), False) for value in values)
    return send_all(stream, topic, bootstrap)


def with_repeats(events: Iterable[Event], probability: float, seed: int) -> Iterator[tuple[Event, bool]]:
    """Each event, marked False, and after it with `probability` a repeat, marked True: same key, same bytes.

    Half of the repeats follow their original at once, the others pick from the latest 10,000 events.
    """
    if not 0 <= probability <= 1:
        raise UsageError("BAD_PROBABILITY", value=probability, expected="a number from 0 to 1, such as 0.03")
    chance = random.Random(f"repeat-{seed}")
    recent: list[Event] = []
    for count, event in enumerate(events):
        yield event, False
        if not probability:
            continue
        if len(recent) < REPEAT_WINDOW:
            recent.append(event)
        else:
            recent[count % REPEAT_WINDOW] = event
        if chance.random() < probability:
            yield (event if chance.random() < 0.5 else chance.choice(recent)), True


def send_all(
    stream: Iterable[tuple[Event, bool]],
    topic: str,
    bootstrap: str,
    *,
    rate: float | None = None,
    fraction: Callable[[int], float] | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Flag | None = None,
) -> Summary:
    """Send a stream of (event, is a repeat), paced to `rate`, until it ends or `stop` is set."""
    if rate is not None and not rate > 0:
        raise UsageError("BAD_RATE", value=rate, expected="records per second, more than 0")
    flag = stop or Flag()
    sent = duplicates = 0
    begin = reported = time.monotonic()

    def report(now: float, done: bool = False) -> Progress:
        seconds = max(now - begin, 1e-9)
        share = fraction(sent) if fraction else None
        eta = seconds * (1 - share) / share if share else None
        return Progress(sent, duplicates, seconds, (sent + duplicates) / seconds, share, eta, done)

    with Sender(topic, bootstrap, linger_ms=2 if rate and rate < 1000 else 20) as sender:
        begin = reported = time.monotonic()
        for event, repeated in stream:
            sender.send(event)
            duplicates += repeated
            sent += not repeated
            if rate is None and sender.records % 256:
                continue
            now = time.monotonic()
            ahead = begin + sender.records / rate - now if rate else 0.0
            if flag.wait(ahead) if ahead > 0.002 else flag.is_set():
                break
            if progress and now - reported >= _REPORT_EVERY:
                reported = now
                progress(report(now))
        sender.flush()
        seconds = time.monotonic() - begin
    if progress:
        progress(report(begin + seconds, True))
    return Summary(
        sent,
        duplicates,
        seconds,
        (sent + duplicates) / max(seconds, 1e-9),
        log_end_offsets(bootstrap, [topic]),
    )
