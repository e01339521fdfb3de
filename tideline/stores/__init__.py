"""Where states and the ledger live for serving: one interface, two stores."""

from tideline.stores.base import Snapshot, Store, WriteTransaction, collect_garbage

__all__ = ["Snapshot", "Store", "WriteTransaction", "collect_garbage"]
