"""Heads on a foreign net, from a NET.toml to a checkpoint like any other."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.runtime.keypoints import LSP
from misgiving.trainer import progress, restart
from misgiving.trainer.answers.scoring import Scores, score
from misgiving.trainer.checkpoint import FOREIGN, load_checkpoint
from misgiving.trainer.cli import app
from misgiving.trainer.config import read_recipe
from misgiving.trainer.data import PoseSet
from misgiving.trainer.fit import EpochLog
from misgiving.trainer.foreign.net_file import NetFile, read_net
from misgiving.trainer.models.network import Network
from misgiving.trainer.training import train
from shared.foreign import FAMILIES, attached, net_model, write_net
from shared.training import CPU, people

PYRAMID = {"taps": ["r4", "r8", "r16"]}


@pytest.fixture
def net(tmp_path: Path) -> NetFile:
    return read_net(write_net(tmp_path / "net", keys=PYRAMID))


def said(checkpoint: Path) -> Scores:
    network, recipe, _ = load_checkpoint(checkpoint)
    return score(network, recipe, people(2, 8), torch.device("cpu"))


def some_labelled(names: Sequence[str]) -> PoseSet:
    """Synthetic persons of whom only some joints are known."""
    whole = people(1, 24)
    known = np.isin(LSP.names, names)
    labelled = np.broadcast_to(known, (len(whole), len(LSP)))
    return PoseSet(
        whole.spec,
        LSP,
        whole.ids,
        lambda index: replace(whole[index], labelled=known),
        labelled,
    )


def test_the_command_writes_a_checkpoint(tmp_path: Path) -> None:
    path = write_net(tmp_path / "net")
    data = ("--data", "synthetic:1,16,0-0.5", "--val", "synthetic:2,8,0-0.5")
    options = ("--epochs", "1", "--device", "cpu", "--threads", "1")
    done = CliRunner().invoke(
        app, ["attach", str(path), *data, "--out", f"{tmp_path}/run", *options]
    )
    assert done.exit_code == 0, done.output
    assert "evidence-miss" in done.output
    assert f"next: misgiving export {tmp_path}/run" in done.output
    content = (tmp_path / "net" / "net.onnx").read_bytes()
    assert (tmp_path / "run" / FOREIGN).read_bytes() == content


def test_what_is_read_back_says_the_same(tmp_path: Path, net: NetFile) -> None:
    trained = attached(tmp_path / "run", net)
    again = said(tmp_path / "run")
    for name in ("points", "confidence", "signals", "embedding", "keypoint_loss"):
        np.testing.assert_array_equal(getattr(again, name), getattr(trained.validation, name))
    expected = trained.validation.predicted_losses
    np.testing.assert_array_equal(
        again.predicted_losses["evidence-miss"], expected["evidence-miss"]
    )


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_killed_run_goes_on(
    tmp_path: Path, net: NetFile, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    class Killed(BaseException):
        pass

    def report(log: EpochLog) -> None:
        if log.epoch + 1 == epoch:
            raise Killed

    monkeypatch.setattr(restart, "EVERY_S", 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "epochs", lambda *_: nullcontext(report))
        with pytest.raises(Killed):
            attached(tmp_path / "killed", net, epochs=2)
    assert not (tmp_path / "killed").exists()
    weights = attached(tmp_path / "killed", net, epochs=2).network.state_dict()
    for name, value in attached(tmp_path / "whole", net, epochs=2).network.state_dict().items():
        assert torch.equal(weights[name], value), name


def test_joints_without_labels(
    tmp_path: Path, net: NetFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heads speak of the others as of the mean of those that they know."""
    told: list[str] = []
    monkeypatch.setattr(progress, "print_line", told.append)
    known = ("left_wrist", "left_elbow", "left_shoulder", "right_hip")
    trained = attached(tmp_path / "run", net, data=some_labelled(known))
    places = [LSP.names.index(name) for name in known]
    (line,) = [line for line in told if "learnt" in line]
    names = [name for name in LSP.names if name in known]
    assert line == f"4 of 14 joints are labelled and learnt: {', '.join(names)}"
    each = trained.validation.keypoint_loss
    mean = each[:, places].mean(1)
    np.testing.assert_allclose(np.delete(each, places, 1), np.tile(mean[:, None], 10), rtol=1e-5)
    assert np.ptp(each[:, places], axis=1).min() > 1e-5
    predicted = trained.validation.predicted_losses["evidence-miss"]
    np.testing.assert_allclose(predicted, mean, rtol=1e-5)


