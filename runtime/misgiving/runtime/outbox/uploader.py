"""From the spool to the collector, in the background, until each frame is acknowledged."""

import logging
import random
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from misgiving.runtime.net.backoff import wait_s
from misgiving.runtime.net.connecting import Reopening, through_proxy
from misgiving.runtime.outbox.delivery import Delivery, error_text
from misgiving.runtime.outbox.pacing import UploadLimits
from misgiving.runtime.outbox.spool import Spool

log = logging.getLogger(__name__)

_LOOK_S = 30.0
"""Between two looks at the clock and the link while they hold frames back."""


class Uploader:
    """One thread that empties a spool into a collector.

    Args:
        spool: the only uploader of this spool.
        target: HOST:PORT of the collector.
        chunk_bytes: of one message; at most what the collector receives (4 MiB by default).
        deadline_s: of one call; a longer upload goes on where it was cut.
        first_wait_s: between the first two attempts; doubles with each further one.
        longest_wait_s: between any two attempts.
        tls: folder of our certificates, see ``net/tls.py``; read again after a failure where
            they have changed, so that one that was renewed is used. None for a collector without
            TLS.
        limits: when and how fast it may upload, to begin with.
        clock: gives the local time.
    """

    def __init__(
        self,
        spool: Spool,
        target: str,
        *,
        chunk_bytes: int = 256 * 1024,
        deadline_s: float = 60.0,
        first_wait_s: float = 0.5,
        longest_wait_s: float = 60.0,
        tls: Path | None = None,
        limits: UploadLimits = UploadLimits(),
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._spool = spool
        self._target = target
        self._first_wait_s = first_wait_s
        self._longest_wait_s = longest_wait_s
        self._clock = clock
        self._failures = 0  # in a row
        self._stopping = threading.Event()
        self._link = Reopening(target, 10.0, tls=tls)
        self._delivery = Delivery(
            spool,
            self._link.channel,
            chunk_bytes=chunk_bytes,
            deadline_s=deadline_s,
            limits=limits,
            stopping=self._stopping,
        )
        self._thread = threading.Thread(target=self._run, name="uploader", daemon=True)

    @property
    def limits(self) -> UploadLimits:
        """In force from the next frame on; the rate from the next chunk on."""
        return self._delivery.limits

    @limits.setter
    def limits(self, limits: UploadLimits) -> None:
        self._delivery.limits = limits
        self._spool.arrived.set()

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """Cancel the call under way and end the thread; what is not acknowledged stays spooled.

        Args:
            timeout: longest wait for the thread, in seconds.
        """
        self._stopping.set()
        self._spool.arrived.set()
        self._link.channel.close()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            self._spool.arrived.clear()
            if self._stopping.is_set():
                return
            if shut_s := self._shut_s():
                self._spool.arrived.wait(min(shut_s, _LOOK_S))
            elif self._drain():
                self._spool.arrived.wait(_LOOK_S if self._spool.pending() else None)
            else:
                draw = random.random()
                self._stopping.wait(
                    wait_s(self._failures, self._first_wait_s, self._longest_wait_s, draw)
                )
                self._reconnect()

    def _reconnect(self) -> None:
        """With the certificates of now."""
        if self._link.reopen():
            self._delivery.connect(self._link.channel)
        if self._stopping.is_set():  # which may have closed the one before
            self._link.channel.close()

    def _drain(self) -> bool:
        """Deliver what is pending; False where an attempt failed and a later one may not."""
        done = set[str]()
        while not self._shut_s() and (batch := self._delivery.next(done)):
            try:
                answers = self._delivery.offer(batch)
                done |= batch.keys() - answers.keys()
                while answers and not self._shut_s():
                    some = self._delivery.first(answers, batch)
                    if min(batch[x].score for x in some) < self.limits.least_loss:
                        break  # since these were offered
                    done |= self._delivery.deliver(some)
                    answers = {x: one for x, one in answers.items() if x not in some}
                    self._succeeded()
            except Exception as error:  # this thread outlives whatever the network does
                if not self._stopping.is_set():
                    self._failed(error)
                return False
        return True

    def _shut_s(self) -> float:
        return self.limits.shut_s(self._clock())

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._delivery.failed()
        if self._failures == 1:
            pending = self._spool.counts().pending
            log.warning(
                "collector %s: %s; trying on, %d pending",
                self._target + through_proxy(self._target),
                error_text(error),
                pending,
            )

    def _succeeded(self) -> None:
        if self._failures:
            log.warning("collector %s takes frames again", self._target)
        self._failures = 0
        self._delivery.succeeded()
