"""Ask a network about a whole data set: keypoints, predicted losses, free scores, true losses.

Axes: N persons, K keypoints, S signals, D embedding.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from misgiving.runtime import geometry
from misgiving.runtime.geometry import Window
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer import heatmaps
from misgiving.trainer.answers.reading import BATCH, Person, batches
from misgiving.trainer.config import Recipe
from misgiving.trainer.data.base import PoseSet
from misgiving.trainer.data.readable import Readable, asked_window
from misgiving.trainer.measures import metrics
from misgiving.trainer.models import Network, NetworkOutput

Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a network says of the persons of a data set, and what is true of them.

    What :func:`score` gives.
    """

    ids: tuple[str, ...]
    keypoints: KeypointSet
    points: Floats
    """(N, K, 2) predicted, image px."""
    confidence: Floats
    """(N, K): heatmap peaks."""
    predicted_losses: dict[str, Floats]
    """Head → (N,)."""
    keypoint_loss: Floats
    """The first head's, (N, K); (N, 0) where it does not tell joints apart."""
    signals: Floats
    """(N, S), by ``signal_names``."""
    embedding: Floats
    """(N, D)"""
    true_points: Floats
    labelled: NDArray[np.bool_]
    true_loss: Floats
    """(N,): the pose net's own loss against the label."""
    signal_names: tuple[str, ...] = heatmaps.SIGNALS

    @property
    def predicted_loss(self) -> Floats:
        """The first head's predicted loss, (N,)."""
        return next(iter(self.predicted_losses.values()))

    def signal(self, name: str) -> Floats:
        """One free score, (N,)."""
        return self.signals[:, self.signal_names.index(name)]

    @property
    def found(self) -> Floats:
        """Joints found, (N, K); see ``metrics.hits``."""
        return metrics.hits(self.points, self.true_points, self.labelled, self.keypoints)

    def risk_scores(self) -> dict[str, Floats]:
        """Every score turned so that higher means riskier, by name."""
        signs = {n: -1.0 if n in heatmaps.SAFER_SIGNALS else 1.0 for n in self.signal_names}
        free = {f"-{n}" if s < 0 else n: s * self.signal(n) for n, s in signs.items()}
        return {**self.predicted_losses, **free}


def score(
    network: Network,
    recipe: Recipe,
    data: PoseSet,
    device: torch.device,
    progress: Iterable[int] | None = None,
) -> Scores:
    """Run a network over a data set, on the runtime's own crops and without augmentation.

    Persons who cannot be read are left out, named and counted.

    >>> network, recipe, _ = load_checkpoint(Path("runs/first"))
    >>> device = Compute(device="cpu", threads=1).prepare()
    >>> scores = score(network, recipe, open_data("synthetic:3,20"), device)
    >>> scores.points.shape, scores.predicted_loss.shape, scores.signal("mean_peak").shape
    ((20, 14, 2), (20,), (20,))

    Args:
        network: put on ``device`` and into evaluation mode here.
        recipe: gives the crop rule and the width of the true loss's targets.
        data: the persons.
        device: where to compute.
        progress: the positions in order; wrap ``range(len(data))`` to show progress. Drawn from on
            another thread, as the persons are.

    Raises:
        DataError: too many cannot be read.
    """
    positions = range(len(data)) if progress is None else progress
    rule = recipe.model.crop
    reader = Readable(data, lambda sample: asked_window(sample, rule))
    read = batches(reader.samples(positions), rule, BATCH)
    return score_read(network, recipe, data.keypoints, _checked(read, reader), len(data), device)


def score_read(
    network: Network,
    recipe: Recipe,
    keypoints: KeypointSet,
    read: Iterable[tuple[Person, ...]],
    count: int,
    device: torch.device,
) -> Scores:
    """The same for persons who are cut already, at most ``count``, in batches."""
    network.to(device).eval()
    return joined(_parts(network, recipe, keypoints, read, device), count)


def _checked(read: Iterable[tuple[Person, ...]], reader: Readable) -> Iterator[tuple[Person, ...]]:
    """The same; at the end, says who could not be read, or raises where they are too many."""
    yield from read
    reader.kept()


def _parts(
    network: Network,
    recipe: Recipe,
    keypoints: KeypointSet,
    read: Iterable[tuple[Person, ...]],
    device: torch.device,
) -> Iterator[Scores]:
    """Batch by batch; while the network is at one, another thread reads out the one before."""
    with ThreadPoolExecutor(1, "read-out") as reader:
        waiting: Future[Scores] | None = None
        for persons in read:
            output = _ask(network, persons, device)
            if waiting:
                yield waiting.result()
            waiting = reader.submit(_read_out, network, recipe, keypoints, persons, output)
        if waiting:
            yield waiting.result()


