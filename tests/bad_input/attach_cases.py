"""What is wrong with an ``attach``."""

from bad_input.case import Case

DATA = "--data synthetic:1,16 --val synthetic:2,8 --out runs/new"

ATTACH = [
    Case("no data", "attach nets/net.toml", "expected all three"),
    Case("no NET.toml there", f"attach nets/no.toml {DATA}", "No such file"),
    Case("the ONNX file itself", f"attach nets/net.onnx {DATA}", "expected"),
    Case("the ONNX file is missing", f"attach nets/lost.toml {DATA}", "No such file"),
    Case("a mark of --describe that is left", f"attach nets/marked.toml {DATA}", "question mark"),
    Case("an unknown family", f"attach nets/family.toml {DATA}", "expected one of"),
    Case("an output that is not there", f"attach nets/output.toml {DATA}", "no output 'haet'"),
    Case("a tap that is not there", f"attach nets/tap.toml {DATA}", "has no inner tensor"),
    Case("another family than said", f"attach nets/simcc.toml {DATA}", "expected"),
    Case("keypoints that do not fit", f"attach nets/coco.toml {DATA}", "17 keypoints"),
    Case("a custom operator", f"attach nets/custom.toml {DATA}", "Mystery"),
    Case("an opset that is too new", f"attach nets/newer.toml {DATA}", "opset 19"),
    Case("outputs that are not finite", f"attach nets/nan.toml {DATA}", "not finite"),
    Case("a file that was cut short", f"attach nets/cut.toml {DATA}", "cut.onnx is no ONNX file"),
    Case("labels of other joints", f"attach nets/strange.toml {DATA}", "Take another keypoint set"),
    Case("a head that there is not", f"attach nets/net.toml {DATA} --head big", "for example"),
    Case("no ONNX file to describe", "attach --describe notes.txt", "notes.txt"),
    Case(
        "a checkpoint whose foreign file changed",
        "export changed-attached --val synthetic:3,256 --name a --version 1 --out new",
        "the heads were trained on net.onnx",
    ),
    Case(
        "training an attached checkpoint on",
        "train --init attached --data synthetic:1,16 --val synthetic:2,8 --out runs/new",
        "which nothing trains",
    ),
    Case(
        "a cycle of an attached network",
        "cycle attached/recipe.json --base synthetic:1,16 --pool synthetic:2,32 "
        "--test synthetic:3,8 --budget 8 --out new",
        "which nothing trains",
    ),
]
