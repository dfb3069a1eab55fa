"""The rows of the training part: ``train``, ``cycle``, ``evaluate``, ``score``, ``select``,
``theory``."""

from bad_input.case import Case

TRAIN = "train --data synthetic:1,16 --val synthetic:2,8 --out new"
CYCLE = "cycle demo --base synthetic:1,16 --pool synthetic:2,32 --test synthetic:3,8 --out new"

TRAIN_ = [
    Case("no data", "train --val synthetic:2,8 --out new", "Missing option '--data'"),
    Case("a recipe", f"{TRAIN} --recipe fast", "expected one of demo, cpu, paper"),
    Case("a recipe's file that is not there", f"{TRAIN} --recipe no.json", "No such file"),
    Case("a recipe that was cut short", f"{TRAIN} --recipe cut.json", "Invalid JSON"),
    Case("a key that recipes do not have", f"{TRAIN} --recipe recipe.json", "speed: "),
    Case("a device", f"{TRAIN} --device tpu", "expected auto, cpu or cuda"),
    Case("no epoch", f"{TRAIN} --epochs 0", "epochs is 0; expected at least 1"),
    Case("a seed below zero", f"{TRAIN} --seed -1", "seed is -1; expected from 0"),
    Case("a seed without end", f"{TRAIN} --seed 99999999999999999999", "below 2^63"),
    Case(
        "a kind of data",
        "train --data voc:there --val synthetic:2,8 --out new",
        "data spec is 'voc:there'; expected lsp:DIR",
    ),
    Case(
        "nobody to train on",
        "train --data synthetic:1,0 --val synthetic:2,8 --out new",
        "with N from 1",
    ),
    Case(
        "a range beyond the data",
        "train --data synthetic:1,9#5-50 --val synthetic:2,8 --out new",
        "expected #FIRST-LAST between 1 and 9",
    ),
    Case(
        "a data set that is not there",
        "train --data lsp:no --val synthetic:2,8 --out new",
        "expected the folder of the data set",
    ),
    Case(
        "joints of junk",
        "train --data lsp:cut-lsp --val synthetic:2,8 --out new",
        "download the data set again",
    ),
    Case(
        "LSPET taken for LSP",
        "train --data lsp:wrong-lsp --val synthetic:2,8 --out new",
        "lsp: takes LSP and lspet: takes its extension",
    ),
    Case(
        "a joint that is no number",
        "train --data lsp:nan-lsp --val synthetic:2,8 --out new",
        "im0002.jpg, joint 4 (left_hip) is not finite",
    ),
    Case(
        "joints in MATLAB's newest format",
        "train --data lsp:matlab-lsp --val synthetic:2,8 --out new",
        "Save it again with -v7",
    ),
    Case(
        "joints without their images",
        "train --data lsp:bare-lsp --val synthetic:2,8 --out new",
        "im0001.jpg: No such file",
    ),
    Case(
        "COCO annotations without the folder of their images",
        "train --data coco:people.json --val synthetic:2,8 --out new",
        "expected FILE.json@FOLDER",
    ),
    Case(
        "COCO annotations that are not there",
        "train --data coco:no.json@empty --val synthetic:2,8 --out new",
        "expected a JSON file of COCO person keypoints",
    ),
    Case(
        "COCO annotations that were cut short",
        "train --data coco:cut.json@empty --val synthetic:2,8 --out new",
        "copy or export the file again",
    ),
    Case(
        "COCO annotations without keypoints",
        "train --data coco:boxes.json@empty --val synthetic:2,8 --out new",
        "Take the file of the person keypoints",
    ),
    Case(
        "COCO annotations without their images",
        "train --data coco:people.json@empty --val synthetic:2,8 --out new",
        "empty",
    ),
    Case(
        "COCO annotations taken for MPII",
        "train --data mpii:people.json@empty --val synthetic:2,8 --out new",
        "expected a list of persons with image, center, scale",
    ),
    Case(
        "images without labels",
        "train --data images:. --val synthetic:2,8 --out new",
        "is for selecting from, not for training or measuring",
    ),
    Case(
        "a list of ids that is not there",
        "train --data synthetic:1,16#@no.txt --val synthetic:2,8 --out new",
        "expected a file of ids, one a line",
    ),
    Case(
        "a list of other ids",
        "train --data synthetic:1,16#@notes.txt --val synthetic:2,8 --out new",
        "lists no data, which is not in synthetic:1,16",
    ),
    Case("keypoints", f"{TRAIN} --keypoints hands", "expected lsp14, coco17, mpii16 or a .toml"),
    Case("keypoints of junk", f"{TRAIN} --keypoints cut.toml", "cut.toml: "),
    Case("a bone that ends nowhere", f"{TRAIN} --keypoints bone.toml", "tail"),
    Case(
        "data of different keypoints",
        "train --data synthetic:1,16 --data coco:people.json@. --val synthetic:2,8 --out new",
        "Map all to one with --keypoints",
    ),
    Case(
        "labels that are none",
        "train --data labels:empty --val synthetic:2,8 --out new",
        "expected a folder written by 'misgiving annotations import'",
    ),
    Case(
        "labels of junk",
        "train --data labels:cut-labels --val synthetic:2,8 --out new",
        "import the annotations again",
    ),
    Case(
        "the same persons to train and to measure on",
        "train --data synthetic:1,16 --val synthetic:1,8 --out new",
        "Give ranges that do not overlap",
    ),
    Case(
        "results that are there already",
        "train --data synthetic:1,16 --val synthetic:2,8 --out checkpoint",
        "nothing is overwritten. Give another",
    ),
    Case(
        "the working folder to write",
        "train --data synthetic:1,16 --val synthetic:2,8 --out .",
        "is not the name of a new folder",
    ),
    Case("a bundle to train on from", f"{TRAIN} --init bundle", "bundle is no checkpoint"),
    Case(
        "a checkpoint of another network than the recipe's",
        f"{TRAIN} --init checkpoint --recipe paper",
        "expected the same network. Leave the recipe out",
    ),
    Case("weights of junk", f"{TRAIN} --init cut-weights", "is a damaged checkpoint"),
    Case(
        "more processes than a batch has pairs",
        TRAIN,
        "expected a multiple of 6, one pair for each of 3 processes",
        processes=3,
    ),
    Case("no torch", TRAIN, "pip install 'misgiving[train]'", lacks=("torch", "rich")),
]

