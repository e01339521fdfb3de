"""Tokens: long random texts, of which a home keeps the hashes alone."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tideline.errors import OutsideError, Texts, UsageError

PREFIX = "tl_"
_ID_BYTES, _SECRET_BYTES = 6, 32
_LOOK = 1.0  # seconds between two looks at whether the file has changed


class TokenError(UsageError):
    """A token that there is not."""

    texts: ClassVar[Texts] = {"UNKNOWN_TOKEN": ("there is no token {token}", "tokens: {known}")}


class TokensUnreadable(OutsideError):
    """The file of tokens cannot be read."""

    texts: ClassVar[Texts] = {
        "TOKENS_UNREADABLE": ("the tokens in {path} cannot be read: {reason}", "restore it, or make new tokens")
    }


@dataclass(frozen=True)
class Token:
    """What is known of a token: not the token itself. Times are seconds since the epoch."""

    id: str
    name: str
    role: str
    digest: str
    created: float
    expires: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return dict(vars(self))

    def shown(self) -> dict[str, Any]:
        """As it is listed: without the hash."""
        return {name: value for name, value in vars(self).items() if name != "digest"}


class TokenFile:
    """The tokens of a home. Safe to use from several threads, and beside other processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._looked = -_LOOK
        self._stamp: tuple[int, int] | None = None
        self._tokens: dict[str, Token] = {}

    def create(self, name: str, role: str, seconds: float | None = None) -> tuple[str, Token]:
        """A new token, which is told this once, and what is kept of it; it ends after so many seconds."""
        id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
        now = time.time()
        token = Token(id, name, role, _digest(secret), now, None if seconds is None else now + seconds)
        with self._alone():
            self._write({**self.all(), id: token})
        return f"{PREFIX}{id}_{secret}", token

    def revoke(self, given: str) -> Token:
        """Ends the token with this id or name. Raises TokenError."""
        with self._alone():
            tokens = self.all()
            found = [token for token in tokens.values() if given in (token.id, token.name)]
            if len(found) != 1:
                known = [token.id for token in tokens.values()]
                raise TokenError("UNKNOWN_TOKEN", token=given, known=known)
            self._write({id: token for id, token in tokens.items() if token is not found[0]})
        return found[0]

    def all(self) -> dict[str, Token]:
        """Every token by its id. Raises TokensUnreadable."""
        try:
            raw = json.loads(self._path.read_text("utf-8"))
            return {one["id"]: Token(**one) for one in raw["tokens"]}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TokensUnreadable("TOKENS_UNREADABLE", path=str(self._path), reason=str(error)) from error

    def find(self, text: str) -> Token | None:
        """The token that this is; None for one that is unknown, revoked or over. Raises TokensUnreadable."""
        id, _, secret = text.removeprefix(PREFIX).partition("_")
        token = self._known().get(id)
        if token is None or not hmac.compare_digest(token.digest, _digest(secret)):
            return None
        return None if token.expires is not None and token.expires <= time.time() else token

    @property
    def is_there(self) -> bool:
        """Whether a token was ever made: a file whose tokens were all revoked is there."""
        self._known()
        return self._stamp is not None

    def _known(self) -> Mapping[str, Token]:
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return self._tokens
        with self._lock:
            try:
                told = self._path.stat()
                stamp: tuple[int, int] | None = (told.st_mtime_ns, told.st_ino)
            except OSError:
                stamp = None
            if stamp != self._stamp:
                self._tokens = self.all()
                self._stamp = stamp
            self._looked = now
            return self._tokens

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process changes the file meanwhile: a token that it revokes would be there again."""
        with open(self._path.with_suffix(".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, tokens: Mapping[str, Token]) -> None:
        scratch = self._path.with_suffix(f".{os.getpid()}.tmp")
        with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump({"version": 1, "tokens": [token.to_json() for token in tokens.values()]}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, self._path)
        self._looked = -_LOOK


def _digest(secret: str) -> str:
    """SHA-256 is enough: a secret of 256 random bits cannot be guessed, however fast it is tried."""
    return hashlib.sha256(secret.encode("utf-8", "backslashreplace")).hexdigest()
