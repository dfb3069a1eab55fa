"""The demo's parts of a pool: neighbours stay together, parts never overlap."""

import re

import pytest

from misgiving.export.demo.plan import split_pool
from misgiving.export.parity import MIN_IMAGES
from misgiving.runtime.errors import DataError
from misgiving.trainer.data import open_data


def span(spec: str) -> range:
    match = re.fullmatch(r"[^#]+#(\d+)-(\d+)", spec)
    assert match is not None, spec
    return range(int(match[1]), int(match[2]) + 1)


@pytest.mark.parametrize(
    ("spec", "size", "first", "sizes"),
    [
        # candidates, stream, validation, test
        ("synthetic:2,1400", 1400, 1, [538, 350, 256, 256]),  # the demo's own
        ("synthetic:2,1024", 1024, 1, [256, 256, 256, 256]),  # the least
        ("lspet:data/lspet", 10_000, 1, [5500, 2500, 1000, 1000]),  # a tenth each
        ("lspet:data/lspet#2001-4000", 2000, 2001, [988, 500, 256, 256]),  # a part of a set
        ("synthetic:2,1400,0-0.5", 1401, 1, [539, 350, 256, 256]),  # not divisible
    ],
)
def test_parts(spec: str, size: int, first: int, sizes: list[int]) -> None:
    split = split_pool(spec, size)
    specs = (split.candidates, split.stream, split.validation, split.test)
    spans = [span(part) for part in specs]
    assert [len(part) for part in spans] == sizes
    # In a row, without a gap and without an overlap: the pool and nothing else.
    assert [n for part in spans for n in part] == list(range(first, first + size))
    assert {part.partition("#")[0] for part in specs} == {spec.partition("#")[0]}
    assert min(len(spans[2]), len(spans[3])) >= MIN_IMAGES


def test_the_parts_can_be_opened() -> None:
    split = split_pool("synthetic:2,1400,0-0.5", 1400)
    opened = [open_data(s) for s in (split.candidates, split.stream, split.validation, split.test)]
    ids = [name for part in opened for name in part.ids]
    assert ids == list(open_data("synthetic:2,1400,0-0.5").ids)


@pytest.mark.parametrize("size", [0, 1, 256, 512, 1000, 1023])
def test_too_small(size: int) -> None:
    message = rf"synthetic:2,9 has {size} persons; the demo needs at least 1024, .*Give a larger"
    with pytest.raises(DataError, match=message) as error:
        split_pool("synthetic:2,9", size)
    assert "\n" not in str(error.value)
