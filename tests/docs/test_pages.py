"""Every code block of the README, of CONTRIBUTING and of docs/ runs, or is checked by its kind.

A block in another language, or a command that nothing here knows, fails.
"""

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.core import TyperGroup

from docs.helpers import ROOT, Block, blocks_of, command_tree, invoke, parse
from misgiving.collector.control.campaign_toml import read_campaign_file
from misgiving.export.demo.processes import service
from misgiving.export.next_cycle.asked import read_asked
from misgiving.runtime import images
from misgiving.runtime.persons import detector_toml
from misgiving.runtime.settings.reading import Sources
from misgiving.trainer.foreign import net_toml
from shared.annotating import edit, touch
from shared.training import real_data

DRAWING = ROOT / "docs" / "photo.pose.jpg"
MADE = ROOT / "docs" / "errors.md"
"""Of commands that tests/bad_input runs, and compared there."""
DOCS = [page for page in sorted((ROOT / "docs").glob("*.md")) if page != MADE]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

SERVICES = ("serve", "collect", "review")
"""Verbs that run until they are stopped: in processes of their own, on free ports."""

LONG = (
    "train",
    "attach",
    "suspects",
    "cycle",
    "evaluate",
    "score",
    "select",
    "export",
    "calibrate",
)
"""Verbs that take long as written: parsed there, and run on a little of the real data."""

ELSEWHERE = (
    *("apt", "chown", "cp", "docker", "export", "grep", "install", "jetson_clocks", "kubectl"),
    *("nvpmodel", "systemctl", "tee", "tegrastats", "useradd", "vcgencmd"),
)
"""What a page may call on a machine that it is written for, which is not this one."""

PATH = ("train", "calibrate", "evaluate", "collect", "attach", "suspects")
"""The guides in the order in which somebody trains, and trains on."""

ATTACHED = "bundles/people"
"""Made by a verb that takes long; where that is only parsed, the shipped bundle stands for it."""

CYCLED = "runs/cycle/seed-{}/learned_loss-conv-kl/stage-3"
HELD_OUT = "lspet:DATA/lspet#8001-9000"
SMALLER = {
    "lsp:DATA/lsp#1-1000": "lsp:DATA/lsp#1-16",
    "lspet:DATA/lspet": "lspet:DATA/lspet#1-40",
    "lsp:DATA/lsp#1001-2000": "lsp:DATA/lsp#1001-1016",
    HELD_OUT: "lspet:DATA/lspet#8001-8256",  # as many as the gates of an export ask for
    "lspet:DATA/lspet#9001-10000": "lspet:DATA/lspet#9001-9020",
    "lspet:DATA/lspet#1-8000": "lspet:DATA/lspet#1-40",
    "50": "5",
    "1000": "8",
    "cpu": "runs/first/recipe.json",
    CYCLED.format(0): CYCLED.format(5),  # that recipe's seed
}
"""Word on a page → what is run instead of it."""
STILL_OTHER = {
    "train": {HELD_OUT: "lspet:DATA/lspet#8001-8008"},
    "attach": {HELD_OUT: "lspet:DATA/lspet#8001-8008"},
    "calibrate": {HELD_OUT: "lspet:DATA/lspet#8001-8512"},  # not everybody there has a torso
}
"""The same for one verb."""


