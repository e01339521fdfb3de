"""The lock on the door, from outside: JWTs of an issuer, TLS, and pages of other origins."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from certificates import make_certificate
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from serving import condition, running
from serving_case import installed

from serving_layer.app import create_app
from serving_layer.lock.gate import Lock
from serving_layer.lock.limits import Limits, _Bucket
from serving_layer.lock.oidc import Oidc
from serving_layer.lock.roles import BUILT_IN, Access
from serving_layer.reader import Reader
from serving_layer.server import Doors, ServeError, serve
from tideline.runtime.home import Home
from tideline.stores.lmdb import LmdbStore

# OpenID Connect, with an issuer on this machine.

PANELS = "https://panels.example.com"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode().rstrip("=")


@pytest.fixture
def asked() -> list[str]:
    """The paths that the issuer was asked for."""
    return []


@pytest.fixture
def issuer(asked: list[str]) -> Iterator[str]:
    """The address of an issuer whose key is KEY."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            numbers = KEY.public_key().public_numbers()
            curve = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(CURVE.public_key()))
            keys = [
                {"kty": "RSA", "kid": "k1", "use": "sig", "n": _number(numbers.n), "e": _number(numbers.e)},
                {**curve, "kid": "e1", "use": "sig"},
            ]
            here = f"http://127.0.0.1:{self.server.server_address[1]}"
            body = {"keys": keys} if self.path == "/jwks" else {"jwks_uri": f"{here}/jwks"}
            self.send_response(503 if self.path.startswith("/broken") else 200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def claims(issuer: str, **other: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": issuer, "aud": "tideline", "exp": now + 600, "realm": {"roles": ["x", "analysts"]}, **other}


def test_a_jwt_of_the_issuer_opens_what_its_role_may(tmp_path: Path, issuer: str) -> None:
    text = f"""
    [oidc]
    issuer = "{issuer}"
    audience = "tideline"
    claim = "realm.roles"
    roles = {{analysts = "reader"}}
    """
    (tmp_path / "access.toml").write_text(text, "utf-8")
    good, past = claims(issuer), int(time.time()) - 600
    head = {"kid": "k1"}
    public = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    unsigned = jwt.encode(good, None, "none", headers=head)
    hmac_head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "k1"}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(good).encode()).rstrip(b"=")
    signed = hmac.new(public, hmac_head + b"." + body, hashlib.sha256).digest()
    forged = (hmac_head + b"." + body + b"." + base64.urlsafe_b64encode(signed).rstrip(b"=")).decode()
    wrong = [
        jwt.encode(claims(issuer, exp=past), KEY, "RS256", head),
        jwt.encode(claims(issuer, aud="other"), KEY, "RS256", head),
        jwt.encode(claims("http://127.0.0.1:1"), KEY, "RS256", head),
        jwt.encode({name: value for name, value in good.items() if name != "exp"}, KEY, "RS256", head),
        jwt.encode(good, OTHER, "RS256", head),
        jwt.encode(good, KEY, "RS256", {"kid": "k2"}),
        jwt.encode(claims(issuer, realm={"roles": ["x"]}), KEY, "RS256", head),
        jwt.encode(claims(issuer, realm="analysts"), KEY, "RS256", head),
        unsigned,
        forged,
        "a.b.c",
    ]
    with LmdbStore.open(tmp_path, create=True) as store:
        installed(store, 30)
        with Reader(tmp_path) as reader, running(create_app(reader, Lock(Home(tmp_path)))) as url:
            right = {"Authorization": f"Bearer {jwt.encode(good, KEY, 'RS256', head)}"}
            for _ in range(2):
                assert httpx.get(f"{url}/v1/views/totals/rows", headers=right).status_code == 200
                assert httpx.get(f"{url}/v1/status", headers=right).status_code == 403
            for text in wrong:
                response = httpx.get(f"{url}/v1/views", headers={"Authorization": f"Bearer {text}"})
                assert condition(response) == (401, "UNAUTHORIZED"), text


def test_an_issuers_subject_has_one_limit_and_strangers_do_not_make_us_ask_it(
    tmp_path: Path, issuer: str, asked: list[str]
) -> None:
    text = f'[oidc]\nissuer = "{issuer}"\naudience = "tideline"\n[limits]\nrequests_per_second = 0.01\nburst = 3\n'
    (tmp_path / "access.toml").write_text(text, "utf-8")

    def token(subject: str, kid: str, number: int) -> str:
        return jwt.encode(claims(issuer, roles=["reader"], sub=subject, jti=str(number)), KEY, "RS256", {"kid": kid})

    with LmdbStore.open(tmp_path, create=True) as store:
        installed(store, 30)
        with Reader(tmp_path) as reader, running(create_app(reader, Lock(Home(tmp_path)))) as url:

            def ask(subject: str, kid: str, number: int) -> int:
                shown = {"Authorization": f"Bearer {token(subject, kid, number)}"}
                return httpx.get(f"{url}/v1/views", headers=shown).status_code

            assert [ask("ann", "k1", number) for number in range(5)] == [200, 200, 200, 429, 429]
            assert ask("bob", "k1", 0) == 200
            assert {ask("eve", f"k{number}", number) for number in range(2, 20)} == {401}
    assert asked.count("/jwks") <= 3