def test_labels_that_share_no_joint(tmp_path: Path, net: NetFile) -> None:
    with pytest.raises(DataError, match=r"labels none of the joints of net.onnx \(right_ankle, "):
        attached(tmp_path / "run", net, data=some_labelled(()))
    assert not (tmp_path / "run").exists()


def test_several_heads_and_objectives(tmp_path: Path, net: NetFile) -> None:
    """Each learns, on one pass of the net."""
    objectives = ("miss", "kl", "margin", "mse", "aleatoric", "links")
    heads = [*(f"evidence-{each}" for each in objectives), "gap-mse", "levels-miss", "conv-kl"]
    trained = attached(tmp_path / "run", net, heads)
    torch.manual_seed(trained.recipe.fit.seed)
    fresh = Network(trained.recipe.model, LSP, net.content).state_dict()
    for head in heads:
        predicted = said(tmp_path / "run").predicted_losses[head]
        assert predicted.shape == (8,)
        assert np.isfinite(predicted).all()
        learnt = {
            name
            for name, value in trained.network.state_dict().items()
            if name.startswith(f"heads.{head}.") and not torch.equal(value, fresh[name])
        }
        assert learnt, head


@pytest.mark.parametrize(
    ("size", "taps", "shown"),
    [
        ((48, 32), ["r4", "r8"], "12 × 8, 6 × 4"),  # not square
        ((32, 32), ["r4", "r4/raw"], "8 × 8, 8 × 8"),  # not falling
    ],
)
def test_the_multi_scale_head_needs_a_pyramid(
    tmp_path: Path, size: tuple[int, int], taps: list[str], shown: str
) -> None:
    path = write_net(tmp_path / "net", size=size, keys={"taps": taps})
    with pytest.raises(InvalidInput, match=rf"needs square taps.* has {shown}\. Choose evidence"):
        attached(tmp_path / "run", path, ["conv-kl"])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_a_rectangle(tmp_path: Path, family: str) -> None:
    trained = attached(tmp_path / "run", write_net(tmp_path / "net", family, (48, 32)))
    scores = trained.validation
    assert np.isfinite(scores.predicted_losses["evidence-miss"]).all()
    own = ["mean_confidence", "min_confidence"]
    own += ["presence"] if family in ("regression", "yolo", "yolo_nms") else []
    assert list(trained.network.pose.signals) == own
    assert scores.signals.shape == (8, len(own))
    np.testing.assert_allclose(scores.signals[:, 0], scores.confidence.mean(1), rtol=1e-5)
    np.testing.assert_array_equal(said(tmp_path / "run").points, scores.points)


def test_a_changed_file(tmp_path: Path, net: NetFile) -> None:
    attached(tmp_path / "run", net)
    model = onnx.load_from_string(net.content)
    model.graph.name = "another"
    onnx.save(model, tmp_path / "run" / FOREIGN)
    message = r"damaged checkpoint: foreign.onnx has sha256 \w{12}…; the heads were trained on net"
    with pytest.raises(DataError, match=message):
        load_checkpoint(tmp_path / "run")
    (tmp_path / "run" / FOREIGN).unlink()
    with pytest.raises(DataError, match=r"is no checkpoint: .*foreign.onnx: No such file"):
        load_checkpoint(tmp_path / "run")


def test_nothing_trains_it(tmp_path: Path, net: NetFile) -> None:
    attached(tmp_path / "run", net)
    recipe = read_recipe(tmp_path / "run" / "recipe.json")
    message = "recipe attached-net is of net.onnx, which nothing trains; expected a network of ours"
    with pytest.raises(InvalidInput, match=message):
        train(recipe, people(1, 24), people(2, 8), tmp_path / "again", CPU, tmp_path / "run")
    options = ("--data", "synthetic:1,16", "--val", "synthetic:2,8", "--out", f"{tmp_path}/again")
    done = CliRunner().invoke(app, ["train", *options, "--init", f"{tmp_path}/run"])
    assert done.exit_code != 0
    assert message in str(done.exception or done.output)


def test_missing_options(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["attach", str(tmp_path / "net.toml")])
    assert done.exit_code != 0
    assert "no --data, --val or --out; expected all three" in str(done.exception)


def test_describe_starts_a_net_toml(tmp_path: Path) -> None:
    onnx.save(net_model(), tmp_path / "net.onnx")
    done = CliRunner().invoke(app, ["attach", "--describe", str(tmp_path / "net.onnx")])
    assert done.exit_code == 0, done.output
    assert 'family = "heatmaps?"' in done.output
    assert 'heatmaps = "maps"' in done.output
