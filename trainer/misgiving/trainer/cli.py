"""Verbs of the training part: ``recipes``, ``train``, ``attach``, ``suspects``, ``cycle``,
``evaluate``, ``score``, ``select`` and ``theory``.

Torch is imported only inside them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from misgiving.runtime.durable import check_new
from misgiving.runtime.verbs import options as runtime
from misgiving.trainer.attach_cli import attach
from misgiving.trainer.options import Device, Epochs, Keypoints, Out, Seed, Threads
from misgiving.trainer.samplers import SAMPLERS
from misgiving.trainer.specs import RECIPE_NAMES, SPECS
from misgiving.trainer.suspects_cli import suspects

if TYPE_CHECKING:
    from misgiving.trainer import Scores

app = typer.Typer()


@app.command()
def recipes() -> None:
    """List the recipes of train, and what each costs.

    Example: misgiving recipes
    """
    from misgiving.trainer.recipe_costs import lines

    print("\n".join(lines()))


@app.command()
def train(
    data: Annotated[
        list[str], typer.Option(metavar="SPEC", help=f"{SPECS}; may be given more than once.")
    ],
    val: Annotated[
        str, typer.Option(metavar="SPEC", help="Data to measure on, apart from the training data.")
    ],
    out: Out,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"{', '.join(RECIPE_NAMES)}, or a recipe's JSON file; without it demo, or with "
            "--init the checkpoint's own.",
        ),
    ] = None,
    keypoints: Keypoints = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Checkpoint to train on from, 'default' for that of the bundle in the package; "
            "its keypoints are taken.",
        ),
    ] = None,
    epochs: Epochs = None,
    seed: Seed = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train a pose net with its loss heads; writes a checkpoint.

    Example: misgiving train --data synthetic:1,600,0-0.4 --val synthetic:2,256 --out runs/first

    On N GPUs: torchrun --nproc-per-node N -m misgiving train ...; each takes an
    equal part of every batch.
    """
    from misgiving.trainer import join, keypoints_named, open_data, recipe_named

    # Before torch, which takes seconds to import: most slips are told at once.
    check_new(out)
    target, own = keypoints_named(keypoints) if keypoints else None, "demo"
    if init is not None:
        from misgiving.trainer.checkpoint import find_checkpoint, load_record

        init = find_checkpoint(init)
        record = load_record(init)
        target, own = target or record.keypoints, str(init / "recipe.json")
    chosen = recipe_named(recipe or own, epochs, seed)
    sets, validation = join([open_data(spec, target) for spec in data]), open_data(val, target)

    from misgiving.trainer import Compute
    from misgiving.trainer import train as run

    compute = Compute(device=device, threads=threads, together=True)
    trained = run(chosen, sets, validation, out, compute, init)
    if compute.team.first:
        _print_scores(trained.validation)
        typer.echo(f"checkpoint {out} (next: misgiving export {out} --out BUNDLE)")


app.command()(attach)
app.command()(suspects)


