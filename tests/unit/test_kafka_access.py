"""What Kafka's clients are told, and what is not said anywhere."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from serving_layer.kafka import bootstrap_of
from tideline.runtime import kafka_access
from tideline.runtime.home import Home
from tideline.runtime.kafka_access import Access, AccessFault, Servers, access_of, from_note, note_of
from tideline.settings import SettingError, load_settings

SECRET = 'p"w\\1;{}'


def configured(folder: Path, text: str) -> Servers:
    config = folder / "my.toml"
    config.write_text(f"[kafka]\n{text}", "utf-8")
    found = load_settings(config, {}).kafka
    assert found is not None
    return found


@pytest.fixture
def secure(tmp_path: Path) -> Servers:
    (tmp_path / "password").write_text(SECRET + "\n", "utf-8")
    lines = (
        'bootstrap = "a:1,b:2"',
        'security = "sasl_ssl"',
        'sasl_mechanism = "SCRAM-SHA-256"',
        'username = "tideline"',
        f'password = "${{file:{tmp_path / "password"}}}"',
        'ca = "/ca.pem"',
    )
    return configured(tmp_path, "\n".join(lines))


def test_each_client_gets_what_it_calls_so(secure: Servers) -> None:
    assert kafka_access.kafka_python(secure) == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "tideline",
        "sasl_plain_password": SECRET,
        "ssl_cafile": "/ca.pem",
    }
    assert kafka_access.librdkafka(secure)["sasl.password"] == SECRET
    spark = kafka_access.spark(secure)
    assert spark["kafka.sasl.jaas.config"] == (
        'org.apache.kafka.common.security.scram.ScramLoginModule required username="tideline" password="p\\"w\\\\1;{}";'
    )
    assert spark["kafka.ssl.truststore.location"] == "/ca.pem"


def test_plain_servers_are_text() -> None:
    assert kafka_access.kafka_python("a:1") == {"bootstrap_servers": ["a:1"], "security_protocol": "PLAINTEXT"}
    assert kafka_access.spark("a:1") == {"kafka.bootstrap.servers": "a:1", "kafka.security.protocol": "PLAINTEXT"}
    assert note_of("a:1") == {"bootstrap": "a:1"}
    assert load_settings(None, {}).kafka is None


def test_it_goes_to_workers_and_through_notes_without_the_secret(secure: Servers, tmp_path: Path) -> None:
    again = pickle.loads(pickle.dumps(secure))
    assert (again, access_of(again)) == (secure, access_of(secure))
    home = Home(tmp_path / "home").prepare()
    home.write_status("speed", {"ready": True, **note_of(secure)})
    found = bootstrap_of(home)
    assert found == "a:1,b:2"
    assert access_of(found) == access_of(secure)
    for text in (pickle.dumps(secure).decode("latin-1"), (home.run / "speed.json").read_text("utf-8"), repr(secure)):
        assert SECRET not in text
        assert json.dumps(SECRET)[1:-1] not in text
    assert from_note({}) is None


def test_a_secret_is_looked_for_when_a_client_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'bootstrap = "a:1"\nsecurity = "sasl_plaintext"\nusername = "${env:WHO}"\npassword = "${env:TELL}"'
    servers = configured(tmp_path, text)
    with pytest.raises(AccessFault) as fault:
        kafka_access.librdkafka(servers)
    assert fault.value.condition == "SECRET_MISSING"
    monkeypatch.setenv("WHO", "me")
    monkeypatch.setenv("TELL", "it")
    assert kafka_access.librdkafka(servers)["sasl.username"] == "me"
    with pytest.raises(AccessFault):
        kafka_access.resolve(f"${{file:{tmp_path / 'nothing'}}}")


def test_a_password_in_a_file_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as error:
        configured(tmp_path, 'bootstrap = "a:1"\npassword = "hunter2"')
    assert "hunter2" not in str(error.value)
    assert "hunter2" not in json.dumps(error.value.to_json())
    assert "${env:NAME}" in str(error.value)


@pytest.mark.parametrize("name", ["sasl_jaas_config", '"sasl.jaas.config"', "ssl_engine_factory_class", "client_rack"])
def test_no_other_option_of_a_client_is_taken(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError) as error:
        configured(tmp_path, f'bootstrap = "a:1"\n{name} = "com.sun.security.auth.module.JndiLoginModule"')
    assert error.value.condition == "UNKNOWN_SETTING"


def test_sasl_needs_somebody(tmp_path: Path) -> None:
    with pytest.raises(AccessFault) as fault:
        configured(tmp_path, 'bootstrap = "a:1"\nsecurity = "sasl_ssl"\nusername = "me"')
    assert fault.value.params["lacks"] == "password"
    with pytest.raises(AccessFault):
        Access("sasl_ssl").check()
