"""Bad configurations: a file's text, variables and options, and the condition that refuses them."""

from __future__ import annotations

from typing import NamedTuple


class BadSetting(NamedTuple):
    """`config` is the file's content (None: there is no file), `words` the command line after `serve`."""

    kind: str
    gets: str
    named: str
    config: bytes | None = b""
    variables: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] = ()


def line(kind: str, table: str, text: str, gets: str = "BAD_SETTING") -> BadSetting:
    """A file with one line in one table."""
    return BadSetting(kind, gets, text.split(" =", maxsplit=1)[0].strip('"'), f"[{table}]\n{text}\n".encode())


FILES = [
    BadSetting("a configuration that is not there", "CONFIG_UNREADABLE", "No such file", None),
    BadSetting("TOML that is none", "CONFIG_UNREADABLE", "config.toml", b"[kafka\n"),
    BadSetting("YAML", "CONFIG_UNREADABLE", "config.toml", b"kafka:\n  port: 1\n"),
    BadSetting("a configuration in UTF-16", "CONFIG_UNREADABLE", "config.toml", "[kafka]\n".encode("utf-16")),
    BadSetting("a setting twice", "CONFIG_UNREADABLE", "config.toml", b"[kafka]\nport = 1\nport = 2\n"),
    BadSetting("arrays 10,000 deep", "CONFIG_UNREADABLE", "config.toml", b"a = " + b"[" * 10_000),
    BadSetting("a setting outside a table", "UNKNOWN_SETTING", "port", b"port = 1\n"),
]
NAMES = [
    line("an unknown setting", "kafka", "prot = 1", "UNKNOWN_SETTING"),
    line("an unknown table", "kafak", "port = 1", "UNKNOWN_SETTING"),
    line("a table in a table", "kafka.port", "a = 1", "UNKNOWN_SETTING"),
    BadSetting(
        "an unknown variable", "UNKNOWN_SETTING", "TIDELINE_KAFKA_PROT", variables=(("TIDELINE_KAFKA_PROT", "1"),)
    ),
]
VALUES = [
    line("a port beyond 65,535", "serve", "port = 65536"),
    line("a negative port", "serve", "port = -1"),
    line("a port in words", "serve", 'port = "http"'),
    line("a port that is a fraction", "serve", "port = 8400.5"),
    line("no partitions", "kafka", "partitions = 0"),
    line("true partitions", "kafka", "partitions = true"),
    line("a number of 400 digits", "kafka", f'partitions = "{"9" * 400}"'),
    line("a list of hosts", "serve", 'host = ["a", "b"]'),
    line("a time without its unit", "batch", "every = 15"),
    line("a negative time", "batch", 'every = "-5m"'),
    line("a time in words", "batch", 'every = "often"'),
    line("a time of 5,000 digits", "batch", f'every = "{"9" * 5000}s"'),
    line("a time of a million years", "batch", 'every = "365000000d"'),
    line("a date for a time", "batch", "every = 2026-01-01"),
    line("memory in words", "spark", 'driver_memory = "lots"'),
    line("memory without its unit", "spark", "driver_memory = 2"),
    line("no cores", "spark", "cores = 0"),
    line("a Kafka without its port", "kafka", 'bootstrap = "localhost"'),
    line("a Kafka by URL", "kafka", 'bootstrap = "http://localhost:9092"'),
    BadSetting(
        "junk in a variable", "BAD_SETTING", "TIDELINE_SERVE_PORT", variables=(("TIDELINE_SERVE_PORT", "\udcff"),)
    ),
    BadSetting("junk on the command line", "BAD_SETTING", "the command line", words=("--port", "١٢٣٤٥٦")),
]
SETTINGS = [*FILES, *NAMES, *VALUES]