CYCLE_ = [
    Case("no recipe", f"{CYCLE} --budget 8".replace(" demo", ""), "Missing argument 'RECIPE'"),
    Case("a recipe", f"{CYCLE} --budget 8".replace(" demo", " fast"), "expected one of demo"),
    Case("a sampler", f"{CYCLE} --budget 8 --method best", "expected one of random"),
    Case(
        "a head that the recipe does not have",
        f"{CYCLE} --budget 8 --method learned_loss:gap-kl",
        "expected one of the heads evidence-miss",
    ),
    Case(
        "a method twice",
        f"{CYCLE} --budget 8 --method random --method random",
        "expected one or more, each once",
    ),
    Case("no budget", f"{CYCLE} --budget 0", "budget is 0; expected at least 1"),
    Case("a budget beyond the pool", f"{CYCLE} --budget 99", "Lower the budget"),
    Case("no stage", f"{CYCLE} --budget 8 --stages 0", "stages is 0; expected at least 1"),
    Case("no repeat", f"{CYCLE} --budget 8 --repeats 0", "repeats is 0; expected at least 1"),
    Case(
        "a pool that holds the test's persons",
        "cycle demo --base synthetic:1,9 --pool synthetic:2,9 --test synthetic:2,4 --budget 1 "
        "--out new",
        "Give ranges that do not overlap",
    ),
    Case(
        "results that are there already",
        "cycle demo --base synthetic:1,9 --pool synthetic:2,9 --test synthetic:3,4 --budget 1 "
        "--out checkpoint",
        "nothing is overwritten. Give another",
    ),
]

