"""Networks: a pose net with its loss heads."""

from misgiving.trainer.models.hourglass import PoseOutput, StackedHourglass
from misgiving.trainer.models.network import Network, NetworkOutput

__all__ = ["Network", "NetworkOutput", "PoseOutput", "StackedHourglass"]
