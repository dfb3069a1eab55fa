"""The public names: what types, editors and Python see is the same, and costs nothing unused."""

import ast
import dataclasses
import inspect
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import BaseModel

from docs.helpers import PARTS, public_names
from misgiving.collector import Store
from misgiving.runtime import open_source, pack_bundle, sign_bundle
from misgiving.trainer import Network
from shared import tiny

NAMES = public_names()
PUBLIC = {id(value) for value in NAMES.values()}

OPAQUE = (Network,)
"""Handed on, never looked into: the types in their methods are not a user's concern."""

CLI_ONLY = {
    "misgiving.runtime.verbs": "options that verbs share",
    "misgiving.runtime.verbs.build": "for this device; in Python that is Estimator.load",
    "misgiving.collector.frames.words": "names as typed",
    "misgiving.collector.frames.options": "options that verbs share",
    "misgiving.collector.frames.selection": "a selection as typed",
    "misgiving.collector.store": "as typed; in Python that is Store",
    "misgiving.collector.format_names": "names for the help",
    "misgiving.export.next_cycle_cli": "a verb in a file of its own",
    "misgiving.export.signing_cli": "verbs in a file of their own",
    "misgiving.export.bench.output": "prints a table; it times processes, not calls",
    "misgiving.export.bench.long": "what its verb is asked",
    "misgiving.export.bench.run": "what its verb is asked",
    "misgiving.runtime.settings.reading": "what was typed; in Python that is Settings",
    "misgiving.runtime.verbs.config": "prints a table; in Python that is Settings",
    "misgiving.runtime.verbs.verify": "prints a line; in Python that is Bundle.load",
    "misgiving.runtime.verbs.options": "options that verbs share",
    "misgiving.runtime.verbs.status": "prints a page for people",
    "misgiving.runtime.verbs.watch_cli": "a verb in a file of its own; it runs a process",
    "misgiving.runtime.verbs.roles": "the list in its help",
    "misgiving.trainer.recipe_costs": "prints a table",
    "misgiving.runtime.wire.sealing": "reads the keys that an option names",
    "misgiving.collector.control.cli": "verbs in a file of their own; they ask a database",
    "misgiving.trainer.attach_cli": "a verb in a file of its own; in Python that is attach",
    "misgiving.trainer.suspects_cli": "the same; in Python that is find_suspects",
    "misgiving.trainer.checkpoint": "what a checkpoint says; in Python load_checkpoint",
    "misgiving.runtime.verbs.infer": "prints a table; in Python that is Estimator",
    "misgiving.runtime.verbs.stream": "prints counts; in Python that is Client",
    "misgiving.runtime.durable": "writes the command's own files",
    "misgiving.trainer.specs": "help texts that verbs share",
    "misgiving.trainer.options": "options that verbs share",
    "misgiving.trainer.evaluation.output": "prints a table; in Python that is evaluate",
    "misgiving.trainer.theory.output": "prints tables; in Python that is GammaLosses",
    "misgiving.trainer.samplers": "names in a help text",
    "misgiving.export.describing": "its printed lines",
    "misgiving.export.gates": "its printed table",
    "misgiving.export.demo": "runs the commands themselves",
    "misgiving.export.demo.run": "its printed table",
    "misgiving.collector.frames_cli": "verbs in a file of their own; they print and ask",
    "misgiving.collector.options": "options that verbs share",
    "misgiving.collector.review.cli": "a verb in a file of its own; in Python that is a browser",
}
"""What the command may import beside public names, and why it is not public."""

by_part = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, name) of each import from misgiving."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("misgiving."):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((a.name, "") for a in node.names if a.name.startswith("misgiving"))


def _cli(part: ModuleType) -> str:
    return "verbs/cli" if part.__name__ == "misgiving.runtime" else "cli"


def _parsed(part: ModuleType, name: str) -> ast.AST:
    return ast.parse(Path(part.__path__[0], name).read_text(encoding="utf-8"))


@by_part
def test_types_and_python_see_the_same_names(part: ModuleType) -> None:
    typed = [pair for pair in _imports(_parsed(part, "__init__.py")) if pair[1] != "lazily"]
    assert sorted(name for _, name in typed) == part.__all__
    for module, name in typed:
        assert getattr(part, name) is getattr(import_module(module), name)


@by_part
def test_no_name_is_also_a_module(part: ModuleType) -> None:
    """Importing the module would put it in the name's place."""
    modules = {module.name for module in pkgutil.iter_modules(part.__path__)}
    assert modules & set(part.__all__) == set()


