"""How Kafka is reached: its servers, and what they want to see of who comes.

There is an option for each thing that is needed and no other, so that nothing in a configuration can make a client load
a class or reach another host. A secret stays where it is, in a variable or a file, until a client is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from tideline.errors import Texts, UsageError

PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
SECRET = re.compile(r"\$\{(env|file):([^{}]+)\}")
_JAAS = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM": "org.apache.kafka.common.security.scram.ScramLoginModule",
}


class AccessFault(UsageError):
    """Kafka cannot be reached as it is configured."""

    texts: ClassVar[Texts] = {
        "SECRET_MISSING": ("the secret {secret} cannot be read: {reason}", "set the variable, or write the file"),
        "NO_CREDENTIALS": ("kafka.security is {protocol}, and nothing says {lacks}", "set kafka.{lacks}"),
    }


@dataclass(frozen=True)
class Access:
    """What a client shows and checks. `username` and `password` may be `${env:NAME}` or `${file:PATH}`; the others are
    files in PEM: the authorities that vouch for the servers (empty: the system's), a certificate of one's own, its key.
    """

    protocol: str = "plaintext"
    mechanism: str = "PLAIN"
    username: str = ""
    password: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""

    def check(self) -> None:
        """Raises AccessFault NO_CREDENTIALS."""
        for name in ("username", "password") if self.protocol.startswith("sasl") else ():
            if not getattr(self, name):
                raise AccessFault("NO_CREDENTIALS", protocol=self.protocol, lacks=name)

    @property
    def _sasl(self) -> bool:
        return self.protocol.startswith("sasl")

    @property
    def _tls(self) -> bool:
        return self.protocol.endswith("ssl")


class Servers(str):
    """`host:port,...` with how they are reached; wherever plain servers may stand."""

    access: Access

    def __new__(cls, servers: str, access: Access = Access()) -> Servers:
        made = super().__new__(cls, servers)
        made.access = access
        return made


def access_of(servers: str) -> Access:
    """How servers are reached; in plain text where nothing is said."""
    return servers.access if isinstance(servers, Servers) else Access()


def note_of(servers: str) -> dict[str, Any]:
    """What other processes of the home need to know of it, JSON-able and without a secret; see `from_note`."""
    access = access_of(servers)
    return {"bootstrap": str(servers), **({} if access == Access() else {"kafka_access": asdict(access)})}


def from_note(note: Mapping[str, Any]) -> Servers | None:
    """The servers that a note tells of."""
    found = note.get("bootstrap")
    return Servers(str(found), Access(**note.get("kafka_access", {}))) if found else None


def resolve(text: str) -> str:
    """A text with what its `${env:NAME}` or `${file:PATH}` stands for. Raises AccessFault SECRET_MISSING."""
    match = SECRET.fullmatch(text)
    if match is None:
        return text
    kind, name = match.groups()
    if kind == "env":
        if name not in os.environ:
            raise AccessFault("SECRET_MISSING", secret=text, reason="there is no such variable")
        return os.environ[name]
    try:
        return Path(name).read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise AccessFault("SECRET_MISSING", secret=text, reason=reason) from None


def kafka_python(servers: str) -> dict[str, Any]:
    """Servers and access for kafka-python's clients."""
    access = access_of(servers)
    found: dict[str, Any] = {"bootstrap_servers": servers.split(","), "security_protocol": access.protocol.upper()}
    if access._sasl:
        found["sasl_mechanism"] = access.mechanism
        found["sasl_plain_username"] = resolve(access.username)
        found["sasl_plain_password"] = resolve(access.password)
    if access._tls:
        files = {"ssl_cafile": access.ca, "ssl_certfile": access.certificate, "ssl_keyfile": access.key}
        found |= {name: file for name, file in files.items() if file}
    return found


def librdkafka(servers: str) -> dict[str, Any]:
    """The same for librdkafka."""
    access = access_of(servers)
    found = {"bootstrap.servers": str(servers), "security.protocol": access.protocol}
    if access._sasl:
        found["sasl.mechanisms"] = access.mechanism
        found["sasl.username"] = resolve(access.username)
        found["sasl.password"] = resolve(access.password)
    if access._tls:
        files = {
            "ssl.ca.location": access.ca,
            "ssl.certificate.location": access.certificate,
            "ssl.key.location": access.key,
        }
        found |= {name: file for name, file in files.items() if file}
        found["ssl.endpoint.identification.algorithm"] = "https"
    return found


def spark(servers: str) -> dict[str, str]:
    """The same for Spark's Kafka source, which is a Java client."""
    access = access_of(servers)
    found = {"bootstrap.servers": str(servers), "security.protocol": access.protocol.upper()}
    if access._sasl:
        module = _JAAS[access.mechanism.partition("-")[0]]
        username, password = _quoted(resolve(access.username)), _quoted(resolve(access.password))
        found["sasl.mechanism"] = access.mechanism
        found["sasl.jaas.config"] = f"{module} required username={username} password={password};"
    if access._tls and access.ca:
        found |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": access.ca}
    if access._tls and access.certificate:
        found["ssl.keystore.type"] = "PEM"
        found["ssl.keystore.certificate.chain"] = Path(access.certificate).read_text("utf-8")
        found["ssl.keystore.key"] = Path(access.key).read_text("utf-8")
    return {f"kafka.{name}": value for name, value in found.items()}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
