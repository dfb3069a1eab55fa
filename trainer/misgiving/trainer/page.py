"""Pages: one HTML file with its pictures inside, all in one style."""

import base64
import io
from typing import Any

import jinja2
import matplotlib
from matplotlib.figure import Figure
from numpy.typing import NDArray

from misgiving.runtime import images

INK = "#333333"
_STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "svg.hashsalt": "misgiving",
}


def styled() -> Any:
    """A context in which figures are made and become SVG in the pages' style."""
    return matplotlib.rc_context(_STYLE)


def svg(figure: Figure) -> str:
    """A figure to stand inside a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})  # equal pages for equal content
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def jpeg(picture: NDArray[Any], quality: int) -> str:
    """A picture (H, W, 3) RGB to stand inside a page, after ``data:image/jpeg;base64,``."""
    return base64.b64encode(images.encode_jpeg(picture, quality)).decode()


def render(package: str, template: str, **values: Any) -> str:
    """Fill a template of a package, which may extend ``page.html.j2`` beside this module."""
    loaders = [jinja2.PackageLoader(name, "") for name in (package, __package__)]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(template).render(values)