def commands_of(block: Block) -> Iterator[list[str]]:
    """The commands of a bash block, in words."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if words := shlex.split(re.sub(r"(^|\s)[#>].*", "", line)):  # the # of a data spec stays
            yield words


class Reader:
    """Somebody who types what a page says, in a folder with the files that it names."""

    def __init__(self, folder: Path, undo: ExitStack) -> None:
        self._folder = folder
        self._undo = undo
        self._addresses: dict[str, str] = {}
        """HOST:PORT on the page → where that service really listens."""

    def read(self, block: Block) -> None:
        match block.language:
            case "python":
                exec(compile(self._here(block.text), "page", "exec"), {"__name__": "page"})
            case "bash":
                for words in commands_of(block):
                    self.type(words)
            case "sh":
                for words in commands_of(block):
                    check_elsewhere(words)
            case "toml":
                self._toml(block.text)
            case "text":
                check_text(block.text)
            case directive if directive.startswith("{"):
                pass  # Sphinx's own, which `make docs` reads strictly
            case other:
                pytest.fail(f"block in {other!r}; expected python, bash or text")

    def _toml(self, text: str) -> None:
        """A file that names itself in its first line, else a NET.toml."""
        named = re.match(r"# (\S+\.toml)\n", text)
        path = self._folder / (named[1] if named else "NET.toml")
        path.write_text(text, encoding="utf-8")
        match path.name:
            case "misgiving.toml":
                Sources(path).read()
            case "storm.toml":
                read_campaign_file(path)
            case "fleet.toml":
                read_asked(path)
            case "detector.toml":
                detector_toml.parsed(path)
            case _:
                net_toml.parsed(path)

    def type(self, words: list[str]) -> None:
        match words:
            case ["misgiving", *_]:
                parse(words)
                if words[1] not in LONG:
                    self.run(["bundle" if word == ATTACHED else word for word in words[1:]])
            case ["openssl" | "mkdir" | "cp", *_]:
                subprocess.run(words, cwd=self._folder, check=True, capture_output=True)
            case ["make", *targets]:
                check_targets(targets)
            case ["pip", "install", "-c", "constraints.txt", "-e", requirement]:
                check_extras(requirement)
            case [".venv/bin/pre-commit", "install"]:
                assert (ROOT / ".pre-commit-config.yaml").is_file()
            case _:
                pytest.fail(f"{words}: nothing here knows this command; teach it, or leave it out")

    def run(self, words: list[str]) -> None:
        """Run ``misgiving WORDS``; a service keeps running until the page ends."""
        verb = words[0]
        if verb in SERVICES:
            asked = words[words.index("--listen") + 1]
            words = ["127.0.0.1:0" if word == asked else word for word in words]
            running = service(words, self._folder / f"{verb}.log")
            self._addresses[asked] = self._undo.enter_context(running)
            return
        if verb == "stream":
            words = [*words, "--server", self._here("127.0.0.1:50051")]
        elif verb == "status":
            words = [*words, self._here("127.0.0.1:50051")]
        elif verb in LONG and verb != "select":
            once = ["--epochs", "1"] if "lite" in words else []  # all other nets are tiny
            words = [*words, *once, "--threads", "1"]
        elif words[:2] == ["annotations", "import"]:  # after correction, the page says
            edit(self._folder / words[2], touch)
        invoke(words)

    def _here(self, text: str) -> str:
        for asked, address in self._addresses.items():
            text = text.replace(asked, address)
        return text


def check_elsewhere(words: list[str]) -> None:
    """A command that cannot run here: ours are parsed, the others known by name.

    Files of the repository that it names are there.
    """
    words = words[1:] if words[0] == "sudo" else words
    program, named = Path(words[0]).name, [word for word in words if word.startswith("deploy/")]
    assert [name for name in named if not (ROOT / name).is_file()] == []
    match [program, *words[1:]]:
        case ["misgiving", *_]:
            parse(["misgiving", *words[1:]])
        case ["pip", "install", "-c", "constraints.txt", requirement]:
            check_extras(requirement)
        case ["python3", "-c" | "-m", *_]:
            pass
        case _:
            assert program in ELSEWHERE, f"{words}: teach it, or leave it out"


def check_targets(words: list[str]) -> None:
    """Every word of a make command is a target, or sets a variable of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, sign, _ = word.partition("=")
        found = rf"^{name} \?=" if sign else rf"^{name}:"
        assert re.search(found, makefile, re.MULTILINE), f"make has no {word}"


def check_extras(requirement: str) -> None:
    """``misgiving[a,b]`` names extras that pyproject.toml has."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    match = re.fullmatch(r"(?:misgiving|\.)\[([\w,]+)\]", requirement)
    assert match, f"{requirement!r}; expected misgiving[EXTRA,…]"
    for name in match[1].split(","):
        assert re.search(rf"^{name} = ", extras, re.MULTILINE), f"there is no extra {name}"


def check_text(text: str) -> None:
    """A text block is a known command's output, or one of the drawings of the design."""
    for start, check in TEXTS.items():
        if text.lstrip().startswith(start):
            check(text)
            return
    pytest.fail(f"text block {text[:40]!r}; expected one that starts with one of {[*TEXTS]}")


def _form(text: str) -> list[str]:
    """Labels without numbers and indentation."""
    return [" ".join(re.sub(r"\d+(\.\d+)?", "#", line).split()) for line in text.splitlines()]


