"""Bad configurations are refused by name before anything starts, and change nothing."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from bad_settings import SETTINGS, BadSetting
from serving_case import installed

from tideline.cli.main import main
from tideline.settings import SettingError, load_settings
from tideline.stores.lmdb import LmdbStore


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    with LmdbStore.open(folder, create=True) as store:
        installed(store, 30)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock.mdb"}


@pytest.mark.parametrize("bad", SETTINGS, ids=lambda bad: bad.kind)
def test_a_bad_setting_is_refused_with_its_place(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bad: BadSetting,
) -> None:
    config, before = tmp_path / "config.toml", files(home)
    if bad.config is not None:
        config.write_bytes(bad.config)
    for name, value in bad.variables:
        monkeypatch.setenv(name, value)
    words = ["serve", "--home", str(home), "--config", str(config), "--port", "auto", *bad.words]
    assert main(words) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert bad.named in said
    assert files(home) == before
    options = {"serve.port": bad.words[-1]} if bad.words else None
    with pytest.raises(SettingError) as caught:
        load_settings(config, dict(bad.variables), options)
    assert caught.value.condition == bad.gets


def test_a_folder_is_no_configuration(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--home", str(home), "--config", str(tmp_path)]) == 2
    assert "Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["no.such.host.invalid", "256.1.1.1", "", "a" * 300, "\0", "é" * 80])
def test_an_address_that_cannot_be_had_is_a_fault_outside(
    home: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", "--home", str(home), "--host", host or "127.0.0.1", "--port", port]) == 3
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("tideline: cannot listen" if host else f"tideline: port {port}")
    assert port in said
