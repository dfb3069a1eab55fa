"""A short run of benchmarks/durability.py: kills at random lose no frame, and double none."""

import random
from pathlib import Path

from durability import Trial

KILLS = 40


def test_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    trial = Trial(tmp_path, random.Random(0))
    counted = trial.run(KILLS)
    assert sum(trial.kills.values()) == KILLS
    assert counted["acknowledged by the spool"] > 0
    assert counted["stored by the collector"] >= counted["acknowledged by the spool"]
    for what in ("lost", "stored twice", "damaged", "refused or declined"):
        assert counted[what] == 0, dict(counted)
    for log in ("vehicle.log", "collector.log"):
        assert "Traceback" not in (tmp_path / log).read_text()
