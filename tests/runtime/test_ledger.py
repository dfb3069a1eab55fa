"""What was spent, on disk: it survives the process, and never stops one."""

import shutil
from pathlib import Path

import pytest

from misgiving.runtime.flags.budgets import DAY, Budget
from misgiving.runtime.flags.policy import FlagPolicy, FlagState
from misgiving.runtime.outbox.ledger import LEDGER, Ledger
from misgiving.runtime.wire.collected import KeptFrame
from misgiving.v1 import pose_pb2 as pose
from runtime.flagging import Device
from shared.serving import infer, named, serving

POLICY = FlagPolicy(threshold=0.5, audit_rate=0, budgets=(Budget(2, "frames", DAY),))


def spent(folder: Path) -> int:
    """Tokens that a new process finds taken."""
    ledger = Ledger(folder)
    state = ledger.recalled(FlagState(POLICY))
    ledger.close()
    return sum(bucket.taken for bucket in state.buckets.values())


def test_the_last_note_is_on_disk(tmp_path: Path) -> None:
    device, ledger = Device(POLICY), Ledger(tmp_path)
    assert device.one(0.9, 0.0, stream="a").kept
    ledger.note(device.state)
    assert device.one(0.9, 1.0, stream="b").kept
    ledger.note(device.state)
    ledger.close()
    assert spent(tmp_path) == 2
    assert [one.name for one in tmp_path.iterdir()] == [LEDGER]


def test_what_a_kill_left_goes(tmp_path: Path) -> None:
    (tmp_path / f".{LEDGER}.0123abcd").write_text("{")
    assert spent(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_new_vehicle_has_spent_nothing(tmp_path: Path) -> None:
    assert spent(tmp_path) == 0


def test_a_file_that_cannot_be_read_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / LEDGER).write_text("half of a fi")
    assert spent(tmp_path) == 0
    assert f"{LEDGER} cannot be read, budgets start full" in caplog.text


def test_a_file_that_cannot_be_written_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and again after it could be: each kept frame has it written."""
    folder = tmp_path / "gone"
    device, ledger = Device(POLICY), Ledger(folder)
    device.one(0.9, 0.0)
    for there in (False, False, True, False):
        folder.mkdir() if there else shutil.rmtree(folder, ignore_errors=True)
        ledger.note(device.state)
        ledger._writer.submit(int).result(60)  # behind the write
    ledger.close()
    assert caplog.text.count(f"{LEDGER} cannot be written") == 2


class Taking:
    def offer(self, frame: KeptFrame) -> bool:
        return True


def test_a_server_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    codes = []
    for _ in range(2):
        with serving(policy=POLICY, sink=Taking(), memory=Ledger(tmp_path)) as server:
            for i in range(2):
                flag = infer(server, named(str(i))).persons[0].flag
                codes.append((flag.kept, flag.withheld))
    kept = (pose.KEEP_REASON_PREDICTED_LOSS, pose.WITHHELD_REASON_UNSPECIFIED)
    budget = (pose.KEEP_REASON_NONE, pose.WITHHELD_REASON_BUDGET)
    assert codes == [kept, budget, budget, budget]


def test_another_policy_holds_from_the_next_frame_on() -> None:
    with serving() as server:
        assert infer(server, named("1")).persons[0].flag.raised
        server.pipeline.flag_by(FlagPolicy(threshold=2, audit_rate=0))
        assert not infer(server, named("2")).persons[0].flag.raised
