"""One thread for each process: several workers share the cores, and the networks are tiny.

Neither chance nor the time that a case takes decides whether a property holds.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from shared.fuzzing import Try, attempt_all

if TYPE_CHECKING:
    from misgiving.collector.control.control import Control
    from misgiving.collector.store import Store
    from shared.services import S3, Postgres

settings.register_profile(
    "tests",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")
with pytest.MonkeyPatch.context() as patch:
    # gRPC reads it once. What it says of another test's server would be in what this one captures.
    patch.setenv("GRPC_VERBOSITY", "NONE")
    import grpc  # noqa: F401
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch, NumPy and ONNX Runtime are loaded


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-cases", type=int, default=20_000, help="how many test_fuzz.py tries")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: at the end, none of them keeps one worker busy alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of foreign nets; skips the test where there is none."""
    root = os.environ.get("MISGIVING_MODELS")
    if not root:
        pytest.skip("MISGIVING_MODELS is not set; it names the folder of foreign networks")
    return Path(root)


@pytest.fixture
def store(tmp_path: Path) -> Iterator["Store"]:
    """Of a collector, and empty."""
    from misgiving.collector.store import Store

    with Store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def control(store: "Store") -> "Control":
    """Reports and campaigns of that store."""
    from misgiving.collector.control.control import Control

    return Control(store.database)


@pytest.fixture(scope="session")
def postgres() -> Iterator["Postgres"]:
    from shared.services import Postgres, started

    with started(Postgres) as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator["S3"]:
    from shared.services import KEYS, S3, started

    with started(S3) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.endpoint}.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def attempt(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Try:
    """Try a share of ``--fuzz-cases``."""
    cases = request.config.getoption("--fuzz-cases")
    return lambda share, case: attempt_all(int(share * cases), case, caplog)
