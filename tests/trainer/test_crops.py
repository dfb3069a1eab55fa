"""Crops and augmentation: labels follow the pixels, left stays left, a seed is a seed."""

import resource
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from misgiving.runtime import geometry
from misgiving.runtime.errors import DataError, ResourceExhausted
from misgiving.runtime.geometry import CropRule
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.config import AugmentConfig
from misgiving.trainer.data import Sample
from misgiving.trainer.data.augmentation import (
    augment,
    batches,
    changes_of,
    draw,
    draw_astray,
    select,
    shuffled,
)
from misgiving.trainer.data.crops import CONTEXT, Batch, Crops, evaluation_crop, load_crops
from shared.training import JOINTS, STILL, people, pose_set, standing

CPU = torch.device("cpu")
RULE = CropRule(height=64, width=64, padding=1.25)
L_WRIST, R_WRIST, NECK = 11, 6, 12


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dotted(joint: int, labelled: NDArray[np.bool_] | None = None) -> Sample:
    """Somebody on a black image, whose one joint is a bright Gaussian dot."""
    points = standing() + np.float32(0.37)
    y, x = np.mgrid[0:200, 0:160] + 0.5
    distance = (x - points[joint, 0]) ** 2 + (y - points[joint, 1]) ** 2
    grey = (250 * np.exp(-distance / (2 * 4.0**2))).astype(np.uint8)
    flags = np.ones(JOINTS, bool) if labelled is None else labelled
    return Sample(f"dot/{joint}", np.repeat(grey[..., None], 3, axis=2), points, flags)


def load(*samples: Sample) -> Crops:
    return load_crops(pose_set(samples), RULE, CPU, range(len(samples)))


def augmented(
    crops: Crops, chosen: torch.Tensor, config: AugmentConfig, generator: torch.Generator
) -> Batch:
    """Some crops, changed by what a generator draws."""
    drawn = draw(len(chosen), config, generator)
    return augment(next(select(crops, chosen[None])), changes_of(drawn, crops), crops)


def centroid(image: torch.Tensor) -> NDArray[np.float64]:
    """Of the brightness of (3, H, W): x and y in px."""
    mass = image[0].double().numpy()
    grid = np.arange(len(mass)) + 0.5
    return np.array([(mass.sum(0) * grid).sum(), (mass.sum(1) * grid).sum()]) / mass.sum()


