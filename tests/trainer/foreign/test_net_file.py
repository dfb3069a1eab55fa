"""NET.toml: what is read, what is told from the graph, and every way to be wrong."""

import random
from pathlib import Path

import onnx
import pytest

from misgiving.runtime.errors import InvalidInput, MisgivingError
from misgiving.runtime.keypoints import COCO, LSP
from misgiving.trainer.foreign.describe import describe
from misgiving.trainer.foreign.net_file import read_net
from misgiving.trainer.foreign_config import ForeignInput
from shared.fuzzing import Try, rewritten
from shared.small_graphs import heatmap_net, node, value

TEXT = """
file = "net.onnx"
licence = "MIT"
keypoints = "lsp14"
padding = 1.25
[input]
colour = "BGR"
mean = 0.0
std = [255, 254.5, 1]
[output]
family = "heatmaps"
heatmaps = "heat"
layout = "NHWC"
"""


def written(folder: Path, text: str = TEXT, model: onnx.ModelProto | None = None) -> Path:
    (folder / "net.onnx").write_bytes((model or heatmap_net()).SerializeToString())
    file = folder / "net.toml"
    file.write_text(text, "utf-8")
    return file


def test_what_the_graph_tells_need_not_be_said(tmp_path: Path) -> None:
    net = read_net(written(tmp_path))

    assert (net.height, net.width, net.padding, net.keypoints) == (32, 32, 1.25, LSP)
    assert net.content == (tmp_path / "net.onnx").read_bytes()
    config = net.config
    assert (config.file, config.licence, config.family) == ("net.onnx", "MIT", "heatmaps")
    assert config.input == ForeignInput(
        name="image", layout="NHWC", colour="BGR", mean=(0, 0, 0), std=(255, 254.5, 1)
    )
    assert config.output == {"heatmaps": "heat", "layout": "NHWC"}
    assert [tap.name for tap in config.taps] == ["sum"]
    assert config.taught == ()


def test_taps_and_a_free_size_are_said(tmp_path: Path) -> None:
    text = TEXT.replace("[input]", 'taps = ["r8", "r2"]\n[input]\nheight = 48\nwidth = 32')

    net = read_net(written(tmp_path, text, heatmap_net("size", batch="n")))

    assert (net.height, net.width) == (48, 32)
    taps = [(tap.name, tap.height, tap.width) for tap in net.config.taps]
    assert taps == [("r2", 24, 16), ("r8", 6, 4)]  # the finest comes first


def test_names_get_the_usual_bones_and_a_torso(tmp_path: Path) -> None:
    names = [
        f"{side}_{joint}" for joint in ("shoulder", "hip", "knee") for side in ("left", "right")
    ]
    more = ["nose", *(f"tail{i}" for i in range(7))]
    text = TEXT.replace('"lsp14"', str([*names, *more]))

    keypoints = read_net(written(tmp_path, text)).keypoints

    assert keypoints.names == (*names, *more)
    bones = {tuple(sorted((keypoints.names[a], keypoints.names[b]))) for a, b in keypoints.skeleton}
    assert ("left_hip", "left_knee") in bones
    assert ("left_shoulder", "right_shoulder") in bones
    assert len(keypoints.torso) == 2


def test_names_in_the_order_of_a_known_set_are_that_set(tmp_path: Path) -> None:
    text = TEXT.replace('"lsp14"', str(list(LSP.names)))

    assert read_net(written(tmp_path, text)).keypoints is LSP