@torch.no_grad()
def _ask(network: Network, persons: tuple[Person, ...], device: torch.device) -> NetworkOutput:
    crops = np.stack([person.crop for person in persons])
    images = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float()
    output: NetworkOutput = network(images)
    return output


@torch.no_grad()
def _read_out(
    network: Network,
    recipe: Recipe,
    keypoints: KeypointSet,
    persons: tuple[Person, ...],
    output: NetworkOutput,
) -> Scores:
    windows = tuple(person.window for person in persons)
    device = output.pose.heatmaps.device
    cells, peaks = output.pose.decoded()
    true_points = np.stack([person.points for person in persons])
    labelled = np.stack([person.labelled for person in persons])
    true_cells = _to_cells(true_points, windows, recipe)
    mask = torch.from_numpy(labelled).to(device)
    targets = heatmaps.encode(
        torch.from_numpy(true_cells).to(device), mask, recipe.model.heatmap_size, recipe.fit.sigma
    )
    return Scores(
        ids=tuple(person.id for person in persons),
        keypoints=keypoints,
        points=_to_image(cells.cpu().numpy() * recipe.model.stride, windows, recipe),
        confidence=peaks.clamp(0, 1).cpu().numpy(),
        predicted_losses={n: p.float().cpu().numpy() for n, p in output.predicted_losses.items()},
        keypoint_loss=_keypoint_loss(network, output),
        signals=network.signals(output.pose).cpu().numpy(),
        embedding=network.embed(output.pose).float().cpu().numpy(),
        true_points=true_points,
        labelled=labelled,
        true_loss=heatmaps.observed_loss(output.pose.heatmaps, targets, mask).cpu().numpy(),
        signal_names=network.pose.signals,
    )


def _keypoint_loss(network: Network, output: NetworkOutput) -> Floats:
    first, outputs = next(iter(output.head_outputs.items()))
    each = network.objectives[first].keypoint_risk(outputs)
    return np.empty((len(outputs), 0), np.float32) if each is None else each.float().cpu().numpy()


def _to_image(points: Floats, windows: tuple[Window, ...], recipe: Recipe) -> Floats:
    rule = recipe.model.crop
    return geometry.inputs_to_images(points, windows, rule.height, rule.width)


def _to_cells(points: Floats, windows: tuple[Window, ...], recipe: Recipe) -> Floats:
    height, width = recipe.model.crop.height, recipe.model.crop.width
    pairs = zip(points, windows, strict=True)
    inputs = np.stack([geometry.image_to_input(p, window, height, width) for p, window in pairs])
    return inputs / recipe.model.stride


def joined(parts: Iterable[Scores], count: int) -> Scores:
    """At most so many persons' scores as one, each part copied as it comes.

    Kept until the end, the parts' small arrays would lie between the network's large ones on the
    heap, and leave holes in which the next large one has no room: 45 kB a person.
    """
    ids: list[str] = []
    columns: dict[tuple[str, str], NDArray[Any]] = {}
    for part in parts:
        rows = slice(len(ids), len(ids) + len(part.ids))
        for name, values in _columns(part).items():
            if name not in columns:
                columns[name] = np.empty((count, *values.shape[1:]), values.dtype)
            columns[name][rows] = values
        ids.extend(part.ids)
    plain: dict[str, Any] = {
        name: values[: len(ids)] for (name, head), values in columns.items() if not head
    }
    heads = {head: values[: len(ids)] for (_, head), values in columns.items() if head}
    return Scores(
        ids=tuple(ids),
        keypoints=part.keypoints,
        predicted_losses=heads,
        signal_names=part.signal_names,
        **plain,
    )


def _columns(part: Scores) -> dict[tuple[str, str], NDArray[Any]]:
    """Every array by its field, and by its head where there is one for each."""
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    arrays = {(n, ""): column for n, column in values.items() if isinstance(column, np.ndarray)}
    return arrays | {("predicted_losses", n): c for n, c in part.predicted_losses.items()}


def summarise(scores: Scores) -> dict[str, float]:
    """Pose accuracy, and for the first head how well it tells failures, as plain numbers."""
    found = scores.found
    failed, defined = metrics.failed(found)
    predicted = scores.predicted_loss[defined]
    summary = {
        "pck": metrics.pck(found),
        "persons": float(len(found)),
        "persons_with_torso": float(defined.sum()),
        "failures": float(failed.sum()),
        "auroc": metrics.auroc(predicted, failed),
        "spearman": metrics.spearman(predicted, scores.true_loss[defined]),
    }
    # JSON has no NaN: what is undefined on this data is left out.
    return {name: value for name, value in summary.items() if np.isfinite(value)}