EVALUATE = [
    Case("no data", "evaluate", "Missing option '--data'"),
    Case("a kind of data", "evaluate --data voc:there --bundle bundle", "expected lsp:DIR"),
    Case("a checkpoint", "evaluate --data synthetic:4,4 --bundle checkpoint", "is no bundle"),
    Case(
        "images without labels",
        "evaluate --data images:. --bundle bundle",
        "is for selecting from, not for training or measuring",
    ),
    Case(
        "COCO annotations of images that were turned since",
        "evaluate --data coco:turned.json@. --bundle bundle",
        "a.png is 42 x 56 px; turned.json says 56 x 42 px",
    ),
    Case("a device", "evaluate --data synthetic:4,4 --bundle bundle --device tpu", "cpu, cuda"),
    Case(
        "a folder for the numbers",
        "evaluate --data synthetic:4,4 --bundle bundle --json empty",
        "expected --json FILE",
    ),
    Case(
        "a folder for pictures that holds something",
        "evaluate --data synthetic:4,4 --bundle bundle --pictures batch",
        "nothing is overwritten",
    ),
]

SCORE = [
    Case("a kind of file", "score --pool synthetic:4,4 --out new.txt", ".parquet or .csv"),
    Case(
        "scores that are there already",
        "score --pool synthetic:4,4 --bundle bundle --out scores.csv",
        "nothing is overwritten",
    ),
    Case(
        "no Ray there",
        "score --pool synthetic:4,4 --bundle bundle --out new.csv --ray {nobody}",
        "cannot be used: Connection refused",
    ),
    Case(
        "no Ray installed",
        "score --pool synthetic:4,4 --bundle bundle --out new.csv --ray local",
        "ray is not installed; run: pip install 'misgiving[cpu,train,ray]'",
        lacks=("ray",),
    ),
    Case("an empty pool", "score --pool images:empty --bundle bundle --out new.csv", "empty"),
    Case(
        "a full disk",
        "score --pool synthetic:4,4 --bundle bundle --out new.csv",
        "What is done is kept",
        largest=100,
    ),
]

SELECT = [
    Case("no file", "select --budget 5", "Missing argument 'FILE'"),
    Case("a file that is not there", "select no.csv --budget 5", "no.csv"),
    Case("a text file", "select notes.txt --budget 5", "notes.txt"),
    Case("scores of junk", "select cut.parquet --budget 5", "cut.parquet"),
    Case("a CSV file of something else", "select other.csv --budget 5", "other.csv"),
    Case("no budget", "select scores.csv --budget 0", "budget is 0; expected at least 1"),
    Case("a budget beyond the pool", "select scores.csv --budget 9", "expected at most 4"),
    Case("a sampler", "select scores.csv --budget 2 --sampler best", "expected one of random"),
    Case(
        "a sampler that needs labels",
        "select scores.csv --budget 2 --sampler oracle",
        "Use 'misgiving cycle'",
    ),
    Case(
        "a sampler that asks the network",
        "select scores.csv --budget 2 --sampler mc_dropout",
        "Use 'misgiving cycle'",
    ),
    Case(
        "a sampler of a head that the file does not name",
        "select scores.csv --budget 2 --sampler aleatoric",
        "or learned_loss where the bundle's is aleatoric",
    ),
    Case(
        "a file that is there already",
        "select scores.csv --budget 2 --out notes.txt",
        "nothing is overwritten",
    ),
]

THEORY = [
    Case("no folder", "theory", "Missing option '--out'"),
    Case(
        "a folder that holds something",
        "theory --out batch",
        "nothing is overwritten. Give another name",
    ),
    Case("a file to write into", "theory --out notes.txt", "nothing is overwritten"),
    Case("the working folder to write", "theory --out .", "is not the name of a new folder"),
    Case(
        "a folder below a file",
        "theory --out notes.txt/new",
        "expected a folder on a disk with room",
    ),
    Case("a full disk", "theory --out new", "File too large", largest=1000),
]

RECIPES = [Case("an argument, where none is taken", "recipes edge", "unexpected extra argument")]

TRAINING = [*RECIPES, *TRAIN_, *CYCLE_, *EVALUATE, *SCORE, *SELECT, *THEORY]
