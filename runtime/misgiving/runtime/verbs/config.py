"""The verb ``config check``: what a server with this file would run with."""

import threading
from pathlib import Path

from misgiving.runtime.engines.loading import load_bundle
from misgiving.runtime.net.tls import read
from misgiving.runtime.persons.detector_toml import parsed
from misgiving.runtime.settings.model import Settings, keys_of
from misgiving.runtime.settings.reading import Sources
from misgiving.runtime.sources.feeds import public_name
from misgiving.runtime.verbs.exchanging import model_options
from misgiving.runtime.verbs.privacy import privacy_of
from misgiving.runtime.verbs.serve import flagging
from misgiving.runtime.verbs.shadowing import shadow_options
from misgiving.runtime.verbs.watch import source_of
from misgiving.runtime.watching.show import check_own
from misgiving.runtime.wire.sealing import read_fleet_key


def check(file: Path) -> str:
    """Each key with its value and where it comes from, a line each; the bundle on the last.

    Raises:
        InvalidInput: the file or the detector's cannot be read, or a value is none that its key
            takes.
        DataError: a camera's recording cannot be read.
        FailedPrecondition: the bundle does not load, or certificates cannot be used.
    """
    configuration = Sources(file).read()
    rows = [
        (key, _shown(key, value), configuration.origins.get(key, "default"))
        for key, value in keys_of(configuration.settings)
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{key:{widths[0]}}  {value:{widths[1]}}  {origin}" for key, value, origin in rows]
    _check(configuration.settings)
    return "\n".join([*lines, _would_serve(configuration.settings)])


def _check(settings: Settings) -> None:
    """What else is found out by reading alone; of ``env:NAME``, the service has the variable."""
    if settings.tls.folder:
        read(settings.tls.folder, server=True)
    if settings.spool.collector_tls:
        read(settings.spool.collector_tls, server=False)
    if settings.spool.seal_to:
        read_fleet_key(settings.spool.seal_to)
    if settings.watch.show:
        check_own(settings.watch.show)
    for camera in settings.camera.values():
        if not camera.source.startswith("env:"):
            source_of(camera, threading.Event())


def _would_serve(settings: Settings) -> str:
    """The bundle, its shadow and the detector's TOML, read whole but not run; a threshold or
    precision that the bundle lacks is told."""
    bundle = load_bundle(model_options(settings.bundle))
    privacy_of(settings.privacy, bundle)
    if settings.persons.detector:
        parsed(settings.persons.detector)
    flags = flagging(bundle, settings.flags, bundle.threshold(settings.flags.threshold))
    said = f"would serve {bundle.manifest.name} {bundle.manifest.version}; {flags}"
    if options := shadow_options(settings):
        shadow = load_bundle(options).manifest
        said += f"\nin its shadow {shadow.name} {shadow.version}"
    return said


def _shown(key: str, value: object) -> str:
    said = str(value)  # of a source perhaps a URL, which may hold a password
    if key.endswith(".source") and ("://" in said or ("@" in said and not Path(said).exists())):
        return public_name(said)
    return "-" if value is None or value == "" else said
