"""The example that each command's ``--help`` shows can be typed."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.core import TyperGroup

from docs.helpers import command_tree, invoke, parse
from misgiving.runtime.verbs.roles import ROLES


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


def summaries(text: str) -> dict[str, str]:
    """Command → its line in a group's help."""
    return dict(re.findall(r"^  ([a-z]\S*) +(\S.*)$", text.partition("--help")[2], re.MULTILINE))


@pytest.mark.parametrize("group", [[], ["annotations"], ["frames"]])
def test_summaries_are_whole_on_a_narrow_terminal(group: list[str]) -> None:
    text = invoke([*group, "--help"], columns=80)
    assert {name.split()[-1] for name in COMMANDS if name.split()[1:-1] == group} <= {
        *summaries(text)
    }
    assert all(line.endswith(".") and "..." not in line for line in summaries(text).values()), text
    assert max(map(len, text.splitlines())) <= 80


def test_verbs_stand_under_who_needs_them() -> None:
    lines = invoke(["--help"], columns=80).splitlines()
    sections = [line for line in lines if line.endswith(":") and line[0] != " "]
    assert sections == ["Options:", *(f"{role}:" for role in ROLES)]
    assert set(command_tree().commands) == {name for names in ROLES.values() for name in names}
    assert lines.index("On the vehicle:") < lines.index("Training:")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from misgiving.runtime.verbs import command; command.run(['--help'])\n"
        "assert not {'torch', 'numpy', 'cv2', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
