"""No name that a client sends becomes a path, in the spool or in the collector."""

from pathlib import Path

import pytest

from misgiving.collector.store import Store
from misgiving.runtime.flags.policy import FlagPolicy
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.outbox.uploader import Uploader
from shared.collecting import collecting, eventually, files_below, until_pending
from shared.serving import BLACK, infer, serving, wire_frame


@pytest.mark.parametrize("form", ["../../../escaped", "{}/escaped", "a/escaped", "escaped\\..\\b"])
def test_names_of_a_frame_are_no_paths(tmp_path: Path, form: str) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    name = form.format(tmp_path)
    with Store(inside / "store") as store, collecting(store) as address:
        spool = Spool(inside / "spool")
        with serving(policy=FlagPolicy(threshold=float("-inf"), audit_rate=0), sink=spool) as car:
            frame = wire_frame(BLACK, frame_id=name)
            frame.stream_id = name
            infer(car, frame)
        until_pending(spool, 1)
        uploader = Uploader(spool, address)
        uploader.start()
        eventually(lambda: store.count() == 1)
        uploader.stop(60)
        spool.close()
        ((_, kept),) = store.frames()
        assert kept.frame.frame_id == name
    names = files_below(tmp_path)
    assert all(file.startswith(("a/b/store/", "a/b/spool/")) for file in names)
    assert not [file for file in names if "escaped" in file]
