"""A cycle's page: what stands on it, what it shows, and what it does without."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from numpy.typing import NDArray
from typer.testing import CliRunner

from misgiving.runtime.errors import ImageError
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.cli import app
from misgiving.trainer.cycle import summary
from misgiving.trainer.cycle.curves import FEW, curves, figures, lines
from misgiving.trainer.cycle.pictures import HEIGHT
from misgiving.trainer.cycle.recipe import CycleRecipe, to_dict
from misgiving.trainer.cycle.record import CYCLE, CycleRun, run_folder, write_stages
from misgiving.trainer.cycle.report import ALONE, FIRST, write_cycle_report
from misgiving.trainer.cycle.run import run_cycle
from misgiving.trainer.cycle.scores import read_scores
from misgiving.trainer.cycle.summary import cycle_table
from misgiving.trainer.data import PoseSet, Sample
from misgiving.trainer.measures import metrics
from shared.training import CPU, TINY, people
from trainer.cycle.making import picking, stage

METHODS = ("random", "learned_loss:gap-margin")
RECIPE = CycleRecipe(
    name="<small>",
    training=replace(TINY, fit=replace(TINY.fit, epochs=1)),
    methods=METHODS,
    budget=10,
    stages=2,
    repeats=1,
)
POOL = people(7, 24)
LOST = "{} people are not shown: their images cannot be read any more."


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.pictures: list[tuple[str, NDArray[np.uint8]]] = []
        """(alternative text, picture)"""
        self.links: list[str] = []
        self.text = ""
        self.feed(self.source)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag == "img":
            data = base64.b64decode((values["src"] or "").removeprefix("data:image/jpeg;base64,"))
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            self.pictures.append((values["alt"] or "", np.asarray(picture, np.uint8)))

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


class Cycle:
    """A folder with a cycle, its recipe and its runs."""

    def __init__(self, out: Path, recipe: CycleRecipe, runs: list[CycleRun]) -> None:
        self.out, self.recipe, self.runs = out, recipe, runs

    def page(self, pool: PoseSet = POOL) -> Page:
        return Page(write_cycle_report(self.out, self.recipe, self.runs, pool))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Cycle:
    out = tmp_path_factory.mktemp("cycle") / "out"
    return Cycle(out, RECIPE, run_cycle(RECIPE, people(1, 16), POOL, people(2, 8), out, CPU))


@pytest.fixture
def own(real: Cycle, tmp_path: Path) -> Cycle:
    """A copy to spoil."""
    out = tmp_path / "out"
    shutil.copytree(real.out, out)
    return Cycle(out, real.recipe, real.runs)


def made(out: Path, runs: list[CycleRun], **changes: object) -> Cycle:
    """A folder with hand-made runs, and with nothing else that a cycle leaves."""
    out.mkdir()
    (out / CYCLE).write_text('{"base": "lsp:/home/me/lsp", "pool": "made", "test": "made"}')
    for run in runs:
        write_stages(run_folder(out, run.seed, run.method), run.stages)
    seeds = {run.seed for run in runs}
    methods = tuple(dict.fromkeys(run.method for run in runs))
    training = replace(TINY, fit=replace(TINY.fit, seed=min(seeds)))
    given = {"methods": methods, "repeats": len(seeds), "training": training, **changes}
    return Cycle(out, replace(RECIPE, **given), runs)


def letters() -> PoseSet:
    """A pool of persons with a letter each."""
    names = tuple("abcdefghijklmnopqrstuvwxyz")
    return PoseSet("made", LSP, names, lambda index: replace(POOL[0], id=names[index]))


def test_one_file_that_git_does_not_see(own: Cycle) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(own.out.parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    before = {path: path.read_bytes() for path in own.out.rglob("*") if path.is_file()}
    page = own.page()
    assert [link[:10] for link in page.links if not link.startswith(("data:", "#"))] == []
    after = {path: path.read_bytes() for path in own.out.rglob("*") if path.is_file()}
    assert {path.name for path in after.keys() - before.keys()} == {".gitignore", "report.html"}
    assert before.items() <= after.items()
    assert git("status", "--porcelain", "--untracked-files=all") == ""
    (own.out / ".gitignore").write_text("mine")
    (own.out / "report.html").write_text("old")
    assert own.page().source == page.source
    assert (own.out / ".gitignore").read_text() == "mine"


def test_the_command_renews_it(own: Cycle, tmp_path: Path) -> None:
    """Also of a cycle that is finished, whose images are not asked for any more."""
    (tmp_path / "recipe.json").write_text(json.dumps(to_dict(own.recipe)))
    sets = {"base": people(1, 16), "pool": POOL, "test": people(2, 8)}
    options = [word for name, data in sets.items() for word in (f"--{name}", data.spec)]
    command = ["cycle", str(tmp_path / "recipe.json"), *options, "--out", str(own.out)]
    done = CliRunner().invoke(app, [*command, "--threads", "1"], catch_exceptions=False)
    assert done.stdout.startswith(cycle_table(own.runs))
    assert done.stdout.endswith(f"report {own.out / 'report.html'}\n")
    renewed = (own.out / "report.html").read_text(encoding="utf-8")
    assert renewed == own.page().source


def test_what_was_run(real: Cycle) -> None:
    page = real.page()
    for said in (
        "each method chose 10 people",
        "Which people are worth labelling? " + summary.verdict(real.runs),  # it comes first
        "Everything was done once",
        "synthetic:1,16,0-0.5 , 16 people",
        "synthetic:7,24,0-0.5 , 24 people",
        "synthetic:2,8,0-0.5 , 8 people",
        "recipe <small> : 2 stages",  # escaped, else the parser would take it for a tag
        "seeds 5",
        "Uniformly without replacement",
        "Stage 2: 26 people labelled",
        "say nothing about photographs",
    ):
        assert said in page.text
    assert re.search(r"commit [0-9a-f]{12}(-dirty)? , last result of \d{4}-\d\d-\d\d", page.text)
    assert "nan" not in page.text.lower().split()


def test_pictures_show_the_first_chosen_and_those_chosen_alone(real: Cycle) -> None:
    """Of the first stage twice, as predicted and as labelled; later only as labelled."""
    page = real.page()
    chosen = {run.method: [set(s.selected) for s in run.stages] for run in real.runs}
    expected = []
    for number in (0, 1):
        picked = {run.method: run.stages[number].selected for run in real.runs}
        expected += [name for method in METHODS for name in picked[method][:FIRST]]
        for method, other in zip(METHODS, METHODS[::-1], strict=True):
            taken = set().union(*chosen[other][: number + 1])
            expected += [name for name in picked[method] if name not in taken][:ALONE]
    assert [name for name, _ in page.pictures] == expected
    wide = [picture.shape[1] > HEIGHT for _, picture in page.pictures]
    assert {picture.shape[0] for _, picture in page.pictures} == {HEIGHT}
    assert wide == sorted(wide, reverse=True)
    assert 0 < sum(wide) < len(wide)


def test_a_picture_s_halves_and_its_caption(real: Cycle) -> None:
    scores = read_scores(real.out / "seed-5" / "base-scores.npz", LSP)
    shares = dict(zip(scores.ids, metrics.person_pck(scores.found), strict=True))
    page = real.page()
    for name, picture in page.pictures[:FIRST]:
        assert f"{name} PCK {shares[name]:.2f}" in page.text
        assert picture.shape == (HEIGHT, 2 * HEIGHT + 2, 3)  # with a gap
        left, right = picture[:, :HEIGHT], picture[:, -HEIGHT:]
        apart = np.abs(left.astype(int) - right).mean()
        assert 2 < apart < 60  # the same person, other joints


def test_without_what_the_base_model_said(own: Cycle) -> None:
    """Damaged or gone: labels alone are shown, at every stage."""
    full = len(own.page().pictures)
    file = own.out / "seed-5" / "base-scores.npz"
    for content in (file.read_bytes()[:200], b"", None):
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        page = own.page()
        assert {picture.shape for _, picture in page.pictures} == {(HEIGHT, HEIGHT, 3)}
        assert len(page.pictures) == full
        assert "what the network predicted is lost" in page.text


def test_without_the_base_model(own: Cycle) -> None:
    shutil.rmtree(own.out / "seed-5" / "base")
    assert "commit not known" in own.page().text


@pytest.mark.parametrize("error", [ImageError("gone"), OSError("no such device")])
def test_without_images(real: Cycle, error: Exception) -> None:
    """Nobody's can be read: a page of numbers. One cannot: the others are shown."""

    def lost(index: int) -> Sample:
        raise error

    page = real.page(replace(POOL, read=lost))
    assert page.pictures == []
    assert "The first that each method chose" not in page.text
    shown = real.page()
    for number in (1, 2):
        part = shown.text.split("Stage 1:")[1].split("Stage 2:")[number - 1]
        names = {name for name in POOL.ids if name in part}
        assert LOST.format(len(names)) in page.text
    gone = POOL.ids.index(shown.pictures[0][0])
    some = real.page(replace(POOL, read=lambda i: lost(i) if i == gone else POOL[i]))
    assert {name for name, _ in shown.pictures} - {name for name, _ in some.pictures} == {
        POOL.ids[gone]
    }
    assert LOST.format(1) in some.text


