"""All that is done with a foreign graph before it runs."""

from misgiving.trainer.foreign.batches import free_batch
from misgiving.trainer.foreign.cutting import with_outputs
from misgiving.trainer.foreign.reading import Graph, Shape, read_graph
from misgiving.trainer.foreign.running import check_runs
from misgiving.trainer.foreign.shapes import sized
from misgiving.trainer.foreign.taps import tap_named, taps_of

__all__ = [
    "Graph",
    "Shape",
    "check_runs",
    "free_batch",
    "read_graph",
    "sized",
    "tap_named",
    "taps_of",
    "with_outputs",
]
