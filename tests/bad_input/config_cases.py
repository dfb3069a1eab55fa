"""What users do wrong in misgiving.toml; see cases.py."""

from bad_input.case import Case

FILES = {
    "typo.toml": '[flags]\ntreshold = "likely"\n',
    "typo-table.toml": "[flag]\naudit_rate = 0.1\n",
    "type.toml": '[flags]\naudit_rate = "much"\n',
    "size.toml": '[spool]\nfolder = "spool"\nquota = "a lot"\n',
    "address.toml": '[server]\nlisten = "localhost"\n',
    "flat.toml": "flags = 0.5\n",
    "window.toml": '[upload]\nwindows = ["22-6"]\n',
    "box.toml": "[persons.fixed]\nfront = [[10, 20, 80]]\n",
    "flat-box.toml": "[persons.fixed]\nfront = [[10, 20, 80, 0]]\n",
    "no-detector.toml": '[persons]\ndetector = "no.toml"\n',
    "no-tls.toml": '[tls]\nfolder = "empty"\n',
    "shown.toml": '[watch]\nshow = "0.0.0.0:8080"\n',
    "lost.toml": '[camera.front]\nsource = "no.mp4"\n',
    "no-spool.toml": '[spool]\ncollector = "fleet.example:50052"\n',
    "seal.toml": '[spool]\nfolder = "spool"\nseal_to = "notes.txt"\n',
    "no-room.toml": '[server]\nmax_message_bytes = "1GiB"\nmax_in_flight_bytes = "512MiB"\n',
    "fence.toml": "[privacy]\ngeofence = [{ centre = [48.1, 11.6], radius = 500 }]\n",
    "place.toml": "[privacy]\ngeofence = [{ centre = [11.6, 248.1], radius_m = 500 }]\n",
    "half-fence.toml": "[privacy]\ngeofence = [{ centre = [48.1, 11.6] }]\n",
    "line.toml": "[privacy]\ngeofence = [{ polygon = [[48.1, 11.6], [48.2, 11.7]] }]\n",
    "hook.toml": '[privacy]\nhook = "nowhere:redact"\n',
    "jpeg.toml": "[spool]\njpeg = 0\n",
    "whole.toml": '[privacy]\nblur_heads = true\n[watch]\ndraw = "drawn"\n',
    "cut.toml": '[server]\nlisten = "127.0.0',
}
"""Name → what stands in it; all but the last are TOML."""

CHECK = "config check"
CONFIG = [
    Case("no such file", f"{CHECK} no.toml", "no.toml: No such file or directory; expected", 1),
    Case("no TOML", f"{CHECK} cut.toml", "cut.toml is no TOML: ", 1),
    Case("a key with a typo", f"{CHECK} typo.toml", "Did you mean flags.threshold?", 1),
    Case("a table with a typo", f"{CHECK} typo-table.toml", "Did you mean flags?", 1),
    Case("text for a number", f"{CHECK} type.toml", "type.toml: flags.audit_rate is 'much'", 1),
    Case("a size in words", f"{CHECK} size.toml", 'a size such as "2GiB"', 1),
    Case("no time of day", f"{CHECK} window.toml", "HH:MM-HH:MM, such as 22:00-06:00", 1),
    Case("an address", f"{CHECK} address.toml", "address.toml: server.listen: address is", 1),
    Case("a number for a table", f"{CHECK} flat.toml", "flags is 0.5; expected a table", 1),
    Case(
        "a region of three numbers", f"{CHECK} box.toml", "persons.fixed.front is [10, 20, 80]", 1
    ),
    Case("a region without a height", f"{CHECK} flat-box.toml", "width and height above 0", 1),
    Case("a detector", f"{CHECK} no-detector.toml", "expected a detector's TOML", 1),
    Case("a folder without certificates", f"{CHECK} no-tls.toml", "empty holds no tls.crt", 1),
    Case("pictures for everybody", f"{CHECK} shown.toml", "of this machine alone", 1),
    Case("a recording that is not there", f"{CHECK} lost.toml", "no.mp4 does not exist", 1),
    Case("a collector without a spool", f"{CHECK} no-spool.toml", "there is no spool", 1),
    Case("a key that is none", f"{CHECK} seal.toml", "notes.txt is no public X25519 key", 1),
    Case("no room for a message", f"{CHECK} no-room.toml", "at least max_message_bytes", 1),
    Case("a fence with a typo", f"{CHECK} fence.toml", "a fence has 'radius'; expected centre", 1),
    Case("a place that is none", f"{CHECK} place.toml", "position is 11.6, 248.1; expected", 1),
    Case("a circle without a radius", f"{CHECK} half-fence.toml", "neither a circle nor", 1),
    Case("a polygon of two corners", f"{CHECK} line.toml", "has 2 corners; expected 3", 1),
    Case("a hook that is not there", f"{CHECK} hook.toml", "No module named 'nowhere'", 1),
    Case("such a hook", "serve --config hook.toml --listen 127.0.0.1:0", "expected package.modu"),
    Case("a quality of 0", f"{CHECK} jpeg.toml", "jpeg is 0; expected quality, 1 to 100", 1),
    Case("drawings of hidden heads", f"{CHECK} whole.toml", "blur_heads hides what watch.draw", 1),
    Case("no file is named", CHECK, "Missing argument 'FILE'"),
    Case("such a file", "serve --config typo.toml", "flags.treshold is no key; expected one of"),
]
