"""The example that each command's ``--help`` shows can be typed."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.core import TyperGroup

from docs.helpers import command_tree, parse


def commands_below(group: TyperGroup, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands_below(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(commands_below(command_tree(), "misgiving"))


@pytest.mark.parametrize("name", COMMANDS)
def test_example(name: str) -> None:
    match = re.search(r"Example:\s*(misgiving .*?)(?:\n\s*\n|\Z)", COMMANDS[name].help, re.DOTALL)
    assert match, f"{name} --help shows no example"
    words = shlex.split(match[1])
    assert words[: name.count(" ") + 1] == name.split()
    parse(words)
