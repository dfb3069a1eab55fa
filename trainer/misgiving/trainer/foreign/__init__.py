"""Pose nets of somebody else: their graph, what their outputs mean, and as a pose net of ours."""
