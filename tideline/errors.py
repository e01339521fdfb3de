"""Errors: a condition, its parameters, what happened in one line, and what to do about it.

Callers and tests go by `condition` and `params`; `message` and `hint` are for people. `to_json` is
the one JSON shape in which every layer, the command line and HTTP report an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

Texts = Mapping[str, tuple[str, str]]

EXIT_DONE = 0
EXIT_NO = 1
EXIT_USAGE = 2
EXIT_OUTSIDE = 3


class TidelineError(Exception):
    """Any refusal of Tideline's own.

    `condition` is an UPPER_CASE name, `params` its JSON-able values. Without `message`, the class's `texts`
    give message and hint for the condition, filled in with the params.
    """

    exit_code = EXIT_OUTSIDE
    texts: ClassVar[Texts] = {}

    def __init__(self, condition: str, message: str | None = None, hint: str | None = None, **params: Any) -> None:
        text, advice = self.texts.get(condition, ("", ""))
        self.condition = condition
        self.params = params
        self.message = message if message is not None else text.format_map(_Known(params)) or _spell(condition, params)
        self.hint = hint if hint is not None else advice.format_map(_Known(params))
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.condition, self.message, self.hint, self.params)

    def to_json(self) -> dict[str, Any]:
        """`{"error": {"condition", "message", "hint", "params"}}`, all JSON-able."""
        params = {name: _plain(value) for name, value in self.params.items()}
        return {
            "error": {
                "condition": self.condition,
                "message": self.message,
                "hint": self.hint,
                "params": params,
            }
        }


class DefinitionError(TidelineError):
    """A source, view, measure or catalog that cannot be what it says it is."""

    exit_code = EXIT_USAGE


class UsageError(TidelineError):
    """A command, query or input that is wrong; the params say what would be right."""

    exit_code = EXIT_USAGE
    texts: ClassVar[Texts] = {
        "UNKNOWN_VIEW": ("there is no view {view}", "views that can be asked: {known}"),
        "UNKNOWN_SOURCE": ("there is no source {source}", "sources: {known}"),
        "UNKNOWN_VERSION": ("version {version} is not retained", "versions that can be asked: {known}"),
        "BAD_CUT": (
            "{text!r} is not a cut",
            "write it as topic:partition=offset,partition=offset, as in sales:0=10,1=5",
        ),
    }


class NegativeAnswer(TidelineError):
    """Nothing is broken, but the answer to the question that was put is no."""

    exit_code = EXIT_NO


class OutsideError(TidelineError):
    """A fault outside: Kafka, Java, the disk, a port, another process."""

    exit_code = EXIT_OUTSIDE


class LostLogError(OutsideError):
    """Kafka does not hold, or not any more, what was to be read (invariant 7)."""

    texts: ClassVar[Texts] = {
        "LOG_TRUNCATED": (
            "{topic} partition {partition}: offsets [{begin}, {end}) were not read, and Kafka has deleted them",
            "run `tideline recover`: it says what is lost, marks the answers with it, and goes on",
        ),
        "LOG_ENDS_EARLY": (
            "{topic} partition {partition}: Kafka's log ends at offset {end}, offsets up to {known} were read before",
            "the broker lost the end of its log: `tideline recover` goes back to what the master and Kafka hold",
        ),
        "LOG_REUSED": (
            "{topic} partition {partition}: Kafka's log ends at offset {end}, the master holds offsets up to {known}",
            "new records would take the places of archived ones: restore its log, or make the topic anew and run "
            "`tideline recover --rebase`",
        ),
        "PARTITIONS_GONE": (
            "topic {topic} has {found} partitions, what is known of it ends at offset {end} of partition {partition}",
            "give the new topic as many partitions as the old one had, then run `tideline recover --rebase` again",
        ),
        "COPIED_LOG": (
            "{topic} partition {partition}: the records from offset {begin} on are in the master already",
            "they would count twice: delete them from the new topic (kafka-delete-records) up to the first that was "
            "not archived, then run `tideline recover --rebase` again",
        ),
    }


class StoreError(OutsideError):
    """The serving store cannot be opened or written."""

    texts: ClassVar[Texts] = {
        "STORE_MISSING": (
            "there is no Tideline store at {path}",
            "check --home; `tideline up` or `tideline apply` makes a new installation there",
        ),
        "STORE_FORMAT": (
            "the store at {path} has format {found}, this release reads {known}",
            "use the release that wrote it; after an upgrade, `tideline rebuild --catalog FILE` makes it anew",
        ),
        "LEDGER_FORMAT": (
            "the ledger has format {found}, this release reads {known}",
            "use the release that wrote it; after an upgrade, `tideline rebuild --catalog FILE` makes it anew",
        ),
        "STORE_IN_USE": (
            "the store at {path} is open in process {pid}",
            "stop it (tideline up, tideline serve, or a program that reads the home), then run this again",
        ),
        "STORE_READ_ONLY": (
            "the store at {path} was opened for reading",
            "open it for writing before anything in this process opens it for reading only",
        ),
        "STORE_INCOMPLETE": (
            "the store at {path} names no format: it is not a Tideline store, or its creation was cut off",
            "run `tideline rebuild --catalog FILE`: it moves it away and makes one from the master",
        ),
        "STORE_CUT_SHORT": (
            "the store at {path} has {found} bytes of its file, and uses {needed}",
            "stop everything on this home, and restore the file or run `tideline rebuild --catalog FILE`, which makes "
            "it from the master",
        ),
        "STORE_FAILED": (
            "the store at {path} failed: {reason}",
            "check the disk's space, its permissions and its health",
        ),
        "STORE_OTHER_PIDS": (
            "the store at {path} is used by a process with this one's id: {reason}",
            "processes on one store must share a PID namespace: shareProcessNamespace in a pod, `pid: host` in compose",
        ),
        "STORE_DAMAGED": (
            "the store at {path} is damaged: {reason}",
            "stop everything on this home and run `tideline rebuild --catalog FILE`, which makes it from the master",
        ),
        "STORE_DISK_FULL": (
            "the disk of the store at {path} is full: {reason}",
            "free some space and start again; what was committed is there",
        ),
        "STORE_MAP_FULL": (
            "the store at {path} has outgrown its map: {reason}",
            "lower batch.keep_versions or the views' keep, and run `tideline rebuild --catalog FILE`",
        ),
        "STORE_FORKED": (
            "the store at {path} was opened by process {owner} and used after a fork by process {pid}",
            "open the store in the process that uses it",
        ),
        "STORE_CLOSED": ("the store at {path} is closed", "open it again"),
        "STORE_FULL_OF_SPACES": (
            "the store has room for {room} spaces, and {space} is one more",
            "lower batch.keep_versions, or apply fewer views",
        ),
    }


class ProtocolError(TidelineError):
    """A transition of the ledger that would break an invariant, refused; the ledger is unchanged."""

    exit_code = EXIT_OUTSIDE
    texts: ClassVar[Texts] = {
        "NOT_ARCHIVED": (
            "{topic} partition {partition} is archived up to {archived}, the publish wants {wanted}",
            "nothing was published; the next batch run archives that range first",
        ),
        "CUT_NOT_SEALED": (
            "the cut {cut} is not where a generation begins",
            "nothing was published; begin the batch run again, it seals first (cuts that are sealed: {known})",
        ),
        "CUT_FALLS": (
            "the cut {found} lies before {current}",
            "this range was passed already, and nothing was changed; start the layer again, it goes on from the ledger",
        ),
        "UNKNOWN_LAYER": ("there is no layer {layer}", "layers with a fence: {known}"),
        "UNKNOWN_TOPIC": (
            "the ledger knows no topic {topic}",
            "apply a catalog with a source on that topic first",
        ),
        "UNKNOWN_SOURCE": (
            "definition {fingerprint} is over source {source}, which the catalog lacks",
            "apply the source with the views over it",
        ),
        "LOAD_NOT_SORTED": (
            "space {space}: a key is not after the one before it",
            "nothing was published; begin the batch run again, it computes the segment anew",
        ),
        "UNKNOWN_DEFINITION": (
            "the ledger holds no definition {fingerprint}",
            "apply a catalog that defines it first",
        ),
        "NO_ORIGIN": (
            "topic {topic} is new and has no origin offsets or no topic id",
            "look both up in Kafka and apply again",
        ),
        "UNKNOWN_SEGMENT": (
            "segment {segment} is neither in the ledger nor in this publish",
            "publish it with the version",
        ),
        "SEGMENT_ID": (
            "segment {segment} has an id that was not allotted or is in use",
            "take ids from Ledger.allot in the same run",
        ),
        "LOG_OUT_OF_RANGE": (
            "{topic} partition {partition} reports {records} records in [{begin}, {end})",
            "fold exactly the records of the range that is committed",
        ),
        "KEEP_VERSIONS": (
            "a publish must keep at least one version, not {keep}",
            "pass keep_versions of 1 or more",
        ),
    }


class StaleCommitError(ProtocolError):
    """A commit that begins before the committed cut: its range, or a part of it, is in (invariant 2)."""

    texts: ClassVar[Texts] = {
        "STALE_COMMIT": (
            "the commit begins at {topic} partition {partition} offset {found}, the ledger is at {expected}",
            "nothing was changed; start the speed layer again, it goes on from the ledger's cut",
        ),
    }


class GapError(ProtocolError):
    """A range that does not join on to the ledger's cut (invariants 2 and 7)."""

    texts: ClassVar[Texts] = {
        "GAP": (
            "{topic} partition {partition}: offsets [{expected}, {found}) would be left out",
            "nothing was changed; start the layer again: it goes on from the ledger, and names what Kafka lacks",
        ),
    }


