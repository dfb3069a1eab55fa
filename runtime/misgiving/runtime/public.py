"""The public names of a part, each loaded when it is first asked for.

Whatever starts the command reads every part's ``__init__.py``; that must cost nothing, and work
without the part's extra. A part therefore lists its names twice: as imports for type checkers and
editors, and with their modules for Python. A test compares the two.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

EXTRAS = {
    "onnxruntime": "cpu",
    "torch": "train",
    "safetensors": "train",
    "scipy": "train",
    "pyarrow": "train",
    "tensorboard": "train",
    "matplotlib": "train",
    "jinja2": "train",
    "rich": "train",
    "pycocotools": "train",
    "onnx": "export",
    "onnxscript": "export",
    "sqlalchemy": "collector",
    "flask": "collector",
    "flask_login": "collector",
    "flask_wtf": "collector",
    "waitress": "collector",
    "argon2": "collector",
    "av": "clips",
    "ray": "ray",
}
"""Module → the extra that brings it."""


def lazily(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    Args:
        package: its ``__name__``.
        modules: public name → the module below the package that defines it.
    """

    def load(name: str) -> Any:
        part = sys.modules[package]
        if name not in modules:
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=part)
        try:
            value = getattr(import_module(f"{package}.{modules[name]}"), name)
        except ModuleNotFoundError as error:
            if line := what_to_install(error):
                raise ModuleNotFoundError(line, name=error.name) from error
            raise
        setattr(part, name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return load, names, sorted(modules)


def what_to_install(error: ModuleNotFoundError) -> str | None:
    """The line for a missing module that an extra brings; None for any other."""
    extra = EXTRAS.get((error.name or "").partition(".")[0])
    return extra and f"{error.name} is not installed; run: pip install 'misgiving[{extra}]'"
