"""What is wrong with a search for ``suspects``."""

from bad_input.case import Case

RUN = "suspects --data synthetic:1,16 --recipe demo"

SUSPECTS = [
    Case("no data", "suspects --recipe demo --out new", "Missing option '--data'"),
    Case("no net", "suspects --data synthetic:1,16 --out new", "Missing option '--recipe'"),
    Case("one fold", f"{RUN} --folds 1 --out new", "folds are 1; expected 2 to 16"),
    Case("more folds than persons", f"{RUN} --folds 17 --out new", "expected 2 to 16"),
    Case("a folder that holds something", f"{RUN} --out batch", "nothing is overwritten"),
    Case(
        "nobody is labelled", "suspects --data images:. --recipe demo --out new", "without a label"
    ),
    Case(
        "a network of somebody else",
        "suspects --data synthetic:1,16 --recipe attached/recipe.json --out new",
        "which nothing trains",
    ),
    Case("an unknown recipe", "suspects --data synthetic:1,16 --recipe big --out new", "recipe is"),
]
