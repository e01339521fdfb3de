"""Every kind of bad record between good ones: a dead letter with its reason, or an event, alike in every layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from bad_records import EVENT, NOW, RECORDS, SCHEMA, BadRecord, text
from installed import Installed
from kafka import KafkaProducer
from pyspark.sql import SparkSession

from tideline import Count, CountBy, Last, Source, Sum, View, days
from tideline.dead_letters import find
from tideline.oracle import verify
from tideline.produce import MAX_EVENT_BYTES

Place = tuple[int, int]


def views(topic: str) -> list[View]:
    source = Source("events", schema=SCHEMA, event_time="at", event_id="id", topic=topic, max_ahead=days(1))
    shown = {"k": "cast(_key as string)", "h": "cast(try_element_at(_headers, 1).value as string)"}
    return [
        View("totals", source=source, measures={"lines": Count(), "amount": Sum("amount"), "units": Sum("quantity")}),
        View("weeks", source=source, key="kind", bucket=days(7), measures={"lines": Count(), "kinds": CountBy("kind")}),
        View("keys", source=source, columns=shown, key="k", measures={"lines": Count(), "last": Last("h")}),
        View("raw", source=source, measures={"lines": Count(), "seen": CountBy("cast(raw as string)")}),
    ]


@dataclass
class Judged:
    """What became of the records: their places, and the reasons of the dead letters before and after the batch run."""

    places: dict[str, Place]
    fresh: dict[Place, str]
    archived: dict[Place, str]
    answers: list[Any]
    rejects: dict[str, int]
    verified: Any
    good: int


def send(installed: Installed) -> dict[str, Place]:
    """Each of RECORDS between two good events of its partition; its place by its kind."""
    with KafkaProducer(bootstrap_servers=installed.bootstrap, max_request_size=MAX_EVENT_BYTES) as producer:
        waiting = {}
        for number, bad in enumerate(RECORDS):
            partition, good = number % 2, [text(id=f"{side}{number}").encode() for side in ("before", "after")]
            producer.send(installed.topic, good[0], b"good", partition=partition)
            waiting[bad.kind] = producer.send(installed.topic, bad.value, bad.key, list(bad.headers), partition)
            producer.send(installed.topic, good[1], b"good", partition=partition)
        producer.flush(60)
        return {kind: (sent.get().partition, sent.get().offset) for kind, sent in waiting.items()}


def reasons(installed: Installed) -> dict[Place, str]:
    letters = find(installed.home, installed.ledger, installed.bootstrap, None, None, [], 10_000)
    return {(letter.partition, letter.offset): letter.reason for letter in letters}


@pytest.fixture(scope="module")
def judged(spark: SparkSession, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    installed = Installed(spark, kafka, tmp_path_factory.mktemp("bad") / "home", f"bad-{NOW:%H%M%S}")
    try:
        installed.apply(*views(installed.topic))
        places = send(installed)
        with installed.speed():
            installed.wait_committed()
            fresh, answers = reasons(installed), [installed.look()[1]]
            rejects = {name: installed.ledger.rejects(of) for name, of in installed.ledger.live.items()}
            installed.batch()
        answers.append(installed.look()[1])
        archived = reasons(installed)
        installed.batch(full=True)
        answers.append(installed.look()[1])
        verified = verify(installed.home, None, installed.bootstrap)
        yield Judged(places, fresh, archived, answers, rejects, verified, 2 * len(RECORDS))
    finally:
        installed.close()


def test_there_are_forty_kinds_and_no_two_of_one_name() -> None:
    assert len({bad.kind for bad in RECORDS}) == len(RECORDS) > 40


@pytest.mark.parametrize("bad", RECORDS, ids=lambda bad: bad.kind)
def test_a_bad_record_gets_what_the_table_says_before_and_after_the_batch_run(judged: Judged, bad: BadRecord) -> None:
    place = judged.places[bad.kind]
    assert (judged.fresh.get(place, EVENT), judged.archived.get(place, EVENT)) == (bad.gets, bad.gets)


def test_everything_around_them_is_counted_and_both_layers_and_the_oracle_agree(judged: Judged) -> None:
    odd = sum(bad.gets == EVENT for bad in RECORDS)
    dead = Counter(bad.gets for bad in RECORDS if bad.gets != EVENT)
    assert Counter(judged.fresh.values()) == Counter(judged.archived.values()) == dead
    speed, batch, full = judged.answers
    assert speed == batch == full
    assert speed["totals"][(), None]["lines"] == judged.good + odd
    assert sum(row["lines"] for row in speed["weeks"].values()) == judged.good + odd
    assert judged.verified.ok, judged.verified.to_text()


def test_bytes_that_are_no_text_reject_their_event_from_the_views_that_read_them_as_text(judged: Judged) -> None:
    assert judged.rejects == {"totals": 0, "weeks": 0, "keys": 2, "raw": 1}
