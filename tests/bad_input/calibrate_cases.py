"""The rows of ``calibrate``. The bundle there answers by brightness, and fails on everybody."""

from bad_input.case import Case

ALL = "calibrate --bundle bundle --out new"

CALIBRATE = [
    Case("no data", ALL, "Missing option '--data'"),
    Case("a kind of data", f"{ALL} --data voc:there", "data spec is 'voc:there'"),
    Case("no labels", f"{ALL} --data images:empty", "empty holds no image"),
    Case(
        "nobody who did not fail",
        f"{ALL} --data synthetic:4,24",
        "has 24 failures among 24 persons with a labelled torso; expected failures and others",
    ),
    Case(
        "data without torsos",
        f"{ALL} --data coco:ankles.json@. --flag-rate 0.95",
        "has 0 failures among 0 persons with a labelled torso",
    ),
    Case(
        "persons that the bundle was trained on",
        "calibrate --bundle trained-bundle --out new --data synthetic:4,24",
        "holds 9 person(s) of the training data, synthetic/4/00000 for one; expected none",
    ),
    Case(
        "too few persons for a rate",
        f"{ALL} --data synthetic:4,24 --miss-rate 0.05",
        "needs 45 independent failures; synthetic:4,24,0-1 has 24 persons",
    ),
    Case(
        "a rate of all",
        f"{ALL} --data synthetic:4,24 --flag-rate 1",
        "flag rate is 1.0; expected between 0 and 1",
    ),
    Case(
        "a confidence of NaN",
        f"{ALL} --data synthetic:4,24 --confidence nan",
        "confidence is nan; expected between 0 and 1",
    ),
    Case(
        "devices that the data does not name",
        f"{ALL} --data synthetic:4,24 --unit device",
        "unit is 'device'; expected one that synthetic:4,24,0-1 knows: image",
    ),
    Case(
        "report data that calibrates too",
        f"{ALL} --data synthetic:4,24 --report-data synthetic:4,24#20-24",
        "share 5 person(s), synthetic/4/00019 for one; expected none",
    ),
    Case(
        "a bundle that is there already",
        "calibrate --bundle bundle --out checkpoint --data synthetic:4,24",
        "nothing is overwritten. Give another",
    ),
    Case(
        "a checkpoint as a bundle",
        "calibrate --bundle checkpoint --out new --data synthetic:4,24",
        "is no bundle",
    ),
    Case(
        "a bundle of an older misgiving",
        "calibrate --bundle old-bundle --out new --data synthetic:4,24",
        "has schema_version 1; expected 3. Export again",
    ),
    Case("a device", f"{ALL} --data synthetic:4,24 --device tpu", "expected one of cpu, cuda"),
    Case(
        "no exporter",
        f"{ALL} --data synthetic:4,24",
        "pip install 'misgiving[train]'",
        lacks=("torch", "scipy"),
    ),
]
