"""How long to wait before another attempt, of ours or of gRPC's."""


def wait_s(failures: int, first_wait_s: float, longest_wait_s: float, draw: float) -> float:
    """How long to wait after ``failures`` attempts in a row, in seconds.

    Doubles from the first to the longest wait; ``draw``, a random number in [0, 1), takes up
    to half of it away, so that a fleet does not come back in step.
    """
    doubled = first_wait_s * 2.0 ** min(failures - 1, 30)
    return min(doubled, longest_wait_s) * (1 - draw / 2)


def reconnecting(longest_wait_s: float) -> tuple[tuple[str, int], ...]:
    """Options of a channel that connects again after .2 seconds, and later up to the longest."""
    return (
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", int(longest_wait_s * 1000)),
    )
