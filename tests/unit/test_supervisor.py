"""Supervised processes: kept alive, given up with a bound, and gone when the supervisor is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tideline.runtime.home import process_alive
from tideline.runtime.process import ChildProcess, Command, pause
from tideline.runtime.supervisor import RestartPolicy, Service, ServiceError, Supervisor

SLEEP = "import signal; signal.pause()"
FAMILY = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']); "


def python(name: str, code: str, log: Path | None = None) -> Command:
    return Command(name, (sys.executable, "-c", code), log=log)


def quick() -> RestartPolicy:
    return RestartPolicy(limit=2, first=0.05)


def wait_for(condition: object, seconds: float = 20) -> bool:
    assert callable(condition)
    for _ in range(int(seconds / 0.05)):
        if condition():
            return True
        pause(0.05)
    return False


def group_members(group: int) -> list[int]:
    """Processes of a group that are no zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def test_restarts_come_ever_later_and_end_at_the_bound() -> None:
    policy = RestartPolicy(limit=5, window=120)
    assert [policy.delay(now) for now in (0, 1, 2, 3, 4)] == [0.5, 1, 2, 4, 8]
    assert policy.delay(5) is None
    assert RestartPolicy(limit=5, window=120).delay(1e6) == 0.5


def test_deaths_outside_the_window_are_forgotten() -> None:
    policy = RestartPolicy(limit=2, window=10)
    assert [policy.delay(now) for now in (0, 1, 11.5, 12)] == [0.5, 1, 0.5, 1]


def test_what_dies_is_started_again() -> None:
    lines: list[str] = []
    with Supervisor(lines.append, quick) as supervisor:
        supervisor.add(Service(python("worker", SLEEP)))
        first = supervisor.pid("worker")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert supervisor.watch(lambda: supervisor.pid("worker") not in (None, first), 20)
        second = supervisor.pid("worker")
        assert supervisor.status() == {"worker": {"pid": second, "state": "running", "restarts": 1}}
    assert second is not None
    assert not process_alive(second)
    assert "SIGKILL" in lines[0]


@pytest.mark.parametrize("words", ["tideline: the port is taken", '{"message": "tideline: the port is taken"}'])
def test_what_keeps_dying_is_given_up_with_its_last_words(tmp_path: Path, words: str) -> None:
    log = tmp_path / "worker.log"
    code = f"import sys; print('noise'); sys.exit({words!r})"
    with pytest.raises(ServiceError) as caught, Supervisor(policy=quick) as supervisor:
        supervisor.add(Service(python("worker", code, log)))
        supervisor.watch(timeout=30)
    assert caught.value.condition == "SERVICE_FAILED"
    assert (caught.value.params["reason"], caught.value.params["deaths"]) == ("the port is taken", 3)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_wrong_use_is_not_tried_again(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with pytest.raises(ServiceError) as caught, Supervisor() as supervisor:
        supervisor.add(Service(python("worker", "raise SystemExit(2)", log)))
        supervisor.watch(timeout=30)
    assert caught.value.condition == "SERVICE_REFUSED"
    assert caught.value.exit_code == 2


def test_what_never_becomes_ready_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServiceError) as caught, Supervisor() as supervisor:
        supervisor.add(Service(python("worker", SLEEP), ready=lambda: False, ready_timeout=0.3))
    assert caught.value.condition == "SERVICE_NOT_READY"


def test_services_stop_in_reverse_order_of_their_start(tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = (
        "import signal, sys\n"
        "def stop(*_):\n"
        f"    open({str(order)!r}, 'a').write(sys.argv[1])\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"open({str(order)!r} + sys.argv[1], 'w').close()\n"
        "signal.pause()\n"
    )
    with Supervisor() as supervisor:
        for name in "abc":
            command = Command(name, (sys.executable, "-c", code, name))
            supervisor.add(Service(command, ready=(tmp_path / f"order{name}").exists))
    assert order.read_text() == "cba"


def test_a_stop_request_ends_the_watch_and_leaves_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ready"
    code = FAMILY + f"open({str(marker)!r}, 'w').close(); " + SLEEP
    with Supervisor() as supervisor:
        supervisor.add(Service(python("family", code), ready=marker.exists))
        group = supervisor.pid("family")
        assert group is not None
        assert len(group_members(group)) == 2
        threading.Timer(0.2, supervisor.request_stop).start()
        supervisor.watch(timeout=60)
        pytest.fail("the watch went on")
    assert supervisor.stopping
    assert group_members(group) == []


def test_a_process_that_ignores_sigterm_is_killed_with_its_group(tmp_path: Path) -> None:
    marker = tmp_path / "ready"
    code = f"import signal; signal.signal(15, signal.SIG_IGN); {FAMILY} open({str(marker)!r}, 'w').close(); "
    child = ChildProcess(python("stubborn", code + "\nwhile True: signal.pause()")).start()
    assert child.wait_until(marker.exists, 20)
    assert child.stop(timeout=0.3) == -signal.SIGKILL
    assert group_members(child.pid or 0) == []


def test_a_long_log_is_set_aside_when_its_process_starts(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with log.open("wb") as file:
        file.truncate(17 << 20)
    child = ChildProcess(python("worker", "print('fresh')", log)).start()
    assert wait_for(lambda: not child.alive)
    child.stop()
    assert log.read_text() == "fresh\n"
    assert (tmp_path / "worker.log.1").exists()


SUPERVISE = """
import sys
from pathlib import Path
from tideline.runtime.process import Command
from tideline.runtime.supervisor import Service, Supervisor
folder = Path(sys.argv[1])
code = "import os, signal, sys; open(sys.argv[1], 'w').write(str(os.getpid())); signal.pause()"
with Supervisor() as supervisor:
    for name in ("one", "two"):
        path = folder / name
        command = Command(name, (sys.executable, "-c", code, str(path)))
        supervisor.add(Service(command, ready=lambda path=path: path.exists() and path.read_text() != ""))
    print("up", flush=True)
    supervisor.watch()
print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_its_supervisor_however_that_ends(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "up\n"
        pids = [int((tmp_path / name).read_text()) for name in ("one", "two")]
        assert all(process_alive(pid) for pid in pids)
        supervisor.send_signal(number)
        code = supervisor.wait(30)
        if number != signal.SIGKILL:
            assert (supervisor.stdout.read(), code) == ("stopped\n", 0)
    assert wait_for(lambda: not any(process_alive(pid) for pid in pids))
