"""What users do wrong with a cycle of active learning; see cases.py."""

from bad_input.case import Case

FLEET = """[store]
path = "store"
[train]
data = ["synthetic:1,48,0-0.5#1-8"]
init = "checkpoint"
[calibrate]
val = "synthetic:5,256"
[measure]
data = "synthetic:6,4"
[field]
bundle = "bundle"
[sign]
key = "mine.key"
"""
FILES = {
    "fleet.toml": FLEET,
    "fleet-cut.toml": FLEET[:-2],
    "fleet-key.toml": FLEET.replace("[train]", "[select]\nbudgets = 9\n[train]"),
    "fleet-both.toml": FLEET.replace("[train]", '[attach]\nnet = "n"\ndata = ["x"]\n[train]'),
    "fleet-empty.toml": FLEET.replace('path = "store"', 'path = "empty"'),
    "fleet-field.toml": FLEET.replace('bundle = "bundle"\n', ""),
    "fleet-open.toml": FLEET.replace("mine.key", "open.key"),
    "fleet-small.toml": FLEET.replace("5,256", "5,99"),
    "fleet-shared.toml": FLEET.replace("6,4", "5,4"),
    "fleet-seen.toml": FLEET.replace("6,4", "1,48,0-0.5#9-12"),
    "fleet-nobody.toml": FLEET.replace("[train]", '[select]\ndevice = ["bus-*"]\n[train]'),
}

NEXT_CYCLE = [
    Case(what, f"next-cycle {file} --out week", said)
    for what, file, said in (
        ("no such file", "no.toml", "no.toml: No such file or directory"),
        ("a file that was cut short", "fleet-cut.toml", "fleet-cut.toml is no TOML"),
        ("a key with a typo", "fleet-key.toml", "select.budgets: Extra inputs are not permitted"),
        ("a net of ours and another one", "fleet-both.toml", "expected either [train] or [attach]"),
        ("no store", "fleet-empty.toml", "empty is no store"),
        ("nothing in the field", "fleet-field.toml", "has no release that is not halted"),
        ("a key that others may read", "fleet-open.toml", "open.key"),
        ("too few for the gates", "fleet-small.toml", "parity needs at least 256"),
        ("held-out persons that calibrate", "fleet-shared.toml", "share 4 person(s)"),
        ("held-out persons that have trained", "fleet-seen.toml", "person(s) of the training data"),
        ("nobody to label", "fleet-nobody.toml", "store store has no frame that fits and is new"),
    )
]
NEXT_CYCLE += [
    Case("no file", "next-cycle --out week", "got no FILE.toml or no --out"),
    Case("a folder with something else", "next-cycle fleet.toml --out store", "is there already"),
]
