"""Verbs of the training part: ``train`` and ``cycle``. Imports torch only inside them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from misgiving.runtime.durable import check_new

if TYPE_CHECKING:
    from misgiving.trainer.scoring import Scores

app = typer.Typer()

SPECS = "lsp:DIR, lspet:DIR, synthetic:SEED,N[,LOW-HIGH] or labels:DIR, each with #FIRST-LAST"

Recipe = Annotated[
    str, typer.Option(metavar="NAME", help="demo, cpu, paper, or a recipe's JSON file.")
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; must be new.")]
Epochs = Annotated[int | None, typer.Option(metavar="N", help="Instead of the recipe's.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Instead of the recipe's.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")]
Threads = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="CPU threads; all cores up to 8 by default.")
]


@app.command()
def train(
    data: Annotated[
        list[str], typer.Option(metavar="SPEC", help=f"{SPECS}; may be given more than once.")
    ],
    val: Annotated[
        str, typer.Option(metavar="SPEC", help="Data to measure on, apart from the training data.")
    ],
    out: Out,
    recipe: Recipe = "demo",
    init: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Checkpoint to train on from.")
    ] = None,
    epochs: Epochs = None,
    seed: Seed = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train a pose net with its loss heads; writes a checkpoint.

    Example: misgiving train --data synthetic:1,600,0-0.4 --val synthetic:2,256 --out runs/first
    """
    from misgiving.trainer.data import join, open_data
    from misgiving.trainer.recipes import recipe_named

    # Before torch, which takes seconds to import: most slips are told at once.
    check_new(out)
    chosen = recipe_named(recipe, epochs, seed)
    sets, validation = join([open_data(spec) for spec in data]), open_data(val)

    from misgiving.trainer.training import Compute
    from misgiving.trainer.training import train as run

    compute = Compute(device=device, threads=threads)
    trained = run(chosen, sets, validation, out, compute, init)
    _print_scores(trained.validation)
    typer.echo(f"checkpoint {out} (next: misgiving export {out} --out BUNDLE)")


@app.command()
def cycle(
    base: Annotated[
        str, typer.Option(metavar="SPEC", help=f"Labelled data of the first stage: {SPECS}.")
    ],
    pool: Annotated[
        str,
        typer.Option(metavar="SPEC", help="Data to select from; labels are used once selected."),
    ],
    test: Annotated[str, typer.Option(metavar="SPEC", help="Data to measure on.")],
    budget: Annotated[int, typer.Option(metavar="N", help="Persons to label after each stage.")],
    out: Out,
    sampler: Annotated[
        str, typer.Option(metavar="NAME", help="random or learned_loss.")
    ] = "learned_loss",
    stages: Annotated[int, typer.Option(metavar="N", help="Trainings, one after another.")] = 2,
    recipe: Recipe = "demo",
    epochs: Epochs = None,
    seed: Seed = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Run an active-learning cycle: train, score the pool, select, train on.

    Example: misgiving cycle --base synthetic:1,400,0-0.4 --pool synthetic:2,800
    --test synthetic:3,256 --budget 100 --out runs/cycle
    """
    from misgiving.trainer.data import open_data
    from misgiving.trainer.recipes import recipe_named

    check_new(out)  # before torch, as in train
    chosen = recipe_named(recipe, epochs, seed)
    sets = (open_data(base), open_data(pool), open_data(test))

    from misgiving.trainer.cycle import CycleConfig, run_cycle
    from misgiving.trainer.training import Compute

    config = CycleConfig(sampler=sampler, budget=budget, stages=stages, seed=seed or 0)
    compute = Compute(device=device, threads=threads)
    results = run_cycle(chosen, config, *sets, out, compute)
    typer.echo("stage  labels  test PCK  PCK of the selected  PCK of the pool")
    for result in results:
        cells = (result.test.get("pck"), result.selected_pck, result.pool_pck)
        texts = ["-" if value is None else f"{value:.3f}" for value in cells]
        typer.echo(
            f"{result.stage:5}  {result.labels:6}  {texts[0]:>8}  {texts[1]:>19}  {texts[2]:>15}"
        )
    typer.echo(f"checkpoint {out / results[-1].checkpoint}, record {out / 'results.json'}")


def _print_scores(scores: "Scores") -> None:
    from misgiving.trainer.report import score_table

    typer.echo(score_table(scores))
