"""docs/metrics.md lists every metric, with its kind and labels."""

import re
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry

from docs.helpers import ROOT
from misgiving.collector.frames.arrivals import Arrivals
from shared.measured import all_metrics

ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) \| .+ \|$", re.MULTILINE)
SUFFIX = {"counter": "_total", "info": "_info"}


def told(registry: CollectorRegistry) -> Iterator[tuple[str, str, frozenset[str]]]:
    for family in registry.collect():
        labels = frozenset(key for sample in family.samples for key in sample.labels) - {"le"}
        kind = "gauge" if family.type == "info" else family.type
        if family.name.startswith("misgiving_"):
            yield family.name + SUFFIX.get(family.type, ""), kind, labels


def test_every_metric_is_on_the_page(tmp_path: Path) -> None:
    rows = ROW.findall((ROOT / "docs" / "metrics.md").read_text("utf-8"))
    with all_metrics(tmp_path) as registry:
        expected = sorted({*told(registry), *told(Arrivals().registry)}, key=str)
    page = [(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows]
    assert sorted(page, key=str) == expected
