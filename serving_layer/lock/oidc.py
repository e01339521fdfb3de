"""Tokens of an OpenID Connect issuer: JWTs checked against its keys, their claim of roles against the file of roles."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt

from serving_layer.lock.roles import Access, Role
from tideline.runtime.ports import is_loopback

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Those with a public key: with none of them can somebody who knows the issuer's keys sign."""
_TIMEOUT = 5.0
_FRESH = 300.0  # seconds for which the issuer's keys hold, and what was checked by them
_COOLDOWN = 10.0  # seconds between two looks for a key that nobody knows, which anybody can name; and after a failure
_KEPT = 1_000


@dataclass(frozen=True)
class Known:
    """Who shows a token: their role, whom the issuer means, and until when that holds, in Unix time."""

    role: Role
    subject: str
    until: float


class Oidc:
    """Finds whose a JWT is. Asks the issuer for its keys when it first needs them, and again as they grow old."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._config = access.oidc
        self._lock = threading.Lock()
        self._keys: jwt.PyJWKClient | None = None
        self._again = 0.0
        self._known: OrderedDict[str, Known] = OrderedDict()

    def known(self, text: str) -> Known | None:
        """Whose a token is that was checked not long ago and is not over."""
        found = self._known.get(text)
        return found if found is not None and found.until > time.time() else None

    def find(self, text: str) -> Known | None:
        """Whose a token is; None where it is not valid or names no role. It may ask the issuer."""
        try:
            jwt.get_unverified_header(text)  # what is no JWT is not worth asking the issuer
            if time.monotonic() < self._again:
                return None
            key = self._key(text)
            claims = jwt.decode(
                text,
                key.key,
                algorithms=[one for one in self._config.get("algorithms", _ALGORITHMS) if one in _ALGORITHMS],
                audience=self._config["audience"],
                issuer=self._config["issuer"],
                options={"require": ["exp", "iss", "aud"]},
            )
        except (jwt.PyJWTError, OSError, ValueError, TypeError, LookupError):
            return None  # TypeError: a key of another kind than the header names
        role = self._role(claims)
        if role is None:
            return None
        found = Known(role, str(claims.get("sub", "")), min(float(claims["exp"]), time.time() + _FRESH))
        with self._lock:
            self._known[text] = found
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return found

    def _role(self, claims: Mapping[str, Any]) -> Role | None:
        """The first of the claim's values that is, or stands for, a role."""
        value: Any = claims
        for part in str(self._config.get("claim", "roles")).split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        given: Sequence[Any] = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
        stand_for = self._config.get("roles", {})
        names = [stand_for.get(one, one) for one in given if isinstance(one, str)]
        return next((self._access.roles[name] for name in names if name in self._access.roles), None)

    def _key(self, text: str) -> jwt.PyJWK:
        """The key that a token names. Where the issuer does not answer, nobody asks it for a while."""
        try:
            return self._client().get_signing_key_from_jwt(text)
        except (jwt.PyJWKClientConnectionError, OSError):
            self._again = time.monotonic() + _COOLDOWN
            raise

    def _client(self) -> jwt.PyJWKClient:
        with self._lock:
            if self._keys is None:
                url = _checked(self._config.get("jwks") or _discovered(self._config["issuer"]))
                self._keys = jwt.PyJWKClient(url, lifespan=_FRESH, timeout=_TIMEOUT, cooldown_duration=_COOLDOWN)
            return self._keys


def _discovered(issuer: str) -> str:
    """Where an issuer says that its keys are."""
    url = _checked(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
        return str(json.load(response)["jwks_uri"])


def _checked(url: str) -> str:
    """An address whose answer nobody between can change. Raises ValueError for any other."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise ValueError(f"{url} is not https")
    return url
