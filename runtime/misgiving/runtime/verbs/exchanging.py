"""Another bundle while frames are answered: taken between two of them, then on probation.

It loads while the former one answers; what is asked for last wins. The former stays loaded until
the new one has proved itself, and comes back by itself where the new one fails, is slow, or scores
otherwise than its own reference says.
"""

import asyncio
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

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
from misgiving.runtime.engines.probation import Pace, Probation
from misgiving.runtime.errors import FailedPrecondition, MisgivingError
from misgiving.runtime.flags.policy import FlagPolicy
from misgiving.runtime.serving.batching import MAX_BATCH
from misgiving.runtime.serving.pipeline import Pipeline
from misgiving.runtime.settings.model import BundleTable, FlagsTable, Settings
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.verbs.guarding import Health
from misgiving.runtime.verbs.privacy import privacy_of
from misgiving.runtime.verbs.shadowing import ruling_of

log = logging.getLogger(__name__)

FAILURES = 3
"""Batches that may not fail in a probation, in a row or not."""
LOOK_EVERY_S = 0.1
_OF_A_NETWORK = ("threshold", "release", "repeat_s", "near_duplicate")
"""Keys of [flags] that mean something for one bundle: its scores and embeddings have units."""


@dataclass(frozen=True, slots=True)
class Answering:
    """A bundle that answers, or did, with all that is known of how it does."""

    model: Model
    flags: FlagsTable
    probation: Probation
    pace: Pace
    """Of the engine with which it answered last."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A bundle that is asked for and not there yet."""

    digest: str
    options: ModelOptions
    settings: Settings


