"""What `GET /metrics` says, in one table, and where each value comes from.

Counts are the ledger's own, exact at the committed cut. What Kafka says is left out where it does not answer.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from serving_layer.exposition import Exposition, Metric
from serving_layer.kafka import Seen
from serving_layer.status import LAYERS, freshness, layer_status, views_waiting
from tideline import __version__
from tideline.cut import Cut
from tideline.ledger import Ledger, LogStats, add_counts
from tideline.retention import count_deleted
from tideline.runtime.home import Home

PLACE = ("topic", "partition")
COUNTED = ("source", "partition")
METRICS = (
    Metric("tideline_build_info", "gauge", ("version",), "Always 1; which release serves."),
    Metric("tideline_layer_up", "gauge", ("layer",), "Whether the layer's process lives."),
    Metric("tideline_layer_ready", "gauge", ("layer",), "Whether it lives and says that it is ready."),
    Metric("tideline_layer_start_time_seconds", "gauge", ("layer",), "Unix time at which the process started."),
    Metric("tideline_kafka_up", "gauge", (), "Whether Kafka answers; where it does not, what it holds is left out."),
    Metric("tideline_committed_offset", "gauge", PLACE, "The committed cut: every answer ends here."),
    Metric("tideline_archived_offset", "gauge", PLACE, "The archived cut: the master ends here."),
    Metric("tideline_published_offset", "gauge", PLACE, "The published cut: batch ends and speed begins here."),
    Metric("tideline_log_end_offset", "gauge", PLACE, "Where Kafka's log of committed records ends."),
    Metric("tideline_log_start_offset", "gauge", PLACE, "The first offset that Kafka still holds."),
    Metric("tideline_lag_events", "gauge", PLACE, "Offsets in Kafka that are not committed."),
    Metric(
        "tideline_lag_seconds",
        "gauge",
        ("topic",),
        "At most so old is the oldest record that is not committed, as exact as the time between two scrapes; "
        "0 where all are.",
    ),
    Metric("tideline_last_commit_timestamp_seconds", "gauge", (), "Unix time of the speed layer's last commit."),
    Metric("tideline_freshness_seconds", "gauge", (), "Age of the speed layer's last commit, as in every proof."),
    Metric(
        "tideline_retention_margin_offsets", "gauge", PLACE, "Archived offsets that Kafka holds; below 0 some are lost."
    ),
    Metric(
        "tideline_lost_offsets",
        "gauge",
        (*PLACE, "why"),
        "Offsets that a recovery named lost: expired, or replaced by other records.",
    ),
    Metric("tideline_retention_deleted_offsets", "gauge", PLACE, "Offsets that Kafka has deleted since the origin."),
    Metric("tideline_records_total", "counter", COUNTED, "Records before the committed cut."),
    Metric("tideline_events_total", "counter", COUNTED, "Records that count as events."),
    Metric("tideline_duplicates_total", "counter", COUNTED, "Events that repeat one and do not count."),
    Metric(
        "tideline_dead_letters_total", "counter", ("source", "reason"), "Dead letters, by what stands before the colon."
    ),
    Metric("tideline_rejects_total", "counter", ("view",), "Events that a live view's expressions failed on."),
    Metric(
        "tideline_partition_skew_ratio",
        "gauge",
        ("source",),
        "Records of the fullest partition by those of the mean one.",
    ),
    Metric("tideline_generations", "gauge", (), "Generations that hold states, the open one among them."),
    Metric("tideline_unpublished_offsets", "gauge", (), "Offsets committed and not published."),
    Metric("tideline_versions", "gauge", (), "Batch versions that can be asked."),
    Metric("tideline_published_version", "gauge", (), "The last published version."),
    Metric("tideline_last_publish_timestamp_seconds", "gauge", (), "Unix time of the last publish."),
    Metric(
        "tideline_views",
        "gauge",
        ("state",),
        "Views that answer (live), that wait for a batch run (waiting), and that failed (quarantined).",
    ),
    Metric("tideline_batch_interval_seconds", "gauge", (), "Time between the starts of two scheduled runs."),
    Metric("tideline_batch_runs_total", "counter", (), "Runs since the batch process started."),
    Metric("tideline_batch_failures_total", "counter", (), "Failed runs since the batch process started."),
    Metric("tideline_batch_error", "gauge", ("condition",), "1 while the last run of the batch process has failed."),
    Metric("tideline_batch_last_success_timestamp_seconds", "gauge", (), "Unix time at which a run last ended well."),
    Metric(
        "tideline_batch_last_run_duration_seconds",
        "gauge",
        ("mode",),
        "How long the last run with something to do took.",
    ),
    Metric("tideline_batch_last_run_rows", "gauge", (), "Records that it folded."),
    Metric("tideline_batch_step_duration_seconds", "gauge", ("step",), "How long each of its steps took."),
    Metric("tideline_batch_step_rows", "gauge", ("step",), "Records that the step archived or folded."),
    Metric(
        "tideline_speed_cycle_seconds",
        "summary",
        (),
        "Micro-batches from reading to commit, since the process started.",
    ),
    Metric("tideline_speed_last_cycle_duration_seconds", "gauge", (), "How long the last one took."),
    Metric("tideline_speed_states_total", "counter", (), "States written, since the process started."),
    Metric("tideline_store_size_bytes", "gauge", (), "What the store's file takes on disk."),
    Metric("tideline_store_used_bytes", "gauge", (), "How far the store's map was ever filled."),
    Metric("tideline_store_map_bytes", "gauge", (), "The most that the store can hold."),
    Metric("tideline_store_readers", "gauge", (), "Slots of the store's table of readers in use."),
    Metric("tideline_disk_free_bytes", "gauge", (), "Free space on the home's disk."),
    Metric("tideline_disk_size_bytes", "gauge", (), "Size of the home's disk."),
)


def metrics_text(home: Home, ledger: Ledger, seen: Seen, usage: Mapping[str, Any]) -> str:
    """The exposition; `seen` is what Kafka holds."""
    out = Exposition(METRICS)
    out.add("tideline_build_info", 1, __version__)
    layers = {layer: layer_status(home, layer) for layer in LAYERS}
    for layer, status in layers.items():
        out.add("tideline_layer_up", status["alive"], layer)
        out.add("tideline_layer_ready", status["ready"], layer)
        out.add("tideline_layer_start_time_seconds", status.get("started_at") if status["alive"] else None, layer)
    _kafka(out, ledger, seen)
    for name, cut in (
        ("committed", ledger.committed),
        ("archived", ledger.archived),
        ("published", ledger.version.cut),
    ):
        for topic, partition, offset in cut.complete(ledger.origin).partitions():
            out.add(f"tideline_{name}_offset", offset, topic, partition)
    _counts(out, ledger)
    _hand_off(out, ledger)
    _batch(out, ledger, layers["batch"])
    _speed(out, layers["speed"])
    for name, key in (("size_bytes", "bytes"), ("used_bytes", "used"), ("map_bytes", "map"), ("readers", "readers")):
        out.add(f"tideline_store_{name}", usage[key])
    disk = shutil.disk_usage(home.path)
    out.add("tideline_disk_free_bytes", disk.free)
    out.add("tideline_disk_size_bytes", disk.total)
    return out.text()


def _kafka(out: Exposition, ledger: Ledger, seen: Seen) -> None:
    held = seen.held
    out.add("tideline_kafka_up", held.error is None)
    for topic, partition, end in held.ends.partitions():
        out.add("tideline_log_end_offset", end, topic, partition)
        out.add("tideline_lag_events", max(end - ledger.committed.offset(topic, partition), 0), topic, partition)
    for topic, partition, start in held.starts.partitions():
        needed = min(ledger.archived.offset(topic, partition), ledger.committed.offset(topic, partition))
        out.add("tideline_log_start_offset", start, topic, partition)
        out.add("tideline_retention_margin_offsets", needed - start, topic, partition)
        deleted = count_deleted(ledger.origin.offset(topic, partition), start)
        out.add("tideline_retention_deleted_offsets", deleted, topic, partition)
    for topic in held.ends.topics():
        out.add("tideline_lag_seconds", seen.age(topic, ledger.committed), topic)


def _counts(out: Exposition, ledger: Ledger) -> None:
    log = ledger.log()
    for name, source in sorted(ledger.sources.items()):
        topic = str(source["topic"])
        counted = log.get(topic, {})
        stats = {partition: counted.get(partition, LogStats()) for partition in _partitions(ledger, topic)}
        dead: dict[str, int] = {}
        for partition, part in stats.items():
            out.add("tideline_records_total", part.records, name, partition)
            out.add("tideline_events_total", part.events, name, partition)
            out.add("tideline_duplicates_total", part.duplicates, name, partition)
            for reason, count in part.dead.items():
                dead = add_counts(dead, {reason.partition(":")[0]: count})
        for reason, count in sorted(dead.items()):
            out.add("tideline_dead_letters_total", count, name, reason)
        records = [part.records for part in stats.values()]
        if any(records):
            out.add("tideline_partition_skew_ratio", max(records) * len(records) / sum(records), name)
    for view, fingerprint in sorted(ledger.live.items()):
        out.add("tideline_rejects_total", ledger.rejects(fingerprint), view)


def _partitions(ledger: Ledger, topic: str) -> list[int]:
    cut: Cut = ledger.committed.complete(ledger.origin)
    return sorted(cut.offsets(topic))


def _hand_off(out: Exposition, ledger: Ledger) -> None:
    out.add("tideline_generations", len(ledger.generations))
    out.add("tideline_unpublished_offsets", ledger.committed.count_since(ledger.version.cut))
    out.add("tideline_versions", len(ledger.versions))
    out.add("tideline_published_version", ledger.version.id)
    out.add("tideline_last_publish_timestamp_seconds", ledger.version.published_at or None)
    out.add("tideline_views", len(ledger.live), "live")
    out.add("tideline_views", len(views_waiting(ledger)), "waiting")
    out.add("tideline_views", len(ledger.quarantined), "quarantined")
    lost: dict[tuple[str, int, str], int] = {}
    for loss in ledger.losses:
        place = loss.topic, loss.partition, loss.why
        lost[place] = lost.get(place, 0) + loss.end - loss.begin
    for place, offsets in lost.items():
        out.add("tideline_lost_offsets", offsets, *place)


def _batch(out: Exposition, ledger: Ledger, status: Mapping[str, Any]) -> None:
    last: Mapping[str, Any] = ledger.last_batch or {}
    told = status.get("last_run") or {}
    if told.get("version") == last.get("version"):
        last = told or last  # it knows the steps after the publish too
    ended = last["started_at"] + last["seconds"] if "started_at" in last else 0.0
    out.add("tideline_batch_last_success_timestamp_seconds", max(status.get("succeeded_at") or 0.0, ended) or None)
    if "mode" in last:
        out.add("tideline_batch_last_run_duration_seconds", last.get("seconds"), last["mode"])
        out.add("tideline_batch_last_run_rows", last.get("rows"))
    for step in last.get("steps") or ():
        out.add("tideline_batch_step_duration_seconds", step["seconds"], step["name"])
        out.add("tideline_batch_step_rows", step.get("rows"), step["name"])
    if status["alive"]:
        out.add("tideline_batch_interval_seconds", status.get("every"))
        out.add("tideline_batch_runs_total", status.get("runs"))
        out.add("tideline_batch_failures_total", status.get("failures"))
        if status.get("condition"):
            out.add("tideline_batch_error", 1, status["condition"])


def _speed(out: Exposition, status: Mapping[str, Any]) -> None:
    out.add("tideline_last_commit_timestamp_seconds", status.get("committed_at"))
    out.add("tideline_freshness_seconds", freshness(status))
    out.add("tideline_speed_cycle_seconds", status.get("seconds"), suffix="_sum")
    out.add("tideline_speed_cycle_seconds", status.get("cycles"), suffix="_count")
    out.add("tideline_speed_last_cycle_duration_seconds", status.get("cycle_seconds"))
    out.add("tideline_speed_states_total", status.get("states"))
