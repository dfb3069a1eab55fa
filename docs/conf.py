"""How Sphinx makes the documentation site: ``make docs``.

The site's root is the repository's, so that pages may link to benchmarks and licences as they do
on a code host. Nothing is fetched: no fonts, no inventories of other projects.
"""

from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import typer.main
from docutils.nodes import Element, Node
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring
from typer.core import TyperGroup

from misgiving.runtime.verbs import cli
from misgiving.runtime.verbs.roles import ROLES

ROOT = Path(__file__).parents[1]
SHOWN = {"docs", "benchmarks", "runtime", "CONTRIBUTING.md", "CHANGELOG.md"}

project = "misgiving"
version = release = metadata.version("misgiving")
root_doc = "docs/index"
html_title = f"misgiving {release}"
html_theme = "furo"
html_copy_source = html_show_copyright = False
smartquotes = False

extensions = ["myst_parser", "sphinx.ext.autodoc"]
include_patterns = [
    "docs/*.md",
    "benchmarks/*.md",
    "*.md",
    "runtime/misgiving/runtime/bundles/*.md",
]
exclude_patterns = [path.name for path in ROOT.iterdir() if path.name not in SHOWN]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
nitpick_ignore = [("py:class", "FieldInfo"), ("py:class", "NoneType")]
suppress_warnings = ["misc.highlighting_failure"]  # messages are no shell
python_maximum_signature_line_length = 88

PARTS = ("runtime", "trainer", "export", "collector")
PUBLIC = {
    name: f"misgiving.{part}.{name}"
    for part in PARTS
    for name in import_module(f"misgiving.{part}").__all__
}
"""Public name → where the reference has it; types are known by the module that defines them."""


def resolve(app: Sphinx, env: Any, node: Element, content: Node) -> Node | None:
    """Links a type to its public name, in whichever part; any other type stays plain."""
    package, _, name = node.get("reftarget", "").rpartition(".")
    ours = not package or package.startswith("misgiving.")
    if ours and name in PUBLIC:
        found: Node | None = env.domains.python_domain.resolve_xref(
            env, node["refdoc"], app.builder, "obj", PUBLIC[name], node, content
        )
        return found
    return content if package and node["reftype"] == "class" else None


def read_google(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Reads ``Args:`` and ``Returns:``; in a field's docstring a colon is no more than a colon."""
    if what not in ("attribute", "property"):
        lines[:] = GoogleDocstring(lines, Config(), app, what, name, value, options).lines()


def section(words: str, command: Any) -> Iterator[str]:
    """One verb: what it does, its example, then each argument and option."""
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from section(f"{words} {name}", below)
        return
    said, _, example = command.help.partition("Example:")
    yield f"\n### {words}\n\n{said.strip()}\n"
    yield f"```bash\n{' '.join(example.split())}\n```\n"
    context = command.context_class(command, info_name=words)
    for parameter in command.params:
        names, about = parameter.get_help_record(context) or parameter.get_argument_record()
        yield f"`{names}`\n: {about}\n"


def add_commands(app: Sphinx, page: str, source: list[str]) -> None:
    """Appends the command tree as it is to the page of commands."""
    if page != "docs/cli":
        return
    cli.mount_verbs()
    tree: Any = typer.main.get_command(cli.app)
    for role, names in ROLES.items():
        source[0] += f"\n## {role}\n"
        for name in names:
            source[0] += "\n".join(section(f"misgiving {name}", tree.commands[name]))


def lead_in(app: Sphinx, error: Exception | None) -> None:
    """The site's first address leads to its first page."""
    page = f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
    Path(app.outdir, "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """What Sphinx calls first."""
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", read_google)
    app.connect("source-read", add_commands)
    app.connect("build-finished", lead_in)
