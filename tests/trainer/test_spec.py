"""Data specs: what each opens, and what is said of one that cannot be read."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from misgiving.runtime.errors import DataError
from misgiving.runtime.keypoints import COCO, LSP, KeypointSet
from misgiving.trainer.data import PoseSet, Sample, check_labelled, join, open_data, subset
from misgiving.trainer.data.spec import shared_persons, without_folders
from shared.training import people, pose_set, standing
from trainer.annotating import annotation, coco, document, write_images
from trainer.labelling import label_set, person

BLANK = np.zeros((200, 160, 3), np.uint8)


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


KINDS = r"expected lsp:DIR, lspet:DIR, coco:JSON@IMAGES, mpii:JSON@IMAGES, synthetic:SEED,N"
PLACES = r"expected FILE.json@FOLDER, the annotations and the folder of their images"
PEOPLE = r"expected SEED,N or SEED,N,LOW-HIGH with N from 1 and 0 ≤ LOW ≤ HIGH ≤ 1"
RANGE = r"expected #FIRST-LAST between 1 and 5, the size of synthetic:7,5,0-1"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", KINDS),
        ("lsp", KINDS),  # no place
        ("lsp:", KINDS),
        ("lsp:#1-5", KINDS),
        ("h36m:DIR", KINDS),  # unknown
        ("mpii:DIR", PLACES),
        ("coco:a.json", PLACES),
        ("coco:a.json@", PLACES),
        ("coco:a.txt@b", PLACES),
        ("images:nowhere", r"nowhere holds no image; expected a folder with files .jpg, "),
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


def test_a_list_of_ids(tmp_path: Path) -> None:
    """In the file's order; it counts the persons of the set, so it takes no further range."""
    file = tmp_path / "chosen.txt"
    file.write_text("synthetic/7/00003\n\n  synthetic/7/00001 \r\n")
    data = open_data(f"synthetic:7,5#@{file}")
    assert data.ids == ("synthetic/7/00003", "synthetic/7/00001")
    assert [data[i].id for i in range(2)] == list(data.ids)
    assert data.spec == f"synthetic:7,5,0-1#@{file}"
    assert open_data(data.spec).ids == data.ids
    assert open_data(data.spec, COCO).ids == data.ids


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"chosen.txt lists nobody; expected ids of synthetic:7,5,0-1, one a line"),
        (b"\n \n", r"chosen.txt lists nobody"),
        (b"synthetic/7/00001\na\nb", r"lists a, which is not in .* \(2 of 3 are not\); expected"),
        (b"synthetic/7/00001\n" * 2, r"lists synthetic/7/00001 more than once; expected each"),
        (b"\xff\xfe", r"chosen.txt: no UTF-8; expected a file of ids"),
        (None, r"chosen.txt: No such file or directory; expected a file of ids, one a line"),
    ],
)
def test_bad_lists(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "chosen.txt").write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        open_data(f"synthetic:7,5#@{tmp_path / 'chosen.txt'}")
    assert "\n" not in str(error.value)


def test_images_without_labels(tmp_path: Path) -> None:
    """Sorted, from every folder below; whole frames with the keypoints that were asked for."""
    write_images(tmp_path / "b", 2)
    write_images(tmp_path / "a" / "deep", 1)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "b" / "1.png").rename(tmp_path / "Z.PNG")
    for keypoints in (None, COCO):
        data = open_data(f"images:{tmp_path}", keypoints)
        assert data.ids == ("images/Z.PNG", "images/a/deep/0.png", "images/b/0.png")
        assert data.keypoints is (keypoints or LSP)
        sample = data[0]
        assert (sample.id, sample.path) == (data.ids[0], tmp_path / "Z.PNG")
        assert int(sample.image[0, 0, 0]) == 1
        assert sample.region is None
        assert sample.labelled.tolist() == [False] * len(data.keypoints)
        assert sample.points.shape == (len(data.keypoints), 2)
    assert open_data(f"images:{tmp_path}#2-3", COCO).ids == data.ids[1:]


@pytest.mark.parametrize("name", ["run#3", "run#1-1", "run#@x"])
def test_a_mark_in_a_folder_s_name(name: str, tmp_path: Path) -> None:
    write_images(tmp_path / name, 3)
    write_images(tmp_path / "run", 2)
    plain = f"images:{tmp_path}/{name}"
    assert len(open_data(plain)) == 3
    assert len(open_data(f"{plain}#2-3")) == 2
    (tmp_path / "a#b.txt").write_text("images/1.png\n")
    assert open_data(f"{plain}#@{tmp_path}/a#b.txt").ids == ("images/1.png",)
    assert len(open_data(f"images:{tmp_path}/run#1-2")) == 2