def test_names_are_escaped_and_folders_left_out(tmp_path: Path) -> None:
    name = '<script>alert("&")</script>'
    runs = [CycleRun(0, "random", (stage(selected=(name,)),))]
    pool = PoseSet("made", LSP, (name,), lambda index: replace(POOL[0], id=name))
    page = made(tmp_path / "out", runs).page(pool)
    assert [alt for alt, _ in page.pictures] == [name]
    assert "<script" not in page.source
    assert "/home/me" not in page.source
    assert "lsp:lsp" in page.text
    assert "show the pool's people" in page.text  # for it is not synthetic


def test_tables(tmp_path: Path) -> None:
    """Numbers by hand over two repeats; a PCK that is undefined is a dash."""
    values = {("random", 0): 0.25, ("random", 1): 0.5, ("coreset", 0): 0.5, ("coreset", 1): 0.625}
    undefined = {"coreset": None, "random": 0.25}
    runs = [
        CycleRun(
            seed,
            method,
            (stage(1, value, undefined[method], 2.0 + seed, tuple("ab" if seed else method[:2])),),
        )
        for (method, seed), value in values.items()
    ]
    page = made(tmp_path / "out", runs, budget=2, stages=1).page(letters())
    row = "coreset 0.562 ± 0.088 +0.188 ± 0.088, 2 of 2 – –, 0 of 0 0.250 ± 0.000"
    assert row in page.text
    assert "random 0.375 ± 0.177 0.750 ± 0.000 0.250 ± 0.000" in page.text
    # alike in one of two repeats; by chance 2 of 26
    assert "random 50 1.0 coreset 50 1.0" in page.text
    assert "Choosing at random shares about 8 %" in page.text
    assert "seeds 0, 1" in page.text
    assert "Mean ± standard deviation over the 2 repeats" in page.text


