"""A registry with every metric that a server or ``watch`` has."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from misgiving.runtime.answer.describing import describe
from misgiving.runtime.flags.budgets import DAY, Budget
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.privacy.keeping import Keeping
from misgiving.runtime.telemetry.gauges import (
    of_barred,
    of_budgets,
    of_cameras,
    of_drift,
    of_machine,
    of_model,
    of_spool,
)
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.telemetry.shadowing import ShadowCounts
from shared import tiny


@contextmanager
def all_metrics(folder: Path) -> Iterator[CollectorRegistry]:
    """Those of a board that tells one temperature; its spool is in the folder."""
    metrics, info = Metrics(), describe(tiny.model(), tiny.policy())
    (zone := folder / "thermal_zone0").mkdir()
    (zone / "type").write_text("cpu")
    (zone / "temp").write_text("41000")
    with closing(Spool(folder / "spool")) as spool:
        for collector in (
            of_model(lambda: info),
            of_drift(lambda: False),
            of_budgets(lambda: {Budget(500, "frames", DAY): 499}),
            of_cameras(lambda: {"front": False}),
            of_machine(folder),
            of_spool(spool.counts),
            of_barred(lambda: Keeping().counts),
        ):
            metrics.registry.register(collector)
        ShadowCounts(metrics)
        yield metrics.registry
