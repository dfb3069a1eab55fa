"""Networks: a pose net with its loss heads."""

from misgiving.trainer.models.network import Network, NetworkOutput
from misgiving.trainer.pose import Level, PoseNet, PoseOutput

__all__ = ["Level", "Network", "NetworkOutput", "PoseNet", "PoseOutput"]
