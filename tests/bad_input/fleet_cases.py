"""Slips with the verbs of a fleet."""

from bad_input.case import Case

STORM = """name = "storm"
devices = ["van-*"]
expires = 2099-01-01T00:00:00Z
[flags]
frames_per_day = 500
"""
FILES = {
    "storm-past.toml": STORM.replace("2099", "1999"),
    "storm-zone.toml": STORM.replace("00Z", "00"),
    "storm-key.toml": STORM.replace("frames_per_day", "frames_per_week"),
    "storm-value.toml": STORM.replace("500", "1"),
    "storm-alone.toml": "[fleet]\ncampaigns = true\n",
    "storm-nobody.toml": STORM.replace('"van-*"', ""),
    "revoked.txt": "139e3940e64b5491\n",
    "revoked-soon.txt": "soon\n",
    "revoked-none.txt": "# nothing yet\n",
}

SET = "fleet campaign set"
REVOKE = "fleet revocations"
ANNOUNCE, TO = "fleet release announce", "--store store --trust keys"
FLEET = [
    Case("no store", "fleet status --store empty", "empty is no store"),
    Case("no campaign", f"{SET} none.toml --store store", "No such file"),
    Case("a campaign of junk", f"{SET} cut.json --store store", "is no TOML"),
    Case("a campaign that is past", f"{SET} storm-past.toml --store store", "is past"),
    Case("an end without a zone", f"{SET} storm-zone.toml --store store", "has no zone"),
    Case("a key of none", f"{SET} storm-key.toml --store store", "none of a campaign's"),
    Case("a budget of one frame", f"{SET} storm-value.toml --store store", "frames_per_day"),
    Case("a campaign for nobody", f"{SET} storm-nobody.toml --store store", "devices: "),
    Case("campaigns of nobody", "serve --config storm-alone.toml", "Add --collector HOST:PORT"),
    Case("a release as a folder", f"{ANNOUNCE} bundle {TO}", "Pack it with 'misgiving pack'"),
    Case("a release without a signature", f"{ANNOUNCE} bundle.zip {TO}", "is not signed"),
    Case("no such release", "fleet release advance 3f1c --store store", "0 releases"),
    Case("a revocation of junk", f"{REVOKE} sign revoked-soon.txt --key mine.key", "a line 'soon'"),
    Case("no revocation", f"{REVOKE} sign revoked-none.txt --key mine.key", "revokes nothing"),
    Case("a list that nobody signed", f"{REVOKE} announce revoked.txt {TO}", "revoked.txt.sig"),
    Case("a campaign that is none", "fleet campaign end storm --store store", "does not run"),
]
