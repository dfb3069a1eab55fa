"""Metrics over HTTP, for Prometheus."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, disable_created_metrics, start_http_server

from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.net.listening import accept_patiently, answer_briefly, check_address

MAX_SCRAPERS = 16
"""Connections at once; beyond them the oldest ends."""
LONGEST_S = 30.0
"""That an answer may take."""


@contextmanager
def scraped(registry: CollectorRegistry, address: str) -> Iterator[str]:
    """Meanwhile, answer Prometheus; gives HOST:PORT with the port that was really taken.

    Args:
        registry: of the metrics.
        address: HOST:PORT; port 0 takes a free one.

    Raises:
        InvalidInput: ``address`` is something else.
        FailedPrecondition: the port is in use, or not ours to take.
    """
    host = check_address(address)
    port = int(address.rpartition(":")[2])
    # Else a second series for each counter, which says when it started.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        server, thread = start_http_server(port, host.strip("[]"), registry)
    except OSError as error:
        raise FailedPrecondition(
            f"{address} cannot be bound for metrics: {error.strerror}; expected a free port of "
            "this machine. Stop what listens there, or choose another with --metrics"
        ) from error
    accept_patiently(server)
    answer_briefly(server, MAX_SCRAPERS, LONGEST_S)
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
