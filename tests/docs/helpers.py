"""What the tests of examples and pages share: public names, the real parser, code blocks."""

import re
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup
from typer.testing import CliRunner

from misgiving.runtime.verbs import cli

ROOT = Path(__file__).parents[2]
PARTS: tuple[ModuleType, ...] = tuple(
    import_module(f"misgiving.{name}") for name in ("runtime", "trainer", "export", "collector")
)


def public_names() -> dict[str, Any]:
    """Every public name of every part, and what it stands for."""
    return {name: getattr(part, name) for part in PARTS for name in part.__all__}


@cache
def command_tree() -> TyperGroup:
    """The whole command as a user has it, with the verbs of all parts."""
    cli.mount_verbs()
    tree = typer.main.get_command(cli.app)
    assert isinstance(tree, TyperGroup)
    return tree


def parse(words: list[str]) -> None:
    """Parse ``misgiving …`` with the real parser, without running it; what is wrong raises."""
    command: Any = command_tree()
    rest = words[1:]
    while isinstance(command, TyperGroup):
        if not rest or rest[0] not in command.commands:
            pytest.fail(f"{' '.join(words)!r} names no verb; expected {list(command.commands)}")
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)


def invoke(words: list[str], columns: int | None = None) -> str:
    """Run ``misgiving WORDS`` in this process, to a good end; gives what it printed."""
    command_tree()  # mounts the verbs
    env = {"COLUMNS": str(columns)} if columns else None
    done = CliRunner().invoke(cli.app, words, env=env)
    assert done.exit_code == 0, (words, done.output, done.exception)
    return done.output


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    text: str
    line: int
    """Of its first fence, counted from 1."""


def blocks_of(page: str) -> list[Block]:
    """All fenced blocks of a page's text; fails where fences do not pair."""
    found = [
        Block(match[1], match[2], page.count("\n", 0, match.start()) + 1)
        for match in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", page, re.MULTILINE)
    ]
    assert len(re.findall(r"^\s*(?:```|~~~)", page, re.MULTILINE)) == 2 * len(found)
    return found
