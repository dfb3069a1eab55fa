"""Logs of a server: text for people, or a JSON record a line for whoever collects them.

Rotation is the system's: all of it goes to stderr.
"""

import json
import logging
import sys
from datetime import datetime, timezone

_IDS = ("stream_id", "frame_id")
_STDERR = logging.StreamHandler()


class JsonLines(logging.Formatter):
    """A record a line: ts, level, logger, message, and the ids of a frame where it is about one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        made = datetime.fromtimestamp(record.created, timezone.utc)
        said: dict[str, str] = {
            "ts": made.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= {name: vars(record)[name] for name in _IDS if vars(record).get(name)}
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said)


def set_up(form: str) -> None:
    """Log to stderr, as ``text`` or as ``json``, from now on."""
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    _STDERR.setFormatter(JsonLines() if form == "json" else text)
    logging.basicConfig(handlers=[_STDERR])


def say(line: str, level: str = "INFO") -> None:
    """Tell whoever started the server; among JSON records, as one of them."""
    formatters = (handler.formatter for handler in logging.getLogger().handlers)
    if json_lines := next((one for one in formatters if isinstance(one, JsonLines)), None):
        record = {"name": "misgiving", "levelname": level, "msg": line}
        line = json_lines.format(logging.makeLogRecord(record))
    print(line, file=sys.stderr, flush=True)
