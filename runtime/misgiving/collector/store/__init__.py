"""What the fleet side keeps: objects, which are bytes, and rows, which are what lists need."""

from misgiving.collector.store.objects import wrong_offset
from misgiving.collector.store.rows import StoredFrame, reason_of
from misgiving.collector.store.store import Store

__all__ = ["Store", "StoredFrame", "reason_of", "wrong_offset"]