@pytest.mark.parametrize("kid", ["e1", "no text\n"])
def test_a_key_of_another_kind_opens_nothing(tmp_path: Path, issuer: str, kid: str) -> None:
    access = Access({"reader": BUILT_IN["reader"]}, {"issuer": issuer, "audience": "tideline"}, {})
    assert Oidc(access).find(jwt.encode(claims(issuer, roles=["reader"]), KEY, "RS256", {"kid": kid})) is None


def test_an_issuer_that_does_not_answer_is_left_alone_for_a_while(issuer: str, asked: list[str]) -> None:
    access = Access({"reader": BUILT_IN["reader"]}, {"issuer": f"{issuer}/broken", "audience": "tideline"}, {})
    oidc = Oidc(access)
    token = jwt.encode(claims(issuer, roles=["reader"]), KEY, "RS256", {"kid": "k1"})
    assert [oidc.find("no token") for _ in range(3)] == [None] * 3
    assert asked == []
    assert [oidc.find(token) for _ in range(3)] == [None] * 3
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("issuer", "jwks"),
    [("http://localhost.example.com", ""), ("http://10.0.0.1", ""), ("https://a.example.com", "http://b.example.com")],
)
def test_keys_come_over_https_or_from_this_machine(issuer: str, jwks: str) -> None:
    access = Access({"reader": BUILT_IN["reader"]}, {"issuer": issuer, "audience": "tideline", "jwks": jwks}, {})
    with pytest.raises(ValueError, match="is not https"):
        Oidc(access)._client()


def test_threads_that_share_a_limit_have_no_more_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fill = _Bucket.fill

    def slowly(self: _Bucket, *how: float) -> None:
        time.sleep(0)  # others go on here, if they may
        fill(self, *how)

    monkeypatch.setattr(_Bucket, "fill", slowly)
    limits = Limits({"requests_per_second": 1e-6, "burst": 100})
    with ThreadPoolExecutor(8) as pool:
        assert sum(not wait for wait in pool.map(limits.ask, ["ann"] * 2_000)) == 100


def test_without_tokens_no_page_of_another_site_asks_through_a_browser(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path, create=True) as store:
        installed(store, 30)
        with Reader(tmp_path) as reader, running(create_app(reader, Lock(Home(tmp_path), [PANELS]))) as url:
            port = url.rpartition(":")[2]
            for headers, expected in (
                ({"Host": f"evil.example:{port}"}, "FORBIDDEN_HOST"),
                ({"Host": ""}, "FORBIDDEN_HOST"),
                ({"Host": "localhost.evil.example"}, "FORBIDDEN_HOST"),
                ({"Host": "[::1"}, "FORBIDDEN_HOST"),
                ({"Origin": "https://evil.example"}, "FORBIDDEN_ORIGIN"),
                ({"Origin": "null"}, "FORBIDDEN_ORIGIN"),
            ):
                for method, path in (("GET", "/v1/views/totals/rows"), ("POST", "/v1/verify"), ("GET", "/")):
                    assert condition(httpx.request(method, url + path, headers=headers)) == (403, expected)
                sent = httpx.post(f"{url}/v1/sources/sales/events", headers=headers, content=b"{}")
                assert condition(sent) == (403, expected)
            for headers in (
                {"Host": f"localhost:{port}"},
                {"Origin": url},
                {"Origin": PANELS},
                {"Host": f"[::1]:{port}"},
            ):
                assert httpx.get(f"{url}/v1/views", headers=headers).status_code == 200


def test_it_is_served_over_tls(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path / "home", create=True) as store:
        installed(store, 30)
    pem, key = make_certificate(tmp_path)
    config = tmp_path / "config.toml"
    config.write_text(
        f'[serve]\nport = "auto"\ntls_certificate = "{pem}"\ntls_key = "{key}"\ncors_origins = "{PANELS}"\n', "utf-8"
    )
    home = Home(tmp_path / "home").prepare()
    command = [sys.executable, "-m", "tideline.cli.main", "serve", "--home", str(home.path), "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not (home.read_status("serve") or {}).get("ready"):
            assert process.poll() is None
            assert time.monotonic() < until
            threading.Event().wait(0.05)
        url = str((home.read_status("serve") or {})["url"])
        assert url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(pem))
        for origin, status, told in ((PANELS, 200, PANELS), ("https://elsewhere.example", 403, None)):
            answer = httpx.get(f"{url}/v1/views/totals/rows", verify=trusted, headers={"Origin": origin})
            assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (status, told)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/healthz")
    finally:
        process.terminate()
        process.wait(30)
    with pytest.raises(ServeError) as refused:
        serve(home, "127.0.0.1", 0, doors=Doors(str(pem), str(pem)))
    assert refused.value.condition == "BAD_TLS"