def test_keypoints_may_lie_in_a_file_beside(tmp_path: Path) -> None:
    names = [f"dot{i}" for i in range(14)]
    lines = [f"name = 'dots'\nnames = {names}", "skeleton = []\ntorso = []"]
    (tmp_path / "dots.toml").write_text("\n".join(lines))

    net = read_net(written(tmp_path, TEXT.replace("lsp14", "dots.toml")))

    assert net.keypoints.names == tuple(names)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('licence = "MIT"', "", "licence: Field required"),
        ('licence = "MIT"', 'licence = "?"', "licence still has its question mark"),
        ("padding = 1.25", 'padding = "?"', "padding still has its question mark"),
        ("padding = 1.25", "padding = 0.5", "padding: Input should be greater than or equal to 1"),
        ("padding = 1.25", "padding = 1.25\nstride = 4", "stride: Extra inputs are not permitted"),
        ("padding = 1.25", "padding = ", "is no TOML: "),
        ('colour = "BGR"', "", "input.colour: Field required"),
        ('colour = "BGR"', 'colour = "HSV"', "input.colour: Input should be 'RGB' or 'BGR'"),
        ("mean = 0.0", "mean = [0, 0]", "input.mean: Value should have at least 3 items"),
        ("mean = 0.0", 'mean = "none"', "input.mean.0: Input should be a valid number"),
        ("mean = 0.0", "mean = 0.0\nshift = 1", "input.shift: Extra inputs are not permitted"),
        ("[255, 254.5, 1]", "0", "input.std.0: Input should be greater than 0"),
        (
            "mean = 0.0",
            'mean = 0.0\nname = "imge"',
            "no input 'imge'; expected one of its names, such as image",
        ),
        ("mean = 0.0", "mean = 0.0\nheight = 64", "is (1, 32, 32, 3); expected (1, 64, 32, 3)"),
        ("mean = 0.0", 'mean = 0.0\nlayout = "NCHW"', "is (1, 32, 32, 3); expected (1, 3, 32, 3)"),
        ('family = "heatmaps"', "", "output.family: Field required"),
        (
            'family = "heatmaps"',
            'family = "heatmap"',
            "no output family 'heatmap'; expected one of its names, such as heatmaps",
        ),
        ('heatmaps = "heat"', 'heatmaps = "heats"', "heats"),
        ('layout = "NHWC"', 'layout = "NHWC"\nsteps = 2', "steps"),
        ('"lsp14"', '"coco17"', "heat"),  # 17 keypoints of 14 maps
        ('"lsp14"', '"lsp"', "keypoints are 'lsp'; expected lsp14, "),
        ('"lsp14"', "[]", "keypoints is empty; expected a set's name"),
        ('"lsp14"', '["left_knee", "left_knee"]', "names a joint twice"),
        ("padding = 1.25", 'padding = 1.25\ntaps = ["r9"]', "no inner tensor 'r9'"),
        ("padding = 1.25", 'padding = 1.25\ntaps = ["heat"]', "tap 'heat' is an output"),
        ("net.onnx", "gone.onnx", "file 'gone.onnx': No such file or directory"),
        ("net.onnx", "net.toml", "net.toml is no ONNX file"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    tmp_path: Path, old: str, new: str, line: str
) -> None:
    file = written(tmp_path, TEXT.replace(old, new, 1))

    with pytest.raises(InvalidInput) as error:
        read_net(file)

    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"net.toml: No such file .*; expected a NET.toml"):
        read_net(tmp_path / "net.toml")


def altered(kind: int = onnx.TensorProto.FLOAT, batch: int = 1) -> onnx.ModelProto:
    """The net behind a cast, as some exporters write it."""
    made = heatmap_net(batch=batch)
    made.graph.node[0].input[0] = "floats"
    made.graph.node.insert(0, node("Cast", "image", "floats", to=onnx.TensorProto.FLOAT))
    made.graph.input[0].type.tensor_type.elem_type = kind
    return made


def two_inputs() -> onnx.ModelProto:
    made = heatmap_net(extra=[node("Mul", "heat scale", "scaled")])
    made.graph.input.append(value("scale", [1]))
    made.graph.output.append(value("scaled", [1, 8, 8, 14]))
    return made


@pytest.mark.parametrize(
    ("model", "text", "line"),
    [
        (altered(batch=4), TEXT, "takes 4 images at once; expected one"),
        (altered(onnx.TensorProto.INT64), TEXT, "takes int64; expected float, float16, uint8"),
        (altered(onnx.TensorProto.UINT8), TEXT, "takes whole numbers; expected input.mean 0"),
        (heatmap_net("size"), TEXT, "leaves its input's size free, (1, ?, ?, 3); expected input.h"),
        (two_inputs(), TEXT, "input.name is missing and net.onnx has image, scale"),
        (
            two_inputs(),
            TEXT.replace("[input]", '[input]\nname = "image"').replace('"heat"', '"scaled"'),
            "these outputs need image, scale; expected the image alone",
        ),
        (heatmap_net(opset=19), TEXT, "net.onnx has opset 19"),
    ],
)
def test_a_graph_that_does_not_fit_is_said(
    tmp_path: Path, model: onnx.ModelProto, text: str, line: str
) -> None:
    with pytest.raises(InvalidInput) as error:
        read_net(written(tmp_path, text, model))

    assert line in str(error.value)


