"""Settings: where they come from, who wins, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tideline.runtime.kafka_access import AccessFault
from tideline.settings import BY_NAME, ROWS, SettingError, Settings, load_settings

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf" / "tideline.toml"
DOCS = ROOT / "docs" / "settings.md"


def test_the_documented_configuration_is_every_setting_with_its_default() -> None:
    settings = load_settings(CONF, environment={})
    assert dict(settings) == dict(Settings())
    text = CONF.read_text()
    for row in ROWS:
        assert f"# {row.help}\n{row.name.split('.')[1]} = " in text, row.name


def test_every_setting_is_documented_in_prose() -> None:
    documented = set(re.findall(r"^\|\s*`([a-z]+\.[a-z_]+)`", DOCS.read_text(), re.MULTILINE))
    assert documented == set(BY_NAME)
    for row in ROWS:
        line = next(line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{row.name}`"))
        assert f"`{row.default}`" in line or row.default == "", row.name
        assert row.help in line, row.name


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text('[kafka]\nport = 1\npartitions = 2\n[batch]\nevery = "15m"\n')
    settings = load_settings(
        config,
        {"TIDELINE_KAFKA_PORT": "3", "TIDELINE_SERVE_PORT": "4"},
        {"serve.port": 5, "kafka.bootstrap": None},
    )
    assert (settings["kafka.partitions"], settings["kafka.port"], settings["serve.port"]) == (2, 3, 5)
    assert settings.micros("batch.every") == 15 * 60 * 1_000_000
    assert settings["kafka.bootstrap"] == ""


def test_spark_settings_of_the_user_are_kept_as_spark_reads_them(tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text('[spark]\ncores = "4"\n"spark.sql.ansi.enabled" = false\nsql.shuffle.partitions = 8\n')
    settings = load_settings(config, {})
    assert settings["spark.cores"] == 4
    assert settings.spark == {"spark.sql.ansi.enabled": "false", "spark.sql.shuffle.partitions": "8"}


def test_settings_survive_being_written_and_read(tmp_path: Path) -> None:
    settings = load_settings(None, {}, {"serve.host": 'a"b\\c', "kafka.port": "auto"})
    settings.spark["spark.app.name"] = "x"
    config = tmp_path / "my.toml"
    config.write_text(settings.to_toml())
    again = load_settings(config, {})
    assert (dict(again), again.spark) == (dict(settings), settings.spark)
    assert again["kafka.port"] == 0


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("kafka.partitons", "kafka.partitions"),
        ("batch.evry", "batch.every"),
        ("spark.driver_memroy", "spark.driver_memory"),
    ],
)
def test_an_unknown_setting_names_the_nearest_one(tmp_path: Path, name: str, closest: str) -> None:
    table, key = name.split(".")
    config = tmp_path / "my.toml"
    config.write_text(f'[{table}]\n{key} = "1"\n')
    with pytest.raises(SettingError) as caught:
        load_settings(config, {})
    assert caught.value.condition == "UNKNOWN_SETTING"
    assert caught.value.params == {"name": name, "where": str(config), "closest": closest}
    assert caught.value.exit_code == 2


def test_an_unknown_variable_names_the_nearest_one() -> None:
    with pytest.raises(SettingError) as caught:
        load_settings(None, {"TIDELINE_KAFKA_PROT": "1", "TIDELINE_CACHE": "/tmp", "TIDELINE_KILL_AT": "x"})
    assert caught.value.params["closest"] == "TIDELINE_KAFKA_PORT"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kafka.port", 70_000),
        ("kafka.port", "many"),
        ("kafka.partitions", 0),
        ("kafka.partitions", True),
        ("kafka.partitions", 1.5),
        ("batch.every", "often"),
        ("batch.every", 15),
        ("batch.nice", -1),
        ("batch.nice", 20),
        ("serve.host", 1.5),
    ],
)
def test_a_value_that_does_not_fit_is_refused(name: str, value: object) -> None:
    with pytest.raises(SettingError) as caught:
        Settings().with_values({name: value})
    assert caught.value.condition == "BAD_SETTING"
    assert (caught.value.params["name"], caught.value.params["value"]) == (name, value)


@pytest.mark.parametrize("text", [None, "[kafka\n"])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, text: str | None) -> None:
    config = tmp_path / "my.toml"
    if text is not None:
        config.write_text(text)
    with pytest.raises(SettingError) as caught:
        load_settings(config, {})
    assert caught.value.condition == "CONFIG_UNREADABLE"
    assert caught.value.params["path"] == str(config)


def test_any_value_may_stand_in_a_variable_or_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "port").write_text("9000\n")
    config = tmp_path / "my.toml"
    config.write_text(f'[serve]\nhost = "${{env:WHERE}}"\nport = "${{file:{tmp_path / "port"}}}"\n')
    with pytest.raises(AccessFault) as missing:
        load_settings(config, {})
    assert missing.value.condition == "SECRET_MISSING"
    monkeypatch.setenv("WHERE", "10.0.0.7")
    settings = load_settings(config, {})
    assert (settings["serve.host"], settings["serve.port"]) == ("10.0.0.7", 9000)
    monkeypatch.setenv("WHERE", "7m")
    assert load_settings(None, {"TIDELINE_BATCH_EVERY": "${env:WHERE}"})["batch.every"] == "7m"


def test_what_a_variable_holds_is_not_told_where_it_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELD", "hunter2")
    with pytest.raises(SettingError) as error:
        load_settings(None, {"TIDELINE_SERVE_PORT": "${env:HELD}"})
    assert "hunter2" not in str(error.value)
    assert "${env:HELD}" in str(error.value)
