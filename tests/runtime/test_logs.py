"""Logs as JSON: a record a line, whatever is in it."""

import json
import logging
import subprocess
from datetime import datetime
from pathlib import Path

from misgiving.runtime.nouns import make_frame
from misgiving.runtime.telemetry.logs import JsonLines
from runtime.commands import COMMAND
from shared import tiny
from shared.serving import BLACK


def test_a_record_of_a_frame_that_failed() -> None:
    frame = make_frame(BLACK, frame_id="7", stream_id="front")
    try:
        raise OSError("disk\ngone")
    except OSError as error:
        record = logging.LogRecord(
            "misgiving.x", logging.ERROR, "x.py", 1, "lost:\n%s", ("é",), (OSError, error, None)
        )
    vars(record).update(frame.ids)
    (line,) = JsonLines().format(record).splitlines()
    said = json.loads(line)
    at = datetime.fromisoformat(said.pop("ts").replace("Z", "+00:00"))
    assert abs(at.timestamp() - record.created) < 0.001
    assert said.pop("traceback").endswith("OSError: disk\ngone")
    assert said == {
        "level": "ERROR",
        "logger": "misgiving.x",
        "message": "lost:\né",
        "stream_id": "front",
        "frame_id": "7",
    }


def test_a_frame_s_name_stays_in_its_line() -> None:
    names = [("7", "front"), ("7", ""), ("7\nERROR forged", ""), ("7", "\x1b[2J\u2028")]
    said = [make_frame(BLACK, frame_id=id, stream_id=stream).name for id, stream in names]
    assert said == ["front/7", "7", r"'7\nERROR forged'", r"'\x1b[2J\u2028/7'"]


def test_every_line_of_a_server_is_a_record(tmp_path: Path) -> None:
    """Also what it says to people; and Prometheus is answered on the way."""
    (tmp_path / "misgiving.toml").write_text(
        '[server]\nlisten = "127.0.0.1:0"\n[metrics]\nlisten = "127.0.0.1:0"\n'
        f'[bundle]\npath = "{tiny.BUNDLE}"\n[log]\nformat = "json"\nlevel = "debug"\n'
    )
    command = [*COMMAND, "serve", "--config", str(tmp_path / "misgiving.toml")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = [json.loads(process.stderr.readline())["message"] for _ in range(2)]
            process.terminate()
            rest = [json.loads(line) for line in process.stderr]
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert said[0].startswith("metrics on http://127.0.0.1:")
    assert said[1].startswith("serving bright-spots 1 on 127.0.0.1:")
    assert {one["level"] for one in rest} >= {"INFO"}


def test_why_a_server_ends_is_a_record(tmp_path: Path) -> None:
    (tmp_path / "misgiving.toml").write_text('[tls]\nfolder = "no"\n[log]\nformat = "json"\n')
    command = [*COMMAND, "serve", "--config", str(tmp_path / "misgiving.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    said = json.loads(done.stderr)
    assert said["level"] == "ERROR"
    assert said["message"].startswith(f"misgiving: {tmp_path / 'no'} holds no tls.crt; expected")
