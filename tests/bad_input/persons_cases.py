"""What users do wrong with a person detector; see cases.py."""

from bad_input.case import Case

SLIPS = {
    "lost": ('"net.onnx"', '"lost.onnx"'),
    "cut": ('"net.onnx"', '"cut.onnx"'),
    "other": ('file = "net.onnx"', f'file = "net.onnx"\nsha256 = "{"0" * 64}"'),
    "typo": ("score =", "scores ="),
    "family": ('"fastestdet"', '"fasterdet"'),
    "output": ('"cells"', '"sells"'),
    "class": ("class = 0", "class = 3"),
    "layout": ("mean = 0", 'mean = 0\nlayout = "NHWC"'),
}
"""Name of a TOML → what of the tiny detector's is replaced, and by what."""

INFER_WITH = "infer a.png --bundle bundle --detector"
DETECTOR = [
    Case("a detector that is not there", f"{INFER_WITH} no.toml", "expected a detector's TOML"),
    Case("an image as a detector", f"{INFER_WITH} a.png", "a.png is no TOML"),
    Case("a detector's ONNX file", f"{INFER_WITH} find/lost.toml", "relative to the TOML"),
    Case("a detector that was cut short", f"{INFER_WITH} find/cut.toml", "cannot be loaded"),
    Case("another detector", f"{INFER_WITH} find/other.toml", "Take the file that the TOML was"),
    Case("a detector's key", f"{INFER_WITH} find/typo.toml", "person.score: Field required"),
    Case("a detector's family", f"{INFER_WITH} find/family.toml", "'ssd', 'suppressed', 'yolo'"),
    Case("a detector's output", f"{INFER_WITH} find/output.toml", "net.onnx has cells; expected"),
    Case("a detector's class", f"{INFER_WITH} find/class.toml", "expected one from 0 to 0"),
    Case("a detector's layout", f"{INFER_WITH} find/layout.toml", "expected NHWC of 3 channels"),
    Case("a detector and a region", f"{INFER_WITH} no.toml --region 1,2,3,4", "Leave one out"),
]
