"""Settings: rows of (name, type, default, help), read from a TOML file, the environment and the command line.

A later place wins over an earlier one: default, `--config FILE`, `TIDELINE_*`, command line.
`kafka.bootstrap` is `bootstrap` in the file's table `[kafka]` and `TIDELINE_KAFKA_BOOTSTRAP` in the
environment. The table `[spark]` takes settings of Spark itself, and these are never overridden.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tideline.durations import to_micros
from tideline.errors import Texts, UsageError
from tideline.runtime.kafka_access import MECHANISMS, PROTOCOLS, SECRET, Access, Servers, resolve
from tideline.runtime.logs import FORMATS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ENVIRONMENT_PREFIX = "TIDELINE_"
# Read elsewhere, before settings are.
NOT_SETTINGS = frozenset(
    {"TIDELINE_CACHE", "TIDELINE_HOME", "TIDELINE_CONFIG", "TIDELINE_KILL_AT", "TIDELINE_JDBC_PASSWORD"}
)


_SERVER = r"([^\s,:/\[\]]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}"
_PATTERNS = {
    "servers": (rf"({_SERVER}(\s*,\s*{_SERVER})*)?", "host:port, with commas between several"),
    "memory": (r"[1-9][0-9]{0,9}[kmgtKMGT]b?", "a size such as 512m or 2g"),
    "secret": (rf"({SECRET.pattern})?", "${env:NAME} or ${file:PATH}, so that it stands nowhere else"),
}
_RANGES = {"integer": (1, 2**31 - 1), "port": (0, 65_535), "door": (0, 65_535), "niceness": (0, 19)}


class SettingError(UsageError):
    """A setting that does not exist, or a value that does not fit it."""

    texts: ClassVar[Texts] = {
        "UNKNOWN_SETTING": (
            "{where} names the setting {name}, which does not exist",
            "did you mean {closest}?",
        ),
        "BAD_SETTING": ("{where} sets {name} to {value!r}", "it takes {expected}"),
        "CONFIG_UNREADABLE": (
            "the configuration {path} cannot be read: {reason}",
            "name a TOML file with --config",
        ),
    }


@dataclass(frozen=True)
class Setting:
    """One row. `kind` is one of _PATTERNS, text (where there are `choices`, one of them), name (text), integer,
    duration (text such as 15m), port (0: any free one), door (a port, or off) or niceness.

    `${env:NAME}` and `${file:PATH}` stand for what is there; of a name or a secret not before a client shows it.
    """

    name: str
    kind: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.name.upper().replace(".", "_")

    def parse(self, value: Any, where: str) -> Any:
        """The checked value. Raises SettingError BAD_SETTING, AccessFault SECRET_MISSING."""
        if not isinstance(value, str) or self.kind in ("name", "secret"):
            return self._parse(value, where)
        try:
            return self._parse(resolve(value), where)
        except SettingError as error:
            raise self._bad(value, where, error.params["expected"]) from None

    def _parse(self, value: Any, where: str) -> Any:
        if self.choices and value not in self.choices:
            raise self._bad(value, where, " or ".join(self.choices))
        if self.kind in ("text", "name"):
            if isinstance(value, (str, int)) and not isinstance(value, bool):
                return str(value)
            raise self._bad(value, where, "text")
        if self.kind in _PATTERNS:
            pattern, expected = _PATTERNS[self.kind]
            if not isinstance(value, str) or not re.fullmatch(pattern, value.strip()):
                raise self._bad("..." if self.kind == "secret" else value, where, expected)
            return value.strip()
        if self.kind == "duration":
            try:
                to_micros(value if isinstance(value, str) else str(value))
            except UsageError:
                raise self._bad(value, where, "a duration such as 30s, 15m, 1h") from None
            return value.strip()
        if self.kind in ("port", "door") and value == "auto":
            return 0
        if self.kind == "door" and value == "off":
            return value
        low, high = _RANGES[self.kind]
        more = {"port": ", or auto", "door": ", auto or off"}.get(self.kind, "")
        expected = f"a whole number from {low} to {high}{more}"
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            raise self._bad(value, where, expected)
        return number

    def _bad(self, value: Any, where: str, expected: str) -> SettingError:
        return SettingError("BAD_SETTING", name=self.name, value=value, where=where, expected=expected)


ROWS: tuple[Setting, ...] = (
    Setting(
        "kafka.bootstrap",
        "servers",
        "",
        "Bootstrap servers of a Kafka to use, `host:port,...`; empty: an embedded one.",
    ),
    Setting("kafka.security", "text", "plaintext", "How that Kafka is spoken to.", PROTOCOLS),
    Setting("kafka.sasl_mechanism", "text", "PLAIN", "How the name and the password are shown.", MECHANISMS),
    Setting("kafka.username", "name", "", "Who comes; text, `${env:NAME}` or `${file:PATH}`."),
    Setting("kafka.password", "secret", "", "Their password: `${env:NAME}` or `${file:PATH}`."),
    Setting("kafka.ca", "text", "", "File with the authorities that vouch for the servers, PEM; empty: the system's."),
    Setting("kafka.certificate", "text", "", "File with a certificate to show, PEM; empty: none."),
    Setting("kafka.key", "text", "", "File with the key of that certificate, PEM, not encrypted."),
    Setting("kafka.port", "port", 9092, "Port of the embedded broker on the loopback interface; auto: a free one."),
    Setting("kafka.partitions", "integer", 4, "Partitions of a topic that Tideline creates."),
    Setting(
        "kafka.retention_hours",
        "integer",
        720,
        "Hours that the embedded broker keeps records; must exceed the time between batch runs.",
    ),
    Setting("speed.trigger", "duration", "0s", "Least time between two micro-batches; 0s: one follows the other."),
    Setting(
        "speed.max_offsets_per_trigger",
        "integer",
        1_000_000,
        "Most offsets that a micro-batch takes from Kafka.",
    ),
    Setting(
        "speed.consumer_group",
        "text",
        "auto",
        "Kafka consumer group that shows the committed cut; auto: `tideline-` and the installation's id; empty: none.",
    ),
    Setting(
        "batch.every",
        "duration",
        "5m",
        "Time between the starts of two batch runs of `tideline up`; `tideline batch` takes `--every`.",
    ),
    Setting(
        "batch.nice",
        "niceness",
        10,
        "By how much a batch run gives way to other processes of its machine, as `nice` has it; 0: not at all.",
    ),
    Setting("batch.keep_versions", "integer", 3, "Batch versions that stay readable."),
    Setting("serve.host", "text", "127.0.0.1", "Address that the HTTP API listens on."),
    Setting("serve.port", "port", 8400, "Port of the HTTP API and its page; auto: a free one."),
    Setting("serve.flight_port", "door", "off", "Port for Arrow Flight SQL; auto: a free one; off: none."),
    Setting(
        "serve.tls_certificate", "text", "", "File with the server's certificate and its chain, PEM; empty: no TLS."
    ),
    Setting("serve.tls_key", "text", "", "File with the key of the certificate, PEM."),
    Setting(
        "serve.cors_origins",
        "text",
        "",
        "Origins whose pages may ask the HTTP API from a browser, with commas; empty: none but its own page.",
    ),
    Setting(
        "serve.most_rows",
        "integer",
        1_000_000,
        "Rows that one request is answered with at most, which take the server about a kilobyte of memory each.",
    ),
    Setting("log.format", "text", "text", "Log lines of the layers: text, or json, one object a line.", FORMATS),
    Setting(
        "spark.driver_memory",
        "memory",
        "2g",
        "Heap of each layer's Spark driver, which in local mode does all work.",
    ),
    Setting("spark.cores", "integer", 2, "Cores for each layer's local Spark, and its shuffle partitions."),
)
BY_NAME: Mapping[str, Setting] = {row.name: row for row in ROWS}


class Settings(Mapping[str, Any]):
    """Checked values by name, `settings["kafka.port"]`; `spark` holds the user's own Spark settings."""

    def __init__(self, values: Mapping[str, Any] | None = None, spark: Mapping[str, str] | None = None) -> None:
        self._values = {row.name: row.default for row in ROWS} | dict(values or {})
        self.spark: dict[str, str] = dict(spark or {})

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def micros(self, name: str) -> int:
        """A duration setting in microseconds."""
        return to_micros(self._values[name])

    def seconds(self, name: str) -> float:
        """A duration setting in seconds."""
        return self.micros(name) / 1_000_000

    @property
    def kafka(self) -> Servers | None:
        """The Kafka that is configured, and how it is reached; None for the embedded one. Raises AccessFault."""
        if not self["kafka.bootstrap"]:
            return None
        names = ("username", "password", "ca", "certificate", "key")
        given = {name: self[f"kafka.{name}"] for name in names}
        access = Access(self["kafka.security"], self["kafka.sasl_mechanism"], **given)
        access.check()
        return Servers(self["kafka.bootstrap"], access)

    def with_values(self, values: Mapping[str, Any], where: str = "the command line") -> Settings:
        """These settings with others laid over them; None means not given. Raises SettingError."""
        given = {name: _row(name, where).parse(value, where) for name, value in values.items() if value is not None}
        return Settings({**self._values, **given}, self.spark)

    def to_toml(self) -> str:
        """The settings as a configuration file that reads back to them."""
        tables: dict[str, dict[str, Any]] = {}
        for name, value in self._values.items():
            table, _, key = name.partition(".")
            tables.setdefault(table, {})[key] = value
        tables.setdefault("spark", {}).update(self.spark)
        return "\n".join(
            f"[{table}]\n" + "".join(f"{_toml(key)} = {_toml(value, True)}\n" for key, value in values.items())
            for table, values in tables.items()
        )