class FenceError(ProtocolError):
    """A writer whose fence another one has taken since (invariant 9)."""

    texts: ClassVar[Texts] = {
        "FENCED": (
            "the {layer} layer's fence {token} was replaced by {current}",
            "another {layer} writer took over: stop this one, or start it again to take a new fence",
        ),
    }


class DefinitionSetError(ProtocolError):
    """Work done under another set of definitions than the one in force (invariant 8)."""

    texts: ClassVar[Texts] = {
        "DEFINITIONS_CHANGED": (
            "generation {generation} carries {expected}, the commit {found}",
            "plan again with the open generation's definitions",
        ),
        "SOURCES_CHANGED": (
            "the ledger's sources are {expected}, the archive used {found}",
            "plan the archive again",
        ),
        "VIEW_NOT_FOLDED": (
            "view {view} ({fingerprint}) cannot go live: generation {generation} does not carry it",
            "seal, then build and publish it at the new cut",
        ),
        "GENERATION_CHANGED": (
            "generation {generation} is no longer the open one",
            "plan again with the open generation's definitions",
        ),
        "VIEWS_QUARANTINED": (
            "views failed and were put into quarantine: {views}",
            "begin the run again without them",
        ),
    }


class ChecksumError(ProtocolError):
    """The archive and the speed layer did not see the same records (invariant 7)."""

    texts: ClassVar[Texts] = {
        "CHECKSUM": (
            "{topic} partition {partition}: the archive holds {found_records} records with checksum "
            "{found_checksum}, the ledger counted {expected_records} with {expected_checksum}, up to {cut}",
            "nothing is published; run `tideline recover`: it archives that again, and names what was lost or replaced",
        ),
    }