def test_astray() -> None:
    """The last ones of a batch look elsewhere, and their points with them."""
    crops = load(*(dotted(NECK) for _ in range(64)))
    config = replace(STILL, astray=0.5)
    (batch,) = batches(crops, 64, config, seeded(3))
    assert (len(batch.images), batch.astray) == (96, 32)
    neck = batch.points[:, NECK]
    assert neck[:64].std(0).max() < 1e-3
    inside = ((neck[64:] > 8) & (neck[64:] < 56)).all(1)
    assert 5 < int(inside.sum()) < 27
    for row in (inside.nonzero()[:, 0] + 64).tolist():
        spot = batch.images[row, 0] > 128
        assert spot[int(neck[row, 1]), int(neck[row, 0])]
    drawn = draw_astray(4000, config, seeded(3))
    scale, shift = drawn[:, 1], drawn[:, 2:4]
    assert scale.min() > 0.2
    assert scale.max() < 2.5
    assert float((scale < 0.2 * 12.5**0.5).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert shift.abs().max() < CONTEXT / 2
    assert float((shift.abs() > CONTEXT / 4).float().mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("change", "flips"),
    [
        ({}, False),  # nothing
        ({"rotation_deg": 60.0}, False),
        ({"scale": 0.3}, False),
        ({"shift": 0.15}, False),
        ({"flip": 1.0}, True),
        ({"rotation_deg": 45.0, "scale": 0.25, "shift": 0.1}, False),
        ({"rotation_deg": 45.0, "scale": 0.25, "shift": 0.1, "flip": 1.0}, True),
        ({"colour": 0.3}, False),  # a tint moves nothing
    ],
)
def test_points_follow_pixels(change: dict[str, float], flips: bool, seed: int) -> None:
    crops = load(*(dotted(joint) for joint in range(JOINTS)))
    config = replace(STILL, **change)
    batch = augmented(crops, torch.arange(JOINTS), config, seeded(seed))
    seen = 0
    for joint in range(JOINTS):
        label = int(LSP.mirror[joint]) if flips else joint
        place = batch.points[joint, label].numpy()
        if place.min() < 6 or place.max() > 58:
            continue  # the dot is cut off
        seen += 1
        assert centroid(batch.images[joint]) == pytest.approx(place, abs=0.1)
    assert seen >= 5


def test_augmentation_really_moves() -> None:
    """Each change differs between the persons of one batch, and is of the stated size."""
    crops = load(*(dotted(NECK) for _ in range(32)))
    still = augmented(crops, torch.arange(32), STILL, seeded(0))
    names = ("rotation_deg", "scale", "shift")
    for name, most in zip(names, (50.0, 0.3, 0.2), strict=True):
        config = replace(STILL, **{name: most})
        points = augmented(crops, torch.arange(32), config, seeded(0)).points
        bone = points[:, 13] - points[:, 0]  # ankle to head
        plain = still.points[:, 13] - still.points[:, 0]
        turn = torch.rad2deg(
            torch.atan2(bone[:, 0], -bone[:, 1]) - torch.atan2(plain[:, 0], -plain[:, 1])
        )
        growth = plain.norm(dim=1) / bone.norm(dim=1) - 1  # the window grows, the person shrinks
        shift = (points - still.points).mean(1) / 64
        amounts = {"rotation_deg": turn, "scale": growth, "shift": shift.amax(1)}
        largest = float(amounts[name].abs().max())
        assert 0.6 * most < largest <= most * 1.001, name
        assert len(set(amounts[name].round(decimals=4).tolist())) > 16, name
        if name != "rotation_deg":
            assert float(turn.abs().max()) < 0.01
        if name != "scale":
            assert float(growth.abs().max()) < 1e-4


@pytest.mark.parametrize(("flip", "mirrored"), [(0.0, False), (1.0, True)])
def test_mirroring_swaps_left_and_right(flip: float, mirrored: bool) -> None:
    """The flag goes with the joint: a labelled left wrist becomes a labelled right one."""
    labelled = np.ones(JOINTS, bool)
    labelled[R_WRIST] = False
    crops = load(dotted(L_WRIST, labelled))
    batch = augmented(crops, torch.tensor([0]), replace(STILL, flip=flip), seeded(0))
    unlabelled = L_WRIST if mirrored else R_WRIST
    assert batch.labelled[0].tolist() == [joint != unlabelled for joint in range(JOINTS)]
    plain = augmented(crops, torch.tensor([0]), STILL, seeded(0)).points[0]
    if mirrored:
        plain = plain[LSP.mirror] * torch.tensor([-1.0, 1.0]) + torch.tensor([64.0, 0.0])
    torch.testing.assert_close(batch.points[0], plain, atol=1e-3, rtol=0)


def test_about_half_are_mirrored() -> None:
    crops = load(*(dotted(NECK) for _ in range(200)))
    batch = augmented(crops, torch.arange(200), replace(STILL, flip=0.5), seeded(0))
    left_of = batch.points[:, L_WRIST, 0] > batch.points[:, R_WRIST, 0]
    still = augmented(crops, torch.arange(1), STILL, seeded(0)).points[0]
    neck_moved = (batch.points[:, NECK, 0] - still[NECK, 0]).abs() > 0.01
    assert left_of.all()  # who faces us keeps the own left hand on our right
    assert 70 < int(neck_moved.sum()) < 130


def test_without_augmentation_it_is_the_evaluation_crop() -> None:
    """Within the rounding of the larger window to whole pixels."""
    data = people(11, 4)
    crops = load_crops(data, RULE, CPU, range(4))
    batch = augmented(crops, torch.arange(4), STILL, seeded(0))
    for index in range(4):
        expected, window = evaluation_crop(data[index], RULE)
        got = batch.images[index].permute(1, 2, 0).numpy()
        assert np.abs(got - expected.astype(float)).mean() < 6
        points = geometry.image_to_input(data[index].points, window, 64, 64)
        np.testing.assert_allclose(batch.points[index].numpy(), points, atol=0.6)


def test_the_evaluation_crop_is_the_runtime_s() -> None:
    sample = people(11, 4)[0]
    crop, window = evaluation_crop(sample, RULE)
    height, width = sample.image.shape[:2]
    assert window == geometry.window_of(sample.region, height, width, RULE)
    np.testing.assert_array_equal(crop, geometry.cut(sample.image, window, 64, 64))


def test_the_region_is_of_labelled_joints() -> None:
    """An unlabelled joint's place means nothing, and does not stretch the window."""
    labelled = np.ones(JOINTS, bool)
    labelled[0] = False
    sample = dotted(NECK, labelled)
    wild = Sample("wild", sample.image, sample.points.copy(), labelled)
    wild.points[0] = [-5000, 9000]
    assert evaluation_crop(wild, RULE)[1] == evaluation_crop(sample, RULE)[1]


def test_a_nan_where_nothing_is_labelled_stays_there() -> None:
    labelled = np.ones(JOINTS, bool)
    labelled[0] = False
    sample = dotted(NECK, labelled)
    sample.points[0] = np.nan
    batch = augmented(load(sample), torch.tensor([0]), AugmentConfig(flip=0.0), seeded(0))
    assert not batch.labelled[0, 0]
    assert torch.isfinite(batch.points[0, 1:]).all()
    assert torch.isfinite(batch.images).all()


def test_shapes_and_types() -> None:
    crops = load(dotted(0), dotted(1), dotted(2))
    side = round(64 * CONTEXT)
    assert (len(crops), crops.images.shape, crops.images.dtype) == (
        3,
        (3, 3, side, side),
        torch.uint8,
    )
    batch = augmented(crops, torch.tensor([2]), AugmentConfig(), seeded(0))
    assert batch.images.shape == (1, 3, 64, 64)
    assert batch.points.shape == (1, JOINTS, 2)
    assert (batch.labelled.shape, batch.labelled.dtype) == ((1, JOINTS), torch.bool)
    moved = batch.to(CPU)
    assert isinstance(moved, Batch)
    assert torch.equal(moved.points, batch.points)


@pytest.mark.parametrize("limit", [0, 4 * 3 * 96 * 96 - 1])
def test_crops_in_a_file_give_the_same_batches(limit: int) -> None:
    """Bit for bit; the file has no name, so that nothing is left of it."""
    before = set(Path(tempfile.gettempdir()).iterdir())
    data = people(11, 4)
    inside = load_crops(data, RULE, CPU, range(4), 4 * 3 * 96 * 96)
    mapped = load_crops(data, RULE, CPU, range(4), limit)
    assert (_is_mapped(inside), _is_mapped(mapped)) == (False, True)
    assert not {path for path in set(Path(tempfile.gettempdir()).iterdir()) - before if _ours(path)}
    chosen = torch.tensor([3, 0, 3])
    batches = [augmented(crops, chosen, AugmentConfig(), seeded(5)) for crops in (inside, mapped)]
    for name in ("images", "points", "labelled"):
        first, same = (getattr(batch, name) for batch in batches)
        assert torch.equal(first, same), name
    assert inside.device == mapped.device == CPU


def _is_mapped(crops: Crops) -> bool:
    """Whether the images' address lies in a mapping of a deleted file."""
    place = crops.images.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
        if first <= place < last:
            return line.endswith("(deleted)")
    return False


def _ours(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 4 * 3 * 96 * 96


def test_crops_that_fit_nowhere() -> None:
    """The size is taken at once: a full disk is an error here, no signal in the middle."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ResourceExhausted, match=r"do not fit below .* set TMPDIR") as error:
            load_crops(people(11, 4), RULE, CPU, range(4), 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)


def test_part_of_a_set() -> None:
    """As many crops as positions were given."""
    crops = load_crops(people(11, 4), RULE, CPU, range(1, 3))
    assert (len(crops), len(crops.points), len(crops.labelled)) == (2, 2, 2)
    whole = load_crops(people(11, 4), RULE, CPU, range(4))
    assert torch.equal(crops.images, whole.images[1:3])


def test_nobody_without_a_label_is_trained_on() -> None:
    bare = dotted(0, np.zeros(JOINTS, bool))
    data = replace(pose_set([dotted(0), bare]), labelled=np.array([[True], [False]]))
    with pytest.raises(DataError, match=r"made has 1 person\(s\) without a label, dot/0 for one"):
        load_crops(data, RULE, CPU, range(2))


def test_colours_stay_in_range_and_change() -> None:
    crops = load_crops(people(11, 4), RULE, CPU, range(4))
    config = replace(STILL, colour=0.5)
    plain, tinted = (
        augmented(crops, torch.arange(4), c, seeded(3)).images for c in (STILL, config)
    )
    assert float(tinted.min()) >= 0
    assert float(tinted.max()) <= 255
    gains = tinted.mean(dim=(2, 3)) / plain.mean(dim=(2, 3))
    assert float(gains.std()) > 0.05  # differs between persons and channels
    assert 0.25 <= float(gains.min()) <= float(gains.max()) <= 2.25


def test_a_seed_gives_a_batch() -> None:
    crops = load_crops(people(11, 4), RULE, CPU, range(4))
    batches = [augmented(crops, torch.arange(4), AugmentConfig(), seeded(s)) for s in (5, 5, 6)]
    for name in ("images", "points", "labelled"):
        first, same, _ = (getattr(batch, name) for batch in batches)
        assert torch.equal(first, same), name
    assert not torch.equal(batches[0].points, batches[2].points)


@pytest.mark.parametrize(
    ("count", "size", "batches"),
    [
        (16, 4, 4),  # whole batches
        (18, 4, 4),  # two wait for the next shuffle
        (4, 4, 1),  # exactly one
        (3, 4, 1),  # fewer than a batch: repeated
        (1, 16, 1),  # one person alone
    ],
)
def test_shuffled(count: int, size: int, batches: int) -> None:
    epoch = list(shuffled(count, size, seeded(0)))
    assert [len(batch) for batch in epoch] == [size] * batches
    visits = np.bincount(torch.cat(epoch).numpy(), minlength=count)
    assert len(visits) == count
    if count >= size:
        assert visits.max() == 1  # nobody twice in an epoch
    else:
        assert visits.min() >= size // count  # everybody, about equally often
        assert visits.max() <= -(-size // count)


def test_shuffled_differs_by_epoch_not_by_run() -> None:
    one, other = seeded(0), seeded(0)
    first = torch.cat(list(shuffled(20, 4, one)))
    assert torch.equal(first, torch.cat(list(shuffled(20, 4, other))))
    assert not torch.equal(first, torch.cat(list(shuffled(20, 4, one))))
    left_out = {i for i in range(18)} - set(torch.cat(list(shuffled(18, 4, one))).tolist())
    again = {i for i in range(18)} - set(torch.cat(list(shuffled(18, 4, one))).tolist())
    assert left_out != again