def check_demo_output(text: str) -> None:
    """The demo takes minutes: its numbers are made up here, its words are the command's own."""
    picks: dict[str, float] = {"picked": 1, "frames_with_torso": 2}
    picks |= {f"pck_{name}": 0.5 for name in ("flagged", "mean_peak", "random", "oracle")}
    counts = dict.fromkeys(("sent", "flagged", "audited", "collected", "dropped"), 3)
    summary = {
        "picks": picks,
        "counts": counts,
        "latency": {"p50_ms": 1.0, "p99_ms": 2.0},
        "before": {"pck": 0.1},
        "after": {"pck": 0.2},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("misgiving.export.demo.run_demo", lambda config: summary)
        assert _form(text) == _form(invoke(["demo"]))


def check_answer(text: str) -> None:
    """What ``infer`` prints of the photograph: the same words, and numbers as near as rounding."""
    printed = invoke(["infer", "docs/photo.jpg"])
    assert _form(text) == _form(printed)
    wanted, found = ([float(n) for n in re.findall(r"\d+\.\d+", t)] for t in (text, printed))
    assert found == pytest.approx(wanted, abs=0.002)


def test_the_drawing_is_the_commands_own(desk: Path) -> None:
    """docs/photo.pose.jpg is what ``infer --draw`` writes, but for JPEG's losses."""
    invoke(["infer", "docs/photo.jpg", "--draw", "drawn"])
    drawn, kept = (images.read(path) for path in (desk / "drawn/photo.pose.png", DRAWING))
    assert np.abs(drawn.astype(int) - kept).mean() < 6  # 3.3 of JPEG; 9.3 without a drawing


def check_description(text: str) -> None:
    assert text == invoke(["attach", "--describe", "people.onnx"])


def check_layout(text: str) -> None:
    """What begins a line of the map is there, and the map has every room of a part."""
    drawn: dict[Path, set[str]] = {}
    for line in text.splitlines():
        first = re.split(r"\s{2,}", line.strip())[0].split()
        if not line.startswith(" "):
            folder = ROOT / first[0]
            drawn[folder] = set()
            assert folder.is_dir(), folder
        elif re.match(r" {4}\S", line):
            drawn[folder] |= {name for name in first if name.endswith((".py", "/"))}
    for folder, names in drawn.items():
        assert [name for name in names if not (folder / name).exists()] == [], folder
        rooms = (
            {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")} if names else set()
        )
        assert rooms <= names, folder
    assert sum(map(len, drawn.values())) > 30


TEXTS = {
    "PCK@0.2 of": check_demo_output,
    "predicted loss  P(failure)": check_answer,
    "# What people.onnx": check_description,
    "# revoked.txt": lambda text: Path("revoked.txt").write_text(text, encoding="utf-8"),
    "labelled set": lambda text: None,  # the loop, drawn
    "protos/misgiving/v1/": check_layout,
}
"""How a text block begins → its check."""


@by_page
def test_blocks(page: Path, desk: Path) -> None:
    with ExitStack() as undo:
        reader = Reader(desk, undo)
        for block in blocks_of(page.read_text(encoding="utf-8")):
            reader.read(block)


@pytest.mark.slow
def test_long_commands_on_a_little_real_data(desk: Path) -> None:
    """The guides' path from a cycle to the next training, in its order."""
    (desk / "DATA").mkdir()
    for name in ("lsp", "lspet"):
        (desk / "DATA" / name).symlink_to(real_data(name))
    done = set()
    with ExitStack() as undo:
        reader = Reader(desk, undo)
        guides = [(ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in PATH]
        for block in (block for page in guides for block in blocks_of(page)):
            for words in commands_of(block) if block.language == "bash" else ():
                if words[:1] == ["misgiving"] and words[1] in (*LONG, "annotations"):
                    smaller = SMALLER | STILL_OTHER.get(words[1], {})
                    reader.run([smaller.get(word, word) for word in words[1:]])
                    done.add(words[1])
    assert done == {*LONG, "annotations"}


@by_page
def test_names_within_the_text(page: Path) -> None:
    """Verbs, options, make's targets and extras that stand in ``code`` between words."""
    text = page.read_text(encoding="utf-8")
    verbs = re.findall(r"`misgiving ([a-z][a-z-]*)", text)
    assert set(verbs) <= command_tree().commands.keys()
    options = re.findall(r"`(--[a-z-]+)", text)
    assert set(options) <= set(_options(command_tree()))
    for words in re.findall(r"`make ([^`]+)`", text):
        check_targets(words.split())
    for requirement in re.findall(r"(?:misgiving|\.)\[[\w,]+\]", text):
        check_extras(requirement)


@by_page
def test_links_lead_to_files(page: Path) -> None:
    """Those of README and CONTRIBUTING too, which Sphinx does not check as a code host has them."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def _options(command: Any) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        for part in command.commands.values():
            yield from _options(part)
    yield from (name for parameter in command.params for name in parameter.opts)