def test_a_net_of_whole_numbers_takes_pixels_as_they_are(tmp_path: Path) -> None:
    plain = TEXT.replace("[255, 254.5, 1]", "1")

    net = read_net(written(tmp_path, plain, altered(onnx.TensorProto.UINT8)))

    assert net.config.input.std == (1, 1, 1)


def test_answers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    made = heatmap_net()
    made.graph.node[-2].output[0] = "maps_out"
    tail = [node("Sub", "maps_out maps_out", "none"), node("Div", "maps_out none", "heat")]
    made.graph.node.extend(tail)

    with pytest.raises(InvalidInput, match=r"output 'heat' of a grey crop is not finite"):
        read_net(written(tmp_path, TEXT, made))


FILLED = {
    'licence = "?"': 'licence = "MIT"',
    'padding = "?"': "padding = 1.25",
    'colour = "?"': 'colour = "RGB"',
    'mean = "?"': "mean = 0",
    'std = "?"': "std = 255",
    'height = "?"': "height = 64",
    'width = "?"': "width = 48",
    '?"': '"',  # what is left are right guesses
}


@pytest.mark.parametrize("size", [32, "free"])
def test_a_described_file_is_read_once_it_is_filled_in(tmp_path: Path, size: int | str) -> None:
    file = written(tmp_path, model=heatmap_net(size, opset=9, weights_as_inputs=True))

    text = describe(tmp_path / "net.onnx")

    lines = text.splitlines()
    assert "# output  heat (1, 8, 8, 14)" in lines or size == "free"
    assert "# batch   any number of images" in lines
    assert any(line.startswith("# tap     sum (8, ") for line in lines)
    for old, new in FILLED.items():
        file.write_text(text, "utf-8")
        with pytest.raises(InvalidInput, match="still has its question mark"):
            read_net(file)
        text = text.replace(old, new)
    file.write_text(text, "utf-8")
    net = read_net(file)
    assert (net.height, net.width) == ((32, 32) if size == 32 else (64, 48))
    assert net.keypoints == LSP
    assert net.config.family == "heatmaps"


def test_what_is_no_net_is_not_described(tmp_path: Path) -> None:
    made = heatmap_net()
    made.graph.input.insert(0, value("tokens", [1, 77]))
    del made.graph.input[1]
    made.graph.node[0].input[0] = "tokens"
    (tmp_path / "text.onnx").write_bytes(made.SerializeToString())

    with pytest.raises(InvalidInput, match=r"takes tokens \(1, 77\); expected an image of rank 4"):
        describe(tmp_path / "text.onnx")
    with pytest.raises(InvalidInput, match="No such file"):
        describe(tmp_path / "gone.onnx")


BLAZEPOSE = """
licence = "Apache-2.0"
keypoints = {names}
padding = 1.25
file = "{file}"
[input]
colour = "RGB"
mean = 0
std = 255
[output]
family = "regression"
points = "Identity"
columns = ["x", "y", "z", "visibility", "presence"]
unit = "px"
logits = ["visibility", "presence"]
presence = "Identity_1"
"""


def test_blazepose_is_read(models: Path, tmp_path: Path) -> None:
    others = [f"landmark{i}" for i in range(33 - len(COCO.names))]
    names = [*COCO.names, *others]
    file = models / "blazepose_lite_256.onnx"
    toml = tmp_path / "blazepose.toml"
    toml.write_text(BLAZEPOSE.format(names=names, file=file.resolve().as_posix()))

    net = read_net(toml)

    assert (net.height, net.width, len(net.keypoints)) == (256, 256, 33)
    assert net.config.file == file.name
    assert len(net.config.taps) == 5
    assert 'family = "regression?"' in describe(file)


def test_files_that_nobody_meant(attempt: Try, tmp_path: Path) -> None:
    """See tests/runtime/test_fuzz.py."""
    file = written(tmp_path)

    def case(rng: random.Random) -> tuple[str, str]:
        file.write_bytes(rewritten(rng, TEXT))
        try:
            read_net(file)
        except MisgivingError as error:
            return error.status, str(error)
        return "OK", ""

    attempt(0.005, case)
