"""Tokens of an OpenID Connect issuer: JWTs checked against its keys, their claim of roles against the file of roles."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from serving_layer.lock.roles import Access, Role

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Those with a public key: with none of them can somebody who knows the issuer's keys sign."""
_TIMEOUT = 5.0
_KEPT = 1_000


class Oidc:
    """Finds the role of a JWT. Asks the issuer for its keys when it first needs them, and for new ones by their ids."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._config = access.oidc
        self._lock = threading.Lock()
        self._keys: jwt.PyJWKClient | None = None
        self._known: OrderedDict[str, tuple[float, Role]] = OrderedDict()

    def known(self, text: str) -> Role | None:
        """The role of a token that was checked before and is not over."""
        found = self._known.get(text)
        return found[1] if found is not None and found[0] > time.time() else None

    def find(self, text: str) -> Role | None:
        """The role of a token; None where it is not valid or names no role. It may ask the issuer."""
        try:
            key = self._client().get_signing_key_from_jwt(text)
            claims = jwt.decode(
                text,
                key.key,
                algorithms=[one for one in self._config.get("algorithms", _ALGORITHMS) if one in _ALGORITHMS],
                audience=self._config["audience"],
                issuer=self._config["issuer"],
                options={"require": ["exp", "iss", "aud"]},
            )
        except (jwt.PyJWTError, OSError, ValueError):
            return None
        role = self._role(claims)
        if role is not None:
            self._known[text] = float(claims["exp"]), role
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return role

    def _role(self, claims: Mapping[str, Any]) -> Role | None:
        """The first of the claim's values that is, or stands for, a role."""
        value: Any = claims
        for part in str(self._config.get("claim", "roles")).split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        given: Sequence[Any] = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
        stand_for = self._config.get("roles", {})
        names = [stand_for.get(one, one) for one in given if isinstance(one, str)]
        return next((self._access.roles[name] for name in names if name in self._access.roles), None)

    def _client(self) -> jwt.PyJWKClient:
        with self._lock:
            if self._keys is None:
                url = self._config.get("jwks") or _discovered(self._config["issuer"])
                self._keys = jwt.PyJWKClient(url, cache_keys=True, timeout=_TIMEOUT)
            return self._keys


def _discovered(issuer: str) -> str:
    """Where an issuer says that its keys are."""
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    if not url.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        raise ValueError(f"{issuer} is not https")
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
        return str(json.load(response)["jwks_uri"])
