"""From a file, the environment and options to settings, and where each of them comes from."""

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from misgiving.runtime.bundles.locate import BUNDLE_VARIABLE
from misgiving.runtime.bundles.trust import TRUST_VARIABLE
from misgiving.runtime.errors import InvalidInput, printable
from misgiving.runtime.settings.model import CameraTable, Settings, keys_of, meaning_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OPTIONS = {
    "listen": "server.listen",
    "device_id": "server.device_id",
    "bundle": "bundle.path",
    "device": "bundle.device",
    "precision": "bundle.precision",
    "threads": "bundle.threads",
    "trust": "bundle.trust",
    "threshold": "flags.threshold",
    "audit_rate": "flags.audit_rate",
    "detector": "persons.detector",
    "spool": "spool.folder",
    "spool_quota": "spool.quota",
    "spool_days": "spool.days",
    "collector": "spool.collector",
    "show": "watch.show",
    "draw": "watch.draw",
    "clips": "watch.clips",
    "before": "watch.before",
    "after": "watch.after",
    "metrics": "metrics.listen",
    "collector_tls": "spool.collector_tls",
    "tls": "tls.folder",
    "insecure": "tls.insecure",
}
"""Name of an option of ``serve`` or ``watch`` → the key that it stands for."""

VARIABLES = {BUNDLE_VARIABLE: "bundle.path", TRUST_VARIABLE: "bundle.trust"}
"""Environment variable → the key that it stands for."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, and where they come from."""

    settings: Settings
    origins: Mapping[str, str]
    """Key → the file, the variable or the option that says it; without one, its default holds."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where settings come from: options win over the environment, and that over the file."""

    file: Path | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    """Those that were given, by their name in OPTIONS."""

    def settings(self) -> Settings:
        """What they say, now; raises as :meth:`read` does."""
        return self.read().settings

    def read(self) -> Configuration:
        """Read them all, now.

        Raises:
            InvalidInput: the file cannot be read, or a value is none that its key takes.
        """
        origins = {}
        said = _said_by(self.file) if self.file else {}
        for table, values in said.items():
            origins.update({key: str(self.file) for key in _keys_below(table, values)})
        for variable, key in VARIABLES.items():
            if value := os.environ.get(variable):
                _put(said, key, Path(value))
                origins[key] = variable
        for name, given in self.options.items():
            _put(said, OPTIONS[name], given)
            origins[OPTIONS[name]] = "--" + name.replace("_", "-")
        try:
            return Configuration(Settings.model_validate(said), origins)
        except ValidationError as error:
            raise InvalidInput(_first_problem(error, origins)) from error


def _keys_below(table: str, values: Mapping[str, Any]) -> Iterator[str]:
    """The keys of a table of the file; each camera is a table of its own."""
    for name, value in values.items():
        if table == "camera":
            yield from _keys_below(f"camera.{name}", value)
        else:
            yield f"{table}.{name}"


def _put(said: dict[str, dict[str, Any]], key: str, value: object) -> None:
    table, _, name = key.partition(".")
    said.setdefault(table, {})[name] = value


def _said_by(file: Path) -> dict[str, dict[str, Any]]:
    """What a file says, its paths from where it is."""
    try:
        said = tomllib.loads(file.read_text("utf-8-sig"))
        settings = Settings.model_validate(said, context=file.absolute().parent)
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror}; expected a misgiving.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{file} is no TOML: {error}; expected a misgiving.toml") from error
    except ValidationError as error:
        raise InvalidInput(f"{file}: {_first_problem(error, {})}") from error
    return settings.model_dump(exclude_unset=True)


def _first_problem(error: ValidationError, origins: Mapping[str, str]) -> str:
    problems = error.errors()
    # A key with a typo is told before the one that is missing for it.
    first = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    named = first["loc"][:1] == ("camera",) or first["loc"][:2] == ("persons", "fixed")
    key = printable(".".join(str(part) for part in first["loc"][: 3 if named else 2]))
    if first["type"] == "extra_forbidden":
        return _unknown(key)
    if first["type"] == "value_error":  # a line of ours
        said = str(first["ctx"]["error"])
        return said if not key or key in origins else f"{key}: {said}"
    if first["type"] == "missing":
        return f"{key} is missing; expected {meaning_of(key)}"
    got = f"{origins.get(key, key)} is {_shown(key, first['input'])}"
    return f"{got}; expected {meaning_of(key) or 'a table'} ({first['msg']})"


def _shown(key: str, value: object) -> str:
    """A value as a message may have it: a camera's source can hold a password, in any shape."""
    holds_source = key.startswith("camera") and (key.count(".") < 2 or key.endswith(".source"))
    return f"of type {type(value).__name__}" if holds_source else repr(value)


def _unknown(key: str) -> str:
    known = [*Settings.model_fields, *(name for name, _ in keys_of(Settings()))]
    if key.startswith("camera."):
        above = key.rpartition(".")[0]
        known += [f"{above}.{name}" for name in CameraTable.model_fields]
    near = get_close_matches(key, known, 1)
    hint = f". Did you mean {near[0]}?" if near else ""
    table = key.rpartition(".")[0]
    these = [name for name in known if name.rpartition(".")[0] == table]
    return f"{key} is no key; expected one of {', '.join(these)}{hint}"
