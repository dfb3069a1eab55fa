"""Every public name is documented, and the examples of its docstring run."""

import doctest
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from docs.helpers import public_names
from misgiving.runtime import MisgivingError
from misgiving.trainer import PoseSet, Sample, open_data

NAMES = public_names()
SERVICES = {"run_server": "runtime", "serve": "collector"}
"""Examples that run until SIGTERM, and their part: each gets a process of its own."""


@cache
def opened_once(spec: str) -> PoseSet:
    """``open_data``, but each person is rendered once for all examples: that is what takes time."""
    data, rendered = open_data(spec), {}

    def read(index: int) -> Sample:  # not ``cache``, which does not travel to Ray's workers
        if index not in rendered:
            rendered[index] = data.read(index)
        return rendered[index]

    return replace(data, read=read)


def examples_of(name: str) -> list[doctest.DocTest]:
    """The examples of a function, or of a class and its methods; a constant has none."""
    if not callable(NAMES[name]):
        return []
    names = {**NAMES, "open_data": opened_once, "Path": Path, "np": np}
    found = doctest.DocTestFinder().find(NAMES[name], name, globs=names)
    return [test for test in found if test.examples]


EXAMPLES = {name: found for name in NAMES if (found := examples_of(name))}


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in SERVICES])
def test_example(name: str, desk: Path, server: str) -> None:
    for test in EXAMPLES[name]:
        for example in test.examples:
            example.source = example.source.replace("127.0.0.1:50051", server)
        said: list[str] = []
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
        assert runner.run(test, out=said.append).failed == 0, "".join(said)


@pytest.mark.parametrize(("name", "part"), SERVICES.items())
def test_example_of_a_service(name: str, part: str, desk: Path) -> None:
    (test,) = EXAMPLES[name]
    lines = ["from pathlib import Path", "from misgiving.runtime import *"]
    lines += [f"from misgiving.{part} import *", *(example.source for example in test.examples)]
    code = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:0", "\n".join(lines))
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert " on 127.0.0.1:" in process.stderr.readline()
            process.terminate()
            said = re.sub(
                "^flags from .*\nweights of .* licence: .*\n(spool: 0 frames stored, 0 lost.*\n)?",
                "",
                process.stderr.read(),
            )
            assert (process.wait(60), said) == (0, "")
        finally:
            process.kill()


@pytest.mark.parametrize("name", NAMES)
def test_name_is_documented_and_shown(name: str) -> None:
    """A function or class has an example of its own, or names in its docstring the public one
    that shows it (``:func:`train```). Errors share that of their base; a constant occurs in one.
    """
    value = NAMES[name]
    if not callable(value):
        tests = [test for found in EXAMPLES.values() for test in found]
        sources = [example.source for test in tests for example in test.examples]
        assert re.search(rf"\b{name}\b", "".join(sources))
        return
    own = vars(value).get("__doc__") if isinstance(value, type) else value.__doc__
    assert own, f"{name} has no docstring"
    assert not own.startswith(f"{name}("), f"{name} has no docstring but dataclass's own"
    named = re.findall(r":(?:func|class):`(?:[\w.]*\.)?(\w+)`", own)
    is_error = isinstance(value, type) and issubclass(value, MisgivingError)
    assert name in EXAMPLES or is_error or EXAMPLES.keys() & set(named), f"nothing shows {name}"
