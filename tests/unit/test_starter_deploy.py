"""What `tideline init` writes to run a project in containers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tideline.starter.project import from_example
from tideline.stores.lmdb import LmdbStore

yaml: Any = pytest.importorskip("yaml", reason="PyYAML comes with the documents' site")
APART = ["unshare", "--pid", "--fork", "--kill-child"]
READER = """
import sys
from tideline.errors import StoreError
from tideline.stores.lmdb import LmdbStore
try:
    with LmdbStore.open(sys.argv[1]) as store, store.snapshot():
        print("reads", flush=True)
        sys.stdin.read()
except StoreError as error:
    print(error.condition, error.hint, flush=True)
"""


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("my-shop", "my-shop"),
        ("My Shop", "my-shop"),
        ("my__shop_", "my-shop"),
        ("2024", "events-2024"),
        ("a" * 80, "a" * 50),
        (f"{'a' * 49} b", "a" * 49),
    ],
)
def test_names_are_such_as_kubernetes_compose_and_images_take(folder: str, name: str, tmp_path: Path) -> None:
    from_example(tmp_path / folder)
    deploy = tmp_path / folder / "deploy"
    documents = list(yaml.safe_load_all((deploy / "kubernetes.yaml").read_text("utf-8")))
    assert [document["metadata"]["name"] for document in documents] == [name] * 3
    assert re.fullmatch("[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name)
    pod = documents[1]["spec"]["template"]
    assert {one["image"] for one in pod["spec"]["initContainers"] + pod["spec"]["containers"]} == {name}
    assert pod["metadata"]["labels"] == documents[2]["spec"]["selector"] == {"app": name}
    assert f"docker build -t {name} -f" in (deploy / "Dockerfile").read_text("utf-8")
    assert yaml.safe_load((deploy / "compose.yaml").read_text("utf-8"))["name"] == name


def test_containers_on_one_volume_share_a_pid_namespace(tmp_path: Path) -> None:
    from_example(tmp_path / "shop")
    documents = list(yaml.safe_load_all((tmp_path / "shop" / "deploy" / "kubernetes.yaml").read_text("utf-8")))
    assert documents[1]["spec"]["template"]["spec"]["shareProcessNamespace"] is True
    services = yaml.safe_load((tmp_path / "shop" / "deploy" / "compose.yaml").read_text("utf-8"))["services"]
    shared = {name: service.get("pid") for name, service in services.items() if "home:/data" in service["volumes"]}
    assert shared == dict.fromkeys(("apply", "speed", "batch", "serve"), "host")


def test_processes_of_one_id_on_one_store_are_told_to_share_a_namespace(tmp_path: Path) -> None:
    if subprocess.run([*APART, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a PID namespace cannot be made here")
    LmdbStore.open(tmp_path, create=True, map_size=1 << 30).close()
    read = [sys.executable, "-c", READER, str(tmp_path)]
    with subprocess.Popen([*APART, *read], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        assert first.stdout.readline() == "reads\n"
        other = subprocess.run([*APART, *read], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        beside = subprocess.run(read, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        first.communicate("")
    assert other.stdout.startswith("STORE_OTHER_PIDS ")
    assert "share a PID namespace" in other.stdout
    assert beside.stdout == "reads\n"
