"""A store that people look at, and the pages over it, in this process or in a server."""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from flask.testing import FlaskClient
from waitress import wasyncore

from misgiving.collector.review.app import Access, create_app
from misgiving.collector.review.serving import serve_review
from misgiving.collector.store import Store
from shared.collecting import DEADLINE_S, collected, person, serialise

OPEN = Access(login=False)
CLOSED = Access(login=True)
PROXIED = Access(login=True, behind_proxy=True)


def filled(folder: Path, losses: Sequence[float]) -> Store:
    """A store of frames ``f0``, ``f1``, …; those of loss 1 or more are flagged."""
    store = Store(folder)
    for number, loss in enumerate(losses):
        store.put(serialise(collected(f"f{number}", persons=[person(0, loss=loss)])))
    return store


def digests(store: Store) -> dict[str, str]:
    """Frame id → digest."""
    return {row.frame_id: row.digest for row, _ in store.frames()}


def client_of(store: Store, access: Access = OPEN, **more: Any) -> FlaskClient:
    """A browser of few talents."""
    return create_app(store, access, **more).test_client()


def send(client: FlaskClient, page: str, action: str, **fields: str) -> Any:
    """Send a form with what the page that has it says against forgery."""
    token = re.search('name="csrf_token" value="([^"]+)"', client.get(page).text)
    assert token, f"{page} has no form"
    return client.post(action, data={"csrf_token": token[1], **fields})


@contextmanager
def reviewing(store: Store, access: Access = OPEN) -> Iterator[str]:
    """Serve the pages from a thread; yields their address."""
    servers = SimpleQueue[Any]()
    arguments = "127.0.0.1:0", store, access, servers.put
    thread = threading.Thread(target=serve_review, args=arguments)
    thread.start()
    server = servers.get(timeout=DEADLINE_S)
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        server.task_dispatcher.shutdown()
        # By its own thread: a loop whose files another one closes fails.
        server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map))
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
