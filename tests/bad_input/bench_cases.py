"""Slips with ``bench``; see ``cases.py``."""

from bad_input.case import Case

BENCH = [
    Case("a bundle that is not there", "bench --bundle no", "no is no bundle"),
    Case("a checkpoint", "bench --bundle checkpoint", "checkpoint is no bundle"),
    Case("a device", "bench --bundle bundle --device tpu", "expected cpu, cuda"),
    Case("nobody in a call", "bench --bundle bundle --batch 0", "see 'misgiving bench --help'"),
    Case("no time", "bench --bundle bundle --seconds 0", "expected above 0, at most 600"),
    Case(
        "persons of a long run", "bench --bundle bundle --long --batch 4", "takes 1 and 8 persons"
    ),
    Case(
        "a precision of all rows",
        "bench --bundle bundle --precision fp16",
        "--precision without --long; add that",
    ),
    Case(
        "a precision that is not there",
        "bench --bundle bundle --long --precision fp8",
        "Take one of these",
    ),
    Case(
        "a folder that holds something",
        "bench --bundle bundle --out batch",
        "nothing is overwritten. Give another name",
    ),
]
