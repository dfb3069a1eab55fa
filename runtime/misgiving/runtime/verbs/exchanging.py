"""Another bundle while frames are answered: taken between two of them, then on probation.

The former bundle stays loaded until the new one has proved itself, and comes back by itself where
the new one fails, is slow, or scores otherwise than its own reference says.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.floor import rise
from misgiving.runtime.engines.base import Engine
from misgiving.runtime.engines.loading import (
    ModelOptions,
    asked_digest,
    load_bundle,
    start_beside,
)
from misgiving.runtime.engines.probation import Probation
from misgiving.runtime.errors import FailedPrecondition, MisgivingError
from misgiving.runtime.flags.policy import FlagPolicy
from misgiving.runtime.serving.batching import MAX_BATCH
from misgiving.runtime.serving.pipeline import Pipeline
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.verbs.guarding import Health

log = logging.getLogger(__name__)

FAILURES = 3
"""Batches that may not fail in a probation, in a row or not."""
LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Answering:
    """A bundle that answers, or did, with all that is known of how it does."""

    model: Model
    policy: FlagPolicy
    probation: Probation


class Exchanger:
    """Takes bundles, and goes back.

    Args:
        pipeline: answers.
        probation: of the bundle that it began with.
        health: is told which engine answers.
        metrics: count what becomes of bundles.
        slower: see ``bundle.slower`` of the settings.
        policy_of: how is decided about a bundle's answers, by the settings in force.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        probation: Probation,
        health: Health,
        metrics: Metrics,
        slower: float,
        policy_of: Callable[[Bundle], FlagPolicy],
    ) -> None:
        self._pipeline = pipeline
        self._probation = probation
        self._health = health
        self._metrics = metrics
        self.slower = slower
        self.policy_of = policy_of
        self._former: Answering | None = None
        self._proved = False
        self._drifted = False
        """Whether scores had left the reference already when the new bundle came."""
        self._sent_back = ""
        """Digest of the bundle that did not prove itself last."""

    @property
    def bundle(self) -> Bundle:
        """What answers now."""
        return self._pipeline.model.bundle

    async def load(self, options: ModelOptions) -> tuple[Model, Probation] | None:
        """What the options name, ready to answer; None where that answers already.

        Frames are answered meanwhile, and a plan of TensorRT is waited for. What answers is not
        judged again: it stays where it has expired since.

        Raises:
            BundleError, EngineError: it does not load, or computes something else here.
            FailedPrecondition: it takes a restart, or the trusted keys cannot be read.
        """
        try:
            return await self._load(options)
        except Exception as error:
            self._metrics.exchanges["refused"].inc()
            self._metrics.last_exchange = f"refused: {error}"
            raise

    async def _load(self, options: ModelOptions) -> tuple[Model, Probation] | None:
        if await asyncio.to_thread(asked_digest, options) == self.bundle.digest:
            return None
        bundle = await asyncio.to_thread(load_bundle, options)
        check_alike(self.bundle, bundle)
        engine = await start_beside(bundle, options)
        await asyncio.to_thread(warm_up, bundle, engine)
        probation = Probation()
        return Model(bundle, probation.watch(engine)), probation

    async def take(self, new: tuple[Model, Probation], policy: FlagPolicy) -> str:
        """Answer with another bundle from the next frame on; says what was done."""
        model, probation = new
        former = name_of(self.bundle)
        now = Answering(self._pipeline.model, self._pipeline.policy, self._probation)
        self._former = self._former or now  # of two that have proved nothing, neither is a refuge
        self._drifted = self._pipeline.drifting
        self._pipeline.exchange(model, policy)
        self._probation, self._proved = probation, False
        again = ", which went back before" if model.bundle.digest == self._sent_back else ""
        await self._tell(
            "taken", f"{name_of(model.bundle)} on probation{again}, instead of {former}"
        )
        return self._metrics.last_exchange

    async def run(self) -> None:
        """Look after the bundle that answers, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        if self._former and (why := self._fault(self._former)):
            await self._go_back(self._former, why)
        elif not self._proved and self._probation.survived():
            await self._prove()

    def _fault(self, former: Answering) -> str | None:
        """What is wrong with the bundle on probation."""
        if self._probation.failures >= FAILURES:
            return f"its engine failed on {self._probation.failures} batches"
        times = self._probation.pace.times(former.probation.pace)
        if times is not None and times > self.slower:
            return f"a batch takes it {times:.2f} times as long; expected at most {self.slower:g}"
        if self._pipeline.drifting and not self._drifted:
            return "its predicted losses are not distributed as its reference has them"
        return None

    async def _go_back(self, former: Answering, why: str) -> None:
        left, self._sent_back = name_of(self.bundle), self.bundle.digest
        self._pipeline.exchange(former.model, self._policy_of(former))
        former.probation.begin()  # it has not served meanwhile
        self._probation, self._former, self._proved = former.probation, None, False
        said = f"{name_of(self.bundle)} answers again instead of {left}: {why}"
        log.error("%s", said)
        await self._tell("back", said)

    def _policy_of(self, former: Answering) -> FlagPolicy:
        """By the settings of now, unless they name a threshold that only the other one has."""
        try:
            return self.policy_of(former.model.bundle)
        except MisgivingError:
            return former.policy

    async def _prove(self) -> None:
        """The former one may go; where bundles are signed, none that is older may come."""
        self._proved = True
        if self._former:
            self._former = None
            await self._tell("proved", f"{name_of(self.bundle)} has survived its probation")
        if self.bundle.signed_by is None:
            return
        manifest = self.bundle.manifest
        if await asyncio.to_thread(rise, manifest.name, manifest.release):
            log.warning(
                "%s survived its probation: release %d is the lowest taken from now on",
                manifest.name,
                manifest.release,
            )

    async def _tell(self, outcome: str, said: str) -> None:
        self._metrics.exchanges[outcome].inc()
        self._metrics.probation.set(self._former is not None)
        self._metrics.last_exchange = said
        await self._health.ready(self._pipeline)


def warm_up(bundle: Bundle, engine: Engine) -> None:
    """Let an engine meet the smallest and the largest batch before a frame does."""
    rule = bundle.manifest.crop
    for size in (1, min(MAX_BATCH, engine.max_batch)):
        engine.infer(np.zeros((size, rule.height, rule.width, 3), np.uint8))


def name_of(bundle: Bundle) -> str:
    """For messages."""
    return f"{bundle.manifest.name} {bundle.manifest.version} ({bundle.digest[:12]})"


def check_alike(now: Bundle, new: Bundle) -> None:
    """Raise FailedPrecondition where those who read answers would misread the other's."""
    a, b = now.manifest, new.manifest
    alike = {
        "name": a.name == b.name,
        "keypoints": a.keypoints == b.keypoints,
        "signals": [one.name for one in a.signals] == [one.name for one in b.signals],
    }
    for what, is_alike in alike.items():
        if not is_alike:
            raise FailedPrecondition(
                f"{new.path} has another {what} than the bundle that answers, which clients have "
                "read; expected a newer one of the same model. Restart the server for it"
            )
