"""Programs of the last release and of today understand each other: no field, number or call went.

``protos/released.binpb`` holds the protos of the last release, as ``buf build`` wrote them.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RELEASED = ROOT / "protos" / "released.binpb"
BUFS = list((ROOT / "tests/runtime/node/node_modules/@bufbuild").glob("buf-*/bin/buf"))


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    """Those of today, to be changed."""
    return shutil.copytree(ROOT / "protos" / "misgiving", tmp_path / "misgiving").parent


def broken(protos: Path) -> str:
    """What buf says of what an old program would no longer understand; empty where it would."""
    command = [BUFS[0], "breaking", protos, "--against", RELEASED]
    return subprocess.run(command, capture_output=True, text=True, timeout=240).stdout


@pytest.mark.skipif(not BUFS, reason="no buf client; .ci/run installs it")
def test_nothing_of_the_last_release_went(protos: Path) -> None:
    assert broken(protos) == ""
    fleet = protos / "misgiving" / "v1" / "fleet.proto"
    fleet.write_text(fleet.read_text().replace("string device_id = 8", "string device_id = 80"))
    assert 'field "8" with name "device_id" on message "CollectedFrame"' in broken(protos)
