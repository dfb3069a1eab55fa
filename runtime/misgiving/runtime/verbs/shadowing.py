"""From settings to a shadow, the second bundle that answers silently."""

from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.engines.loading import ModelOptions, load
from misgiving.runtime.serving.shadow import Ruling, Shadow
from misgiving.runtime.settings.model import Settings
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.telemetry.shadowing import ShadowCounts


def shadow_of(settings: Settings, metrics: Metrics) -> Shadow | None:
    """The shadow that is asked for, which loads meanwhile; None where none is."""
    options = shadow_options(settings)
    if options is None:
        return None
    return Shadow(lambda: Model(*load(options)), ruling_of(settings), ShadowCounts(metrics))


def shadow_options(settings: Settings) -> ModelOptions | None:
    """Which bundle is the shadow, and on what; trusted are the same keys as for the other."""
    table = settings.shadow
    if table.path is None:
        return None
    return ModelOptions(
        bundle=table.path,
        device=table.device,
        threads=table.threads,
        precision=table.precision,
        trust=settings.bundle.trust,
    )


def ruling_of(settings: Settings) -> Ruling:
    """What may change while it runs."""
    table = settings.shadow
    return Ruling(table.share, table.disagreement, table.keep, settings.flags.threshold)
