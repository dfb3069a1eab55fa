"""A bundle whose graph takes one crop at a time answers as any other."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.base import OUTPUTS, Engine
from misgiving.runtime.engines.loading import ModelOptions, load
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.errors import BundleError, InvalidInput
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Region
from misgiving.runtime.serving.batching import Batcher
from misgiving.runtime.verbs.build import build
from misgiving.runtime.verbs.verify import verify
from runtime.trusting import Fleet
from shared import tiny
from shared.serving import Gated, infer, serving, wire_frame
from shared.single import single_bundle, single_graph

IMAGES = np.random.default_rng(5).integers(0, 256, (5, tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)


def one_by_one(folder: Path) -> Engine:
    """Its samples are three, which the self-check has just asked."""
    return load(ModelOptions(bundle=single_bundle(folder / "single"), threads=1))[1]


def test_it_loads_checks_itself_and_takes_any_batch(tmp_path: Path) -> None:
    engine = one_by_one(tmp_path)
    assert engine.max_batch == 1
    for count in (1, 2, 5):
        got, expected = (one.infer(IMAGES[:count]) for one in (engine, tiny.engine()))
        for name in OUTPUTS:
            np.testing.assert_allclose(getattr(got, name), getattr(expected, name), atol=1e-6)


def test_a_lone_graph_says_it_itself() -> None:
    """The exporter's gates have no manifest yet."""
    assert OnnxEngine(single_graph(), max_batch=16).max_batch == 1


def test_a_graph_of_any_batch_obeys_its_manifest() -> None:
    engine = OnnxEngine(tiny.BUNDLE / "model.onnx", max_batch=2)
    asked: list[int] = []
    run = engine._session.run
    engine._session.run = lambda names, feed: asked.append(len(feed["image"])) or run(names, feed)
    assert len(engine.infer(IMAGES)) == 5
    assert asked == [2, 2, 1]


def test_three_regions_through_an_estimator(tmp_path: Path) -> None:
    regions = [Region(0, 0, 30, 40), Region(10, 5, 30, 40), Region(20, 0, 44, 48)]
    image = np.random.default_rng(6).integers(0, 256, (48, 64, 3), np.uint8)
    single, several = (
        Estimator.load(bundle, threads=1).infer(image, regions)
        for bundle in (single_bundle(tmp_path / "single"), tiny.BUNDLE)
    )
    got, expected = ([p.predicted_loss for p in said.persons] for said in (single, several))
    assert len(got) == 3
    assert got == pytest.approx(expected, abs=1e-6)


def test_eight_frames_at_once_through_a_server(tmp_path: Path) -> None:
    frames = [np.full((48, 64, 3), 30 * i, np.uint8) for i in range(8)]
    estimator = Estimator.load(tiny.BUNDLE, threads=1)
    expected = [estimator.infer(frame).persons[0].predicted_loss for frame in frames]
    with serving(one_by_one(tmp_path)) as server, ThreadPoolExecutor(8) as clients:
        results = list(clients.map(lambda frame: infer(server, wire_frame(frame)), frames))
    losses = [result.persons[0].predicted_loss for result in results]
    assert losses == pytest.approx(expected, abs=1e-6)


def test_a_batcher_forms_no_larger_batch() -> None:
    """So the first crop is answered before the second is run."""

    async def test() -> None:
        gate, batcher = Gated(), Batcher()
        gate.max_batch = 1
        tasks = [asyncio.create_task(batcher.infer(gate, [image])) for image in IMAGES[:2]]
        gate.permits.release()
        await tasks[0]
        assert not tasks[1].done()
        gate.permits.release()
        await tasks[1]
        assert gate.sizes == [1, 1]
        await batcher.close()

    asyncio.run(test())


def test_it_is_verified(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.bundle = single_bundle(tmp_path / "single")
    fleet.sign()
    assert "bright-spots 1, release 1" in verify(fleet.bundle, fleet.trusted)


@pytest.mark.parametrize("most", [2, 1024])
def test_a_manifest_that_promises_more(tmp_path: Path, most: int) -> None:
    with pytest.raises(BundleError) as caught:
        Bundle.load(single_bundle(tmp_path / "single", max_batch=most))
    assert str(caught.value).endswith(
        f"model.onnx takes batches of 1 only, and its manifest says max_batch {most}; "
        "expected any number, or 1 where that is 1. Export the bundle again"
    )


def test_a_plan_of_more_than_it_takes(tmp_path: Path) -> None:
    folder = single_bundle(tmp_path / "single")
    with pytest.raises(InvalidInput, match=r"largest batch is 4; .* takes at most 1 crops at once"):
        build(folder, "fp32", (1, 1, 4))
