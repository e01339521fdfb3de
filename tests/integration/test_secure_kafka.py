"""A Kafka that wants TLS, a name and a password: every client of the layers reads and writes there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cases import make_events
from certificates import make_certificate
from installed import Installed
from pyspark.sql import SparkSession

from serving_layer.reader import Reader
from tideline.oracle import verify
from tideline.runtime.broker import plan_broker
from tideline.runtime.groups import GroupClient
from tideline.runtime.home import Home
from tideline.runtime.kafka_access import Access, Servers
from tideline.runtime.ports import free_port
from tideline.runtime.process import ChildProcess
from tideline.runtime.topics import KafkaFault, cluster_id, create_topic, forget

PASSWORD = 'a "b" \\c;'


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A broker with one more listener, and a client's way to it."""
    folder = tmp_path_factory.mktemp("secure")
    certificate, key = make_certificate(folder)
    both = folder / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    home, port = Home(folder / "home").prepare(), free_port("127.0.0.1")
    plan = plan_broker(home)
    properties = home.run / "kafka.properties"
    lines = dict(line.partition("=")[::2] for line in properties.read_text("utf-8").splitlines())
    escaped = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    lines |= {
        "listeners": f"{lines['listeners']},SECURE://127.0.0.1:{port}",
        "advertised.listeners": f"{lines['advertised.listeners']},SECURE://127.0.0.1:{port}",
        "listener.security.protocol.map": f"{lines['listener.security.protocol.map']},SECURE:SASL_SSL",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.name.secure.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secure.plain.sasl.jaas.config": (
            f'org.apache.kafka.common.security.plain.PlainLoginModule required user_tideline="{escaped}";'.replace(
                "\\", "\\\\"
            )
        ),
        "listener.name.secure.ssl.keystore.type": "PEM",
        "listener.name.secure.ssl.keystore.location": str(both),
    }
    properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), "utf-8")
    (folder / "password").write_text(PASSWORD + "\n", "utf-8")
    access = Access("sasl_ssl", "PLAIN", "tideline", f"${{file:{folder / 'password'}}}", str(certificate))
    child = ChildProcess(plan.command).start()
    try:
        assert child.wait_until(plan.ready, 60), plan.log.read_text("utf-8")
        yield Servers(f"127.0.0.1:{port}", access)
    finally:
        forget(plan.bootstrap)
        child.stop()


def test_both_layers_and_verify_work_there(
    secure: Servers, spark: SparkSession, topic_name: str, tmp_path: Path
) -> None:
    installed = Installed(spark, secure, tmp_path / "home", topic_name)
    try:
        installed.apply_few()
        events = make_events(300, seed=5)
        installed.send(events[:200])
        with installed.speed():
            installed.wait_committed()
            installed.batch()
            installed.send(events[200:])
            installed.wait_committed()
        assert verify(installed.home.path, bootstrap=secure).ok
        with GroupClient(secure) as groups:
            groups.commit("somebody", installed.ledger.committed)
            assert groups.committed("somebody") == installed.ledger.committed
        installed.home.write_status("up", {"kafka": {"bootstrap": str(secure)}})
        with Reader(installed.home, store=installed.store) as reader:
            assert reader.status()["kafka"]["error"] is not None  # in plain text it says nothing
    finally:
        installed.close()
        forget(secure)


def test_a_wrong_password_is_an_error_without_it(secure: Servers, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("hunter2", "utf-8")
    wrong = Access(**{**vars(secure.access), "password": f"${{file:{tmp_path / 'wrong'}}}"})
    with pytest.raises(KafkaFault) as fault:
        cluster_id(Servers(str(secure), wrong), timeout=3)
    assert fault.value.condition == "KAFKA_UNREACHABLE"
    assert "hunter2" not in str(fault.value)
    with pytest.raises(KafkaFault):
        create_topic(str(secure), "t", 1, timeout=3)