def test_marks_in_the_names_of_annotated_data(tmp_path: Path) -> None:
    folder = tmp_path / "set.json@1#2"
    spec = coco(folder, document(annotation(3), annotation(5)))
    assert len(open_data(spec)) == len(open_data(f"{spec}#1-2")) == 2
    (folder / "images").rename(folder / "im@ges#")
    assert len(open_data(f"{spec.removesuffix('images')}im@ges#")) == 2


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """And end its lines as Windows does."""
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbfsynthetic/7/00001\r\nsynthetic/7/00000\r\n")
    data = open_data(f"synthetic:7,5#@{tmp_path / 'ids.txt'}")
    assert data.ids == ("synthetic/7/00001", "synthetic/7/00000")


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
        ("coco:/a/x.json@/b/images", "coco:x.json@images"),
        ("mpii:/me@home/x.json@/b/c/#1-5", "mpii:x.json@c#1-5"),
        ("images:/a/b", "images:b"),
        ("images:/me/run#3/b#1-2", "images:b#1-2"),
        ("lsp:/a/b#1-2 + images:/me/run#3#@/c/d#e", "lsp:b#1-2 + images:run#3#@d#e"),
        ("lsp:/a/lsp#@/b/chosen.txt", "lsp:lsp#@chosen.txt"),
        ("synthetic:1,48#@/b/chosen.txt", "synthetic:1,48#@chosen.txt"),
        ("coco:/a/x.json@/b/i#@/c/d + images:/a/b", "coco:x.json@i#@d + images:b"),
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


@pytest.mark.parametrize(
    ("spec", "others", "count"),
    [
        ("labels:{tmp}/b/set", [], 0),
        # the same name in another folder counts as the same data
        ("labels:{tmp}/b/set", ["labels:set@0123456789ab"], 3),
        ("labels:{tmp}/b/set#2-3", ["lsp:lsp + labels:set@0123456789ab#1-2"], 1),
        ("labels:{tmp}/b/set#1-1", ["labels:set@0123456789ab#2-3"], 0),
        # more than there is here, a list that is not at hand, another kind, another name
        ("labels:{tmp}/b/set", ["labels:set@0123456789ab#1-9"], 0),
        ("labels:{tmp}/b/set", ["labels:set@0123456789ab#@picked.txt"], 0),
        ("labels:{tmp}/b/set", ["images:set", "labels:other"], 0),
        # rendered people are the same everywhere
        ("synthetic:4,9#5-9", ["synthetic:4,6,0-0.4"], 2),
        ("synthetic:5,9", ["synthetic:4,6"], 0),
    ],
)
def test_who_is_in_other_data_too(spec: str, others: list[str], count: int, tmp_path: Path) -> None:
    label_set(
        tmp_path / "b" / "set", *(person(name, "1.png") for name in "xyz"), version="0123456789ab"
    )
    shared = shared_persons(open_data(spec.format(tmp=tmp_path)), others)
    assert len(shared) == len(set(shared)) == count


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
    different = r"and toes:here have different keypoints \(lsp14 and toes\); .* with --keypoints"
    with pytest.raises(DataError, match=different):
        join([people(3, 2), other])


@pytest.mark.parametrize(
    ("sizes", "names"),
    [
        ((2, 0, 3), ["a0", "a1", "c0", "c1", "c2"]),  # an empty part among others
        ((0, 1), ["b0"]),
        ((1,), ["a0"]),
    ],
)
def test_join_reads_from_the_part(sizes: tuple[int, ...], names: list[str]) -> None:
    parts = []
    for letter, size in zip("abc", sizes, strict=False):
        ids = [f"{letter}{i}" for i in range(size)]
        flags = np.full((size, 14), letter == "a")
        made = pose_set([Sample(name, BLANK, standing(), flags[0]) for name in ids])
        parts.append(PoseSet(letter, LSP, made.ids, made.read, flags))
    both = join(parts)
    assert [both[i].id for i in range(len(both))] == list(both.ids) == names
    assert both[-1].id == names[-1]
    with pytest.raises(IndexError):
        both[len(both)]
    assert both.labelled is not None
    assert both.labelled[:, 0].tolist() == [name[0] == "a" for name in names]


def test_labels_are_known_only_where_every_part_knows() -> None:
    known = open_data("synthetic:3,4")
    assert subset(known, [1, 2]).labelled is not None
    unknown = PoseSet("unknown", LSP, known.ids, known.read)
    assert join([known, unknown]).labelled is None
    assert subset(unknown, [1]).labelled is None


def test_persons_without_labels_are_refused(tmp_path: Path) -> None:
    check_labelled(open_data("synthetic:3,4"))
    write_images(tmp_path, 2)
    bare = open_data(f"images:{tmp_path}")
    message = r"has 2 person\(s\) without a label, images/0.png for one; expected labelled joints"
    with pytest.raises(DataError, match=message):
        check_labelled(join([open_data("synthetic:3,4"), bare]))
