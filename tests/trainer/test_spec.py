"""Data specs: what each opens, and what is said of one that cannot be read."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from export.helpers import people, pose_set
from misgiving.runtime.errors import DataError
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.data import PoseSet, join, open_data, subset
from misgiving.trainer.data.spec import without_folders


@pytest.mark.parametrize(
    ("spec", "name", "first", "count"),
    [
        ("synthetic:7,5", "synthetic:7,5,0-1", "synthetic/7/00000", 5),
        ("synthetic:7,5,0-0.4", "synthetic:7,5,0-0.4", "synthetic/7/00000", 5),
        ("synthetic:7,5,.25-.5", "synthetic:7,5,0.25-0.5", "synthetic/7/00000", 5),
        ("synthetic:7,5,0.5-0.5", "synthetic:7,5,0.5-0.5", "synthetic/7/00000", 5),
        ("synthetic:7,5,0-0", "synthetic:7,5,0-0", "synthetic/7/00000", 5),  # not 0-1
        ("synthetic:0,1", "synthetic:0,1,0-1", "synthetic/0/00000", 1),
        # positions count from 1, both ends included
        ("synthetic:7,5#1-5", "synthetic:7,5,0-1#1-5", "synthetic/7/00000", 5),
        ("synthetic:7,5#2-4", "synthetic:7,5,0-1#2-4", "synthetic/7/00001", 3),
        ("synthetic:7,5,0-0.4#5-5", "synthetic:7,5,0-0.4#5-5", "synthetic/7/00004", 1),
    ],
)
def test_specs(spec: str, name: str, first: str, count: int) -> None:
    data = open_data(spec)
    assert (data.spec, data.ids[0], len(data)) == (name, first, count)


@pytest.mark.parametrize("spec", ["synthetic:7,5,0-0.4", "synthetic:7,5#2-4"])
def test_a_set_s_own_name_opens_it_again(spec: str) -> None:
    data = open_data(spec)
    again = open_data(data.spec)
    assert (again.spec, again.ids) == (data.spec, data.ids)
    np.testing.assert_array_equal(again[0].image, data[0].image)


KINDS = r"expected lsp:DIR, lspet:DIR, synthetic:SEED,N\[,LOW-HIGH\] or labels:DIR"
PEOPLE = r"expected SEED,N or SEED,N,LOW-HIGH with N from 1 and 0 ≤ LOW ≤ HIGH ≤ 1"
RANGE = r"expected #FIRST-LAST between 1 and 5, the size of synthetic:7,5,0-1"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", KINDS),
        ("lsp", KINDS),  # no place
        ("lsp:", KINDS),
        ("lsp:#1-5", KINDS),
        ("mpii:DIR", KINDS),  # unknown
        ("LSP:DIR", KINDS),
        ("/data/lsp", KINDS),  # a path alone
        ("synthetic:7", PEOPLE),
        ("synthetic:7,0", PEOPLE),  # nobody
        ("synthetic:-7,5", PEOPLE),
        ("synthetic:7,5,0.5", PEOPLE),
        ("synthetic:7,5,0.5-0.4", PEOPLE),  # the wrong way round
        ("synthetic:7,5,0-1.1", PEOPLE),
        ("synthetic:7,5,-0.1-1", PEOPLE),
        ("synthetic:a,b", PEOPLE),
        ("synthetic:7,5,0-1 ", PEOPLE),
        ("synthetic:7,5#", RANGE),
        ("synthetic:7,5#0-3", RANGE),  # from 1
        ("synthetic:7,5#3-2", RANGE),
        ("synthetic:7,5#1-6", RANGE),  # past the end
        ("synthetic:7,5#3", RANGE),
        ("synthetic:7,5#1-3#2-3", RANGE),
        ("synthetic:7,5#-1-3", RANGE),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        open_data(spec)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["lsp", "lspet", "labels"])
def test_missing_folders(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.*No such file or directory; expected"):
        open_data(f"{kind}:{tmp_path / 'nowhere'}")


def test_ranges_of_a_folder(tmp_path: Path) -> None:
    savemat(tmp_path / "joints.mat", {"joints": np.zeros((3, 14, 20))})
    data = open_data(f"lsp:{tmp_path}#11-20")
    assert data.spec == f"lsp:{tmp_path}#11-20"
    assert data.ids[0] == "lsp/im0011.jpg"
    assert data.ids[-1] == "lsp/im0020.jpg"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("lsp:/home/me/data/lsp", "lsp:lsp"),
        ("lspet:/home/me/lspet#1-8000", "lspet:lspet#1-8000"),
        ("labels:/home/me/labels/v3@0123456789ab", "labels:v3@0123456789ab"),
        ("lsp:data", "lsp:data"),
        # a joined set: every part of it
        ("lsp:/a/lsp#1-5 + lspet:/b/lspet", "lsp:lsp#1-5 + lspet:lspet"),
        ("15 of lspet:/b/lspet#1-20", "15 of lspet:lspet#1-20"),
        # nothing of a folder in it
        ("synthetic:1,48,0-0.5#1-9", "synthetic:1,48,0-0.5#1-9"),
        ("", ""),
    ],
)
def test_what_may_leave_the_machine(spec: str, expected: str) -> None:
    assert without_folders(spec) == expected


def test_subset_keeps_the_order_and_reads_the_same_people() -> None:
    data = people(3, 6)
    part = subset(data, [4, 0, 2])
    assert part.ids == (data.ids[4], data.ids[0], data.ids[2])
    assert [part[i].id for i in range(3)] == list(part.ids)
    assert part.spec == data.spec
    assert subset(part, [2, 1], "few").ids == (data.ids[2], data.ids[0])
    assert subset(part, [2, 1], "few").spec == "few"
    assert len(subset(data, [])) == 0


def test_join_is_one_after_the_other() -> None:
    first, second = people(3, 2), people(4, 3)
    both = join([first, second])
    assert both.spec == f"{first.spec} + {second.spec}"
    assert both.ids == first.ids + second.ids
    assert [both[i].id for i in range(5)] == list(both.ids)
    assert join([first]).ids == first.ids


def test_join_refuses_what_does_not_fit() -> None:
    with pytest.raises(DataError, match=r"no data was given; expected at least one data spec"):
        join([])
    toes = KeypointSet(name="toes", names=("left_toe", "right_toe"), skeleton=(), torso=())
    other = PoseSet("toes:here", toes, (), pose_set([]).read)
    with pytest.raises(DataError, match=r"and toes:here have different keypoints; expected one"):
        join([people(3, 2), other])
