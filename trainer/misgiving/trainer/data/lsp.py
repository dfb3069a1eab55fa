"""Leeds Sports Pose and its extension (Johnson & Everingham, BMVC 2010 and CVPR 2011).

The two files differ in layout and in what the flag means. LSP: (3, 14, N), flag 1 = occluded,
and every joint has a place. LSPET: (14, 3, N), flag 1 = labelled, and where it is 0 the place
means nothing.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from misgiving.runtime import images, keypoints
from misgiving.runtime.errors import DataError
from misgiving.trainer.data.base import PoseSet, Sample

_HDF5, _MATLAB_7_3 = b"\x89HDF\r\n\x1a\n", b"MATLAB 7.3 MAT-file"
_JOINTS = len(keypoints.LSP)


def open_lsp(folder: Path) -> PoseSet:
    """LSP in its folder (``images/im0001.jpg``…, ``joints.mat``); occluded joints are labelled."""
    joints = _joints(folder, (3, _JOINTS), "(3, 14, N)").transpose(2, 1, 0)
    return _pose_set(folder, "lsp", 4, joints[..., :2], np.ones(joints.shape[:2], bool))


def open_lspet(folder: Path) -> PoseSet:
    """LSPET in its folder (``images/im00001.jpg``…, ``joints.mat``)."""
    joints = _joints(folder, (_JOINTS, 3), "(14, 3, N)").transpose(2, 0, 1)
    return _pose_set(folder, "lspet", 5, joints[..., :2], joints[..., 2] == 1)


def _joints(folder: Path, leading: tuple[int, int], expected: str) -> NDArray[np.float64]:
    path = folder / "joints.mat"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; expected the folder of the data set, "
            "with images/ and joints.mat"
        ) from error
    if _HDF5 in (content[:8], content[512:520]) or content.startswith(_MATLAB_7_3):
        raise DataError(
            f"{path} is a MATLAB v7.3 file; expected an older one. Save it again with -v7"
        )
    try:
        content_of_file = loadmat(BytesIO(content))  # type: ignore[arg-type]  # takes any file
        joints = np.asarray(content_of_file["joints"], np.float64)
    except Exception as error:  # scipy answers a damaged file with nearly any exception
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} holds no array 'joints' ({reason}); download the data set again"
        ) from error
    if joints.ndim != 3 or joints.shape[:2] != leading:
        raise DataError(
            f"{path} has joints of shape {joints.shape}; expected {expected}. "
            "lsp: takes LSP and lspet: takes its extension"
        )
    return joints


def _pose_set(
    folder: Path,
    kind: str,
    digits: int,
    points: NDArray[np.float64],
    labelled: NDArray[np.bool_],
) -> PoseSet:
    points_image = points.astype(np.float32)
    points_image[~labelled[..., None] & ~np.isfinite(points_image)] = 0  # means nothing
    names = [f"im{number:0{digits}d}.jpg" for number in range(1, len(points) + 1)]

    _check_finite(folder / "joints.mat", points_image, names)

    def read(index: int) -> Sample:
        path = folder / "images" / names[index]
        return Sample(ids[index], images.read(path), points_image[index], labelled[index], path)

    ids = tuple(f"{kind}/{name}" for name in names)
    return PoseSet(f"{kind}:{folder}", keypoints.LSP, ids, read, labelled)


def _check_finite(path: Path, points: NDArray[np.float32], names: list[str]) -> None:
    strange = np.argwhere(~np.isfinite(points).all(axis=2))
    if len(strange):
        person, joint = strange[0]
        more = f", and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise DataError(
            f"{path}: {names[person]}, joint {joint + 1} ({keypoints.LSP.names[joint]}) is not "
            f"finite{more}; expected numbers where a joint is labelled. Mend or take out that label"
        )
