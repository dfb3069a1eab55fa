"""What users do wrong with ``watch``; see cases.py."""

from bad_input.case import Case

W = "watch --bundle bundle"
WATCH = [
    Case("no camera", W, "there is no camera; expected SOURCE"),
    Case("a recording that is not there", f"{W} no.mp4", "no.mp4 does not exist", 2),
    Case("a camera that gives no frame", f"{W} http://{{nobody}}/1", "gives no frame"),
    Case("two sources of one name", f"{W} a.png empty/../a.png", "two sources are called 'a.png'"),
    Case("a variable that holds no URL", f"{W} env:MISGIVING_STATE", "MISGIVING_STATE' names is"),
    Case("fps of a camera", "watch --config paced.toml", "/dev/video9 has its own pace"),
    Case("pictures for everybody", f"{W} a.png --show 0.0.0.0:8080", "of this machine alone"),
    Case(
        "a clip of hours", f"{W} a.png --clips empty --before 3600", "--before is 3600.0; expected"
    ),
    Case("a file for drawings", f"{W} a.png --draw notes.txt", "File exists; expected a folder"),
    Case("a camera's key with a typo", "watch --config sorce.toml", "Did you mean camera.a.source"),
    Case(
        "no encoder",
        f"{W} a.png --clips empty",
        "run: pip install 'misgiving[clips]'",
        lacks=("av",),
    ),
]
FILES = {
    "paced.toml": '[camera.a]\nsource = "9"\nfps = 5\n',
    "sorce.toml": '[camera.a]\nsorce = "9"\n',
}
"""Name → what stands in it."""
