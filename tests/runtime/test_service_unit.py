"""deploy/misgiving.service, as systemd reads it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from docs.helpers import ROOT

COMMAND = "/opt/misgiving/bin/misgiving"


pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (ROOT / "deploy/misgiving.service").read_text()
    assert unit.count(COMMAND) == 1
    (tmp_path / "misgiving.service").write_text(unit.replace(COMMAND, "/bin/true"))
    done = analyze("verify", tmp_path / "misgiving.service")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_stays_closed() -> None:
    """As systemd 252 counts, out of 100; a newer one counts a little otherwise."""
    unit = ROOT / "deploy/misgiving.service"
    done = analyze("security", "--offline=true", "--threshold=40", unit)
    assert done.returncode == 0, done.stdout.splitlines()[-1:]


def analyze(*words: object) -> "subprocess.CompletedProcess[str]":
    command = ["systemd-analyze", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