@app.command()
def cycle(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help=f"{', '.join(RECIPE_NAMES)}, or the JSON file of a cycle or of a recipe.",
        ),
    ],
    base: Annotated[
        str, typer.Option(metavar="SPEC", help=f"Labelled data of the first stage: {SPECS}.")
    ],
    pool: Annotated[
        str,
        typer.Option(metavar="SPEC", help="Data to select from; labels are used once selected."),
    ],
    test: Annotated[str, typer.Option(metavar="SPEC", help="Data to measure on.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder to write: new, or this cycle's.")
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"Sampler ({', '.join(SAMPLERS)}), or SAMPLER:HEAD to give it the predicted loss "
            "of that head. May be given more than once; instead of the recipe's.",
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Persons to label after each stage; the recipe's is 100 for demo, else 1000.",
        ),
    ] = None,
    stages: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Trainings, one after another; the recipe's are 3 for cpu, 5 for paper, else 2.",
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Seeds, each with its own base model; the recipe's are 3 for cpu, 5 for paper, "
            "else 1.",
        ),
    ] = None,
    keypoints: Keypoints = None,
    epochs: Epochs = None,
    seed: Seed = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Run active-learning cycles: train, score, select, train on.
    Every method runs once for each repeat.

    All methods of a repeat share its first stage. Stopped, even killed, the same command goes on
    where it was; started several times at once, on other GPUs for example, it shares the work.
    Writes report.html.

    Example: misgiving cycle demo --base synthetic:1,400,0-0.4 --pool synthetic:2,800
    --test synthetic:3,256 --out runs/cycle
    """
    from misgiving.trainer import cycle_named, keypoints_named, open_data

    # Before torch, as in train.
    chosen = cycle_named(
        recipe,
        methods=tuple(method or ()),
        epochs=epochs,
        seed=seed,
        budget=budget,
        stages=stages,
        repeats=repeats,
    )
    target = keypoints_named(keypoints) if keypoints else None
    sets = (open_data(base, target), open_data(pool, target), open_data(test, target))

    from misgiving.trainer import Compute, cycle_table, run_cycle, write_cycle_report

    runs = run_cycle(chosen, *sets, out, Compute(device=device, threads=threads))
    typer.echo(cycle_table(runs))
    report = write_cycle_report(out, chosen, runs, sets[1])
    typer.echo(f"record and checkpoints in {out}, report {report}")


@app.command()
def evaluate(
    data: Annotated[
        str, typer.Option(metavar="SPEC", help=f"Data to measure on, unseen in training: {SPECS}.")
    ],
    keypoints: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.toml",
            help="Measure only the joints of this set, by their names: lsp14, coco17, mpii16 or a "
            "file; all that bundle and data share without it.",
        ),
    ] = None,
    bundle: runtime.Bundle = None,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File for all numbers and the risk-coverage curves."),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="New folder for the worst mistakes, the best catches and the risk-coverage "
            "curves. They show the data's people: keep them out of repositories.",
        ),
    ] = None,
    device: runtime.Device = "cpu",
    threads: runtime.Threads = 0,
    precision: runtime.Precision = "fp32",
) -> None:
    """Measure a bundle: its poses, and what its scores find.
    Says how good the poses are, and how well the scores find the failures.

    Prints PCK@0.2, PCKh@0.5 where the data has heads (mpii:), and AP by OKS where it has areas; of
    predicted_loss, of each free score, of random and of the true error: AUROC of failure, Spearman
    with the true error, PCK@0.2 of the riskiest tenth, AUGRC and AURC; all with 95 % intervals.
    --json has more: AUPRC, the failures among the riskiest 1, 5, 10 and 20 %, Kendall, Pearson, the
    true error of the riskiest tenth, PCK@0.1 and @0.5.

    Example: misgiving evaluate --data "lspet:DATA/lspet#9001-10000" --json numbers.json
    """
    from misgiving.trainer.evaluation.output import run

    run(bundle, data, keypoints, json, pictures, device, threads, precision)


@app.command()
def score(
    pool: Annotated[str, typer.Option(metavar="SPEC", help=f"Persons to score: {SPECS}.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="File to write, .parquet or .csv; must be new.")
    ],
    bundle: runtime.Bundle = None,
    device: runtime.Device = "cpu",
    threads: runtime.Threads = 0,
    precision: runtime.Precision = "fp32",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Compute on Ray, one engine to every --threads CPUs (0 for 1): local starts it on "
            "this machine; HOST:PORT is a cluster that this machine belongs to. All its nodes need "
            "misgiving[cpu,train,ray], and the images at the same path; the bundle is sent.",
        ),
    ] = None,
) -> None:
    """Score a pool with a bundle, a row for each person.
    A row has predicted loss, free scores and embedding.

    Stopped, even killed, the same command goes on where it was. Exit code 1 if a person was
    skipped because they could not be read.

    Example: misgiving score --pool synthetic:2,800 --out pool.parquet
    """
    from misgiving.runtime import Estimator
    from misgiving.trainer import open_data, score_pool

    if ray:  # with another device, only the workers have it
        from misgiving.trainer import score_pool_on_ray

        sent = Estimator.load(bundle, precision=precision).bundle
        persons = open_data(pool, sent.manifest.keypoints)
        record = score_pool_on_ray(sent, persons, out, ray, device=device, threads=threads)
    else:
        estimator = Estimator.load(bundle, device=device, threads=threads, precision=precision)
        persons = open_data(pool, estimator.bundle.manifest.keypoints)
        record = score_pool(estimator, persons, out)
    typer.echo(
        f"scores {out}: {record.count} persons of {record.pool} by {record.bundle}, "
        f"{record.skipped} skipped (next: misgiving select {out} --budget N)"
    )
    raise typer.Exit(int(record.skipped > 0))


@app.command()
def select(
    scores: Annotated[
        Path, typer.Argument(metavar="FILE", help="The pool's file from 'misgiving score'.")
    ],
    budget: Annotated[int, typer.Option(metavar="N", help="Persons to pick.")],
    sampler: Annotated[
        str,
        typer.Option(
            metavar="NAME", help=f"One of {', '.join(SAMPLERS)}; or a free score of the file."
        ),
    ] = "learned_loss",
    labelled: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Score file of those who are labelled: they are not picked, and the samplers that "
            "look for what is new keep away from them.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Seed of random and adversarial.")
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File to write; must be new. Without it, ids go to stdout."
        ),
    ] = None,
) -> None:
    """Pick whom to label from a score file.
    Gives their ids, one a line, in the order of picking.

    Example: misgiving select pool.parquet --budget 50 --sampler coreset --out picked.txt
    """
    from misgiving.runtime.durable import check_new, write_durably
    from misgiving.trainer import select as run

    if out:
        check_new(out)
    chosen = run(scores, sampler, budget, labelled, seed)
    text = "".join(f"{name}\n" for name in chosen.ids)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_durably(out, text.encode())
    else:
        typer.echo(text, nl=False)
    record = chosen.scores.record
    if chosen.unscored:
        typer.echo(f"{chosen.unscored} have no finite predicted loss", err=True)
    typer.echo(
        f"{len(chosen.ids)} of {chosen.candidates} persons of {record.pool} by {sampler}, "
        f"scored by {record.bundle}",
        err=True,
    )


@app.command()
def theory(out: Out) -> None:
    """Reproduce the mathematics of the LearningLoss++ paper.
    Its Tables 1 and 2, and its Figures 1 to 3.

    Fits the distribution of losses, which the paper does not print, to its Table 1; prints both
    tables beside the paper's own; writes theory.json and the pictures.

    Example: misgiving theory --out theory
    """
    from misgiving.trainer.theory.output import run

    run(out)


def _print_scores(scores: "Scores") -> None:
    from misgiving.trainer import score_table

    typer.echo(score_table(scores))