@by_part
def test_an_unknown_name(part: ModuleType) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nobody'"):
        part.Nobody  # noqa: B018


def test_no_name_is_in_two_parts() -> None:
    assert len(NAMES) == sum(len(part.__all__) for part in PARTS)


def _misgiving_types(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and hint.__module__.startswith("misgiving."):
        yield hint
    for argument in get_args(hint):
        yield from _misgiving_types(argument)


def _hints(value: Any) -> Iterator[Any]:
    """Types in a function's signature, or in those of a class's methods and a dataclass's fields.

    Pydantic models are read from files: their parts are documented where they stand.
    """
    if not isinstance(value, type):
        yield from get_type_hints(value).values()
        return
    if dataclasses.is_dataclass(value):
        yield from get_type_hints(value).values()
    if issubclass(value, BaseModel) or value in OPAQUE:
        return
    for name, method in vars(value).items():
        function = getattr(method, "__func__", method)  # of a classmethod
        if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_")):
            yield from get_type_hints(function).values()


@pytest.mark.parametrize("name", [name for name, value in NAMES.items() if callable(value)])
def test_types_in_signatures_are_public(name: str) -> None:
    used = {kind for hint in _hints(NAMES[name]) for kind in _misgiving_types(hint)}
    hidden = [
        k for k in used if id(k) not in PUBLIC and not k.__module__.startswith("misgiving.v1")
    ]
    assert hidden == []


def _called(value: Any) -> Iterator[Any]:
    """What a user calls of it: a function, or a class and its methods."""
    if not isinstance(value, type):
        yield value
    elif not issubclass(value, BaseModel):
        for name, method in vars(value).items():
            function = getattr(method, "__func__", method)
            made_by_hand = name == "__init__" and not dataclasses.is_dataclass(value)
            if inspect.isfunction(function) and (made_by_hand or not name.startswith("_")):
                yield function


@pytest.mark.parametrize("name", [name for name, value in NAMES.items() if callable(value)])
def test_a_path_may_be_text(name: str) -> None:
    for function in _called(NAMES[name]):
        hints = get_type_hints(function)
        hints.pop("return", None)
        for hint in hints.values():
            kinds = [hint, *get_args(hint)]
            assert Path not in kinds or str in kinds, function


def test_paths_as_text_are_taken(tmp_path: Path) -> None:
    folder = str(tmp_path / "store")
    with Store(folder) as store:
        assert store.count() == 0
    bundle, key = str(tmp_path / "bundle"), str(tmp_path / "release.key")
    shutil.copytree(tiny.BUNDLE, bundle)
    assert sign_bundle(bundle, key, new=True)
    pack_bundle(bundle, f"{bundle}.zip")
    assert [picture.name for picture in open_source("docs/photo.jpg")] == ["photo.jpg"]


def test_the_command_uses_public_names() -> None:
    used = {pair for part in PARTS for pair in _imports(_parsed(part, _cli(part) + ".py"))}
    public = {(part.__name__, name) for part in PARTS for name in part.__all__}
    assert {module for module, _ in used - public} == set(CLI_ONLY)


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.strip()


def test_reading_the_parts_loads_nothing() -> None:
    """Nor does asking for their names, as an editor does."""
    parts = ", ".join(f"{part.__name__}.{_cli(part)}".replace("/", ".") for part in PARTS)
    code = f"""
import sys, {parts}
for name in {[part.__name__ for part in PARTS]}:
    part = sys.modules[name]
    assert set(part.__all__) <= set(dir(part)), part
print({{'numpy', 'cv2', 'grpc', 'pydantic', 'torch', 'onnx', 'sqlalchemy'}} & set(sys.modules))
"""
    assert _python(code) == "set()"


@pytest.mark.parametrize(
    ("name", "missing", "said"),
    [
        # an extra's module
        ("trainer.train", "torch", "torch is not installed; run: pip install 'misgiving[train]'"),
        ("collector.Store", "sqlalchemy", "run: pip install 'misgiving[collector]'"),
        # everybody has this one, so its absence is no extra's
        ("runtime.Client", "grpc", "import of grpc halted"),
    ],
)
def test_a_missing_module(name: str, missing: str, said: str) -> None:
    part, _, attribute = name.partition(".")
    code = f"""
import sys
sys.modules[{missing!r}] = None
try:
    from misgiving.{part} import {attribute}
except ModuleNotFoundError as error:
    print(error)
"""
    assert said in _python(code)
