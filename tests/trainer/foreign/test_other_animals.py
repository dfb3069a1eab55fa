"""A skeleton that is no human's, with a torso that is said, and with none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from misgiving.trainer import progress
from misgiving.trainer.attaching import attach
from misgiving.trainer.config import head_named
from misgiving.trainer.data import PoseSet, Sample
from misgiving.trainer.foreign.net_file import NetFile, read_net
from misgiving.trainer.training import Trained
from shared.foreign import write_net
from shared.training import CPU, people

MOUSE = ("snout", "left_ear", "right_ear", "back", "tail_base", "tail_mid", "tail_tip")
SAID = f"""name = "mouse"
names = {list(MOUSE)}
skeleton = [["snout", "back"], ["back", "tail_base"]]
torso = [["snout", "tail_base"]]
"""


def mice(net: NetFile, seed: int, count: int) -> PoseSet:
    """Synthetic persons whose first joints are called a mouse's."""
    whole = people(seed, count)

    def read(index: int) -> Sample:
        sample = whole[index]
        return replace(sample, points=sample.points[:7], labelled=sample.labelled[:7])

    known = np.ones((count, len(MOUSE)), bool)
    return PoseSet(whole.spec, net.keypoints, whole.ids, read, known)


def trained(net: NetFile, out: Path, head: str) -> Trained:
    heads = (head_named(head),)
    return attach(net, mice(net, 1, 24), mice(net, 2, 8), out, CPU, heads=heads, epochs=1)


@pytest.mark.parametrize("head", ["evidence-miss", "evidence-links"])
def test_a_mouse_whose_torso_is_said(tmp_path: Path, head: str) -> None:
    path = write_net(tmp_path, joints=MOUSE, keys={"keypoints": "mouse.toml"})
    (tmp_path / "mouse.toml").write_text(SAID)
    net = read_net(path)
    assert net.keypoints.torso == ((0, 4),)
    done = trained(net, tmp_path / "run", head)
    assert done.record.metrics["persons_with_torso"] == 8
    assert 0 <= done.record.metrics["pck"] <= 1
    assert done.validation.keypoint_loss.shape == ((8, 7) if head == "evidence-miss" else (8, 0))


def test_a_mouse_without_a_torso(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads learn, by a usual length; who failed is not defined, and so not measured."""
    net = read_net(write_net(tmp_path, joints=MOUSE))
    assert net.keypoints.torso == ()
    told: list[str] = []
    monkeypatch.setattr(progress, "print_line", told.append)
    done = trained(net, tmp_path / "run", "evidence-miss")
    assert any(line.startswith("the keypoints of net.onnx have no torso, by") for line in told)
    assert done.record.metrics == {"persons": 8, "persons_with_torso": 0, "failures": 0}
    assert np.isfinite(done.validation.predicted_losses["evidence-miss"]).all()
