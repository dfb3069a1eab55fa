"""What the row of a frame says of where it comes from."""

from dataclasses import replace
from pathlib import Path

from misgiving.collector.store import Store
from misgiving.runtime.wire.collected import to_message
from shared.collecting import kept, serialise


def test_a_row_says_what_made_the_frame(tmp_path: Path) -> None:
    made = {
        "engine": "onnxruntime CPUExecutionProvider",
        "precision": "int8",
        "campaign": "storm",
        "software_version": "0.1.0",
    }
    with Store(tmp_path) as store:
        store.put(serialise(to_message(replace(kept("first"), **made))))
        ((row, _),) = store.frames()
    assert {name: getattr(row, name) for name in made} == made
