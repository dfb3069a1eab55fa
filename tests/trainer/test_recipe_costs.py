"""What the list of recipes says of each is so."""

import re
from pathlib import Path

from misgiving.trainer import recipe_costs
from misgiving.trainer.config import ModelConfig
from misgiving.trainer.models.network import make_pose_net
from misgiving.trainer.net_config import EdgeConfig, HourglassConfig
from misgiving.trainer.recipes import RECIPES

PAGE = Path(__file__).parents[2] / "benchmarks" / "networks_cpu_202611.md"


def test_a_line_for_each_recipe() -> None:
    header, *rows = recipe_costs.lines()
    assert header.split()[:2] == ["recipe", "input"]
    assert [row.split()[0] for row in rows[: len(RECIPES)]] == list(RECIPES)
    assert all(len(row.split()) > 6 for row in rows[: len(RECIPES)])  # the last words: what for
    assert rows[1].split()[:6] == ["cpu", "128", "0.179", "0.093", "2.7", "60+10"]
    assert max(map(len, [header, *rows])) <= 80


def test_milliseconds_are_those_measured() -> None:
    costs = PAGE.read_text("utf-8").partition("## The same time")[0]
    rows = re.findall(r"^\| (\S+) \| \d+ \| .* \| (\S+) \|$", costs, re.MULTILINE)
    assert {name: float(ms) for name, ms in rows} == recipe_costs.MEASURED_MS


def test_multiplications_grow_with_the_area() -> None:
    """A net without anything that depends on its input's size: four times the pixels."""
    net = EdgeConfig(width=16)
    small, large = (recipe_costs.cost(ModelConfig(input_size=n, net=net)) for n in (64, 128))
    assert small[0] == large[0]
    assert large[1] == 4 * small[1]


def test_parameters_of_the_net_made_in_earnest() -> None:
    config = ModelConfig(input_size=64, net=HourglassConfig(stacks=1, channels=8, depth=1))
    net = make_pose_net(config, 14)
    assert recipe_costs.cost(config)[0] == sum(p.numel() for p in net.parameters())
