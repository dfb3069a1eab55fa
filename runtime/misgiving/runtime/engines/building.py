"""TensorRT's plan of a bundle, for this device: found in the cache, or built.

Nothing here needs torch, onnx or onnxruntime.
"""

import asyncio
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.base import Engine
from misgiving.runtime.engines.builder import Network, build_plan, find_library
from misgiving.runtime.engines.cache import Plan, PlanCache, PlanKey, Profile, Say, find_cache
from misgiving.runtime.engines.cuda import open_driver
from misgiving.runtime.engines.self_check import self_check
from misgiving.runtime.engines.tensorrt import StalePlan, TensorrtEngine
from misgiving.runtime.errors import EngineError, InvalidInput

log = logging.getLogger(__name__)

PRECISIONS = ("fp32", "fp16", "int8-trt")
"""Those that TensorRT reads; int8 for the CPU has another form."""


@dataclass(frozen=True, slots=True)
class Built:
    """A plan, where it lies, and whether it was built just now."""

    path: Path
    plan: Plan
    is_new: bool


class Workshop:
    """A bundle's plans on this machine: one precision, one GPU, one TensorRT, one cache."""

    def __init__(self, bundle: Bundle, precision: str = "fp32") -> None:
        """Look for TensorRT, the GPU and the cache.

        Raises:
            EngineError: one of them is missing, or the cache is not private.
            InvalidInput: TensorRT reads no such precision.
            BundleError: the bundle has no file of that precision.
        """
        if precision not in PRECISIONS:
            raise InvalidInput(
                f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}"
            )
        self._precision = precision
        self.bundle = bundle.in_precision(precision)
        self.library = find_library()
        self.gpu = open_driver().gpu
        self._cache = PlanCache(find_cache())

    def build(self, profile: Profile, say: Say) -> Built:
        """The plan, from the cache or built now.

        Raises:
            EngineError: it cannot be built or kept.
        """
        key = self._key(profile)
        plan, is_new = self._cache.get_or_build(key, lambda: self._built(key, say), say)
        return Built(self._cache.path(key), plan, is_new)

    def find(self) -> Engine | None:
        """An engine of the plan that was last asked for; None where there is none that runs here.

        Raises:
            EngineError, BundleError: it does not run, or computes something else here.
        """
        plan = self._cache.latest(self._key(usual_profile(self.bundle)))
        if plan is None:
            return None
        try:
            return self._engine(plan)
        except StalePlan as error:
            log.warning("%s; it is built again", error)
            self._cache.remove(self._key(plan.profile))
            return None

    def ready(self) -> Engine:
        """The same, after building a plan where there is none; errors as :meth:`build` too."""
        if engine := self.find():
            return engine
        return self._engine(self.build(usual_profile(self.bundle), shown(sys.stderr)).plan)

    async def ready_elsewhere(self) -> Engine:
        """The same, built by a process of its own; the caller answers meanwhile.

        That process may crash or run out of memory, and this one goes on. It ends with the task.
        """
        arguments = ["build", "--bundle", str(self.bundle.path), "--precision", self._precision]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "misgiving", *arguments),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            said = (await process.communicate())[1].decode(errors="replace")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            last = (said.splitlines() or ["it said nothing"])[-1]
            raise EngineError(f"misgiving build ended with {process.returncode}: {last}")
        return await asyncio.to_thread(self.ready)

    def _engine(self, plan: Plan) -> Engine:
        engine = TensorrtEngine(plan, self.library, open_driver())
        self_check(self.bundle, engine)
        return engine

    def _built(self, key: PlanKey, say: Say) -> bytes:
        name = self.bundle.model.name
        network = Network(
            name, self.bundle.read(name), key.precision, key.height, key.width, key.profile
        )
        return build_plan(self.library, network, self.gpu, self._cache.timings(key), say)

    def _key(self, profile: Profile) -> PlanKey:
        manifest = self.bundle.manifest
        return PlanKey(
            model=manifest.files[self.bundle.model.name],
            precision=self._precision,
            height=manifest.crop.height,
            width=manifest.crop.width,
            gpu=str(self.gpu),
            driver=self.gpu.driver,
            library=str(self.library),
            profile=profile,
        )


def usual_profile(bundle: Bundle) -> Profile:
    """For the batches that a server forms, as far as the graph takes them."""
    return Profile(max=min(Profile().max, bundle.manifest.max_batch))


def shown(out: TextIO) -> Say:
    """Progress for a terminal, which rewrites its line; a log gets a line for each tenth."""
    began = time.monotonic()
    told = -1

    def say(share: float, what: str) -> None:
        nonlocal told
        line = f"{share:4.0%} {what} ({time.monotonic() - began:.0f} s)"
        if out.isatty():
            # Whatever is said next starts at the line's beginning, and is longer.
            print(f"\033[K{line}\r", end="", file=out, flush=True)
        elif int(share * 10) != told:
            told = int(share * 10)
            print(line, file=out, flush=True)

    return say
