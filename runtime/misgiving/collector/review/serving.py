"""The pages over HTTP, until a signal ends them."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import waitress

from misgiving.collector.review.accounts import Accounts
from misgiving.collector.review.app import LARGEST_FORM, Access, create_app
from misgiving.collector.store.store import Store
from misgiving.runtime.errors import FailedPrecondition, InvalidInput
from misgiving.runtime.net.listening import check_address, is_exposed

_THREADS = 8
_PROXY: dict[str, Any] = {
    "trusted_proxy": "*",  # others do not reach the address, or the network is a private one
    "trusted_proxy_count": 1,
    "trusted_proxy_headers": {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"},
}


def access_of(listen: str, *, behind_proxy: bool, insecure: bool) -> Access:
    """Who may look at pages that listen there.

    Raises:
        InvalidInput: the address is none, or others reach it without TLS.
    """
    check_address(listen)
    exposed = is_exposed(listen)
    if exposed and not (behind_proxy or insecure):
        raise InvalidInput(
            f"--listen is {listen}, which other machines reach, over plain HTTP; expected a proxy "
            "that adds TLS. Add --behind-proxy where there is one, or --insecure where the network "
            "is safe"
        )
    return Access(login=exposed or behind_proxy, behind_proxy=behind_proxy)


def serve_review(
    listen: str,
    store: Store,
    access: Access,
    started: Callable[[Any], None] = lambda server: None,
) -> None:
    """Show the pages until the process is told to stop.

    Args:
        listen: HOST:PORT; port 0 takes a free one.
        store: whose frames.
        access: who may look.
        started: is given the server, whose ``close`` ends this.

    Raises:
        FailedPrecondition: the address cannot be bound, or nobody could log in.
    """
    if access.login and not Accounts(store.database).names():
        raise FailedPrecondition(
            "nobody has an account; expected one, as a login is needed where others reach the "
            "page. Make one with 'misgiving review --store DIR --add-user NAME'"
        )
    host, _, port = listen.rpartition(":")
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a sheet asks for 48 pictures
    try:
        server = waitress.create_server(
            create_app(store, access),
            host=host.strip("[]"),
            port=int(port),
            threads=_THREADS,
            ident=None,
            max_request_body_size=LARGEST_FORM,
            **(_PROXY if access.behind_proxy else {}),
        )
    except OSError as error:
        raise FailedPrecondition(
            f"{listen} cannot be bound: {error.strerror}; expected a free address of this machine. "
            "Name another with --listen"
        ) from error
    bound = f"{host}:{_port(server)}"
    try:
        print(f"reviewing on http://{bound} what is in {store.folder}", file=sys.stderr, flush=True)
        started(server)
        server.run()
    except SystemExit:  # the signal came before the server heard it: that is a good end as well
        server.close()


def _port(server: Any) -> int:
    """Of one socket, or the first of several: a name may have addresses of both kinds."""
    if hasattr(server, "effective_port"):
        return int(server.effective_port)
    return int(server.effective_listen[0][1])