class MissingViewError(ProtocolError):
    """A publish without a view that must go on being answered (invariant 5)."""

    texts: ClassVar[Texts] = {
        "VIEW_NOT_PUBLISHED": (
            "the version at {cut} lacks view {view} ({fingerprint}), which is live",
            "nothing was published; begin the batch run again, it builds what is missing",
        ),
    }


class TilingError(ProtocolError):
    """Segments of a view with a hole, an overlap, or another end than the version's (invariants 5, 7)."""

    texts: ClassVar[Texts] = {
        "SEGMENTS_DO_NOT_TILE": (
            "view {view} ({fingerprint}): after {expected} comes {found}",
            "nothing was published; `tideline batch --full` computes every segment anew",
        ),
        "SEGMENT_OF_ANOTHER_VIEW": (
            "segment {segment} belongs to {found}, not to view {view} ({fingerprint})",
            "list each view's own segments",
        ),
    }


class MissingSegmentError(ProtocolError):
    """A segment, generation or range that the ledger names and the store lacks (invariant 7)."""

    texts: ClassVar[Texts] = {
        "MISSING_SPACE": (
            "the store lacks {space}, which the ledger names",
            "stop everything on this home and run `tideline rebuild --catalog FILE`, which makes it from the master",
        ),
        "INCOMPLETE_SPACE": (
            "segment {segment} has {expected} rows, its copy in the store {found}",
            "nothing was published; begin the batch run again, it loads the segment anew",
        ),
        "GENERATION_LACKS_VIEW": (
            "generation {generation} holds no states of {fingerprint} for [{begin}, {end})",
            "wait for the next publish, which covers that range",
        ),
        "VIEW_NOT_IN_VERSION": (
            "version {version} holds no segments of {fingerprint}",
            "ask a version that was published after the view was built",
        ),
    }


class TopicRecreatedError(ProtocolError):
    """A topic that was deleted and made again: its offsets mean other records now (invariant 7)."""

    texts: ClassVar[Texts] = {
        "TOPIC_RECREATED": (
            "topic {topic} has id {found}, the ledger knows it as {expected}",
            "it was deleted and created again, or this is another cluster; stop the layers and run "
            "`tideline recover --rebase`, and what comes there counts on top of what was archived",
        ),
    }


class _Known(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "{" + name + "}"


def _spell(condition: str, params: dict[str, Any]) -> str:
    values = ", ".join(f"{name} {value}" for name, value in params.items())
    text = condition.lower().replace("_", " ")
    return f"{text}: {values}" if values else text


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(item) for item in value)
    return str(value)


def _restore(
    kind: type[TidelineError], condition: str, message: str, hint: str, params: dict[str, Any]
) -> TidelineError:
    return kind(condition, message, hint, **params)
