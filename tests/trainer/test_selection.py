"""Picking from a score file, and the verbs ``score`` and ``select`` as a user starts them."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from misgiving.runtime.bundles.manifest import Signal
from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.trainer import cli
from misgiving.trainer.answers.asking import Answers
from misgiving.trainer.pool import selection
from misgiving.trainer.pool.score_file import ScoreRecord, as_table, schema_of, write_scores
from misgiving.trainer.pool.selection import select
from misgiving.trainer.samplers import SAMPLERS
from misgiving.trainer.samplers.base import Candidates
from shared import tiny
from shared.training import people, real_data

SIGNALS = (
    Signal(name="mean_peak", higher_is="safer"),
    Signal(name="entropy", higher_is="riskier"),
)
NAN = float("nan")


def scored(path: Path, numbers: dict[str, float], digest: str = "aa" * 32) -> Path:
    """A score file of persons with these losses; signals and embedding follow the loss."""
    losses = np.array(list(numbers.values()), np.float32)
    rows = Answers(
        ids=tuple(numbers),
        points=np.zeros((len(losses), 1, 2), np.float32),
        confidence=np.zeros((len(losses), 1), np.float32),
        predicted_loss=losses,
        signals=np.stack([losses + 10, losses + 20], axis=1),
        embedding=np.nan_to_num(np.stack([losses, losses], axis=1)),
        keypoint_loss=np.zeros((len(losses), 0), np.float32),
    )
    record = ScoreRecord(
        schema_version=1, bundle="made 1", bundle_digest=digest, pool="lsp:lsp", count=len(losses),
        skipped=0, signals=SIGNALS, embedding_size=2,
    )  # fmt: skip
    with path.open("wb") as file:
        write_scores(file, path.suffix, record, [as_table([rows], schema_of(SIGNALS, 2))])
    return path


POOL = {"a": 0.0, "b": 1.0, "c": 2.0, "d": 3.0, "e": 10.0, "f": NAN}


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize(
    ("sampler", "budget", "labelled", "expected"),
    [
        ("learned_loss", 3, {}, "edc"),
        ("learned_loss", 5, {}, "edcba"),  # f has no score
        ("learned_loss", 2, {"e": 10.0, "x": 9.0}, "dc"),  # nobody twice
        ("coreset", 2, {"x": 0.0}, "ed"),
        ("coreset", 2, {"x": 9.0, "c": 2.0}, "ab"),  # a's duplicate f is then at zero
        ("coreset", 2, {}, "de"),  # nearest to the mean, 2.7, first
    ],
)
def test_what_is_picked(
    tmp_path: Path,
    suffix: str,
    sampler: str,
    budget: int,
    labelled: dict[str, float],
    expected: str,
) -> None:
    pool = scored(tmp_path / f"pool{suffix}", POOL)
    known = scored(tmp_path / "labelled.parquet", labelled) if labelled else None
    chosen = select(pool, sampler, budget, known)
    assert "".join(chosen.ids) == expected
    assert chosen.unscored == 1
    assert chosen.candidates == len(POOL.keys() - labelled.keys())


def test_random_depends_on_the_seed(tmp_path: Path) -> None:
    pool = scored(tmp_path / "pool.csv", {f"{i}": 0.0 for i in range(100)})
    first, same, other = (select(pool, "random", 20, seed=seed).ids for seed in (1, 1, 2))
    assert first == same != other
    assert len(set(first)) == 20


def test_what_a_sampler_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals are turned, everything is without the labelled, and embeddings wait to be asked."""
    given: list[Candidates] = []

    def spy(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
        given.append(candidates)
        return [2]

    monkeypatch.setattr(selection, "sampler_named", lambda name: spy)
    pool = scored(tmp_path / "pool.parquet", POOL)
    known = scored(tmp_path / "labelled.csv", {"b": 1.0, "y": 5.0})
    assert select(pool, "spy", 1, known).ids == ("d",)
    (candidates,) = given
    assert list(candidates.ids) == ["a", "c", "d", "e", "f"]
    np.testing.assert_array_equal(candidates.predicted_loss, [0, 2, 3, 10, NAN])
    np.testing.assert_array_equal(candidates.signals["mean_peak"], [-10, -12, -13, -20, NAN])
    np.testing.assert_array_equal(candidates.signals["entropy"], [20, 22, 23, 30, NAN])
    np.testing.assert_array_equal(candidates.embedding()[:, 0], [0, 2, 3, 10, 0])
    np.testing.assert_array_equal(candidates.labelled_embedding(), [[1, 1], [5, 5]])


@pytest.mark.parametrize(
    ("sampler", "budget", "message"),
    [
        ("random", 0, r"budget is 0; expected at least 1"),
        ("random", 7, r"budget is 7; expected at most 6, the number of persons to choose from in"),
        ("learned_loss", 6, r"budget is 6; expected at most 5, .* with a finite predicted loss"),
        ("best", 1, r"sampler is 'best'; expected one of random, learned_loss, "),
        (
            "oracle",
            1,
            r"sampler oracle goes by the labels, and a score file has none; expected a p",
        ),
        (
            "min_peak",
            1,
            r"sampler is 'min_peak', a free score that is not there; there are mean_peak, en",
        ),
    ],
)
def test_bad_requests(tmp_path: Path, sampler: str, budget: int, message: str) -> None:
    pool = scored(tmp_path / "pool.csv", POOL)
    with pytest.raises(InvalidInput, match=message) as error:
        select(pool, sampler, budget)
    assert "\n" not in str(error.value)


def test_labelled_by_another_bundle(tmp_path: Path) -> None:
    pool = scored(tmp_path / "pool.csv", POOL)
    known = scored(tmp_path / "labelled.csv", {"a": 0.0}, digest="bb" * 32)
    message = r"labelled.csv was scored by bundle bbbbbbbbbbbb…, .*pool.csv by aaaaaaaaaaaa…"
    with pytest.raises(DataError, match=message):
        select(pool, "random", 1, known)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_score_then_select(tmp_path: Path) -> None:
    out = tmp_path / "pool.parquet"
    result = invoke("score", "--pool", "synthetic:3,9", "--out", out, "--bundle", tiny.BUNDLE)
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        f"scores {out}: 9 persons of synthetic:3,9,0-1 by bright-spots 1 fp32, 0 skipped "
        f"(next: misgiving select {out} --budget N)\n"
    )
    missing = {"entropy", "multi_peak_entropy"}  # scores of other bundles
    missing |= {"oracle", "aleatoric", "vl4pose", "mc_dropout", "committee", "egl"}  # a cycle's
    for sampler in [name for name in SAMPLERS if name not in missing]:
        shown = invoke("select", out, "--budget", 4, "--sampler", sampler)
        assert shown.exit_code == 0, shown.output
        picked = shown.stdout.splitlines()
        assert len(set(picked)) == 4
        assert set(picked) <= set(people(3, 9).ids)
        said = f"4 of 9 persons of synthetic:3,9,0-1 by {sampler}, scored by bright-spots 1 fp32\n"
        assert shown.stderr == said
        file = tmp_path / "new" / f"{sampler}.txt"
        kept = invoke("select", out, "--budget", 4, "--sampler", sampler, "--out", file)
        assert (kept.exit_code, kept.stdout, kept.stderr) == (0, "", said)
        assert file.read_text() == shown.stdout