def load_settings(
    config: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from a TOML file, `TIDELINE_*` variables and the command line's values (None: not given).

    Raises SettingError naming the place, the setting, and the nearest one that exists.
    """
    settings = Settings()
    if config is not None:
        values, settings.spark = _read_file(Path(config))
        settings = settings.with_values(values, str(config))
    variables = {row.variable: row.name for row in ROWS}
    for variable, value in (os.environ if environment is None else environment).items():
        if variable in variables:
            settings = settings.with_values({variables[variable]: value}, variable)
        elif variable.startswith(ENVIRONMENT_PREFIX) and variable not in NOT_SETTINGS:
            raise _unknown(variable, "the environment", list(variables))
    return settings.with_values(overrides or {})


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingError("CONFIG_UNREADABLE", path=str(path), reason=reason) from error
    values, spark = {}, {}
    for table, entries in tables.items():
        if not isinstance(entries, dict):
            raise _unknown(table, str(path), list(BY_NAME))
        for name, value in _flat(table, entries):
            if name in BY_NAME or not name.startswith("spark.") or ("_" in name and name.count(".") == 1):
                values[name] = value
            else:
                spark[name] = str(value).lower() if isinstance(value, bool) else str(value)
    for name in values:
        _row(name, str(path))
    return values, spark


def _flat(prefix: str, entries: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted names. In `[spark]` a key may be a whole Spark name: `"spark.sql.shuffle.partitions" = 8`."""
    for key, value in entries.items():
        name = key if key.startswith("spark.") else f"{prefix}.{key}"
        if isinstance(value, dict):
            yield from _flat(name, value)
        else:
            yield name, value


def _row(name: str, where: str) -> Setting:
    if name not in BY_NAME:
        raise _unknown(name, where, list(BY_NAME))
    return BY_NAME[name]


def _unknown(name: str, where: str, known: list[str]) -> SettingError:
    closest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    return SettingError("UNKNOWN_SETTING", name=name, where=where, closest=closest)


def _toml(value: Any, is_value: bool = False) -> str:
    if is_value and isinstance(value, int):
        return str(value)
    text = str(value)
    if not is_value and text.replace("_", "").isalnum():
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
