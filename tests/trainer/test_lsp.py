"""LSP and LSPET: the two layouts and flags, the real files' counts, files that are neither."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import savemat

from misgiving.runtime import images
from misgiving.runtime.errors import DataError, ImageError
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.data import PoseSet, lsp, open_data
from shared.training import JOINTS, real_data

BLANK = np.zeros((8, 8, 3), np.uint8)
R_ANKLE, L_ANKLE, HEAD_TOP = 0, 5, 13


def made(folder: Path, joints: object, name: str = "joints") -> Path:
    """A data set's folder with this array."""
    folder.mkdir(exist_ok=True)
    savemat(folder / "joints.mat", {name: joints})
    return folder


def numbered(persons: int) -> NDArray[np.float64]:
    """(persons, 14, 3): x is the joint's number, y the person's, flags alternate."""
    joints = np.zeros((persons, JOINTS, 3))
    joints[..., 0] = np.arange(JOINTS)
    joints[..., 1] = np.arange(persons)[:, None]
    joints[..., 2] = np.arange(JOINTS) % 2
    return joints


@pytest.fixture
def without_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "read", lambda path: BLANK)


@pytest.mark.usefixtures("without_images")
def test_lsp_layout(tmp_path: Path) -> None:
    """(3, 14, N); the flag says occluded, and who is occluded has a place all the same."""
    data = lsp.open_lsp(made(tmp_path, numbered(3).transpose(2, 1, 0)))
    sample = data[2]
    assert sample.points.tolist() == [[joint, 2] for joint in range(JOINTS)]
    assert sample.labelled.all()
    assert data.ids == ("lsp/im0001.jpg", "lsp/im0002.jpg", "lsp/im0003.jpg")
    assert sample.id == data.ids[2]
    assert sample.path == tmp_path / "images" / "im0003.jpg"
    assert data.keypoints == LSP


@pytest.mark.usefixtures("without_images")
def test_lspet_layout(tmp_path: Path) -> None:
    """(14, 3, N); the flag says labelled."""
    data = lsp.open_lspet(made(tmp_path, numbered(3).transpose(1, 2, 0)))
    sample = data[1]
    assert sample.points.tolist() == [[joint, 1] for joint in range(JOINTS)]
    assert sample.labelled.tolist() == [bool(joint % 2) for joint in range(JOINTS)]
    assert data.ids[1] == sample.id == "lspet/im00002.jpg"


@pytest.mark.usefixtures("without_images")
def test_one_person(tmp_path: Path) -> None:
    """scipy writes the last axis of a single person as well."""
    assert len(lsp.open_lsp(made(tmp_path, numbered(1).transpose(2, 1, 0)))) == 1


SHAPE = r"has joints of shape .*; expected \({}\). lsp: takes LSP and lspet: takes its extension"


@pytest.mark.parametrize(
    ("kind", "shape", "expected"),
    [
        ("lsp", (14, 3, 5), "3, 14, N"),  # the other data set
        ("lspet", (3, 14, 5), "14, 3, N"),
        ("lsp", (3, 16, 5), "3, 14, N"),  # other joints
        ("lsp", (3, 14), "3, 14, N"),  # nobody's axis
        ("lspet", (14, 2, 5), "14, 3, N"),  # no flags
    ],
)
def test_wrong_shape(tmp_path: Path, kind: str, shape: tuple[int, ...], expected: str) -> None:
    folder = made(tmp_path, np.zeros(shape))
    with pytest.raises(DataError, match=SHAPE.format(expected)) as error:
        open_data(f"{kind}:{folder}")
    assert str(shape) in str(error.value)
    assert "\n" not in str(error.value)


def valid(folder: Path, compress: bool) -> bytes:
    savemat(folder / "joints.mat", {"joints": np.ones((3, 14, 9))}, do_compression=compress)
    return (folder / "joints.mat").read_bytes()


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 255]) + data[position + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, packed: b"",  # empty
        lambda data, packed: b"garbage" * 100,
        lambda data, packed: b"<html>not found</html>",  # what a broken link downloads
        lambda data, packed: data[:60],  # cut within the header
        lambda data, packed: data[:128],  # after it
        lambda data, packed: data[: len(data) // 2],
        lambda data, packed: data[:-5],
        lambda data, packed: packed[: len(packed) // 2],
        lambda data, packed: packed[:-1],
        lambda data, packed: flipped(packed, 150),  # altered
    ],
)
def test_damaged_file(tmp_path: Path, damage: object) -> None:
    content = damage(valid(tmp_path, False), valid(tmp_path, True))
    (tmp_path / "joints.mat").write_bytes(content)
    with pytest.raises(
        DataError, match=r"joints.mat holds no array 'joints' \(.+\); download"
    ) as e:
        lsp.open_lsp(tmp_path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("points", np.zeros((3, 14, 5))),  # no such key
        ("joints", "text"),  # not numbers
        ("joints", {"a": 1}),  # a struct
    ],
)
def test_no_joints_in_it(tmp_path: Path, name: str, content: object) -> None:
    with pytest.raises(DataError, match=r"holds no array 'joints'"):
        lsp.open_lsp(made(tmp_path, content, name))


