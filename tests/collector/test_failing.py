"""What a vehicle is told of a store that fails, and how often the log says so."""

import asyncio
from typing import Any

import grpc
import pytest

from misgiving.collector.failing import Faults
from misgiving.collector.store import StoreReplaced, StoreUnavailable
from misgiving.runtime.errors import InvalidInput


class Ended(Exception):
    """As gRPC ends a call."""


class Call:
    async def abort(self, code: grpc.StatusCode, said: str, hint: Any) -> None:
        raise Ended(code.name, said)


def told(faults: Faults, error: Exception) -> tuple[str, str]:
    with pytest.raises(Ended) as caught:
        asyncio.run(faults.end(Call(), error))
    code, said = caught.value.args
    return code, said


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailable("database at /secret: away"), "UNAVAILABLE"),
        (StoreReplaced("/secret/store is gone"), "FAILED_PRECONDITION"),
        (OSError(28, "No space left on device", "/secret/part"), "UNAVAILABLE"),
    ],
)
def test_where_the_store_is_stays_in_the_log(
    error: Exception, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, said = told(Faults(), error)
    assert status == code
    assert "secret" not in said
    assert "/secret" in caplog.text


def test_what_is_the_calls_own_fault_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert told(Faults(), InvalidInput("wrong")) == ("INVALID_ARGUMENT", "wrong")
    assert caplog.text == ""


def test_a_fault_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    faults = Faults(lambda: now[0])
    for second in range(0, 150, 10):
        now[0] = second
        told(faults, StoreUnavailable("database is away"))
        if second == 70:
            told(faults, StoreUnavailable("bucket is away"))
    assert [record.getMessage() for record in caplog.records] == [
        "database is away",
        "database is away (5 calls before were not logged)",
        "bucket is away (1 calls before were not logged)",
        "database is away (4 calls before were not logged)",
    ]
