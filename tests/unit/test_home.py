"""The home folder and its locks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tideline.runtime import home as home_module
from tideline.runtime.home import Home, HomeError, process_alive

HOLD = """
import sys
from tideline.runtime.home import Home
lock = Home(sys.argv[1]).lock("up")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").prepare()


def test_a_held_lock_names_its_process_and_goes_with_it_even_when_it_is_killed(home: Home) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert home.locked_by("up") == holder.pid
        with pytest.raises(HomeError) as caught:
            home.lock("up")
        assert caught.value.condition == "HOME_IN_USE"
        assert caught.value.params["pid"] == str(holder.pid)
        assert caught.value.exit_code == 3
        holder.send_signal(signal.SIGKILL)
    assert home.locked_by("up") is None
    home.lock("up").release()


def test_a_released_lock_can_be_taken_again_and_locks_of_other_names_are_independent(home: Home) -> None:
    with home.lock("up"):
        assert home.locked_by("up") == os.getpid()
        with home.lock("batch"):
            pass
    assert home.locked_by("up") is None
    with home.lock("up"):
        pass


def test_a_status_is_replaced_as_a_whole(home: Home) -> None:
    assert home.read_status("speed") is None
    home.write_status("speed", {"ready": False})
    home.write_status("speed", {"ready": True})
    status = home.read_status("speed")
    assert status is not None
    assert (status["ready"], status["pid"]) == (True, os.getpid())
    assert not list(home.run.glob("*.tmp"))
    home.clear_status("speed")
    assert home.read_status("speed") is None


def test_a_home_that_is_no_folder_or_not_writable_or_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(HomeError) as caught:
            Home(path).prepare()
        assert caught.value.condition == "HOME_NOT_A_FOLDER"
    for name in ("a%20b", "a\\b"):
        with pytest.raises(HomeError) as caught:
            Home(tmp_path / name).prepare()
        assert caught.value.condition == "HOME_NAME"
    with pytest.raises(HomeError) as caught:
        Home("/proc/tideline").prepare()
    assert caught.value.condition in ("HOME_NOT_WRITABLE", "HOME_MISSING")
    with pytest.raises(HomeError) as caught:
        Home(tmp_path / "absent").require()
    assert caught.value.condition == "HOME_MISSING"
    assert "\n" not in str(caught.value)


def test_a_disk_without_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_module, "MINIMUM_FREE", 1 << 60)
    with pytest.raises(HomeError) as caught:
        Home(tmp_path).prepare()
    assert caught.value.condition == "HOME_FULL"


def test_an_ended_process_is_not_alive() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    assert process_alive(os.getpid())
    assert not process_alive(child.pid)
