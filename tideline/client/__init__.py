"""Clients of the HTTP API: the calls of `tideline.open`, over a network. See `tideline.connect`."""

from tideline.client.aio import AsyncClient
from tideline.client.answers import Change, RemoteResult, SqlResult
from tideline.client.sync import Client

__all__ = ["AsyncClient", "Change", "Client", "RemoteResult", "SqlResult"]