def test_missing_folder(tmp_path: Path) -> None:
    missing = r"nowhere.joints.mat: No such file .*; expected the folder of the data set"
    with pytest.raises(DataError, match=missing):
        lsp.open_lspet(tmp_path / "nowhere")


def test_missing_image(tmp_path: Path) -> None:
    data = lsp.open_lsp(made(tmp_path, numbered(3).transpose(2, 1, 0)))
    with pytest.raises(ImageError, match=r"im0001.jpg: No such file"):
        data[0]


def labels(data: PoseSet) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Of everybody, (N, 14, 2) and (N, 14)."""
    samples = [data[index] for index in range(len(data))]
    return np.stack([s.points for s in samples]), np.stack([s.labelled for s in samples])


def upright(points: NDArray[np.float32], labelled: NDArray[np.bool_]) -> float:
    """Share of those with head and ankles labelled whose head is above both ankles."""
    known = labelled[:, [R_ANKLE, L_ANKLE, HEAD_TOP]].all(1)
    heads, ankles = points[known, HEAD_TOP, 1], points[known][:, [R_ANKLE, L_ANKLE], 1]
    return float((heads[:, None] < ankles).all(1).mean())


@pytest.mark.usefixtures("without_images")
def test_real_lsp() -> None:
    data = open_data(f"lsp:{real_data('lsp')}")
    points, labelled = labels(data)
    assert len(data) == 2000
    assert labelled.all()
    assert points.min() > -10  # every joint has a place, occluded or not
    assert upright(points, labelled) > 0.8
    # Who is upright and faces us has the own left on our right: more than turn their back.
    assert (points[:, 9, 0] > points[:, 8, 0]).mean() > 0.55
    head = np.linalg.norm(points[:, 13] - points[:, 12], axis=1)
    body = np.linalg.norm(points[:, 12] - points[:, [2, 3]].mean(1), axis=1)
    assert 0.3 < np.median(head / body) < 0.8


@pytest.mark.usefixtures("without_images")
def test_real_lspet() -> None:
    data = open_data(f"lspet:{real_data('lspet')}")
    points, labelled = labels(data)
    assert len(data) == 10_000
    assert int((~labelled).sum()) == 16_787
    assert int(labelled.all(1).sum()) == 3_945
    torso = [data.keypoints.torso_size(p, m) for p, m in zip(points, labelled, strict=True)]
    assert int(np.isnan(torso).sum()) == 3_976
    assert upright(points, labelled) > 0.6  # gymnasts and climbers
    assert points[~labelled].min() < 0  # and such places mean nothing


@pytest.mark.parametrize(("kind", "count"), [("lsp", 2000), ("lspet", 10_000)])
def test_real_images_hold_their_joints(kind: str, count: int) -> None:
    data = open_data(f"{kind}:{real_data(kind)}")
    for index in range(0, count, count // 12):
        sample = data[index]
        height, width = sample.image.shape[:2]
        inside = (sample.points >= -1) & (sample.points <= [width + 1, height + 1])
        assert inside[sample.labelled].mean() > 0.9, sample.id


@pytest.mark.parametrize(("kind", "other"), [("lsp", "lspet"), ("lspet", "lsp")])
def test_real_sets_swapped(kind: str, other: str) -> None:
    with pytest.raises(DataError, match=SHAPE.format(".*")):
        open_data(f"{kind}:{real_data(other)}")


@pytest.mark.parametrize(
    "content",
    [
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(200),
        bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(99),
        b"\x89HDF\r\n\x1a\n" + bytes(99),  # h5py's own
    ],
)
def test_a_file_of_matlab_7_3_is_named_as_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "joints.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"joints.mat is a MATLAB v7.3 file; .* with -v7"):
        open_data(f"lspet:{tmp_path}")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_joint_that_is_no_number_is_named(tmp_path: Path, value: float) -> None:
    joints = np.ones((14, 3, 5))
    joints[3, 0, 1] = joints[4, 1, 2] = value
    made(tmp_path, joints)
    named = r"im00002.jpg, joint 4 \(left_hip\) is not finite, and 1 more; expected numbers"
    with pytest.raises(DataError, match=named):
        open_data(f"lspet:{tmp_path}")
    joints[3:5, 2, 1:3] = 0  # means nothing then
    made(tmp_path, joints)
    assert len(open_data(f"lspet:{tmp_path}")) == 5
    made(tmp_path, joints.transpose(1, 0, 2))
    with pytest.raises(DataError, match=r"im0002.jpg, joint 4"):
        open_data(f"lsp:{tmp_path}")
