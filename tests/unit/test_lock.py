"""The lock on the door: nobody gets in without a key, and nobody sees more than their role."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from serving import condition, running
from serving_case import Event, Installation, installed, naive

from serving_layer.app import PATHS, create_app
from serving_layer.lock.gate import FREE, Lock
from serving_layer.lock.roles import AccessError, load_access
from serving_layer.lock.tokens import PREFIX, TokenFile
from serving_layer.reader import Reader
from serving_layer.server import ServeError, serve
from tideline.cli.main import main
from tideline.runtime.home import Home
from tideline.runtime.ports import is_loopback
from tideline.stores.lmdb import LmdbStore

ACCESS = """
[roles.france]
views = ["revenue", "totals", "everything", "typed"]
rows = {country = ["France", "\\\\N"]}

[roles.blind]
mask = ["product", "totals.returns", "spread"]

[roles.shop]
actions = ["write"]
sources = ["returns"]
"""
LOCKED = sorted(set(PATHS) - FREE)


@pytest.fixture(scope="module")
def tokens(home: Path, served: Installation) -> dict[str, str]:
    (home / "access.toml").write_text(ACCESS, "utf-8")
    file = TokenFile(home / "tokens.json")
    roles = ("admin", "reader", "writer", "operator", "france", "blind", "shop")
    return {role: file.create(f"of {role}", role)[0] for role in roles}


@pytest.fixture(scope="module")
def url(home: Path, tokens: dict[str, str]) -> Iterator[str]:
    with Reader(home) as reader:
        app = create_app(reader)
        with running(app) as found:
            yield found
            app.state.live.end()
        app.state.sql.close()


@pytest.fixture
def asks(url: str, tokens: dict[str, str]) -> Iterator[Callable[[str], httpx.Client]]:
    with contextlib.ExitStack() as stack:

        def client(role: str) -> httpx.Client:
            headers = {"Authorization": f"Bearer {tokens.get(role, role)}"}
            return stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=60))

        yield client


Asks = Callable[[str], httpx.Client]


def path_of(template: str) -> str:
    return template.replace("{view}", "totals").replace("{source}", "sales")


def test_without_a_token_or_an_issuer_everybody_may_everything(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path, create=True) as store:
        installed(store, 30)
        with Reader(tmp_path) as reader, running(create_app(reader)) as url:
            assert httpx.get(f"{url}/v1/views/totals/rows").status_code == 200
            file = TokenFile(tmp_path / "tokens.json")
            text, _ = file.create("first", "reader")
            until = time.monotonic() + 20
            while httpx.get(f"{url}/v1/views/totals/rows").status_code != 401:
                assert time.monotonic() < until
            headers = {"Authorization": f"Bearer {text}"}
            assert httpx.get(f"{url}/v1/views/totals/rows", headers=headers).status_code == 200


@pytest.mark.parametrize("path", LOCKED)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_no_route_is_open_without_a_token(url: str, path: str, method: str) -> None:
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Basic YTpi"}):
        response = httpx.request(method, url + path_of(path), headers=headers)
        assert condition(response) == (401, "UNAUTHORIZED")
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", sorted(FREE))
def test_what_says_nothing_of_views_is_free(url: str, path: str) -> None:
    assert httpx.get(url + path).status_code == 200


def parts(token: str) -> tuple[str, str]:
    """What a token is known by, and its secret, which may have `_` in it."""
    head, _, secret = token.removeprefix(PREFIX).partition("_")
    return head, secret


def test_wrong_tokens_open_nothing(asks: Asks, tokens: dict[str, str]) -> None:
    right = tokens["admin"]
    head, secret = parts(right)
    _, other = parts(tokens["reader"])
    for wrong in (
        right[:-1],
        right + "x",
        right.swapcase(),
        f"tl_{head}_",
        f"tl_{head}_{other}",
        f"tl__{secret}",
        secret,
        "null",
        "é" * 40,
    ):
        with contextlib.suppress(UnicodeEncodeError):
            assert condition(asks(wrong).get("/v1/views")) == (401, "UNAUTHORIZED")
    assert asks("admin").get("/v1/views").status_code == 200


def test_a_token_ends_when_it_expires_and_when_it_is_revoked(asks: Asks, home: Path) -> None:
    file = TokenFile(home / "tokens.json")
    over, _ = file.create("over", "admin", -1.0)
    gone, token = file.create("gone", "admin")
    until = time.monotonic() + 20
    while asks(gone).get("/v1/views").status_code != 200:
        assert time.monotonic() < until
    assert condition(asks(over).get("/v1/views")) == (401, "UNAUTHORIZED")
    file.revoke(token.id)
    while asks(gone).get("/v1/views").status_code != 401:
        assert time.monotonic() < until


@pytest.mark.parametrize(
    ("role", "read", "write", "operate"),
    [
        ("admin", True, True, True),
        ("reader", True, False, False),
        ("writer", False, True, False),
        ("operator", True, False, True),
        ("shop", False, False, False),
    ],
)
def test_a_role_does_what_it_may_and_nothing_else(
    asks: Asks, role: str, read: bool, write: bool, operate: bool
) -> None:
    client = asks(role)
    reads = [
        client.get("/v1/views"),
        client.get("/v1/views/totals"),
        client.get("/v1/views/totals/rows"),
        client.post("/v1/query", json={"queries": [{"view": "totals"}]}),
        client.post("/v1/sql", json={"sql": "SELECT count(*) FROM totals"}),
    ]
    assert {response.status_code for response in reads} == ({200} if read else {403})
    with client.stream("GET", "/v1/views/totals/changes") as response:
        assert response.status_code == (200 if read else 403)
    sent = client.post("/v1/sources/sales/events", content=b"{}")
    assert condition(sent) == (
        (422, "BAD_EVENTS") if write else (403, "FORBIDDEN_SOURCE" if role == "shop" else "FORBIDDEN")
    )
    for path in ("/v1/status", "/metrics"):
        assert client.get(path).status_code == (200 if operate else 403)


def of_france(served: Installation) -> list[Event]:
    return [event for event in served.events if event.country in ("France", None)]


def test_a_role_of_some_rows_is_answered_as_if_there_were_no_others(asks: Asks, served: Installation) -> None:
    client, mine = asks("france"), of_france(served)
    rows = client.get("/v1/views/totals/rows").json()["rows"]
    assert [row["country"] for row in rows] == [None, "France"]
    whole = client.get("/v1/views/revenue/rows", params={"group_by": "none", "window": "all"}).json()["rows"]
    assert [row["lines"] for row in whole] == [naive(mine)["lines"]]
    queries = [{"view": "revenue", "window": "all", "group_by": []}, {"view": "totals", "key": {"country": "Norway"}}]
    both = client.post("/v1/query", json={"queries": queries}).json()["results"]
    assert both[0]["rows"][0]["revenue"] == str(naive(mine)["revenue"])
    assert both[1]["rows"] == []
    some = client.get("/v1/views/totals/rows", params={"country": ["France", "Norway"]}).json()["rows"]
    assert [row["country"] for row in some] == ["France"]
    found = client.post("/v1/sql", json={"sql": "SELECT sum(lines), count(DISTINCT country) FROM revenue"}).json()[
        "rows"
    ]
    assert found == [[str(naive(mine)["lines"]), 1]]


def test_a_view_that_cannot_be_cut_down_is_not_read_at_all(asks: Asks) -> None:
    client = asks("france")
    for view in ("everything", "typed", "hourly"):
        assert condition(client.get(f"/v1/views/{view}/rows")) == (403, "FORBIDDEN_VIEW")
        assert client.get(f"/v1/views/{view}/changes").status_code == 403
        assert condition(client.post("/v1/sql", json={"sql": f"FROM {view}"})) == (400, "BAD_SQL")
    assert condition(client.get("/v1/views/nope/rows")) == (403, "FORBIDDEN_VIEW")
    assert [view["name"] for view in client.get("/v1/views").json()["views"]] == ["revenue", "totals"]


def test_a_stream_shows_a_role_its_rows_alone(asks: Asks) -> None:
    with asks("france").stream("GET", "/v1/views/totals/changes") as response:
        data = next(line for line in response.iter_lines() if line.startswith("data: "))
    assert [row["country"] for row in json.loads(data[6:])["rows"]] == [None, "France"]


def test_masked_columns_are_merged_away_and_never_named(asks: Asks, served: Installation) -> None:
    client = asks("blind")
    answer = client.get("/v1/views/revenue/rows", params={"window": "all"}).json()
    assert answer["columns"][0] == "country"
    assert not {"product", "spread", "median"} & set(answer["columns"])
    lines = {row["country"]: row["lines"] for row in answer["rows"]}
    assert sum(lines.values()) == len(served.events)
    totals = client.get("/v1/views/totals/rows").json()
    assert not {"returns", "return_rate", "spread", "median"} & set(totals["columns"])
    described = client.get("/v1/views/totals").json()
    assert "returns" not in described["measures"]
    assert "return_rate" not in described["answers"]
    assert [column["name"] for column in client.get("/v1/views/revenue").json()["key"]] == ["country"]
    for params in (
        {"product": "cup"},
        {"group_by": "product"},
        {"order": "-product"},
        {"order": "spread.p50"},
        {"limit_by": "product:1"},
        {"measures": "median"},
        {"measures": "lines,spread"},
    ):
        assert condition(client.get("/v1/views/revenue/rows", params=params)) == (403, "FORBIDDEN_COLUMN"), params
    assert condition(client.post("/v1/sql", json={"sql": "SELECT product FROM revenue"})) == (400, "BAD_SQL")
    sql = "SELECT country, sum(lines) FROM revenue GROUP BY country"
    assert {country: int(n) for country, n in client.post("/v1/sql", json={"sql": sql}).json()["rows"]} == lines


def test_limits_are_kept_by_token(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path, create=True) as store:
        installed(store, 30)
        (tmp_path / "access.toml").write_text("[limits]\nrequests_per_second = 0.01\nburst = 3\n", "utf-8")
        file = TokenFile(tmp_path / "tokens.json")
        one, other = (file.create(name, "reader")[0] for name in ("one", "other"))
        with Reader(tmp_path) as reader, running(create_app(reader)) as url:
            answers = [httpx.get(f"{url}/v1/views", headers={"Authorization": f"Bearer {one}"}) for _ in range(5)]
            assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2
            assert int(answers[-1].headers["retry-after"]) > 10
            assert condition(answers[-1]) == (429, "TOO_MANY_REQUESTS")
            assert httpx.get(f"{url}/v1/views", headers={"Authorization": f"Bearer {other}"}).status_code == 200


def test_whoever_had_much_waits_for_the_next_answer(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path, create=True) as store:
        installed(store, 30)
        (tmp_path / "access.toml").write_text("[limits]\nbytes_per_second = 10\n", "utf-8")
        file = TokenFile(tmp_path / "tokens.json")
        one, other = ({"Authorization": f"Bearer {file.create(name, 'reader')[0]}"} for name in ("one", "other"))
        with Reader(tmp_path) as reader, running(create_app(reader)) as url:
            assert httpx.get(f"{url}/v1/views", headers=one).status_code == 200
            late = httpx.get(f"{url}/v1/views", headers=one)
            assert condition(late) == (429, "TOO_MANY_REQUESTS")
            assert int(late.headers["retry-after"]) > 10
            assert httpx.get(f"{url}/v1/views", headers=other).status_code == 200


def test_the_last_token_revoked_or_lost_opens_nothing_and_ends_its_streams(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path, create=True) as store:
        installed(store, 30)
        file = TokenFile(tmp_path / "tokens.json")
        text, token = file.create("only", "admin")
        headers = {"Authorization": f"Bearer {text}"}
        with Reader(tmp_path) as reader, running(create_app(reader)) as url:
            stream = f"{url}/v1/views/totals/changes?every=50ms"
            with httpx.stream("GET", stream, headers=headers, timeout=30) as response:
                assert response.status_code == 200
                file.revoke(token.id)
                assert "event: snapshot" in list(response.iter_lines())  # which end
            for given in ({}, headers):
                assert condition(httpx.get(f"{url}/v1/views", headers=given)) == (401, "UNAUTHORIZED")
            (tmp_path / "tokens.json").unlink()
            until = time.monotonic() + 3
            while time.monotonic() < until:
                assert httpx.get(f"{url}/v1/views").status_code == 401
    assert not Lock(Home(tmp_path)).tokens.is_there


def test_a_stranger_learns_that_it_is_well_and_no_more(url: str, asks: Asks) -> None:
    assert httpx.get(f"{url}/healthz").json() == {"ok": True}
    assert httpx.get(f"{url}/readyz").json() == {"ready": True}


def test_no_secret_is_told(asks: Asks, home: Path, tokens: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    _, secret = parts(tokens["admin"])
    texts = [asks("admin").get(path).text for path in ("/v1/status", "/metrics", "/v1/views", "/v1/views/nope/rows")]
    texts.append(asks(secret).get("/v1/views").text)
    texts += [record.getMessage() for record in caplog.records]
    texts.append((home / "tokens.json").read_text())
    assert not [text for text in texts if secret in text]
    assert (home / "tokens.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("host", ["0.0.0.0"])
def test_another_address_needs_credentials(tmp_path: Path, host: str) -> None:
    with LmdbStore.open(tmp_path, create=True) as store:
        installed(store, 30)
    with pytest.raises(ServeError) as refused:
        serve(Home(tmp_path), host, 0)
    assert refused.value.condition == "NOT_LOCKED"
    assert not is_loopback(host)
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")


@pytest.mark.parametrize(
    "text",
    [
        "[roles.a]\nactions = ['fly']",
        "[roles.a]\nviews = 'revenue'",
        "[roles.a]\nrows = {country = 'France'}",
        "[roles.a]\ncolumns = []",
        "[role.a]\nactions = []",
        "[oidc]\nissuer = 'x'",
        "[limits]\nrequests_per_second = 0",
        "[limits]\nrows_per_second = 1",
        "nonsense",
        "\xff",
    ],
)
def test_roles_that_are_wrong_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "access.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(AccessError):
        load_access(tmp_path / "access.toml")


def test_the_command_makes_lists_and_revokes_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LmdbStore.open(tmp_path, create=True) as store:
        installed(store, 30)
    where = ["--home", str(tmp_path)]
    assert main(["token", "create", "mine", "--role", "operator", "--expires", "1d", "-o", "json", *where]) == 0
    made = json.loads(capsys.readouterr().out)
    found = TokenFile(tmp_path / "tokens.json").find(made["token"])
    assert found is not None
    assert (found.role, found.name) == ("operator", "mine")
    assert main(["token", "list", *where]) == 0
    listed = capsys.readouterr().out
    assert "mine" in listed
    assert parts(made["token"])[1] not in listed
    assert main(["token", "create", "other", "--role", "nobody", *where]) == 2
    assert main(["token", "revoke", "mine", *where]) == 0
    assert main(["token", "revoke", "mine", *where]) == 2
    assert main(["token", "create", *where]) == 2
    assert TokenFile(tmp_path / "tokens.json").all() == {}


def test_the_roles_in_the_documents_can_be_loaded(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
    (sample,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "access.toml").write_text(sample, "utf-8")
    access = load_access(tmp_path / "access.toml")
    assert access.role("france").rows == {"country": ("France", "\\N")}
    assert access.role("shop").sources == {"sales"}
    assert access.limits["requests_per_second"] == 100