def test_a_single_method_and_stage(tmp_path: Path) -> None:
    page = made(tmp_path / "out", [picking(3, "coreset", "abcdefghij")]).page(letters())
    assert [name for name, _ in page.pictures] == list("abcdefgh")
    for word in ("Who chose the same", "only one method", "±", "nan"):
        assert word not in page.text


def test_a_large_cycle_is_kept_light(tmp_path: Path) -> None:
    """20 methods × 5 stages: fewer pictures of each, so that the page stays below 5 MB."""
    heads = TINY.model.heads
    heads = tuple(replace(head, replica=number) for head in heads for number in range(1, 6))
    model = replace(TINY.model, heads=heads)
    methods = [f"{s}:{head.name}" for s in ("learned_loss", "random") for head in heads]
    words = ("abcde", "fghij", "klmno", "pqrst", "uvwxy")
    runs = [picking(0, method, *words) for method in methods]
    cycle = made(tmp_path / "out", runs, training=replace(TINY, model=model), budget=5, stages=5)
    page = cycle.page(letters())
    assert len(page.pictures) == 3 * 20 * 5  # and nobody is chosen by one method alone
    assert len(page.source) < 5e6


def test_every_method_has_a_look_of_its_own() -> None:
    methods = [*(f"m{i}" for i in range(19)), "random"]
    looks = lines(methods)
    assert looks.keys() == set(methods)
    assert len(set(looks.values())) == len(methods)


@pytest.mark.parametrize("count", [1, FEW, FEW + 1])
def test_curves(count: int) -> None:
    """In one picture, and where they are many in one of their own too; looks are the same."""
    methods = ["random", *(f"m{i}" for i in range(1, count))]
    runs = [CycleRun(seed, m, (stage(1), stage(2))) for m in methods for seed in (0, 1)]
    drawn = curves(runs)
    assert len(drawn) == (2 if count <= FEW else 4)
    for method, look in lines(methods).items():
        assert all(f"<!-- {method} -->" in picture for picture in drawn)
        assert all(look.colour in picture for picture in drawn)


def test_curves_stand_on_the_whole_scale_with_their_intervals() -> None:
    """Three seeds of .4, .5, .6: Student's 95 % interval is .5 ± 4.303 · .1 / √3."""
    found = {"random": (0.5, 0.5, 0.5), "other": (0.4, 0.5, 0.6)}
    runs = [
        CycleRun(seed, method, (stage(1), stage(2, test_pck=some[seed])))
        for method, some in found.items()
        for seed in range(3)
    ]
    drawn = figures(runs)
    for axes in [axes for figure in drawn for axes in figure.axes]:
        assert axes.get_ylim() == (0, 1)
        assert axes.get_xticks().tolist() == [100, 110]
    dots = {str(line.get_label()): line.get_xydata() for line in drawn[0].axes[0].get_lines()}
    assert dots["other"][:, 1].tolist() == [0.5, pytest.approx(0.5)]
    assert not set(dots["other"][:, 0]) & set(dots["random"][:, 0])  # side by side
    bars = drawn[0].axes[0].collections[1]
    assert isinstance(bars, LineCollection)
    upright = bars.get_segments()[1]
    assert upright[:, 1].tolist() == pytest.approx([0.5 - 0.2484, 0.5 + 0.2484], abs=1e-4)
    assert upright[0, 0] == dots["other"][1, 0]
    single = figures([run for run in runs if run.seed == 0])
    marks = [c for figure in single for axes in figure.axes for c in axes.collections]
    assert not any(isinstance(mark, LineCollection) and len(mark.get_segments()) for mark in marks)


def test_a_curve_has_a_gap_where_nothing_is_defined() -> None:
    runs = [CycleRun(0, "random", tuple(stage(i, selected_pck=None) for i in (1, 2)))]
    assert "nan" not in curves(runs)[0].lower()