class Exchanger:
    """Takes bundles, and goes back.

    Args:
        pipeline: answers.
        settings: in force.
        probation: of the bundle that it began with.
        health: is told which engine answers.
        metrics: count what becomes of bundles.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        settings: Settings,
        probation: Probation,
        health: Health,
        metrics: Metrics,
    ) -> None:
        self.settings = settings
        """In force: what was set for a bundle that is not there yet is not among them."""
        self._pipeline = pipeline
        self._probation = probation
        self._health = health
        self._metrics = metrics
        self._former: Answering | None = None
        self._proved = False
        self._drifted = False
        """Whether scores had left the reference already when the new bundle came."""
        self._sent_back = ""
        """Digest of the bundle that did not prove itself last."""
        self._wish: Wish | None = None
        self._loading: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load")
        """One bundle loads at a time, whatever is asked for meanwhile."""

    @property
    def bundle(self) -> Bundle:
        """What answers now."""
        return self._pipeline.model.bundle

    @property
    def engine(self) -> str:
        """With which it answers now."""
        return self._pipeline.info.engine

    async def follow(self, settings: Settings) -> str | None:
        """Let settings take effect now; have the bundle that they name, where another one answers.

        That one loads in the background, and what was set for its scores waits for it. A load that
        is not asked for any more is given up. What answers is not judged again: it stays where it
        has expired since.

        Returns:
            What loads, for people; None where what is asked for answers.

        Raises:
            BundleError: there is no bundle.
            FailedPrecondition: the trusted keys cannot be read.
            InvalidInput: the bundle that answers has no such threshold. In each case nothing has
                changed.
        """
        options = model_options(settings.bundle)
        try:
            digest = await asyncio.to_thread(asked_digest, options)
        except Exception as error:
            self._refused(error)
            raise
        is_here = digest == self.bundle.digest
        self._obey(settings if is_here else _waiting(settings, self.settings.flags))
        if is_here:
            self._give_up()
            return None
        if self._wish is None or (self._wish.digest, self._wish.options) != (digest, options):
            self._give_up()
            self._loading = asyncio.create_task(self._bring())  # begins after this
        self._wish = Wish(digest, options, settings)
        self._metrics.last_exchange = said = f"bundle {digest[:12]} is being loaded"
        return said

    async def standing(self, digest: str) -> str:
        """What a bundle is: ``loading``, ``probation``, ``proved``; empty for none of these."""
        if self._wish and self._wish.digest == digest:
            return "loading"
        if self.bundle.digest == digest:
            return "proved" if self._proved else "probation"
        return ""

    async def check(self, settings: Settings) -> None:
        """Raise InvalidInput where the bundle that they name answers, and has no such threshold."""
        digest = await asyncio.to_thread(asked_digest, model_options(settings.bundle))
        if digest == self.bundle.digest:
            policy_of(settings.flags, self.bundle)

    def flag_by(self, flags: FlagsTable, campaign: str = "") -> None:
        """Let other flags take effect from the next frame on, which a campaign asks for or, where
        it has no name, nobody does; a bundle that loads has them too.

        Raises:
            InvalidInput: the bundle that answers has no such threshold; nothing has changed.
        """
        new = self.settings.model_copy(update={"flags": flags})
        self._obey(_waiting(new, self.settings.flags) if self._wish else new)
        self._pipeline.campaign = campaign
        if self._wish:
            asked = self._wish.settings.model_copy(update={"flags": flags})
            self._wish = replace(self._wish, settings=asked)

    async def upgrade(self, bundle: Bundle, engine: Engine) -> bool:
        """Let a bundle answer with a better engine; whether it does so now.

        The engine of a bundle that waits to come back waits with it; of one that has gone it goes.
        """
        if self.bundle is bundle:
            self._pipeline.switch(self._probation.watch(engine))
            await self._health.ready(self._pipeline)
            return True
        if (former := self._former) and former.model.bundle is bundle:
            better = replace(former.model, engine=former.probation.watch(engine))
            self._former = replace(former, model=better)
        return False

    async def take(self, model: Model, probation: Probation, settings: Settings) -> None:
        """Answer with another bundle from the next frame on, by what was set for it.

        Raises:
            InvalidInput: it has no such threshold; nothing has changed.
        """
        policy = policy_of(settings.flags, model.bundle)
        former = name_of(self.bundle)
        now = Answering(
            self._pipeline.model, self.settings.flags, self._probation, self._probation.pace
        )
        self._former = self._former or now  # of two that have proved nothing, neither is a refuge
        self._drifted = self._pipeline.drifting
        self._pipeline.exchange(model, policy)
        self._obey(settings)
        self._probation, self._proved = probation, False
        again = ", which went back before" if model.bundle.digest == self._sent_back else ""
        said = f"{name_of(model.bundle)} on probation{again}, instead of {former}"
        log.warning("%s", said)
        await self._tell("taken", said)

    async def run(self) -> None:
        """Look after the bundle that answers, for ever."""
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                await self._look()
        finally:
            self._give_up()

    def _obey(self, settings: Settings) -> None:
        privacy = privacy_of(settings.privacy, self.bundle)
        self._pipeline.flag_by(policy_of(settings.flags, self.bundle))  # both raise first
        self._pipeline.keeping.policy = privacy
        self._pipeline.shadow_by(ruling_of(settings))
        self.settings = settings

    def _give_up(self) -> None:
        """Wait no longer for what loads; a build ends with that."""
        if self._wish and self._loading:
            self._loading.cancel()
            said = f"bundle {self._wish.digest[:12]} is not asked for any more"
            self._metrics.last_exchange = said
        self._wish = None

    async def _bring(self) -> None:
        """Load what is asked for, and take it with what is set by then."""
        assert self._wish
        try:
            model, probation = await self._load(self._wish.options)
            settings, self._wish = self._wish.settings, None
            await self.take(model, probation, settings)
        except Exception as error:  # whatever it is, frames are answered
            self._wish = None
            self._refused(error)
            ours = isinstance(error, MisgivingError)
            log.error("%s; %s goes on", error, name_of(self.bundle), exc_info=not ours)

    async def _load(self, options: ModelOptions) -> tuple[Model, Probation]:
        in_thread = partial(asyncio.get_running_loop().run_in_executor, self._thread)
        bundle = await in_thread(load_bundle, options)
        check_alike(self.bundle, bundle)
        engine = await start_beside(bundle, options, in_thread)
        await in_thread(warm_up, bundle, engine)
        probation = Probation()
        return Model(bundle, probation.watch(engine)), probation

    def _refused(self, error: Exception) -> None:
        self._metrics.exchanges["refused"].inc()
        self._metrics.last_exchange = f"refused: {error}"

    async def _look(self) -> None:
        if self._former and (why := self._fault(self._former)):
            await self._go_back(self._former, why)
        elif not self._proved and self._probation.survived():
            await self._prove()

    def _fault(self, former: Answering) -> str | None:
        """What is wrong with the bundle on probation."""
        if self._probation.failures >= FAILURES:
            return f"its engine failed on {self._probation.failures} batches"
        times, most = self._probation.pace.times(former.pace), self.settings.bundle.slower
        if times is not None and times > most:
            return f"a batch takes it {times:.2f} times as long; expected at most {most:g}"
        if self._pipeline.drifting and not self._drifted:
            return "its predicted losses are not distributed as its reference has them"
        return None

    async def _go_back(self, former: Answering, why: str) -> None:
        left, self._sent_back = name_of(self.bundle), self.bundle.digest
        settings = _waiting(self.settings, former.flags)
        self._pipeline.exchange(former.model, policy_of(settings.flags, former.model.bundle))
        self._obey(settings)
        former.probation.begin()  # it has not served meanwhile
        self._probation, self._former, self._proved = former.probation, None, False
        said = f"{name_of(self.bundle)} answers again instead of {left}: {why}"
        log.error("%s", said)
        await self._tell("back", said)

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


def model_options(table: BundleTable) -> ModelOptions:
    """Which bundle the settings ask for, and on what."""
    return ModelOptions(
        bundle=table.path,
        device=table.device,
        threads=table.threads,
        precision=table.precision,
        trust=table.trust,
    )


def policy_of(flags: FlagsTable, bundle: Bundle) -> FlagPolicy:
    """How is decided about a bundle's answers.

    Raises:
        InvalidInput: the bundle has no such threshold, or it does not fit the others.
    """
    return FlagPolicy(
        threshold=bundle.threshold(flags.threshold),
        audit_rate=flags.audit_rate,
        release=None if flags.release is None else bundle.threshold(flags.release),
        repeat_s=math.inf if flags.repeat_s is None else flags.repeat_s,
        interval_s=flags.interval_s,
        near_duplicate=flags.near_duplicate,
        budgets=flags.budgets,
        audit_reserve=flags.audit_reserve,
    )


def _waiting(new: Settings, flags: FlagsTable) -> Settings:
    """New settings, but for what belongs to one bundle's scores."""
    kept = {key: getattr(flags, key) for key in _OF_A_NETWORK}
    return new.model_copy(update={"flags": new.flags.model_copy(update=kept)})


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
