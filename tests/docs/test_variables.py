"""docs/configuration.md lists every environment variable that the code reads or sets."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from docs.helpers import PARTS, ROOT

VARIABLE = re.compile(r"[A-Z]{3,}_\w+|RANK|[a-z_]+_proxy")
"""How the name of a variable looks, among the texts beside ``os.environ``."""


def _texts(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def _constants(module: ast.Module) -> dict[str, list[str]]:
    """Name of a module's constant → the texts in it."""
    assigned = [node for node in module.body if isinstance(node, ast.Assign)]
    return {t.id: [*_texts(n)] for n in assigned for t in n.targets if isinstance(t, ast.Name)}


def _uses_environment(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Attribute) and n.attr == "environ" for n in ast.walk(node))


def variables_in(code: str) -> set[str]:
    """Variables that a module names in a function or statement that uses ``os.environ``, or as the
    ``envvar`` of an option."""
    module = ast.parse(code)
    constants, found = _constants(module), set()
    for node in ast.iter_child_nodes(module):
        if _uses_environment(node):
            found |= {*_texts(node)}
            names = (n.id for n in ast.walk(node) if isinstance(n, ast.Name))
            found |= {text for name in names for text in constants.get(name, ())}
    options = (n for n in ast.walk(module) if isinstance(n, ast.keyword) and n.arg == "envvar")
    found |= {text for option in options for text in _texts(option)}
    return {text for text in found if VARIABLE.fullmatch(text)}


def test_how_variables_are_found() -> None:
    code = """
_NAMES = ("AAA_ONE", "two_proxy")
os.environ["AAA_THREE"] = "AAA four"
def read(): return [os.environ.get(name) for name in _NAMES]
def other(): return "AAA_FIVE"
Option = Annotated[str, typer.Option(metavar="AAA_SIX", envvar="AAA_SEVEN")]
"""
    assert variables_in(code) == {"AAA_ONE", "two_proxy", "AAA_THREE", "AAA_SEVEN"}
    assert variables_in("") == set()


def test_the_tables_are_complete() -> None:
    files = [path for part in PARTS for path in Path(part.__path__[0]).rglob("*.py")]
    used = set().union(*(variables_in(path.read_text(encoding="utf-8")) for path in files))
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \|", page.partition("## Files")[0], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == used
