"""What the fleet side keeps: objects, which are bytes, and rows, which are what lists need."""

from misgiving.collector.store.database import Database, StoreReplaced, StoreUnavailable
from misgiving.collector.store.rows import StoredFrame, reason_of
from misgiving.collector.store.store import Store
from misgiving.collector.store.uploads import wrong_offset

__all__ = [
    "Database",
    "Store",
    "StoreReplaced",
    "StoreUnavailable",
    "StoredFrame",
    "reason_of",
    "wrong_offset",
]