def test_select_counts_who_has_no_score(tmp_path: Path) -> None:
    pool = scored(tmp_path / "pool.csv", POOL)
    result = invoke("select", pool, "--budget", 1)
    assert result.stdout == "e\n"
    assert result.stderr.splitlines()[0] == "1 have no finite predicted loss"


def test_select_overwrites_nothing(tmp_path: Path) -> None:
    pool = scored(tmp_path / "pool.csv", POOL)
    (tmp_path / "picked.txt").write_text("mine")
    result = invoke("select", pool, "--budget", 1, "--out", tmp_path / "picked.txt")
    assert "is there already" in str(result.exception)
    assert (tmp_path / "picked.txt").read_text() == "mine"


def test_score_says_when_somebody_was_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images of LSP are read from a folder that has only four of the five."""
    folder = real_data("lsp")
    (tmp_path / "lsp" / "images").mkdir(parents=True)
    (tmp_path / "lsp" / "joints.mat").symlink_to(folder / "joints.mat")
    for number in (1, 2, 4, 5):
        name = f"images/im{number:04d}.jpg"
        (tmp_path / "lsp" / name).symlink_to(folder / name)
    spec, out = f"lsp:{tmp_path / 'lsp'}#1-5", tmp_path / "a.csv"
    result = invoke("score", "--pool", spec, "--out", out, "--bundle", tiny.BUNDLE)
    assert result.exit_code == 1
    assert "4 persons of lsp:lsp#1-5 by bright-spots 1 fp32, 1 skipped" in result.stdout
    assert len(out.read_text().splitlines()) == 1 + 4


@pytest.mark.parametrize("verb", ["score", "select", "cycle"])
def test_help(verb: str) -> None:
    text = " ".join(invoke(verb, "--help").output.replace("│", " ").split())
    assert f"Example: misgiving {verb} " in text
    assert verb == "score" or ", ".join(SAMPLERS) in text
