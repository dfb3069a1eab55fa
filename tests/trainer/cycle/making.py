"""Runs of a cycle with numbers by hand."""

from misgiving.trainer.cycle.record import CycleRun, StageResult


def stage(
    number: int = 1,
    test_pck: float | None = 0.5,
    selected_pck: float | None = 0.25,
    selected_loss: float = 2.0,
    selected: tuple[str, ...] = (),
) -> StageResult:
    """One stage; 100 labels at the first, 10 more at each."""
    return StageResult(
        stage=number,
        checkpoint="seed-0/base",
        labels=90 + 10 * number,
        test={} if test_pck is None else {"pck": test_pck, "persons": 30.0},
        selected=selected,
        selected_pck=selected_pck,
        pool_pck=0.75,
        selected_loss=selected_loss,
        selected_loss_sd=0.0,
        pool_loss=1.0,
        seconds=1.0,
    )


def picking(seed: int, method: str, *stages: str) -> CycleRun:
    """A run that picks persons named by single letters, a word a stage."""
    results = [stage(i + 1, selected=tuple(word)) for i, word in enumerate(stages)]
    return CycleRun(seed, method, tuple(results))
