"""A short run of benchmarks/durability.py: kills at random lose no frame, and double none."""

import random
from pathlib import Path

from durability import Trial, servers

KILLS = 40


def test_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    check(Trial(tmp_path, random.Random(0)))


def test_the_same_of_postgresql_and_s3(tmp_path: Path) -> None:
    with servers() as (options, environment):
        check(Trial(tmp_path, random.Random(0), options, environment))


def check(trial: Trial) -> None:
    counted = trial.run(KILLS)
    assert sum(trial.kills.values()) == KILLS
    assert counted["acknowledged by the spool"] >= 2 * KILLS
    assert counted["stored by the collector"] >= counted["acknowledged by the spool"]
    for what in ("lost", "stored twice", "damaged", "refused or declined"):
        assert counted[what] == 0, dict(counted)
    for log in ("vehicle.log", "collector.log"):
        assert "Traceback" not in (trial.folder / log).read_text()
