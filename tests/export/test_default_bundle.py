"""The bundle that ships: it loads without being named, checks itself and finds real people."""

import numpy as np

from export.helpers import real_data
from misgiving.export.parity import frame_of
from misgiving.runtime.detector import Detector
from misgiving.runtime.flagging import FlagPolicy
from misgiving.runtime.loading import DEFAULT_BUNDLE, load
from misgiving.trainer import metrics
from misgiving.trainer.data import open_data


def test_it_loads_and_names_no_machine() -> None:
    bundle, _ = load(DEFAULT_BUNDLE, threads=1)
    assert bundle.manifest.name == "lsp-cpu"
    provenance = bundle.manifest.provenance
    assert provenance.training_data == ("lsp:lsp#1-1000 + lspet:lspet#1-8000",)
    assert "/" not in provenance.validation_data


def test_it_finds_real_people() -> None:
    """Measured over all 1,000: PCK@0.2 .639."""
    data = open_data(f"lsp:{real_data('lsp')}#1001-1040")
    bundle, engine = load(DEFAULT_BUNDLE, threads=1)
    detector = Detector(bundle, FlagPolicy(threshold=0.0, audit_rate=0.0))
    samples = [data[i] for i in range(len(data))]
    persons = [detector.detect(frame_of(sample), engine).persons[0] for sample in samples]
    found = metrics.hits(
        np.array([[(k.x_px, k.y_px) for k in person.keypoints] for person in persons]),
        np.stack([sample.points for sample in samples]),
        np.stack([sample.labelled for sample in samples]),
        data.keypoints,
    )
    assert metrics.pck(found) > 0.5
