"""What roles leave of queries: by the definition that answers, by values, each role by itself, as long as they may."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import condition, running
from serving_case import REVENUE, Installation, installed, view

from serving_layer.app import create_app
from serving_layer.lock.roles import READ, Forbidden, Role
from serving_layer.lock.tokens import TokenFile
from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline.measures import Count, Sum
from tideline.stores.lmdb import LmdbStore
from tideline.types import parse_type


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Installation, Reader]]:
    with LmdbStore.open(tmp_path, create=True) as store:
        made = installed(store, 150)
        with Reader(tmp_path) as reader:
            yield made, reader


@pytest.mark.parametrize(
    ("mask", "hidden"),
    [
        ("product", {"product", "last", "products", "best"}),
        ("revenue.product", {"product", "last", "products", "best"}),
        ("totals.product", set()),
        ("quantity", {"returns", "items", "mean", "best", "spread", "return_rate", "median"}),
        ("returns", {"returns", "return_rate"}),
        ("produ", set()),
    ],
)
def test_a_mask_covers_what_is_made_of_a_column(mask: str, hidden: set[str]) -> None:
    assert Role("r", frozenset({READ}), masked=frozenset({mask})).hides(REVENUE) == hidden


def test_a_mask_covers_columns_made_of_a_column() -> None:
    made = replace(
        view("initials", "first string", None, "9"),
        columns={"first": "substr(product, 1, 1)", "größe": "quantity + 1"},
        measures={"lines": Count(), "size": Sum("größe").resolve(parse_type("int"))},
        answers={},
    )
    hidden = {mask: Role("r", masked=frozenset({mask})).hides(made) for mask in ("product", "quantity", "größe")}
    assert hidden == {"product": {"first"}, "quantity": {"size"}, "größe": {"size"}}


def test_who_asks_for_null_gets_the_rows_of_null_alone(site: tuple[Installation, Reader]) -> None:
    role = Role("r", frozenset({READ}), rows={"country": ("France", "\\N")})
    for asked in (None, [None], ["\\N"]):
        rows = site[1].query(Query("totals", {"country": asked}), role.restrict).rows
        assert [row["country"] for row in rows] == [None]
    assert site[1].query(Query("totals", {"country": "Norway"}), role.restrict).rows == []


@pytest.mark.parametrize("spelled", ["{:.2f}", "{:.3f}", "{:f}0"])
def test_rows_are_told_by_values_and_not_by_how_they_are_written(
    site: tuple[Installation, Reader], spelled: str
) -> None:
    amount = site[1].query(Query("typed", limit=1)).rows[0]["amount"]
    role = Role("r", frozenset({READ}), rows={"amount": (f"{amount:.2f}",)})
    assert site[1].query(Query("typed", {"amount": spelled.format(amount)}), role.restrict).rows


def test_a_mask_holds_for_what_a_view_becomes(site: tuple[Installation, Reader]) -> None:
    made, reader = site
    role, query = Role("r", frozenset({READ}), masked=frozenset({"margin", "largest"})), Query("totals")
    assert "double" in reader.query(query, role.restrict).columns
    totals = next(one for one in made.views if one.name == "totals")
    made.redefine(replace(totals, answers={"margin": "revenue - items", "double": "largest * 2"}))
    assert {"margin", "double", "largest"} <= set(reader.query(query).columns)
    assert not {"margin", "double", "largest"} & set(reader.query(query, role.restrict).columns)
    with pytest.raises(Forbidden):
        reader.query(Query("totals", measures="double"), role.restrict)


def test_why_a_view_failed_is_not_told_to_who_sees_a_part(locked: tuple[str, TokenFile], site: Any) -> None:
    url, tokens = locked
    with site[0].store.write() as txn:
        totals = {txn.ledger.live["totals"]: "ValueError: the value 'secret' is no number"}
        txn.put_ledger(txn.ledger.quarantine("speed", site[0].speed, totals, 1.5))
    shown = {role: {"Authorization": f"Bearer {tokens.create(role, role)[0]}"} for role in ("a", "reader")}
    for role, told in (("a", False), ("reader", True)):
        refused = httpx.get(f"{url}/v1/views/totals/rows", headers=shown[role])
        assert condition(refused) == (503, "VIEW_QUARANTINED")
        assert ("secret" in refused.text) == told


def test_nor_does_a_proof_or_the_status_tell_them(locked: tuple[str, TokenFile], site: Any) -> None:
    url, tokens = locked
    with site[0].store.write() as txn:
        totals = {txn.ledger.live["totals"]: "ValueError: the value 'secret' is no number"}
        txn.put_ledger(txn.ledger.quarantine("speed", site[0].speed, totals, 1.5))
    body = {"queries": [{"view": "totals", "version": 1}]}
    tags = set()
    shown = {role: {"Authorization": f"Bearer {tokens.create(role, role)[0]}"} for role in ("watch", "admin")}
    for role, told in (("watch", False), ("admin", True)):
        with httpx.Client(base_url=url, headers=shown[role]) as client:
            for form in ("json", "csv", "arrow"):
                found = client.get("/v1/views/totals/rows", params={"version": 1, "format": form})
                assert found.status_code == 200
                assert (b"secret" in found.content + repr(found.headers).encode()) == told
                tags.add(found.headers["etag"])
                again = {"If-None-Match": found.headers["etag"]}
                known = client.get("/v1/views/totals/rows", params={"version": 1, "format": form}, headers=again)
                assert known.status_code == 304
            for found in (client.post("/v1/query", json=body), client.get("/v1/status", timeout=30)):
                assert found.status_code == 200
                assert ("secret" in found.text) == told
    assert len(tags) == 6  # by which a reason could be guessed


@pytest.fixture
def locked(tmp_path: Path, site: tuple[Installation, Reader]) -> Iterator[tuple[str, TokenFile]]:
    roles = '[roles.a]\nmask = ["product"]\n[roles.c]\nmask = ["median", "last", "products", "best"]\n'
    roles += '[roles.watch]\nactions = ["read", "operate"]\nviews = ["totals"]\n'
    (tmp_path / "access.toml").write_text(roles, "utf-8")
    app = create_app(site[1])
    with running(app) as url:
        yield url, TokenFile(tmp_path / "tokens.json")
        app.state.live.end()


@contextlib.contextmanager
def stream(url: str, token: str | None, path: str, **params: str) -> Iterator[Iterator[str]]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with httpx.stream("GET", url + path, params=params, headers=headers, timeout=30) as response:
        assert response.status_code == 200, response.read()
        yield response.iter_lines()


def data(lines: Iterator[str]) -> str:
    return next(line for line in lines if line.startswith("data: "))


def test_roles_do_not_get_each_others_rows(locked: tuple[str, TokenFile]) -> None:
    url, tokens = locked
    a, c = tokens.create("a", "a")[0], tokens.create("c", "c")[0]
    columns = httpx.get(f"{url}/v1/views/revenue/rows", headers={"Authorization": f"Bearer {c}"}).json()["columns"]
    measures = ",".join(name for name in columns if name not in ("country", "product", "bucket"))
    with stream(url, c, "/v1/views/revenue/changes") as other:
        assert '"product":"cup"' in data(other)
        with stream(url, a, "/v1/views/revenue/changes", measures=measures) as mine:
            assert '"product"' not in data(mine)


def test_a_stream_that_needed_no_token_ends_when_there_is_one(locked: tuple[str, TokenFile]) -> None:
    url, tokens = locked
    with stream(url, None, "/v1/views/totals/changes", every="50ms") as lines:
        data(lines)
        tokens.create("first", "reader")
        assert not [line for line in lines if line.startswith("event: error")]  # it ends


def test_a_stream_that_looks_seldom_ends_as_soon(locked: tuple[str, TokenFile]) -> None:
    url, tokens = locked
    text, token = tokens.create("reader", "reader")
    with stream(url, text, "/v1/views/totals/changes", every="365d") as lines:
        data(lines)
        tokens.revoke(token.id)
        assert not [line for line in lines if line.startswith("data: ")]  # it ends


def test_one_caller_does_not_take_all_streams(locked: tuple[str, TokenFile], monkeypatch: pytest.MonkeyPatch) -> None:
    url, tokens = locked
    monkeypatch.setattr("serving_layer.live.MOST_OF_ONE", 2)
    one, other = tokens.create("one", "reader")[0], tokens.create("other", "reader")[0]
    path = "/v1/views/totals/changes"
    with stream(url, one, path) as first, stream(url, one, path) as second:
        data(first), data(second)
        refused = httpx.get(url + path, headers={"Authorization": f"Bearer {one}"})
        assert condition(refused) == (503, "TOO_MANY_STREAMS")
        with stream(url, other, path) as third:
            data(third)
    until = time.monotonic() + 30
    while True:  # until it is known that they are over
        with httpx.stream("GET", url + path, headers={"Authorization": f"Bearer {one}"}) as again:
            if again.status_code == 200:
                break
        assert time.monotonic() < until


def test_tokens_that_are_made_at_one_time_are_all_there(tmp_path: Path) -> None:
    def create(number: int) -> str:
        file = TokenFile(tmp_path / "tokens.json")  # as another process has it
        return file.create(str(number), "reader")[1].id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(create, range(40)))
    assert set(TokenFile(tmp_path / "tokens.json").all()) == ids
