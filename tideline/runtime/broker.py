"""An embedded Kafka 4 broker, KRaft mode, broker and controller in one process, on the loopback interface.

Its data live in `HOME/kafka` and outlast it: a restart keeps cluster id, topics and offsets, whatever the
ports.
"""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from tideline.errors import OutsideError, Texts
from tideline.runtime.class_archive import ClassArchive
from tideline.runtime.home import Home
from tideline.runtime.jars import kafka_classpath
from tideline.runtime.java import find_java
from tideline.runtime.ports import free_port, port_answers, port_is_free
from tideline.runtime.process import ChildProcess, Command
from tideline.runtime.topics import KafkaFault, cluster_id, forget

HOST = "127.0.0.1"
MESSAGE_MAX_BYTES = 16 << 20
READY_TIMEOUT = 60.0  # seconds
STOP_TIMEOUT = 20.0  # seconds
RETENTION_HOURS = 24 * 30
_HEAP = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=4")


class BrokerFault(OutsideError):
    """The embedded broker cannot be started."""

    texts: ClassVar[Texts] = {
        "PORT_TAKEN": ("port {port} for {what} is taken", "free it, set {setting}, or use --ports auto"),
        "BROKER_FAILED": ("the embedded Kafka broker did not start: {reason}", "see {log}"),
        "BROKER_FORMAT": (
            "the broker's folder {path} could not be formatted: {reason}",
            "check its space and permissions",
        ),
    }


@dataclass(frozen=True)
class BrokerPlan:
    """Everything decided about a broker before it runs: where it listens, and the command that runs it."""

    bootstrap: str
    command: Command
    log: Path

    def ready(self) -> bool:
        """Whether the broker answers; asks once, briefly."""
        if not port_answers(HOST, int(self.bootstrap.rpartition(":")[2])):
            return False
        try:
            cluster_id(self.bootstrap, timeout=1.0)
        except KafkaFault:
            return False
        return True


def broker_archive() -> ClassArchive:
    """The archive of the broker's classes. Raises JavaError, JarError."""
    return ClassArchive("kafka", kafka_classpath())


def plan_broker(
    home: Home,
    port: int | None = None,
    retention_hours: int = RETENTION_HOURS,
    java_options: Sequence[str] | None = None,
) -> BrokerPlan:
    """Write the broker's configuration, format its storage on first use, and return the command to run.

    Without `port` a free one is chosen; without `java_options` it starts from the archive of its classes. Raises
    BrokerFault PORT_TAKEN, BROKER_FORMAT; JavaError; JarError.
    """
    if port is not None and not port_is_free(HOST, port):
        raise BrokerFault("PORT_TAKEN", port=port, what="Kafka", setting="kafka.port")
    port = port or free_port(HOST)
    java, class_path = find_java().path, kafka_classpath()
    properties = home.run / "kafka.properties"
    _write(properties, _server_properties(home.kafka, port, free_port(HOST), retention_hours))
    log = home.logs / "kafka.log"
    _write(home.run / "kafka-log4j2.properties", _log_properties(log))
    base = (
        java,
        *_HEAP,
        *(broker_archive().options() if java_options is None else ()),
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={home.run / 'kafka-log4j2.properties'}",
        *("-cp", class_path),
    )
    if not (home.kafka / "meta.properties").exists():
        _format(home.kafka, (*base, "kafka.tools.StorageTool", "format", "--config", str(properties)))
    argv = (*base, *(java_options or ()), "kafka.Kafka", str(properties))
    command = Command("kafka", argv, log=home.logs / "kafka.out")
    return BrokerPlan(f"{HOST}:{port}", command, log)


class Broker:
    """A running embedded broker of a command or a test; `tideline up` hands the plan to its supervisor instead."""

    def __init__(
        self,
        home: Home,
        port: int | None = None,
        retention_hours: int = RETENTION_HOURS,
        java_options: Sequence[str] | None = None,
    ) -> None:
        self.plan = plan_broker(home, port, retention_hours, java_options)
        self.bootstrap = self.plan.bootstrap
        self._child = ChildProcess(self.plan.command)

    def start(self, timeout: float = READY_TIMEOUT) -> Broker:
        """Start and wait until it answers. Raises BrokerFault BROKER_FAILED."""
        self._child.start()
        if not self._child.wait_until(self.plan.ready, timeout):
            self._child.stop(0)
            raise BrokerFault("BROKER_FAILED", reason=_last_fault(self.plan), log=str(self.plan.log))
        return self

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stop it: SIGTERM, and SIGKILL after `timeout` seconds."""
        forget(self.bootstrap)
        self._child.stop(timeout)

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def _format(folder: Path, argv: tuple[str, ...]) -> None:
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
    done = subprocess.run(
        [*argv, "--cluster-id", cluster, "--ignore-formatted"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        lines = (done.stderr + done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise BrokerFault("BROKER_FORMAT", path=str(folder), reason=lines[-1])


def _server_properties(data: Path, port: int, controller_port: int, retention_hours: int) -> Mapping[str, object]:
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": data,
        "num.partitions": 4,
        "auto.create.topics.enable": "false",
        "default.replication.factor": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "message.max.bytes": MESSAGE_MAX_BYTES,
        "replica.fetch.max.bytes": MESSAGE_MAX_BYTES,
        "log.message.timestamp.type": "LogAppendTime",
        "log.retention.hours": retention_hours,
        "log.retention.bytes": -1,
        "log.segment.bytes": 256 << 20,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "log.cleaner.dedupe.buffer.size": 8 << 20,
        "metadata.log.max.snapshot.interval.ms": 600_000,
        "broker.heartbeat.interval.ms": 1000,
        "broker.session.timeout.ms": 4000,  # a broker that was killed may register again only after it
    }


def _log_properties(log: Path) -> Mapping[str, object]:
    return {
        "status": "error",
        "appender.file.type": "RollingFile",
        "appender.file.name": "file",
        "appender.file.fileName": log,
        "appender.file.filePattern": f"{log}.%i",
        "appender.file.layout.type": "PatternLayout",
        "appender.file.layout.pattern": "%d{ISO8601} %-5p %c{1} %m%n",
        "appender.file.policies.type": "Policies",
        "appender.file.policies.size.type": "SizeBasedTriggeringPolicy",
        "appender.file.policies.size.size": "8MB",
        "appender.file.strategy.type": "DefaultRolloverStrategy",
        "appender.file.strategy.max": 2,
        "rootLogger.level": "warn",
        "rootLogger.appenderRef.file.ref": "file",
        "logger.server.name": "kafka.server.KafkaRaftServer",
        "logger.server.level": "info",
    }


def _write(path: Path, properties: Mapping[str, object]) -> None:
    def escape(value: object) -> str:
        return str(value).replace("\\", "\\\\")

    path.write_text("".join(f"{key}={escape(value)}\n" for key, value in properties.items()), "utf-8")


def _last_fault(plan: BrokerPlan) -> str:
    """The last error line of its logs, for a message of one line."""
    lines = []
    for path in (plan.log, plan.command.log):
        if path is not None and path.exists():
            lines += path.read_text("utf-8", errors="replace").splitlines()[-200:]
    faults = [line for line in lines if "ERROR" in line or "FATAL" in line or "Exception" in line]
    return (faults or lines or ["it said nothing"])[-1].strip()[:300]
