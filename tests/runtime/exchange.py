"""A server that exchanges its bundle, and a network whose answers tell which one it was."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.base import Engine, Prediction, Provider
from misgiving.runtime.engines.probation import Probation
from misgiving.runtime.settings.model import Settings
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.verbs.exchanging import Exchanger
from misgiving.v1 import detector_pb2 as wire
from shared import tiny
from shared.collecting import eventually
from shared.serving import Running

OLD = tiny.policy(threshold=0.75)
NEW = tiny.policy(threshold=7.5)


def settings(threshold: float | str, path: Path = tiny.BUNDLE, **flags: object) -> Settings:
    table = {"threshold": threshold, "audit_rate": 0.0, **flags}
    return Settings.model_validate({"flags": table, "bundle": {"path": path, "threads": 1}})


APART = 5.0
"""Between the scores of the two networks."""


class Network:
    """The tiny engine with other scores, which fails or dawdles where a test says so."""

    provider = Provider("onnxruntime", "onnxruntime", "another", "fp32")

    def __init__(self) -> None:
        self._engine = tiny.engine()
        self.max_batch = self._engine.max_batch
        self.error: Exception | None = None

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        if self.error:
            raise self.error
        said = self._engine.infer(images)
        return replace(said, predicted_loss=said.predicted_loss + APART)


def edited(folder: Path, **fields: object) -> Path:
    shutil.copytree(tiny.BUNDLE, folder)
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


class Exchange:
    """An exchanger of a server that runs."""

    def __init__(self, server: Running, now: Settings = settings(OLD.threshold)) -> None:
        self.server = server
        self.metrics = Metrics()
        self.first = Probation()
        self.exchanger = Exchanger(server.pipeline, now, self.first, server.server, self.metrics)
        self.probation = Probation()

    def take(self, folder: Path, network: Engine) -> None:
        model = Model(Bundle.load(folder), self.probation.watch(network))
        self.server.call(self.exchanger.take(model, self.probation, settings(NEW.threshold)))

    def follow(self, now: Settings) -> str | None:
        said: str | None = self.server.call(self.exchanger.follow(now))
        return said

    def settled(self) -> None:
        """Nothing is asked for any more that is not there."""
        eventually(lambda: self.exchanger._wish is None)

    def look(self) -> None:
        self.server.call(self.exchanger._look())

    def counted(self) -> dict[str, float]:
        return {name: one.value for name, one in self.metrics.exchanges.items() if one.value}

    @property
    def version(self) -> str:
        """Of the bundle that answers."""
        return self.server.stub.GetModel(wire.GetModelRequest()).model.version
