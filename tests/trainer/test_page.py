"""Pages in one style: nothing is wider than a telephone, 400 px."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from misgiving.export import demo
from misgiving.trainer import cycle

TEMPLATES = [Path(part.__path__[0]) / "report.html.j2" for part in (cycle, demo)]
STYLE = (Path(cycle.__path__[0]).parent / "page.html.j2").read_text(encoding="utf-8")


class Tables(HTMLParser):
    """Which boxes stand around each table."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.around: list[list[str]] = []
        self._open: list[str] = []
        self.feed(re.sub(r"{[{%].*?[%}]}", "", source, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("div", "section"):
            self._open.append(dict(attrs).get("class") or "")
        if tag == "table":
            self.around.append(list(self._open))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("div", "section"):
            self._open.pop()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.parent.name)
def test_every_table_scrolls_rather_than_widens_its_page(template: Path) -> None:
    around = Tables(template.read_text(encoding="utf-8")).around
    assert len(around) >= 3
    assert all(boxes[-1] == "wide" for boxes in around)


@pytest.mark.parametrize(
    "rule",
    [
        r"\.wide \{ overflow-x: auto; \}",
        r"\.pair \{[^}]*minmax\(min\(20rem, 100%\), 1fr\)",  # columns no wider than the page
        r"\.pair > \* \{ min-width: 0; \}",  # nor as wide as the widest word in them
        r"@media \(max-width: 600px\) \{[^@]*td:first-child \{[^}]*overflow-wrap: anywhere",
        r"code \{[^}]*overflow-wrap: anywhere",
    ],
)
def test_the_style_keeps_pages_narrow(rule: str) -> None:
    assert re.search(rule, STYLE)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.parent.name)
def test_a_page_begins_with_its_verdict(template: Path) -> None:
    body = template.read_text(encoding="utf-8").split("{% block body %}")[1]
    assert re.search(r'<h1>[^<]*</h1>\n<p class="verdict">{{ verdict }}</p>', body)
